"""The released pixel decoders as detokenizer parts, and back: SD 1.5 (`detokenizer/`), SDXL (`detokenizer-highres/`).

SD 1.5 takes the features of the tokenizer's own feature decoder; SDXL has a feature decoder of its own. Tensors of the
condition keep their released names (see condition.py); only the null embedding changes its shape.
"""

import dataclasses
import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json
from lavit_core.modeldir import denoiser_folder
from lavit_tokenizer.api import TokenizerConfig, decoder_tensors, released_decoder, with_decoder
from lavit_trainkit.external_weights import (
    Shapes,
    copy_weights,
    folder_shapes,
    read_tensor,
    read_tensors,
    require_shapes,
    save_tensors,
    shapes_of,
    weight_files,
)
from torch import Tensor

from lavit_detokenizer.condition import Condition
from lavit_detokenizer.config import ConditionShape, DecoderShape, DetokenizerConfig
from lavit_detokenizer.folder import NULL_KEY, WEIGHTS, check_network, model_index, network_on_meta_device, read_config
from lavit_detokenizer.network import sample_shape

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of a VAE's attention before diffusers 0.17 -> present names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Paths and form of one of the two released decoders."""

    part: str
    decoder_file: str
    pixels: str
    image_px: int
    own_decoder: bool
    null_file: str | None
    """File of the null-text embedding; None: the unguided branch gets zeros."""


