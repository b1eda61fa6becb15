"""What other distributions may use of the evaluation stage."""

from lavit_scoring import Estimate

from lavit_evaluation.compute import Compute
from lavit_evaluation.config import EvalTokenizerConfig, ProbeConfig, RateDistortionConfig, ShapesConfig
from lavit_evaluation.image_metrics.best_of import similarities
from lavit_evaluation.image_metrics.clip_score import Clip, load_clip
from lavit_evaluation.probing.probe import eval_probe
from lavit_evaluation.shapes.benchmark import eval_shapes
from lavit_evaluation.shapes.judge import Found, judge
from lavit_evaluation.token_warnings import warn_again
from lavit_evaluation.tokenizing.benchmark import eval_tokenizer
from lavit_evaluation.tokenizing.rate_distortion import eval_rate_distortion

__all__ = [
    "Clip",
    "Compute",
    "Estimate",
    "EvalTokenizerConfig",
    "Found",
    "ProbeConfig",
    "RateDistortionConfig",
    "ShapesConfig",
    "eval_probe",
    "eval_rate_distortion",
    "eval_shapes",
    "eval_tokenizer",
    "judge",
    "load_clip",
    "similarities",
    "warn_again",
]
