"""The released `visual_tokenizer/` folder as a tokenizer part, and back: the same modules under two sets of names.

Expected names and shapes come from a tokenizer of the same geometry on the meta device, so they are defined in one
place: the modules themselves.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from lavit_core.errors import InputError
from lavit_core.files import read_json
from lavit_trainkit.external_weights import Shapes, read_tensors, require_shapes, save_tensors, shapes_of
from torch import Tensor

from lavit_tokenizer.config import TokenizerConfig
from lavit_tokenizer.released_encoder import (
    ENCODER_FILE,
    EncoderShape,
    count_blocks,
    dimensions,
    encoder_shape,
    export_encoder,
    head_count,
    import_encoder,
)
from lavit_tokenizer.tokenizer import tokenizer_on_meta_device, trained_state
from lavit_tokenizer.tokenizer_folder import read_config, write_config

TOKENIZER_FILE = "visual_tokenizer/tokenizer_encoder.bin"
DECODER_FILE = "visual_tokenizer/tokenizer_decoder.bin"

RENAMED = {
    "selector.": "token_predictor.",
    "merger.": "causal_encoder.",
    "encode_task_layer.": "encode_task_layer.",
    "quantizer.codebook": "quantize.embedding.weight",
}
"""Beginnings of our names -> the released ones."""

CONDITION_PREFIX = "unet_"
"""Tensors of a decoder file that belong to the detokenizer."""

TABLES = ("pos_embed", "query_embed")
"""Tables of the decoder, stored with a leading axis of 1 in the released file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleasedTokenizer:
    """Contents of a released folder for this stage, checked but not read yet."""

    src: Path
    encoder: EncoderShape
    config: TokenizerConfig | None
    """None: the folder contains the image encoder alone."""


def inspect_tokenizer(
    src: Path, *, encoder_heads: int | None = None, heads: int | None = None, released_softmax: bool = True
) -> ReleasedTokenizer:
    """Return the contents of `src/visual_tokenizer`, every name and shape checked.

    Raises InputError if a file is missing, damaged or of another geometry than its neighbours.
    """
    file = src / ENCODER_FILE
    encoder = encoder_shape(file, shapes_of(read_tensors(file)), encoder_heads)
    if not (src / TOKENIZER_FILE).exists():
        if (src / DECODER_FILE).exists():
            raise InputError(f"{src / TOKENIZER_FILE}: file not found; {DECODER_FILE} is of no use without it")
        return ReleasedTokenizer(src=src, encoder=encoder, config=None)
    config = _tokenizer_config(src / TOKENIZER_FILE, encoder, heads, released_softmax)
    if (src / DECODER_FILE).exists():
        shapes = shapes_of(read_tensors(src / DECODER_FILE))
        config = with_decoder(config, src / DECODER_FILE, shapes)
    return ReleasedTokenizer(src=src, encoder=encoder, config=config)


def _tokenizer_config(file: Path, encoder: EncoderShape, heads: int | None, released_softmax: bool) -> TokenizerConfig:
    shapes = shapes_of(read_tensors(file))
    width = dimensions(file, shapes, "token_predictor.in_conv.1.weight", 2)[0]
    if width != encoder.width:
        raise InputError(f"{file}: width is {width}, expected {encoder.width} as in {ENCODER_FILE}")
    codebook_size, code_dim = dimensions(file, shapes, "quantize.embedding.weight", 2)
    config = TokenizerConfig(
        preprocessing=encoder.preprocessing,
        grid=(encoder.side, encoder.side),
        feature_dim=width,
        merger_layers=max(1, count_blocks(shapes, "causal_encoder.blocks.")),
        heads=head_count(file, "--heads", heads, width),
        mlp_dim=dimensions(file, shapes, "causal_encoder.blocks.0.mlp.fc1.weight", 2)[0],
        codebook_size=codebook_size,
        code_dim=code_dim,
        decoder_layers=0,
        released_softmax=released_softmax,
    )
    require_shapes(file, shapes, tokenizer_shapes(config))
    return config


def with_decoder(config: TokenizerConfig, file: Path, shapes: Shapes) -> TokenizerConfig:
    """Return the configuration with the decoder of a released decoder file, its trunk checked.

    Raises InputError if names or shapes differ from a decoder's.
    """
    trunk = {name: shape for name, shape in shapes.items() if not name.startswith(CONDITION_PREFIX)}
    out_dim = dimensions(file, trunk, "decode_task_layer.2.weight", 2)[0]
    layers = count_blocks(trunk)
    found = config.model_copy(
        update={
            "decoder_layers": max(1, layers),
            "decoded_dim": None if out_dim == config.feature_dim else out_dim,
        }
    )
    require_shapes(file, trunk, decoder_shapes(found))
    return found


