"""Names that other distributions import from the detokenizer stage."""

from lavit_detokenizer.build import build_detokenizer
from lavit_detokenizer.conditioner import load_conditioner
from lavit_detokenizer.config import ConditionShape, DrawSettings, TrainDetokenizerConfig, UNetShape
from lavit_detokenizer.draw import denoise, draw, draw_codes, draw_codes_steps
from lavit_detokenizer.folder import load_detokenizer
from lavit_detokenizer.network import Detokenizer
from lavit_detokenizer.noise import draw_noise, noisy_and_target, training_scheduler
from lavit_detokenizer.released import (
    ReleasedDetokenizer,
    export_detokenizer,
    import_detokenizer,
    inspect_detokenizers,
)
from lavit_detokenizer.safety import load_safety_checker
from lavit_detokenizer.sizes import model_fitting_settings, model_image_size, model_sizes
from lavit_detokenizer.train_detokenizer import train_detokenizer
from lavit_detokenizer.vae import latent_moments, sample_latents

__all__ = [
    "ConditionShape",
    "Detokenizer",
    "DrawSettings",
    "ReleasedDetokenizer",
    "TrainDetokenizerConfig",
    "UNetShape",
    "build_detokenizer",
    "denoise",
    "draw",
    "draw_codes",
    "draw_codes_steps",
    "draw_noise",
    "export_detokenizer",
    "import_detokenizer",
    "inspect_detokenizers",
    "latent_moments",
    "load_conditioner",
    "load_detokenizer",
    "load_safety_checker",
    "model_fitting_settings",
    "model_image_size",
    "model_sizes",
    "noisy_and_target",
    "sample_latents",
    "train_detokenizer",
    "training_scheduler",
]
