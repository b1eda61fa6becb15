"""The visual tokenizer: pixels -> features -> kept patches -> merged features -> codes -> decoded features.

Letters: B images, P patches, D feature width, T kept patches of all images, C code width.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lavit_core.errors import InputError, UsageError
from lavit_core.files import read_json, write_json
from lavit_core.modeldir import find_part, part_digest, selection_of
from lavit_trainkit.device import pick_device
from lavit_trainkit.pixels import normalise
from safetensors.torch import save_file
from torch import Tensor, nn

from lavit_tokenizer.config import ModelSettings, TokenizerConfig
from lavit_tokenizer.decoder import FeatureDecoder
from lavit_tokenizer.encoder import Encoder, load_encoder, load_weights, save_encoder
from lavit_tokenizer.merger import Merger
from lavit_tokenizer.quantizer import Quantizer, nearest
from lavit_tokenizer.selector import Selector, select_sample, select_threshold, select_topk

Use = Literal["all", "encode", "decode"]
"""What a loaded tokenizer is for: everything, pixels to codes (no feature decoder), or codes to features (no encoder,
selector and merger). At the published size that is 7.3, 5.7 and 1.6 GB."""

UNUSED: dict[Use, tuple[str, ...]] = {
    "all": (),
    "encode": ("decoder",),
    "decode": ("encoder", "selector", "merger", "encode_task_layer"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded:
    """Pictures as tokens: codes int64 [T], counts int64 [B], keep_mask bool [B, P], merged float32 [T, D]."""

    codes: Tensor
    counts: Tensor
    keep_mask: Tensor
    merged: Tensor


class VisualTokenizer(nn.Module):
    """Frozen encoder, selector, merger, codebook and feature decoder; `digest` names the stored weights, if any."""

    decoder: FeatureDecoder
    """Absent when the configuration says 0 layers."""

    def __init__(self, config: TokenizerConfig, encoder: Encoder, *, digest: str = "") -> None:
        super().__init__()
        self.config, self.digest, self.precision, self.selection = config, digest, "fp32", "threshold"
        width = config.feature_dim
        shape = {"heads": config.heads, "mlp_dim": config.mlp_dim, "num_patches": config.num_patches}
        self.encoder = encoder
        self.selector = Selector(width)
        self.merger = self.new_merger()
        self.encode_task_layer = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, config.code_dim))
        self.quantizer = Quantizer(config.codebook_size, config.code_dim)
        if config.decoder_layers:
            self.decoder = FeatureDecoder(
                width, layers=config.decoder_layers, code_dim=config.code_dim, out_dim=config.decoder_width, **shape
            )
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_whitening", torch.eye(width) if config.whiten_power else torch.ones(1))
        self.feature_mean: Tensor
        self.feature_whitening: Tensor

    def new_merger(self) -> Merger:
        """Return an untrained merger of this tokenizer's shape, also for the copy that learns with a language model."""
        config = self.config
        return Merger(
            config.feature_dim,
            layers=config.merger_layers,
            heads=config.heads,
            mlp_dim=config.mlp_dim,
            num_patches=config.num_patches,
            positions=config.merger_positions,
            released_softmax=config.released_softmax,
        )

    def autocast(self) -> torch.autocast:
        """Return the autocast context of the chosen inference precision."""
        return torch.autocast(self.feature_mean.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def features(self, pixels_u8: Tensor) -> Tensor:
        """Return float32 features [B, P, D] of uint8 pictures [B, px, px, 3], whitened where the config says so."""
        pixels = normalise(pixels_u8.to(self.feature_mean.device), self.config.preprocessing)
        with torch.no_grad():
            with self.autocast():
                raw = self.encoder(pixels)
            return self.whiten(raw.float())

    def whiten(self, raw_BPD: Tensor) -> Tensor:
        """Centre features and divide them by (PCA eigenvalue)^power; raw features pass through when the power is 0."""
        if not self.config.whiten_power:
            return raw_BPD
        return (raw_BPD - self.feature_mean) @ self.feature_whitening

    @torch.no_grad()
    def fit_whitening(self, raw_ND: Tensor) -> None:
        """Set mean and whitening matrix from raw features; the whitened ones have a mean square of 1."""
        mean = raw_ND.double().mean(dim=0)
        centred = raw_ND.double() - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / raw_ND.shape[0])
        # Directions of no variance would be blown up to noise: their eigenvalue is held at a millionth of the largest.
        scale = values.clamp_min(float(values.max()) * 1e-6) ** -self.config.whiten_power
        matrix = vectors * scale @ vectors.T
        matrix = matrix / (centred @ matrix).square().mean().sqrt()
        self.feature_mean.copy_(mean)
        self.feature_whitening.copy_(matrix)

    def keep(
        self, x_BPD: Tensor, *, selection: str = "threshold", seed: int = 0, keys: Sequence[str] | None = None
    ) -> Tensor:
        """Return the keep mask bool [B, P] of features; at least one patch an image.

        Raises UsageError for an unknown selection, or `sample` without picture keys.
        """
        log_keep = self.selector(x_BPD)
        if selection == "threshold":
            return select_threshold(log_keep, self.config.keep_threshold)
        if selection == "topk":
            return select_topk(log_keep, round(self.config.keep_ratio * self.config.num_patches))
        if selection == "sample" and keys is not None:
            return select_sample(log_keep, seed=seed, keys=keys)
        if selection == "sample":
            raise UsageError("selection sample: expected the pictures' keys, found none")
        raise UsageError(f"selection {selection}: expected threshold, topk or sample")

    def select(
        self, pixels_u8: Tensor, *, selection: str | None = None, seed: int = 0, keys: Sequence[str] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return features [B, P, D] and keep mask [B, P] without gradients: what a merger still in training reads.

        Without `selection` the tokenizer's own is used; `sample` is then seeded by the pictures' bytes.
        """
        if selection is None and self.selection == "sample" and keys is None:
            keys = [hashlib.sha256(picture.cpu().numpy().tobytes()).hexdigest() for picture in pixels_u8]
        with torch.no_grad():
            x_BPD = self.features(pixels_u8)
            return x_BPD, self.keep(x_BPD, selection=selection or self.selection, seed=seed, keys=keys)

    def merge(self, x_BPD: Tensor, keep_BP: Tensor) -> Tensor:
        """Return merged features [T, D] of the kept patches."""
        return self.merger(x_BPD, keep_BP)

    def project(self, merged: Tensor) -> Tensor:
        """Return unit code vectors [..., C], before quantisation, of merged features [..., D] in fp32."""
        return F.normalize(self.encode_task_layer(merged).float(), dim=-1)

    @torch.no_grad()
    def encode(
        self, pixels_u8: Tensor, *, selection: str | None = None, seed: int = 0, keys: Sequence[str] | None = None
    ) -> Encoded:
        """Turn uint8 pictures [B, px, px, 3] into a variable number of codes each; see `select`."""
        x_BPD, keep_BP = self.select(pixels_u8, selection=selection, seed=seed, keys=keys)
        with self.autocast():
            merged = self.merge(x_BPD, keep_BP).float()
        codes = nearest(self.project(merged), self.quantizer.codebook)
        return Encoded(codes=codes, counts=keep_BP.sum(dim=1), keep_mask=keep_BP, merged=merged)

    @torch.no_grad()
    def decode_codes(self, codes: Tensor, counts: Tensor, *, decoder: FeatureDecoder | None = None) -> Tensor:
        """Return decoded features float32 [B, P, D] of codes [T] and their counts [B], on the scale the loss sees.

        `decoder` is a detokenizer's own one, where it has one (the released SDXL detokenizer).
        Raises InputError for codes outside [0, K), more of them in an image than there are patches, or no decoder.
        """
        if decoder is None and not self.config.decoder_layers:
            raise InputError(
                "this tokenizer has no feature decoder (it was imported without visual_tokenizer/tokenizer_decoder.bin)"
            )
        codebook = self.quantizer.codebook
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < codebook.shape[0]:
            found = f"[{int(codes.min())}, {int(codes.max())}]"
            raise InputError(f"codes lie in {found}, expected [0, {codebook.shape[0]}): they are of another tokenizer")
        if int(counts.max()) > self.config.num_patches:
            raise InputError(f"an image has {int(counts.max())} codes, expected at most {self.config.num_patches}")
        with self.autocast():
            vectors = codebook[codes.to(codebook.device)]
            return (decoder or self.decoder)(vectors, counts.to(codebook.device)).float()


def shape_for(model: ModelSettings, encoder: Encoder) -> TokenizerConfig:
    """Return the configuration of a tokenizer of these settings on an encoder.

    Raises UsageError when the heads do not divide the encoder's width.
    """
    if encoder.feature_dim % model.heads:
        raise UsageError(
            f"setting model.heads: {model.heads}, expected a divisor of the encoder's width {encoder.feature_dim}"
        )
    return TokenizerConfig(
        preprocessing=encoder.preprocessing, grid=encoder.grid, feature_dim=encoder.feature_dim, **model.model_dump()
    )


def load_tokenizer(
    model: Path, *, device: str = "auto", precision: str = "fp32", selection: str | None = None, use: Use = "all"
) -> VisualTokenizer:
    """Load `model/tokenizer`, frozen; `bf16` puts encoder, merger and decoder under autocast, never selector and codes.

    `selection` decides which patches are kept wherever a caller does not say (default: as in the tokens that the
    model's language model learned from); `use` leaves out what is not needed.
    Raises InputError when the part is missing or damaged.
    """
    folder = find_part(model, "tokenizer")
    # Released encoders are stored in bfloat16, and transformers would compute in what is stored.
    tokenizer = read_tokenizer(folder, use=use).float().to(pick_device(device)).eval().requires_grad_(False)
    tokenizer.digest, tokenizer.precision = part_digest(folder), precision
    tokenizer.selection = selection or selection_of(model)
    return tokenizer


def read_tokenizer(folder: Path, *, use: Use = "all") -> VisualTokenizer:
    """Load a tokenizer folder (config.json, model.safetensors, encoder/). Raises InputError."""
    config = read_config(folder)
    encoder = None if "encoder" in UNUSED[use] else _fitting_encoder(folder / "encoder", config)
    # No time and memory for first weights that are overwritten: at the published size that is half a minute.
    tokenizer = without_memory(config)
    for name in UNUSED[use]:
        if hasattr(tokenizer, name):
            delattr(tokenizer, name)
    tokenizer.to_empty(device="cpu")
    load_weights(trained_state(tokenizer), folder / "model.safetensors", without=UNUSED[use])
    if encoder is not None:
        tokenizer.encoder = encoder
    return tokenizer


def read_config(folder: Path) -> TokenizerConfig:
    """Read a tokenizer folder's config.json. Raises InputError."""
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


def empty_merger(model: Path) -> Merger:
    """Return a merger of the shape of `model/tokenizer`'s, its weights not set: a language model brings its own.

    Raises InputError when the part is missing.
    """
    merger: Merger = without_memory(read_config(find_part(model, "tokenizer"))).merger.to_empty(device="cpu")
    return merger


def without_memory(config: TokenizerConfig) -> VisualTokenizer:
    """Return a tokenizer of names and shapes alone (torch's meta device), without encoder."""
    nothing: Any = nn.Identity()
    with torch.device("meta"):
        return VisualTokenizer(config, nothing)


def write_tokenizer(tokenizer: VisualTokenizer, folder: Path) -> None:
    """Write config.json, model.safetensors and the encoder's folder, so that one digest covers all three."""
    write_json(folder / "config.json", tokenizer.config.model_dump(mode="json"))
    tensors = {name: value.contiguous().cpu() for name, value in trained_state(tokenizer).items()}
    save_file(tensors, folder / "model.safetensors")
    save_encoder(tokenizer.encoder, folder / "encoder")


def trained_state(tokenizer: VisualTokenizer) -> dict[str, Tensor]:
    """Return the tensors of all but the frozen encoder: what checkpoints and model.safetensors hold."""
    return {name: value for name, value in tokenizer.state_dict().items() if not name.startswith("encoder.")}
