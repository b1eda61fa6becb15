"""What other distributions may use of the evaluation stage."""

from lavit_evaluation.config import ProbeConfig, ShapesConfig
from lavit_evaluation.intervals import Figure
from lavit_evaluation.judge import Found, judge
from lavit_evaluation.probe import eval_probe
from lavit_evaluation.shapes_benchmark import eval_shapes
from lavit_evaluation.subject import Encoded, Subject

__all__ = ["Encoded", "Figure", "Found", "ProbeConfig", "ShapesConfig", "Subject", "eval_probe", "eval_shapes", "judge"]
