"""Names of the pretrain stage that other distributions import."""

from lavit_pretrain.attention import use_packed, use_padded
from lavit_pretrain.beam_search import ANSWERS, CAPTIONS, Beams
from lavit_pretrain.captioning import answer, caption
from lavit_pretrain.config import InterleaveSettings, LlmShape, Mix, PretrainConfig, SampleSettings
from lavit_pretrain.corpus import asked_of, texts_to_learn, whole_text
from lavit_pretrain.documents import Document
from lavit_pretrain.encoded_images import EncodedImages, join_images
from lavit_pretrain.image_input import encode_images, merge_patches, select_patches
from lavit_pretrain.interleave import write_interleaved
from lavit_pretrain.language_model import LanguageModel, VisualConfig, llama_config, load_llm, read_visual_config
from lavit_pretrain.likelihood import (
    caption_log_likelihoods,
    code_log_likelihoods,
    paired_code_log_likelihoods,
    text_log_likelihoods,
)
from lavit_pretrain.merger_and_projector import load_visual_input
from lavit_pretrain.packed_loss import packed_loss
from lavit_pretrain.packing import PackedBatch, Packer, packing_metrics
from lavit_pretrain.released import (
    ReleasedLanguageModel,
    export_language_model,
    import_language_model,
    inspect_language_model,
)
from lavit_pretrain.sample_codes import SamplingStep, codes_in_order, sample_codes, sample_steps
from lavit_pretrain.sequence import image_span, text_continuation, text_to_image, tokenize_prompt
from lavit_pretrain.shown_documents import DocumentText, Piece, ShownDocument, open_document_text, show_documents
from lavit_pretrain.text_tokenizer import load_text_tokenizer, train_text_tokenizer, unknown_words
from lavit_pretrain.train_language_model import train_language_model
from lavit_pretrain.vocabulary import Vocabulary

__all__ = [
    "ANSWERS",
    "CAPTIONS",
    "Beams",
    "Document",
    "DocumentText",
    "EncodedImages",
    "InterleaveSettings",
    "LanguageModel",
    "LlmShape",
    "Mix",
    "PackedBatch",
    "Packer",
    "Piece",
    "PretrainConfig",
    "ReleasedLanguageModel",
    "SampleSettings",
    "SamplingStep",
    "ShownDocument",
    "VisualConfig",
    "Vocabulary",
    "answer",
    "asked_of",
    "caption",
    "caption_log_likelihoods",
    "code_log_likelihoods",
    "codes_in_order",
    "encode_images",
    "export_language_model",
    "image_span",
    "import_language_model",
    "inspect_language_model",
    "join_images",
    "llama_config",
    "load_llm",
    "load_text_tokenizer",
    "load_visual_input",
    "merge_patches",
    "open_document_text",
    "packed_loss",
    "packing_metrics",
    "paired_code_log_likelihoods",
    "read_visual_config",
    "sample_codes",
    "sample_steps",
    "select_patches",
    "show_documents",
    "text_continuation",
    "text_log_likelihoods",
    "text_to_image",
    "texts_to_learn",
    "tokenize_prompt",
    "train_language_model",
    "train_text_tokenizer",
    "unknown_words",
    "use_packed",
    "use_padded",
    "whole_text",
    "write_interleaved",
]
