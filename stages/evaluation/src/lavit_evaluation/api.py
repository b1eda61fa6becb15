"""What other distributions may use of the evaluation stage."""

from lavit_evaluation.config import ShapesConfig
from lavit_evaluation.intervals import Figure
from lavit_evaluation.judge import Found, judge
from lavit_evaluation.shapes_benchmark import eval_shapes
from lavit_evaluation.subject import Encoded, Subject

__all__ = ["Encoded", "Figure", "Found", "ShapesConfig", "Subject", "eval_shapes", "judge"]
