"""Frozen image encoder: the small ViT of `train-encoder`, or any local transformers vision folder. Never remote code.

The feature is the last block's output before its final norm; class and register tokens are dropped, as released.
Letters: B images, P patches, D width.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json
from lavit_core.images import CLIP_MEAN, CLIP_STD, Preprocessing
from lavit_core.pretrained import load_pretrained
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lavit_tokenizer.config import SMALL_VIT, SmallVitConfig
from lavit_tokenizer.layers import Mlp, init_transformer, sincos_table

VIT_EPS = 1e-6

VISION_CLASSES = {
    "blip-2": "Blip2VisionModel",
    "blip_2_vision_model": "Blip2VisionModel",
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "dinov2": "Dinov2Model",
}
"""model_type in config.json -> class of transformers."""

DEFAULT_NORMALISATION = {
    "SiglipVisionModel": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "Dinov2Model": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Published input normalisation of each family, for folders without preprocessor_config.json; CLIP's otherwise."""


class Attention(nn.Module):
    """Self-attention over equal-length rows; plain matrix products on a CPU, where they train twice as fast."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BPD: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return [B, P, D]; `mask`, broadcast to [B, H, P, P], is True where a row may look."""
        batch, length, width = x_BPD.shape
        q, k, v = self.qkv(x_BPD).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v, mask))


def attend(q_BHLE: Tensor, k_BHSE: Tensor, v_BHSE: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k / sqrt(E)) v with the heads put side by side, [B, L, H * E]."""
    if q_BHLE.is_cuda:
        mixed = F.scaled_dot_product_attention(q_BHLE, k_BHSE, v_BHSE, attn_mask=mask)
    else:
        scores = (q_BHLE * q_BHLE.shape[-1] ** -0.5) @ k_BHSE.transpose(-1, -2)
        mixed = (scores if mask is None else scores.masked_fill(~mask, -1e4)).softmax(-1).to(v_BHSE.dtype) @ v_BHSE
    return mixed.transpose(1, 2).flatten(2)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=VIT_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=VIT_EPS)
        self.mlp = Mlp(width, mlp_dim)

    def forward(self, x_BPD: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return [B, P, D]."""
        x_BPD = x_BPD + self.attn(self.norm1(x_BPD), mask)
        return x_BPD + self.mlp(self.norm2(x_BPD))


class SmallVit(nn.Module):
    """Convolutional stem (kernels 4, 3, 3; stride 2 each), position table, blocks; no class token, no final norm."""

    def __init__(self, config: SmallVitConfig) -> None:
        super().__init__()
        self.config = config
        num_convs = config.patch_px.bit_length() - 1
        widths = [3, *(config.width >> (num_convs - 1 - i) for i in range(num_convs))]
        stem: list[nn.Module] = []
        for i in range(num_convs):
            if i:
                stem.append(nn.GELU())
            stem.append(nn.Conv2d(widths[i], widths[i + 1], 4 if i == 0 else 3, stride=2, padding=1))
        self.stem = nn.Sequential(*stem)
        self.pos_embed = nn.Parameter(sincos_table(config.grid, config.width))
        self.registers = nn.Parameter(0.02 * torch.randn(config.registers, config.width)) if config.registers else None
        self.blocks = nn.ModuleList([Block(config.width, config.heads, config.mlp_dim) for _ in range(config.layers)])
        init_transformer(self, config.width)

    def first_blocks(self, count: int) -> "SmallVit":
        """Return a network of the first blocks alone, with this one's weights."""
        shorter = SmallVit(self.config.model_copy(update={"layers": count}))
        own = self.state_dict()
        shorter.load_state_dict({name: own[name] for name in shorter.state_dict()})
        return shorter

    def rows(self, pixels_B3HW: Tensor) -> Tensor:
        """Return the registers' rows, then the patches' features, [B, R + P, D]."""
        x_BPD = self.stem(pixels_B3HW).flatten(2).transpose(1, 2) + self.pos_embed
        if self.registers is not None:
            x_BPD = torch.cat([self.registers.expand(x_BPD.shape[0], -1, -1), x_BPD], dim=1)
        for block in self.blocks:
            x_BPD = block(x_BPD)
        return x_BPD

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """Return features [B, P, D] of normalised pixels."""
        return self.rows(pixels_B3HW)[:, self.config.registers :]


