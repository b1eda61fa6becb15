"""Public names of the tokenizer stage, for other stages and the host."""

from lavit_tokenizer.config import TokenizerConfig
from lavit_tokenizer.cost import decoder_flops, encoder_flops, merger_counts, planned_encoder, published_encoder
from lavit_tokenizer.decoder import FeatureDecoder, new_decoder
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.merger import new_merger
from lavit_tokenizer.objective import keep_moments, selector_explained_variance
from lavit_tokenizer.quantizer import Quantizer
from lavit_tokenizer.released import (
    ReleasedTokenizer,
    decoder_tensors,
    export_tokenizer,
    import_encoder_part,
    import_tokenizer,
    inspect_tokenizer,
    merger_shapes,
    released_decoder,
    with_decoder,
)
from lavit_tokenizer.selection_statistics import patch_detail, place_explained
from lavit_tokenizer.selector import gumbel, gumbel_mask
from lavit_tokenizer.token_findings import FEW_TOKENS, TokenFacts, diagnose_tokens, facts_of
from lavit_tokenizer.tokenize_images import tokenize_images
from lavit_tokenizer.tokenizer import Loaded, VisualTokenizer
from lavit_tokenizer.tokenizer_folder import add_decoder, load_tokenizer, merger_on_meta_device
from lavit_tokenizer.tokenizer_folder import read_config as read_tokenizer_config
from lavit_tokenizer.train_encoder import train_encoder
from lavit_tokenizer.train_tokenizer import train_tokenizer

__all__ = [
    "FEW_TOKENS",
    "Encoder",
    "FeatureDecoder",
    "Loaded",
    "Quantizer",
    "ReleasedTokenizer",
    "TokenFacts",
    "TokenizerConfig",
    "VisualTokenizer",
    "add_decoder",
    "decoder_flops",
    "decoder_tensors",
    "diagnose_tokens",
    "encoder_flops",
    "export_tokenizer",
    "facts_of",
    "gumbel",
    "gumbel_mask",
    "import_encoder_part",
    "import_tokenizer",
    "inspect_tokenizer",
    "keep_moments",
    "load_tokenizer",
    "merger_counts",
    "merger_on_meta_device",
    "merger_shapes",
    "new_decoder",
    "new_merger",
    "patch_detail",
    "place_explained",
    "planned_encoder",
    "published_encoder",
    "read_tokenizer_config",
    "released_decoder",
    "selector_explained_variance",
    "tokenize_images",
    "train_encoder",
    "train_tokenizer",
    "with_decoder",
]
