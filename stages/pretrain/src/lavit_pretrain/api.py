"""What other distributions may use of the pretrain stage."""

from lavit_pretrain.beams import ANSWERS, CAPTIONS, Beams
from lavit_pretrain.config import LlmShape, Mix, PretrainConfig, SampleSettings
from lavit_pretrain.language_model import LanguageModel, load_llm, read_visual_about
from lavit_pretrain.likelihood import (
    caption_log_likelihoods,
    code_log_likelihoods,
    paired_code_log_likelihoods,
    text_log_likelihoods,
)
from lavit_pretrain.reading import (
    ImageInput,
    answer,
    caption,
    encode_images,
    join_images,
    merge_patches,
    select_patches,
)
from lavit_pretrain.released import (
    ReleasedLanguageModel,
    export_language_model,
    import_language_model,
    inspect_language_model,
)
from lavit_pretrain.sampler import SamplingStep, sample_codes, sample_steps
from lavit_pretrain.text_tokenizer import load_text_tokenizer, unknown_words
from lavit_pretrain.train_language_model import train_language_model
from lavit_pretrain.visual_input import load_visual_input

__all__ = [
    "ANSWERS",
    "CAPTIONS",
    "Beams",
    "ImageInput",
    "LanguageModel",
    "LlmShape",
    "Mix",
    "PretrainConfig",
    "ReleasedLanguageModel",
    "SampleSettings",
    "SamplingStep",
    "answer",
    "caption",
    "caption_log_likelihoods",
    "code_log_likelihoods",
    "encode_images",
    "export_language_model",
    "import_language_model",
    "inspect_language_model",
    "join_images",
    "load_llm",
    "load_text_tokenizer",
    "load_visual_input",
    "merge_patches",
    "paired_code_log_likelihoods",
    "read_visual_about",
    "sample_codes",
    "sample_steps",
    "select_patches",
    "text_log_likelihoods",
    "train_language_model",
    "unknown_words",
]
