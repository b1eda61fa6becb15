"""The released EVA-CLIP file and transformers' Blip2VisionModel: the same network under two sets of names.

Differs: EVA has biases for queries and values only; Blip2 has one for all three, whose middle third is zero here.
Source: rename list of transformers' `convert_blip_2_original_to_pytorch.py`; EVA's norms have eps 1e-6.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lavit_core.errors import InputError
from lavit_core.images import Preprocessing
from lavit_trainkit.external_weights import Shapes, read_tensors, require_shapes, save_tensors, shapes_of
from torch import Tensor

from lavit_tokenizer.encoder_preprocessing import save_preprocessing
from lavit_tokenizer.small_vit import VIT_EPS

if TYPE_CHECKING:
    from transformers import Blip2VisionConfig  # seconds to load: only where it is needed

ENCODER_FILE = "visual_tokenizer/eva_vitg_psz14.bin"
HEAD_FILE = "released_head.safetensors"
"""CLIP's projection, which LaVIT never uses; kept because the authors' loader is strict about it."""

PUBLISHED_WIDTH, PUBLISHED_HEADS = 1408, 16

RENAMED = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding.": "patch_embed.proj.",
    "encoder.layers.": "blocks.",
    ".layer_norm": ".norm",
    ".self_attn.projection.": ".attn.proj.",
    ".self_attn.qkv.": ".attn.qkv.",
    "post_layernorm.": "norm.",
}
"""Parts of transformers' names -> the released ones."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderShape:
    """Geometry of the released encoder file, read from its shapes; only the head count isn't in them."""

    width: int
    layers: int
    heads: int
    mlp_dim: int
    patch_px: int
    side: int
    """Patches along a side."""
    head_dim: int | None
    """Width of CLIP's projection, where the file has one."""

    @property
    def preprocessing(self) -> Preprocessing:
        """CLIP's, at the size that the position table was made for."""
        return Preprocessing(image_px=self.side * self.patch_px)

    def config(self) -> "Blip2VisionConfig":
        """Return transformers' configuration."""
        from transformers import Blip2VisionConfig

        return Blip2VisionConfig(
            hidden_size=self.width,
            intermediate_size=self.mlp_dim,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            image_size=self.side * self.patch_px,
            patch_size=self.patch_px,
            hidden_act="gelu",
            layer_norm_eps=VIT_EPS,
            qkv_bias=True,
        )


def dimensions(file: Path, shapes: Shapes, name: str, rank: int) -> tuple[int, ...]:
    """Return the shape of a tensor that defines the geometry. Raises InputError if it has not `rank` dimensions."""
    found = shapes.get(name)
    if found is None or len(found) != rank or 0 in found:
        raise InputError(f"{file}: {name} is {found or 'missing'}, expected {rank} dimensions; this is another file")
    return found


def count_blocks(shapes: Shapes, prefix: str = "blocks.") -> int:
    """Return the number of different block numbers in the names."""
    return len({name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix)})


def head_count(file: Path, option: str, given: int | None, width: int) -> int:
    """Return the head count: the one given, or the published one for the published width.

    Raises InputError if it does not divide the width, or is needed and was not given: no tensor's shape depends on
    it, and a wrong one gives numbers that look like features.
    """
    if given is None and width != PUBLISHED_WIDTH:
        raise InputError(
            f"{file}: width is {width}, not the published {PUBLISHED_WIDTH}, so the head count is unknown; "
            f"give {option} N"
        )
    heads = PUBLISHED_HEADS if given is None else given
    if heads < 1 or width % heads:
        raise InputError(f"{file}: {option} {heads} does not divide width {width}; give the head count it has")
    return heads


