"""Names that other distributions import from the detokenizer stage."""

from lavit_detokenizer.conditioner import load_conditioner
from lavit_detokenizer.config import DrawSettings, TrainDetokenizerConfig
from lavit_detokenizer.draw import draw, draw_codes, draw_codes_steps
from lavit_detokenizer.folder import load_detokenizer
from lavit_detokenizer.network import Detokenizer
from lavit_detokenizer.released import (
    ReleasedDetokenizer,
    export_detokenizer,
    import_detokenizer,
    inspect_detokenizers,
)
from lavit_detokenizer.safety import load_safety_checker
from lavit_detokenizer.sizes import model_image_size
from lavit_detokenizer.train_detokenizer import train_detokenizer

__all__ = [
    "Detokenizer",
    "DrawSettings",
    "ReleasedDetokenizer",
    "TrainDetokenizerConfig",
    "draw",
    "draw_codes",
    "draw_codes_steps",
    "export_detokenizer",
    "import_detokenizer",
    "inspect_detokenizers",
    "load_conditioner",
    "load_detokenizer",
    "load_safety_checker",
    "model_image_size",
    "train_detokenizer",
]
