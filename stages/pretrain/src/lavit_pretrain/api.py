"""Names of the pretrain stage that other distributions import."""

from lavit_pretrain.beam_search import ANSWERS, CAPTIONS, Beams
from lavit_pretrain.captioning import answer, caption
from lavit_pretrain.config import LlmShape, Mix, PretrainConfig, SampleSettings
from lavit_pretrain.encoded_images import EncodedImages, join_images
from lavit_pretrain.image_input import encode_images, merge_patches, select_patches
from lavit_pretrain.language_model import LanguageModel, load_llm, read_visual_config
from lavit_pretrain.likelihood import (
    caption_log_likelihoods,
    code_log_likelihoods,
    paired_code_log_likelihoods,
    text_log_likelihoods,
)
from lavit_pretrain.merger_and_projector import load_visual_input
from lavit_pretrain.released import (
    ReleasedLanguageModel,
    export_language_model,
    import_language_model,
    inspect_language_model,
)
from lavit_pretrain.sample_codes import SamplingStep, codes_in_order, sample_codes, sample_steps
from lavit_pretrain.text_tokenizer import load_text_tokenizer, unknown_words
from lavit_pretrain.train_language_model import train_language_model

__all__ = [
    "ANSWERS",
    "CAPTIONS",
    "Beams",
    "EncodedImages",
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
    "codes_in_order",
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
    "read_visual_config",
    "sample_codes",
    "sample_steps",
    "select_patches",
    "text_log_likelihoods",
    "train_language_model",
    "unknown_words",
]
