"""The detokenizer on disk: a diffusers layout (model_index.json, unet/, scheduler/, vae/) with config.json,
condition.safetensors and, if the prediction is refined, refiner.safetensors beside it."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json
from lavit_core.modeldir import check_made_with, find_part
from lavit_tokenizer.api import FeatureDecoder
from lavit_trainkit.device import pick_device
from lavit_trainkit.external_weights import folder_shapes, load_strictly, read_tensors, require_fit, weight_files
from lavit_trainkit.precision import choose_precision, dtype_of
from lavit_trainkit.weight_checks import require_finite, require_size
from safetensors.torch import save_file
from torch import nn

from lavit_detokenizer.condition import Condition
from lavit_detokenizer.config import DecoderShape, DetokenizerConfig, UNetShape
from lavit_detokenizer.network import Denoiser, Detokenizer, build_refiner, sample_shape, unet_arguments
from lavit_detokenizer.refine import Refiner

NULL_KEY = "null_embedding"
CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model"
"""Stem of weight files in a diffusers folder."""


def save_detokenizer(detokenizer: Detokenizer, folder: Path) -> None:
    """Write all parts of a detokenizer, weights as safetensors."""
    detokenizer.denoiser.unet.save_pretrained(folder / "unet", safe_serialization=True)
    detokenizer.scheduler.save_pretrained(folder / "scheduler")
    if detokenizer.vae is not None:
        detokenizer.vae.save_pretrained(folder / "vae", safe_serialization=True)
    _save_state(detokenizer.denoiser.condition, folder / "condition.safetensors")
    if detokenizer.denoiser.refiner is not None:
        _save_state(detokenizer.denoiser.refiner, folder / "refiner.safetensors")
    if detokenizer.decoder is not None:
        _save_state(detokenizer.decoder, folder / "decoder.safetensors")
    write_json(folder / CONFIG, detokenizer.config.model_dump(mode="json"))
    write_json(folder / "model_index.json", model_index(with_vae=detokenizer.vae is not None))


def _save_state(module: nn.Module, file: Path) -> None:
    save_file({name: value.contiguous().cpu() for name, value in module.state_dict().items()}, file)


def model_index(*, with_vae: bool) -> dict[str, Any]:
    """Return the content of model_index.json."""
    index: dict[str, Any] = {
        "_class_name": "LavitDetokenizer",
        "_diffusers_version": diffusers.__version__,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    return {**index, "vae": ["diffusers", "AutoencoderKL"]} if with_vae else index


def load_detokenizer(
    model: Path, *, part: str = "detokenizer", device: str = "auto", precision: str = "auto"
) -> Detokenizer:
    """Load `model/detokenizer` (or another part of that kind), frozen.

    `precision` of the UNet is fp32, bf16, or auto (as stored); VAE and feature decoder stay in fp32.
    Raises InputError if the part is missing or damaged, or was trained on the codes of another tokenizer.
    """
    folder = find_part(model, part)
    check_made_with(model, part)
    config = read_config(folder)
    precision = choose_precision(precision, folder / "unet", [WEIGHTS])
    unet = load_unet(folder / "unet", dtype_of(precision))
    vae = load_vae(folder / "vae") if config.space == "latent" else None
    check_unet(unet, folder / "unet", config, vae)
    scheduler = _from_folder(DDIMScheduler, folder / "scheduler")
    denoiser = Denoiser(unet, read_condition(folder, config), read_refiner(folder, config)).eval().requires_grad_(False)
    detokenizer = Detokenizer(
        config=config,
        denoiser=denoiser,
        scheduler=scheduler,
        vae=vae,
        decoder=read_decoder(folder, config),
        precision=precision,
    )
    return detokenizer.to(pick_device(device))


def read_config(folder: Path) -> DetokenizerConfig:
    """Read config.json. Raises InputError."""
    file = folder / CONFIG
    try:
        return DetokenizerConfig.model_validate(read_json(file))
    except ValueError as error:
        raise InputError(f"{file}: not a detokenizer's configuration ({' '.join(str(error).split())})") from None


def read_condition(folder: Path, config: DetokenizerConfig) -> Condition:
    """Load the projections, frozen. Raises InputError."""
    file = folder / "condition.safetensors"
    state = read_tensors(file)
    null = state.get(NULL_KEY)
    shape = None if null is None else (null.shape[0], null.shape[1])
    require_fit(folder / CONFIG, file, lambda: Condition(config, null_shape=shape))
    condition = Condition(config, null_shape=shape)
    load_strictly(condition, file, state)
    return condition.eval().requires_grad_(False)


def read_refiner(folder: Path, config: DetokenizerConfig) -> Refiner | None:
    """Load the convolutions on the pixel grid, frozen; return None if there are none. Raises InputError."""
    if config.refine_channels == 0:
        return None
    file = folder / "refiner.safetensors"
    require_fit(folder / CONFIG, file, lambda: build_refiner(config) or nn.Identity())
    refiner = build_refiner(config)
    assert refiner is not None
    load_strictly(refiner, file)
    return refiner.eval().requires_grad_(False)


def read_decoder(folder: Path, config: DetokenizerConfig) -> FeatureDecoder | None:
    """Load the detokenizer's own feature decoder, frozen; return None if it has none. Raises InputError."""
    if config.decoder is None:
        return None
    shape, file = config.decoder, folder / "decoder.safetensors"
    require_fit(folder / CONFIG, file, lambda: build_decoder(config, shape))
    decoder = build_decoder(config, shape)
    load_strictly(decoder, file)
    return decoder.eval().requires_grad_(False)


