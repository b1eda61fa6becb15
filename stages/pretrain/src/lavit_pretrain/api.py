"""Names of the pretrain stage that other distributions import."""

from lavit_pretrain.beam_search import ANSWERS, CAPTIONS, Beams
from lavit_pretrain.captioning import answer, caption
from lavit_pretrain.config import InterleaveSettings, LlmShape, Mix, PretrainConfig, SampleSettings
from lavit_pretrain.corpus import asked_of, texts_to_learn, whole_text
from lavit_pretrain.encoded_images import EncodedImages, join_images
from lavit_pretrain.image_input import encode_images, merge_patches, select_patches
from lavit_pretrain.interleave import write_interleaved
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
from lavit_pretrain.shown_documents import DocumentText, Piece, ShownDocument, open_document_text, show_documents
from lavit_pretrain.text_tokenizer import load_text_tokenizer, unknown_words
from lavit_pretrain.train_language_model import train_language_model

__all__ = [
    "ANSWERS",
    "CAPTIONS",
    "Beams",
    "DocumentText",
    "EncodedImages",
    "InterleaveSettings",
    "LanguageModel",
    "LlmShape",
    "Mix",
    "Piece",
    "PretrainConfig",
    "ReleasedLanguageModel",
    "SampleSettings",
    "SamplingStep",
    "ShownDocument",
    "answer",
    "asked_of",
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
    "open_document_text",
    "paired_code_log_likelihoods",
    "read_visual_config",
    "sample_codes",
    "sample_steps",
    "select_patches",
    "show_documents",
    "text_log_likelihoods",
    "texts_to_learn",
    "train_language_model",
    "unknown_words",
    "whole_text",
    "write_interleaved",
]
