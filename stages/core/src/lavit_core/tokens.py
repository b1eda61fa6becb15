"""Token files: images as codes, on disk. The format is docs/token-format.md; this is its front door in Python."""

from lavit_core.token_format import Manifest, ShardEntry, read_manifest, training_metadata, write_manifest
from lavit_core.token_reader import TokenReader, check_tokenizer, open_tokens
from lavit_core.token_shard import TokenSample, write_shard
from lavit_core.token_sources import (
    check_keys_apart,
    open_token_sources,
    places_of_keys,
    token_digests,
    token_folders,
)

__all__ = [
    "Manifest",
    "ShardEntry",
    "TokenReader",
    "TokenSample",
    "check_keys_apart",
    "check_tokenizer",
    "open_token_sources",
    "open_tokens",
    "places_of_keys",
    "read_manifest",
    "token_digests",
    "token_folders",
    "training_metadata",
    "write_manifest",
    "write_shard",
]