def build_decoder(config: DetokenizerConfig, shape: DecoderShape) -> FeatureDecoder:
    """Return an untrained feature decoder of a shape, for the detokenizer's grid and feature width."""
    patches = config.grid[0] * config.grid[1]
    sizes = shape.model_dump(exclude={"width"})
    return FeatureDecoder(shape.width, num_patches=patches, out_dim=config.feature_dim, **sizes)


def load_unet(folder: Path, dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """Load a local diffusers UNet. Raises InputError if a tensor is missing, unexpected or of another shape."""
    return _load_weights(UNet2DConditionModel, folder, dtype)


def load_vae(folder: Path) -> AutoencoderKL:
    """Load a local diffusers VAE in fp32, frozen. Raises InputError."""
    return _load_weights(AutoencoderKL, folder, torch.float32).eval().requires_grad_(False)


def check_unet(unet: UNet2DConditionModel, folder: Path, config: DetokenizerConfig, vae: AutoencoderKL | None) -> None:
    """Refuse a UNet whose inputs do not fit condition and space. Raises InputError with both values."""
    # Only what follows from condition and space is compared: the levels are the folder's own.
    wanted = unet_arguments(config, UNetShape(), sample_shape(config, vae))
    # A UNet without attention blocks takes a sequence of any width.
    names = ["in_channels", "out_channels", "addition_embed_type", "projection_class_embeddings_input_dim"]
    names += ["cross_attention_dim"] if config.condition.attended else []
    for name in names:
        found, expected = getattr(unet.config, name), wanted.get(name)
        if found != expected:
            raise InputError(f"{folder}: {name} is {found}, expected {expected} for this condition and space")


def network_on_meta_device(kind: Any, config: Any, source: Path | str) -> Any:
    """Return the diffusers network of a configuration, without memory. Raises InputError naming its `source`."""
    try:
        with torch.device("meta"):
            return kind.from_config(config)
    # A configuration of another library version fails in any way that its constructor does.
    except Exception as error:  # noqa: BLE001
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{source}: not a {kind.__name__} ({reason})") from None


def _from_folder(kind: Any, folder: Path, **arguments: Any) -> Any:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected a diffusers {kind.__name__} (config and weights)")
    try:
        return kind.from_pretrained(folder, local_files_only=True, **arguments)
    except MemoryError:
        raise
    # A configuration fails in any way that a constructor does.
    except Exception as error:  # noqa: BLE001
        line = " ".join(str(error).split())
        raise InputError(f"{folder}: not a diffusers {kind.__name__} ({line[:200]})") from None


def _load_weights(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected a diffusers {kind.__name__} (config and weights)")
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: not a diffusers {kind.__name__} (no {CONFIG} here)")
    files = weight_files(folder, [WEIGHTS])
    require_size(
        folder / CONFIG,
        folder_shapes(files),
        lambda: kind.from_config(kind.load_config(folder, local_files_only=True)),
    )
    # Without a dtype weights come as stored or in fp32, depending on the version; with one there is no second copy.
    module, report = _from_folder(
        kind, folder, use_safetensors=True, output_loading_info=True, torch_dtype=dtype, low_cpu_mem_usage=True
    )
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"], *report["error_msgs"]]
    if wrong:
        raise InputError(f"{folder}: weights do not fit the configuration ({wrong[0]} and {len(wrong) - 1} more)")
    for file in files:
        require_finite(file, read_tensors(file).items())
    # diffusers warns of every cast, also of those that change nothing.
    is_cast = all(parameter.dtype == dtype for parameter in module.parameters())
    return module if is_cast else module.to(dtype)
