"""A tokenizer's folder: config.json, model.safetensors and encoder/, which one digest covers."""

from pathlib import Path
from typing import Any

import torch
from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json
from lavit_core.modeldir import check_selection, find_part, recorded_digest, selection_of
from lavit_trainkit.device import pick_device
from lavit_trainkit.external_weights import load_strictly, require_fit
from safetensors.torch import save_file

from lavit_tokenizer.config import TokenizerConfig
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.encoder_folder import load_encoder, save_encoder
from lavit_tokenizer.merger import Merger, new_merger
from lavit_tokenizer.selector import topk_tokens
from lavit_tokenizer.tokenizer import (
    UNTRAINED,
    Loaded,
    Use,
    VisualTokenizer,
    tokenizer_on_meta_device,
    trained_state,
)

STORED_KEYS = (
    "format", "preprocessing", "grid", "feature_dim", "keep_threshold", "keep_ratio", "merger_layers", "heads",
    "mlp_dim", "merger_positions", "codebook_size", "code_dim", "decoder_layers", "decoded_dim", "whiten_power",
    "released_softmax",
)  # fmt: skip
"""Keys of config.json in their order, which the digest depends on."""

STORED_IF_SET = ("least_share", "codebook_factors")
"""Keys after those, left out at their defaults: digests of tokenizers that were made without them stay as they are."""

LEFT_OUT: dict[Use, tuple[str, ...]] = {
    "all": (),
    "encode": ("decoder.",),
    "decode": ("selector.", "merger.", "encode_task_layer."),
}
"""Beginnings of the stored names that a half of a tokenizer does not read."""


def load_tokenizer(
    model: Path, *, device: str = "auto", precision: str = "fp32", selection: str | None = None,
    tokens: int | None = None, use: Use = "all",
) -> VisualTokenizer:  # fmt: skip
    """Load `model/tokenizer`, frozen; `bf16` puts encoder, merger and decoder under autocast, never selector and codes.

    `selection` is the policy where a caller gives none, and `tokens` the number that `topk` keeps (default: those of
    the tokens that the model's language model learned from); `use` leaves out modules that are not needed.
    Raises InputError if the part is missing or damaged, UsageError if `tokens` do not fit.
    """
    folder = find_part(model, "tokenizer")
    digest = recorded_digest(model, "tokenizer")
    recorded, count = selection_of(model)
    policy = selection or recorded
    check_selection(policy, tokens)
    if tokens is not None:
        count = topk_tokens(read_config(folder), tokens)
    loaded = Loaded(digest=digest, precision=precision, selection=policy, tokens=count)
    # Released encoders are stored in bfloat16, and transformers would compute in what is stored.
    tokenizer = read_tokenizer(folder, use=use, loaded=loaded).float()
    tokenizer.hold_low()
    return tokenizer.to(pick_device(device)).eval().requires_grad_(False)


def add_decoder(tokenizer: VisualTokenizer, model: Path) -> None:
    """Load the feature decoder of `model/tokenizer` into the tokenizer that was loaded from there without it.

    A tokenizer whose configuration has none stays as it is. Raises InputError if the part is damaged.
    """
    if not tokenizer.config.decoder_layers:
        return
    half = read_tokenizer(find_part(model, "tokenizer"), use="decode", loaded=tokenizer.loaded).float()
    half.hold_low()
    tokenizer.decoder = half.decoder.to(tokenizer.feature_mean.device).eval().requires_grad_(False)


def read_tokenizer(folder: Path, *, use: Use = "all", loaded: Loaded = UNTRAINED) -> VisualTokenizer:
    """Load a tokenizer's folder. Raises InputError if it is damaged."""
    config, weights = read_config(folder), folder / "model.safetensors"
    encoder = None if use == "decode" else _fitting_encoder(folder / "encoder", config)
    require_fit(
        folder / "config.json",
        weights,
        lambda: trained_state(tokenizer_on_meta_device(config, use=use)),
        without=LEFT_OUT[use],
    )
    # No time and memory for first weights that are overwritten: at the published size that is half a minute.
    tokenizer = tokenizer_on_meta_device(config, use=use, loaded=loaded).to_empty(device="cpu")
    load_strictly(trained_state(tokenizer), weights, without=LEFT_OUT[use])
    if encoder is not None:
        tokenizer.encoder = encoder
    return tokenizer


def read_config(folder: Path) -> TokenizerConfig:
    """Read a tokenizer folder's config.json. Raises InputError if it is missing or not a tokenizer's."""
    file = folder / "config.json"
    try:
        return TokenizerConfig.model_validate(read_json(file))
    except ValueError as error:
        raise InputError(f"{file}: not a tokenizer's configuration ({' '.join(str(error).split())})") from None


def _fitting_encoder(folder: Path, config: TokenizerConfig) -> Encoder:
    encoder = load_encoder(folder)
    found = (encoder.feature_dim, encoder.grid)
    if found != (config.feature_dim, config.grid):
        raise InputError(f"{folder}: width and grid are {found}, expected {(config.feature_dim, config.grid)}")
    return encoder


def merger_on_meta_device(model: Path) -> Merger:
    """Return a merger of the shape of `model/tokenizer`'s, without weights: a language model brings its own.

    Raises InputError if the part is missing.
    """
    with torch.device("meta"):
        return new_merger(read_config(find_part(model, "tokenizer")))


def write_tokenizer(tokenizer: VisualTokenizer, folder: Path) -> None:
    """Write config.json, model.safetensors and the encoder's folder."""
    write_config(tokenizer.config, folder)
    tensors = {name: value.contiguous().cpu() for name, value in trained_state(tokenizer).items()}
    save_file(tensors, folder / "model.safetensors")
    save_encoder(tokenizer.encoder, folder / "encoder")


def write_config(config: TokenizerConfig, folder: Path) -> None:
    """Write a tokenizer folder's config.json."""
    values: dict[str, Any] = config.model_dump(mode="json")
    stored = {key: values[key] for key in STORED_KEYS}
    stored |= {key: values[key] for key in STORED_IF_SET if values[key]}
    write_json(folder / "config.json", stored)
