"""What other stages and the host import from the tokenizer stage."""

from lavit_tokenizer.config import TokenizeConfig, TokenizerConfig, TrainEncoderConfig, TrainTokenizerConfig
from lavit_tokenizer.decoder import FeatureDecoder
from lavit_tokenizer.encoder import load_encoder
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
from lavit_tokenizer.tokenizer import Encoded, VisualTokenizer, empty_merger, load_tokenizer
from lavit_tokenizer.trace import Trace, trace
from lavit_tokenizer.train_encoder import train_encoder
from lavit_tokenizer.train_tokenizer import train_tokenizer

__all__ = [
    "Encoded",
    "FeatureDecoder",
    "ReleasedTokenizer",
    "TokenizeConfig",
    "TokenizerConfig",
    "Trace",
    "TrainEncoderConfig",
    "TrainTokenizerConfig",
    "VisualTokenizer",
    "decoder_tensors",
    "empty_merger",
    "export_tokenizer",
    "import_encoder_part",
    "import_tokenizer",
    "inspect_tokenizer",
    "load_encoder",
    "load_tokenizer",
    "merger_shapes",
    "released_decoder",
    "tokenize_images",
    "trace",
    "train_encoder",
    "train_tokenizer",
    "with_decoder",
]