class Encoder(nn.Module):
    """A vision network with what one must know to use it: preprocessing, patch grid, feature width."""

    def __init__(
        self,
        network: nn.Module,
        *,
        preprocessing: Preprocessing,
        grid: tuple[int, int],
        feature_dim: int,
        num_prefix: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.preprocessing, self.grid, self.feature_dim = preprocessing, grid, feature_dim
        self.num_prefix = num_prefix

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """Return features [B, P, D] of normalised pixels, in raster order."""
        if isinstance(self.network, SmallVit):
            return self.network(pixels_B3HW)
        dtype = next(self.network.parameters()).dtype
        hidden = self.network(pixel_values=pixels_B3HW.to(dtype), output_hidden_states=True).hidden_states[-1]
        return hidden[:, self.num_prefix :].float()


def load_encoder(folder: Path) -> Encoder:
    """Load a frozen encoder from a folder. Raises InputError when it is missing, of unknown kind, or incomplete."""
    kind = _model_type(folder)
    encoder = _load_small(folder) if kind == SMALL_VIT else _load_transformers(folder, _class_of(folder, kind))
    return encoder.eval().requires_grad_(False)


def encoder_without_memory(folder: Path) -> Encoder:
    """Return a folder's encoder as names and shapes alone (torch's meta device), from its configuration.

    Raises InputError when it is missing or of unknown kind.
    """
    kind = _model_type(folder)
    if kind == SMALL_VIT:
        config = _small_config(folder)
        with torch.device("meta"):
            small = SmallVit(config)
        return Encoder(small, preprocessing=config.preprocessing, grid=config.grid, feature_dim=config.width,
                       num_prefix=0)  # fmt: skip
    import transformers

    network_class = getattr(transformers, _class_of(folder, kind))
    try:
        about = network_class.config_class.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            network = network_class(about)
    except (OSError, ValueError, TypeError, KeyError) as error:
        told = " ".join(str(error).split())[:300]
        raise InputError(f"{folder / 'config.json'}: not a {network_class.__name__}'s ({told})") from None
    return _wrapped(network, folder, network_class.__name__)


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Write the network as config.json and safetensors, with the preprocessing beside it for transformers' networks."""
    folder.mkdir(parents=True, exist_ok=True)
    network = encoder.network
    if isinstance(network, SmallVit):
        write_json(folder / "config.json", network.config.model_dump(mode="json"))
        save_file(
            {name: value.contiguous().cpu() for name, value in network.state_dict().items()},
            folder / "model.safetensors",
        )
        return
    network.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
    save_preprocessing(encoder.preprocessing, folder)


def save_preprocessing(about: Preprocessing, folder: Path) -> None:
    """Write the preprocessing under the names that transformers gives it."""
    size = {"height": about.image_px, "width": about.image_px}
    write_json(folder / "preprocessor_config.json", {"size": size, "image_mean": about.mean, "image_std": about.std})


def _model_type(folder: Path) -> str:
    if not folder.is_dir():
        raise InputError(f"{folder}: no encoder folder here; `lavit train-encoder` makes one")
    about = read_json(folder / "config.json")
    kind = about.get("model_type") if isinstance(about, dict) else None
    return str(kind)


def _class_of(folder: Path, kind: str) -> str:
    if kind not in VISION_CLASSES:
        known = ", ".join(sorted({SMALL_VIT, *VISION_CLASSES}))
        raise InputError(f"{folder / 'config.json'}: model_type is {kind!r}, expected one of {known}")
    return VISION_CLASSES[kind]


def _small_config(folder: Path) -> SmallVitConfig:
    try:
        return SmallVitConfig.model_validate(read_json(folder / "config.json"))
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'}: not a {SMALL_VIT} ({' '.join(str(error).split())})") from None


def _load_small(folder: Path) -> Encoder:
    config = _small_config(folder)
    network = SmallVit(config)
    load_weights(network.state_dict(), folder / "model.safetensors")
    return Encoder(
        network, preprocessing=config.preprocessing, grid=config.grid, feature_dim=config.width, num_prefix=0
    )


def _load_transformers(folder: Path, class_name: str) -> Encoder:
    import transformers

    transformers.utils.logging.disable_progress_bar()  # a second bar beside the job's own
    network = load_pretrained(getattr(transformers, class_name), folder, what=class_name, use_safetensors=True)
    return _wrapped(network, folder, class_name)


def _wrapped(network: Any, folder: Path, class_name: str) -> Encoder:
    config = network.config
    side = config.image_size // config.patch_size
    return Encoder(
        network,
        preprocessing=_preprocessing(folder, class_name, config.image_size),
        grid=(side, side),
        feature_dim=config.hidden_size,
        num_prefix=0 if class_name == "SiglipVisionModel" else 1,
    )


def _preprocessing(folder: Path, class_name: str, image_px: int) -> Preprocessing:
    file = folder / "preprocessor_config.json"
    about: dict[str, Any] = read_json(file) if file.exists() else {}
    mean, std = DEFAULT_NORMALISATION.get(class_name, (CLIP_MEAN, CLIP_STD))
    return Preprocessing(image_px=image_px, mean=about.get("image_mean", mean), std=about.get("image_std", std))


def load_weights(state: Mapping[str, Tensor], file: Path, *, without: Sequence[str] = ()) -> None:
    """Fill a state dict in place from safetensors: all of its tensors and nothing else.

    Tensors of the modules named in `without` may be in the file and are not read.
    Raises InputError naming the file and the first tensor that differs.
    """
    try:
        tensors = load_file(file)
    except FileNotFoundError:
        raise InputError(f"{file}: file not found; the folder is incomplete, copy it again") from None
    except SafetensorError as error:
        raise InputError(f"{file}: not a safetensors file ({error}); copy it again") from None
    expected = {name: tuple(value.shape) for name, value in state.items()}
    modules = tuple(f"{module}." for module in without)
    found = {name: tuple(value.shape) for name, value in tensors.items() if not name.startswith(modules)}
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing:
        name = differing[0]
        raise InputError(
            f"{file}: {name} has shape {found.get(name)}, expected {expected.get(name)} "
            f"({len(differing)} weights differ); config.json and weights are not of one model"
        )
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(tensors[name])