def tokenizer_shapes(config: TokenizerConfig) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a whole `tokenizer_encoder.bin` of this geometry."""
    names = shapes_of(trained_state(tokenizer_on_meta_device(config)))
    return {released_name(name): shape for name, shape in names.items() if name.startswith(tuple(RENAMED))}


def merger_shapes(config: TokenizerConfig) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a merger of this geometry."""
    names = shapes_of(trained_state(tokenizer_on_meta_device(config)))
    return {name.removeprefix("merger."): shape for name, shape in names.items() if name.startswith("merger.")}


def decoder_shapes(config: TokenizerConfig) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a released decoder file of this geometry, without the detokenizer's projections."""
    trunk = {
        name.removeprefix("decoder."): shape
        for name, shape in shapes_of(trained_state(tokenizer_on_meta_device(config))).items()
        if name.startswith("decoder.")
    }
    return {name: (1, *shape) if name in TABLES else shape for name, shape in trunk.items()}


def released_name(name: str) -> str:
    """Return the released name of one of our tensors (selector, merger, code projection, codebook)."""
    prefix = next(prefix for prefix in RENAMED if name.startswith(prefix))
    return RENAMED[prefix] + name.removeprefix(prefix)


def import_encoder_part(found: ReleasedTokenizer, folder: Path) -> None:
    """Write the image encoder alone, for `train-tokenizer`."""
    import_encoder(found.src / ENCODER_FILE, found.encoder, folder)


def import_tokenizer(found: ReleasedTokenizer, folder: Path) -> None:
    """Write a tokenizer folder: configuration, weights in the dtype they have, encoder."""
    config = found.config
    assert config is not None, "an encoder alone is no tokenizer"
    import_encoder(found.src / ENCODER_FILE, found.encoder, folder / "encoder")
    expected = trained_state(tokenizer_on_meta_device(config))
    released = read_tensors(found.src / TOKENIZER_FILE)
    tensors = {name: released[released_name(name)] for name in expected if name.startswith(tuple(RENAMED))}
    if config.decoder_layers:
        trunk = decoder_tensors(read_tensors(found.src / DECODER_FILE))
        tensors |= {f"decoder.{name}": value for name, value in trunk.items()}
    codebook = tensors["quantizer.codebook"].float()
    tensors |= {
        # Not in the release: moving averages start anew, features stay raw.
        "quantizer.ema_count": torch.ones(config.codebook_size),
        "quantizer.ema_sum": codebook.clone(),
        "feature_mean": torch.zeros(config.feature_dim),
        "feature_whitening": torch.ones(1),
    }
    assert tensors.keys() == expected.keys()
    save_tensors(tensors, folder / "model.safetensors")
    write_config(config, folder)


def decoder_tensors(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a released decoder's trunk under our names, which are its own, tables without their leading axis."""
    trunk = {name: value for name, value in released.items() if not name.startswith(CONDITION_PREFIX)}
    return {name: value[0] if name in TABLES else value for name, value in trunk.items()}


def released_decoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a decoder's tensors as the released file has them (the inverse of `decoder_tensors`)."""
    return {name: value[None] if name in TABLES else value for name, value in tensors.items()}


def export_tokenizer(folder: Path, dst: Path) -> tuple[list[str], dict[str, Tensor]]:
    """Write a tokenizer part as `dst/visual_tokenizer`; return what the authors' loader misses, and the decoder.

    The decoder's file takes the detokenizer's projections too, so its tensors are handed on (empty: none).
    Raises InputError for a tokenizer that the released code can't run.
    """
    config = read_config(folder)
    _require_exportable(folder, config)
    missed = export_encoder(folder / "encoder", dst / ENCODER_FILE)
    tensors = read_tensors(folder / "model.safetensors")
    released = {released_name(name): value for name, value in tensors.items() if name.startswith(tuple(RENAMED))}
    torch.save(released, dst / TOKENIZER_FILE)
    trunk = {name.removeprefix("decoder."): value for name, value in tensors.items() if name.startswith("decoder.")}
    return missed, released_decoder(trunk)


def _require_exportable(folder: Path, config: TokenizerConfig) -> None:
    kind = read_json(folder / "encoder" / "config.json").get("model_type")
    own = {
        "merger_positions": (config.merger_positions, False),
        "whiten_power": (config.whiten_power, 0.0),
        "encoder": (kind, "blip_2_vision_model"),
    }
    for name, (found, expected) in own.items():
        if found != expected:
            raise InputError(
                f"{folder}: {name} is {found}, expected {expected}: the released code has no place for it; "
                "only tokenizers of the published form can be exported"
            )
