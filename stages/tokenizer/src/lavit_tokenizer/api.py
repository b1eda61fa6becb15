"""What other stages and the host import from the tokenizer stage."""

from lavit_tokenizer.config import TokenizeConfig, TokenizerConfig, TrainEncoderConfig, TrainTokenizerConfig
from lavit_tokenizer.cost import KEPT, decoder_cost, encoder_cost, merger_cost, published_encoder
from lavit_tokenizer.decoder import FeatureDecoder
from lavit_tokenizer.encoder import Encoder, encoder_without_memory, load_encoder
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
from lavit_tokenizer.tokenize_images import tokenize_images
from lavit_tokenizer.tokenizer import Encoded, VisualTokenizer, empty_merger, load_tokenizer, without_memory
from lavit_tokenizer.tokenizer import read_config as read_tokenizer_config
from lavit_tokenizer.trace import Trace, trace
from lavit_tokenizer.train_encoder import train_encoder
from lavit_tokenizer.train_tokenizer import train_tokenizer

__all__ = [
    "KEPT",
    "Encoded",
    "Encoder",
    "FeatureDecoder",
    "ReleasedTokenizer",
    "TokenizeConfig",
    "TokenizerConfig",
    "Trace",
    "TrainEncoderConfig",
    "TrainTokenizerConfig",
    "VisualTokenizer",
    "decoder_cost",
    "decoder_tensors",
    "empty_merger",
    "encoder_cost",
    "encoder_without_memory",
    "export_tokenizer",
    "import_encoder_part",
    "import_tokenizer",
    "inspect_tokenizer",
    "load_encoder",
    "load_tokenizer",
    "merger_cost",
    "merger_shapes",
    "published_encoder",
    "read_tokenizer_config",
    "released_decoder",
    "tokenize_images",
    "trace",
    "train_encoder",
    "train_tokenizer",
    "with_decoder",
    "without_memory",
]
