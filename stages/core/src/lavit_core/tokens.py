"""Token files: images as codes, on disk. The format is docs/token-format.md; this is its front door in Python."""

from lavit_core.token_format import Manifest, ShardEntry, read_manifest, training_metadata, write_manifest
from lavit_core.token_reader import TokenReader, check_tokenizer, open_tokens
from lavit_core.token_shard import TokenSample, write_shard

__all__ = [
    "Manifest",
    "ShardEntry",
    "TokenReader",
    "TokenSample",
    "check_tokenizer",
    "open_tokens",
    "read_manifest",
    "training_metadata",
    "write_manifest",
    "write_shard",
]
