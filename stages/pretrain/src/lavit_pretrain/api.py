"""What other distributions may use of the pretrain stage."""

from lavit_pretrain.config import LlmShape, Mix, PretrainConfig, SampleSettings
from lavit_pretrain.language_model import LanguageModel, load_llm
from lavit_pretrain.pretrain import plan, pretrain
from lavit_pretrain.reading import ImageInput, answer, caption, look, stored_images
from lavit_pretrain.sample import sample, write_sampled
from lavit_pretrain.sampler import sample_codes

__all__ = [
    "ImageInput",
    "LanguageModel",
    "LlmShape",
    "Mix",
    "PretrainConfig",
    "SampleSettings",
    "answer",
    "caption",
    "load_llm",
    "look",
    "plan",
    "pretrain",
    "sample",
    "sample_codes",
    "stored_images",
    "write_sampled",
]