def encoder_shape(file: Path, shapes: Shapes, heads: int | None) -> EncoderShape:
    """Return the geometry of an encoder file, every tensor of it checked. Raises InputError."""
    width, channels, patch_px, patch_width = dimensions(file, shapes, "patch_embed.proj.weight", 4)
    positions = dimensions(file, shapes, "pos_embed", 3)[1]
    side = math.isqrt(positions - 1)
    if channels != 3 or patch_px != patch_width or side * side != positions - 1 or side < 1:
        raise InputError(
            f"{file}: {channels} channels, patches of {patch_px} x {patch_width}, {positions} positions; "
            "expected 3, square patches, and a square of patches and one class token"
        )
    head = shapes.get("head.weight")
    shape = EncoderShape(
        width=width,
        layers=count_blocks(shapes),
        heads=head_count(file, "--encoder-heads", heads, width),
        mlp_dim=dimensions(file, shapes, "blocks.0.mlp.fc1.weight", 2)[0],
        patch_px=patch_px,
        side=side,
        head_dim=head[0] if head else None,
    )
    require_shapes(file, shapes, released_shapes(shape))
    return shape


def released_shapes(shape: EncoderShape) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a whole released encoder file of this geometry."""
    expected: dict[str, tuple[int, ...]] = {}
    for name, value in _our_shapes(shape).items():
        if name.endswith(".self_attn.qkv.bias"):
            expected |= dict.fromkeys(_bias_names(name), (shape.width,))
        else:
            expected[released_name(name)] = value
    if shape.head_dim is not None:
        expected |= {"head.weight": (shape.head_dim, shape.width), "head.bias": (shape.head_dim,)}
    return expected


def released_name(name: str) -> str:
    """Return the released name of a tensor of transformers' network."""
    for ours, theirs in RENAMED.items():
        name = name.replace(ours, theirs)
    return name


def import_encoder(file: Path, shape: EncoderShape, folder: Path) -> None:
    """Write the encoder as a transformers folder; weights keep their dtype."""
    released = read_tensors(file)
    names = list(_our_shapes(shape))
    tensors = {name: _joined_bias(released, name) for name in names if name.endswith(".qkv.bias")}
    tensors |= {name: released[released_name(name)] for name in names if name not in tensors}
    folder.mkdir(parents=True, exist_ok=True)
    shape.config().save_pretrained(folder)
    save_preprocessing(shape.preprocessing, folder)
    save_tensors(tensors, folder / "model.safetensors")
    if shape.head_dim is not None:
        save_tensors({name: released[name] for name in ("head.weight", "head.bias")}, folder / HEAD_FILE)


def export_encoder(folder: Path, file: Path) -> list[str]:
    """Write a Blip2 vision folder as the released file; return the names the authors' loader will miss.

    Raises InputError when a key has a bias, which the released layout has no place for.
    """
    released: dict[str, Tensor] = {}
    for name, value in read_tensors(folder / "model.safetensors").items():
        if not name.endswith(".self_attn.qkv.bias"):
            released[released_name(name)] = value
            continue
        query, key, of_value = value.chunk(3)
        if bool(key.any()):
            raise InputError(f"{folder}: {name} has biases for keys, and the released layout has no place for them")
        released |= dict(zip(_bias_names(name), (query.clone(), of_value.clone()), strict=True))
    head = folder / HEAD_FILE
    if head.is_file():
        released |= read_tensors(head)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(released, file)
    return [] if head.is_file() else ["head.weight", "head.bias"]


def _our_shapes(shape: EncoderShape) -> dict[str, tuple[int, ...]]:
    from transformers import Blip2VisionModel

    with torch.device("meta"):
        return shapes_of(Blip2VisionModel(shape.config()).state_dict())


def _bias_names(name: str) -> tuple[str, str]:
    stem = released_name(name).removesuffix("qkv.bias")
    return f"{stem}q_bias", f"{stem}v_bias"


def _joined_bias(released: Mapping[str, Tensor], name: str) -> Tensor:
    query, value = (released[bias] for bias in _bias_names(name))
    return torch.cat([query, torch.zeros_like(query), value])
