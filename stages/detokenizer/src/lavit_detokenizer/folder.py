"""The detokenizer on disk: a diffusers layout (model_index.json, unet/ or transformer/, scheduler/, vae/) with
config.json, condition.safetensors and, if the prediction is refined, refiner.safetensors beside it."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, PixArtTransformer2DModel, UNet2DConditionModel
from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json
from lavit_core.modeldir import check_made_with, denoiser_folder, find_part
from lavit_tokenizer.api import FeatureDecoder
from lavit_trainkit.device import pick_device
from lavit_trainkit.external_weights import folder_shapes, load_strictly, read_tensors, require_fit, weight_files
from lavit_trainkit.precision import choose_precision, dtype_of
from lavit_trainkit.weight_checks import require_finite, require_size
from safetensors.torch import save_file
from torch import nn

from lavit_detokenizer import transformer, unet
from lavit_detokenizer.condition import Condition
from lavit_detokenizer.config import DecoderShape, DetokenizerConfig
from lavit_detokenizer.network import Denoiser, Detokenizer, Network, build_refiner, sample_shape
from lavit_detokenizer.refine import Refiner
from lavit_detokenizer.vae import Vae, vae_kind

NETWORKS: dict[str, type[Network]] = {"unet": UNet2DConditionModel, "transformer": PixArtTransformer2DModel}
"""Folder of a network in a detokenizer -> its class."""
OLD_NAMES = {"PixArtTransformer2DModel": "Transformer2DModel"}
"""Classes that the weights of before are stored under, where they have been renamed."""

NULL_KEY = "null_embedding"
CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model"
"""Stem of weight files in a diffusers folder."""


def save_detokenizer(detokenizer: Detokenizer, folder: Path) -> None:
    """Write all parts of a detokenizer, weights as safetensors."""
    denoiser = detokenizer.denoiser
    denoiser.network.save_pretrained(folder / denoiser.kind, safe_serialization=True)
    detokenizer.scheduler.save_pretrained(folder / "scheduler")
    if detokenizer.vae is not None:
        detokenizer.vae.save_pretrained(folder / "vae", safe_serialization=True)
    _save_state(denoiser.condition, folder / "condition.safetensors")
    if denoiser.refiner is not None:
        _save_state(denoiser.refiner, folder / "refiner.safetensors")
    if detokenizer.decoder is not None:
        _save_state(detokenizer.decoder, folder / "decoder.safetensors")
    write_json(folder / CONFIG, detokenizer.config.model_dump(mode="json"))
    vae = None if detokenizer.vae is None else type(detokenizer.vae).__name__
    write_json(folder / "model_index.json", model_index(denoiser.kind, type(detokenizer.scheduler).__name__, vae))


def _save_state(module: nn.Module, file: Path) -> None:
    save_file({name: value.contiguous().cpu() for name, value in module.state_dict().items()}, file)


def model_index(network: str, scheduler: str, vae: str | None) -> dict[str, Any]:
    """Return the content of model_index.json for a network's folder, and the classes of scheduler and VAE."""
    index: dict[str, Any] = {
        "_class_name": "LavitDetokenizer",
        "_diffusers_version": diffusers.__version__,
        network: ["diffusers", NETWORKS[network].__name__],
        "scheduler": ["diffusers", scheduler],
    }
    return index if vae is None else {**index, "vae": ["diffusers", vae]}


def load_detokenizer(
    model: Path, *, part: str = "detokenizer", device: str = "auto", precision: str = "auto"
) -> Detokenizer:
    """Load `model/detokenizer` (or another part of that kind), frozen.

    `precision` of the network is fp32, bf16, or auto (as stored); VAE and feature decoder stay in fp32.
    Raises InputError if the part is missing or damaged, or was trained on the codes of another tokenizer.
    """
    folder = find_part(model, part)
    check_made_with(model, part)
    config = read_config(folder)
    place = denoiser_folder(folder)
    precision = choose_precision(precision, place, [WEIGHTS], kind=pick_device(device).type)
    network = load_network(place, place.name, dtype_of(precision))
    vae = load_vae(folder / "vae") if config.space == "latent" else None
    check_network(network, place, config, sample_shape(config, vae))
    kind = DDIMScheduler if config.flow is None else FlowMatchEulerDiscreteScheduler
    scheduler = _from_folder(kind, folder / "scheduler")
    denoiser = (
        Denoiser(network, read_condition(folder, config), read_refiner(folder, config)).eval().requires_grad_(False)
    )
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


def load_network(folder: Path, kind: str, dtype: torch.dtype = torch.float32) -> Network:
    """Load a local diffusers network, `unet` or `transformer`.

    Raises InputError if a tensor is missing, unexpected or of another shape.
    """
    network: Network = _load_weights(NETWORKS[kind], folder, dtype)
    return network


def load_vae(folder: Path) -> Vae:
    """Load a local diffusers VAE in fp32, frozen. Raises InputError."""
    vae: Vae = _load_weights(vae_kind(folder), folder, torch.float32).eval().requires_grad_(False)
    return vae


def check_network(network: Network, folder: Path, config: DetokenizerConfig, sample: tuple[int, int, int]) -> None:
    """Refuse a network whose configuration does not fit condition and space. Raises InputError with both values."""
    module = transformer if isinstance(network, PixArtTransformer2DModel) else unet
    wrong = module.misfit(network.config, config, sample)
    if wrong is not None:
        name, value, expected = wrong
        raise InputError(f"{folder}: {name} is {value}, expected {expected} for this condition and space")


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
    stated = read_json(folder / CONFIG).get("_class_name", kind.__name__)
    if stated not in (kind.__name__, OLD_NAMES.get(kind.__name__)):
        raise InputError(f"{folder / CONFIG}: _class_name is {stated}, expected {kind.__name__}")
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