LAYOUTS = (
    Layout(
        part="detokenizer",
        decoder_file="visual_tokenizer/tokenizer_decoder.bin",
        pixels="pixel_decoding",
        image_px=512,
        own_decoder=False,
        null_file="uncond_embeddings.bin",
    ),
    Layout(
        part="detokenizer-highres",
        decoder_file="visual_tokenizer/highres_tokenizer_decoder.bin",
        pixels="highres_pixel_decoding",
        image_px=1024,
        own_decoder=True,
        null_file=None,
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleasedDetokenizer:
    """One decoder of a released folder, whose names and shapes are checked and whose weights are not read yet."""

    src: Path
    layout: Layout
    config: DetokenizerConfig
    drawable: bool
    """Whether the folder has its UNet, VAE and scheduler."""
    null_shape: tuple[int, int] | None

    @property
    def pixels(self) -> Path:
        """Folder of UNet, VAE and scheduler."""
        return self.src / self.layout.pixels


def inspect_detokenizers(src: Path, tokenizer: TokenizerConfig) -> list[ReleasedDetokenizer]:
    """Return the pixel decoders of `src`, with every name and shape checked against the tokenizer of the codes.

    Raises InputError if a file is damaged, has another geometry, or lacks the files that belong to it.
    """
    return [_inspect(src, layout, tokenizer) for layout in LAYOUTS if (src / layout.decoder_file).exists()]


def _inspect(src: Path, layout: Layout, tokenizer: TokenizerConfig) -> ReleasedDetokenizer:
    file = src / layout.decoder_file
    shapes = shapes_of(read_tensors(file))
    decoded = with_decoder(tokenizer, file, shapes)
    own = {name: shape for name, shape in shapes.items() if name.startswith("unet_")}
    pixels = src / layout.pixels
    null_shape = None
    if pixels.is_dir() and layout.null_file is not None:
        null_shape = _null_shape(pixels / layout.null_file)
    condition = _condition_shape(file, own, decoded, stored=null_shape is not None)
    config = DetokenizerConfig(
        space="latent",
        image_px=_image_px(pixels, layout.image_px),
        condition=condition,
        feature_dim=decoded.decoder_width,
        grid=tokenizer.grid,
        decoder=_decoder_shape(decoded) if layout.own_decoder else None,
    )
    require_shapes(file, own, _condition_shapes(config))
    if null_shape is not None and null_shape[1] != sum(condition.cross_dims):
        found, expected = null_shape[1], sum(condition.cross_dims)
        raise InputError(f"{pixels / str(layout.null_file)}: width is {found}, expected {expected} as in {file.name}")
    if pixels.is_dir():
        _check_pixels(pixels, config)
    return ReleasedDetokenizer(src=src, layout=layout, config=config, drawable=pixels.is_dir(), null_shape=null_shape)


def _condition_shape(file: Path, own: Shapes, decoded: TokenizerConfig, *, stored: bool) -> ConditionShape:
    names = ["unet_proj.weight"] if "unet_proj.weight" in own else ["unet_proj_1.weight", "unet_proj_2.weight"]
    rows = [own.get(name, ()) for name in names]
    if not all(len(shape) == 2 and shape[1] == decoded.decoder_width for shape in rows):
        raise InputError(f"{file}: {names[0]} is {rows[0] or 'missing'}, expected [width, {decoded.decoder_width}]")
    pooled = own.get("unet_attnpool.c_proj.weight")
    if pooled is not None and decoded.decoder_width % decoded.heads:
        raise InputError(
            f"{file}: --heads {decoded.heads} does not divide width {decoded.decoder_width} of its attention pooling"
        )
    return ConditionShape(
        kind="cross",
        cross_dims=tuple(shape[0] for shape in rows),
        pooled_dim=None if pooled is None else pooled[0],
        pooled_heads=decoded.heads,
        null_condition="stored" if stored else "zeros",
    )


def _decoder_shape(decoded: TokenizerConfig) -> DecoderShape:
    return DecoderShape(
        width=decoded.feature_dim,
        layers=decoded.decoder_layers,
        heads=decoded.heads,
        mlp_dim=decoded.mlp_dim,
        code_dim=decoded.code_dim,
    )


def _condition_shapes(config: DetokenizerConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return shapes_of(Condition(config).state_dict())


def _null_shape(file: Path) -> tuple[int, int]:
    found = tuple(read_tensor(file).shape)
    if len(found) != 3 or found[0] != 1:
        raise InputError(f"{file}: shape is {found}, expected (1, rows, width)")
    return found[1], found[2]


def _image_px(pixels: Path, published: int) -> int:
    if not pixels.is_dir():
        return published
    sample_size = read_json(pixels / "unet" / "config.json").get("sample_size")
    levels = read_json(pixels / "vae" / "config.json").get("block_out_channels")
    if not isinstance(sample_size, int) or not isinstance(levels, list):
        return published
    return sample_size * 2 ** (len(levels) - 1)


def _check_pixels(pixels: Path, config: DetokenizerConfig) -> None:
    networks = {
        name: network_on_meta_device(kind, read_json(pixels / name / "config.json"), pixels / name / "config.json")
        for name, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL))
    }
    for name, network in networks.items():
        files = weight_files(pixels / name, [WEIGHTS])
        expected = shapes_of(network.state_dict())
        found = {modern_name(key): shape for key, shape in folder_shapes(files).items()}
        require_shapes(files[0], found, expected)
    check_network(networks["unet"], pixels / "unet", config, sample_shape(config, networks["vae"]))
    if not (pixels / "scheduler" / "scheduler_config.json").is_file():
        raise InputError(f"{pixels / 'scheduler' / 'scheduler_config.json'}: file not found; the folder is incomplete")


def modern_name(name: str) -> str:
    """Return the present name of a tensor of a diffusers network."""
    return re.sub(
        r"(\.attentions\.\d+\.)(query|key|value|proj_attn)\.",
        lambda found: f"{found.group(1)}{OLD_ATTENTION[found.group(2)]}.",
        name,
    )


def import_detokenizer(found: ReleasedDetokenizer, folder: Path) -> None:
    """Write a detokenizer folder: configuration, condition, own decoder, and the diffusers folders if present."""
    folder.mkdir(parents=True, exist_ok=True)
    released = read_tensors(found.src / found.layout.decoder_file)
    condition = {name: value for name, value in released.items() if name.startswith("unet_")}
    if found.null_shape is not None:
        condition[NULL_KEY] = read_tensor(found.pixels / str(found.layout.null_file))[0]
    save_tensors(condition, folder / "condition.safetensors")
    if found.config.decoder is not None:
        save_tensors(decoder_tensors(released), folder / "decoder.safetensors")
    write_json(folder / "config.json", found.config.model_dump(mode="json"))
    if not found.drawable:
        return
    _copy_networks(found.pixels, folder, suffix="safetensors")
    write_json(folder / "model_index.json", model_index("unet", "DDIMScheduler", "AutoencoderKL"))


def export_detokenizer(folder: Path, part: str, decoder: dict[str, Tensor], dst: Path) -> None:
    """Write a detokenizer part as the released files; `decoder` is the tokenizer's, under the released names.

    Raises InputError if the released code can't run the detokenizer.
    """
    layout = next(layout for layout in LAYOUTS if layout.part == part)
    config = read_config(folder)
    _require_exportable(folder, config, layout)
    condition = read_tensors(folder / "condition.safetensors")
    null = condition.pop(NULL_KEY, None)
    if config.decoder is not None:
        decoder = released_decoder(read_tensors(folder / "decoder.safetensors"))
    if not decoder:
        raise InputError(f"{folder}: the tokenizer has no feature decoder, so {layout.decoder_file} can't be written")
    (dst / layout.decoder_file).parent.mkdir(parents=True, exist_ok=True)
    torch.save({**decoder, **condition}, dst / layout.decoder_file)
    if not (folder / "unet").is_dir():
        return
    pixels = dst / layout.pixels
    # The released code asks for the UNet with use_safetensors=False.
    _copy_networks(folder, pixels, suffix="bin")
    if null is not None and layout.null_file is not None:
        torch.save(null[None].clone(), pixels / layout.null_file)


def _copy_networks(source: Path, target: Path, *, suffix: str) -> None:
    """Write UNet, VAE and scheduler again, tensors under their present names in files of `suffix`."""
    for name in ("unet", "vae"):
        files = weight_files(source / name, [WEIGHTS])
        copy_weights(files, target / name, WEIGHTS, suffix=suffix, rename=modern_name)
    for name in ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"):
        write_json(target / name, read_json(source / name))


def _require_exportable(folder: Path, config: DetokenizerConfig, layout: Layout) -> None:
    shape = config.condition
    own = {
        "network": (denoiser_folder(folder).name, "unet"),
        "flow": (config.flow, None),
        "space": (config.space, "latent"),
        "condition.kind": (shape.kind, "cross"),
        "condition.standardise": (shape.standardise, False),
        "condition.pooled_dim set": (shape.pooled_dim is not None, layout.own_decoder),
    }
    for name, (found, expected) in own.items():
        if found != expected:
            raise InputError(
                f"{folder}: {name} is {found}, expected {expected}: the released code has no place for it; "
                "only detokenizers of the published form can be exported"
            )
