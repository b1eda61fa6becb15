"""The visual tokenizer: pixels -> features -> kept patches -> merged features -> codes -> decoded features.

Letters: B images, P patches, D feature width, T kept patches of all images, C code width.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Literal

import torch
from lavit_core.errors import InputError, UsageError
from lavit_core.modeldir import check_selection
from lavit_trainkit.pixels import normalise
from torch import Tensor, nn

from lavit_tokenizer.config import ModelSettings, TokenizerConfig
from lavit_tokenizer.decoder import FeatureDecoder, new_decoder
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.layers import linear_in_bf16
from lavit_tokenizer.merger import Merger, new_merger
from lavit_tokenizer.quantizer import Quantizer, unit_vectors
from lavit_tokenizer.selector import Selector, select_patches

Use = Literal["all", "encode", "decode"]
"""Purpose of a tokenizer: everything, pixels to codes (no feature decoder), or codes to features (no encoder,
selector and merger). At the published size that is 7.3, 5.7 and 1.6 GB."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loaded:
    """Digest and inference settings of a loaded tokenizer; the defaults are those of an untrained one."""

    digest: str = ""
    """SHA-256 of the stored part."""
    precision: str = "fp32"
    """`bf16` puts encoder, merger and decoder under autocast, never selector and codes."""
    selection: str = "threshold"
    """Selection policy where a caller gives none."""
    tokens: int | None = None
    """Tokens of an image where `topk` is chosen and a caller gives no number (None: round(keep_ratio * P))."""


UNTRAINED = Loaded()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intermediates:
    """Tensors that encoding computes before the codes."""

    features: Tensor
    """Input of selector and merger, float32 [B, P, D] (whitened where the configuration says so)."""
    vectors: Tensor
    """Unit vectors before quantisation, float32 [T, C]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded:
    """Images as tokens: rows T are the kept patches, image by image in raster order."""

    codes: Tensor
    """Codebook indices, int64 [T]."""
    counts: Tensor
    """Codes of each image, int64 [B]."""
    keep_mask: Tensor
    """The patches that were kept, bool [B, P]."""
    merged: Tensor
    """Merged features, float32 [T, D]."""
    intermediates: Intermediates | None = None


class VisualTokenizer(nn.Module):
    """Frozen encoder, selector, merger, codebook and feature decoder, or the part of them that `use` needs."""

    encoder: Encoder
    selector: Selector
    merger: Merger
    encode_task_layer: nn.Sequential
    decoder: FeatureDecoder
    """Absent when the configuration says 0 layers."""
    feature_mean: Tensor
    feature_whitening: Tensor

    def __init__(
        self,
        config: TokenizerConfig,
        encoder: Encoder | None = None,
        *,
        use: Use = "all",
        loaded: Loaded = UNTRAINED,
    ) -> None:
        super().__init__()
        self.config, self.loaded = config, loaded
        width = config.feature_dim
        if encoder is not None:
            self.encoder = encoder
        if use != "decode":
            self.selector = Selector(width)
            self.merger = new_merger(config)
            self.encode_task_layer = nn.Sequential(
                nn.Linear(width, width), nn.Tanh(), nn.Linear(width, config.code_dim)
            )
        self.quantizer = Quantizer(config.codebook_size, config.code_dim, config.codebook_factors)
        if use != "encode" and config.decoder_layers:
            self.decoder = new_decoder(config)
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_whitening", torch.eye(width) if config.whiten_power else torch.ones(1))

    def hold_low(self) -> None:
        """Store the linear layers of what runs in bf16 so, where this tokenizer's precision says it: for inference."""
        if self.loaded.precision == "bf16":
            for name in ("encoder", "merger", "decoder"):
                if hasattr(self, name):
                    linear_in_bf16(getattr(self, name))

    def features(self, pixels_u8: Tensor) -> Tensor:
        """Return float32 features [B, P, D] of uint8 images [B, px, px, 3], whitened where the config says so."""
        pixels = normalise(pixels_u8.to(self.feature_mean.device), self.config.preprocessing)
        with torch.no_grad():
            with self._autocast():
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

    @torch.no_grad()
    def select(
        self, pixels_u8: Tensor, *, selection: str | None = None, tokens: int | None = None, seed: int = 0,
        keys: Sequence[str] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return features [B, P, D] and keep mask [B, P] without gradients: what a merger still in training reads.

        Without `selection` the tokenizer's own is used; `sample` is then seeded by the images' bytes. `topk` keeps
        `tokens` patches of each image.
        Raises UsageError if `selection` is unknown, `tokens` do not fit it, or `sample` has no image keys.
        """
        if selection is None and self.loaded.selection == "sample" and keys is None:
            keys = [hashlib.sha256(image.cpu().numpy().tobytes()).hexdigest() for image in pixels_u8]
        policy = selection or self.loaded.selection
        check_selection(policy, tokens)
        if tokens is None and policy == "topk":
            tokens = self.loaded.tokens
        x_BPD = self.features(pixels_u8)
        return x_BPD, select_patches(self.selector(x_BPD), policy, self.config, tokens=tokens, seed=seed, keys=keys)

    def project(self, merged: Tensor) -> Tensor:
        """Return unit code vectors [..., C], before quantisation, of merged features [..., D] in fp32."""
        return unit_vectors(self.encode_task_layer(merged).float(), self.config.codebook_factors)

    @torch.no_grad()
    def encode(
        self,
        pixels_u8: Tensor,
        *,
        selection: str | None = None,
        tokens: int | None = None,
        seed: int = 0,
        keys: Sequence[str] | None = None,
        return_intermediates: bool = False,
    ) -> Encoded:
        """Turn uint8 images [B, px, px, 3] into a variable number of codes each; selection as in `select`."""
        x_BPD, keep_BP = self.select(pixels_u8, selection=selection, tokens=tokens, seed=seed, keys=keys)
        return self.encode_kept(x_BPD, keep_BP, return_intermediates=return_intermediates)

    @torch.no_grad()
    def encode_kept(self, x_BPD: Tensor, keep_BP: Tensor, *, return_intermediates: bool = False) -> Encoded:
        """Turn features [B, P, D] into the codes of a keep mask bool [B, P], whoever chose it."""
        with self._autocast():
            merged = self.merger(x_BPD, keep_BP).float()
        vectors = self.project(merged)
        return Encoded(
            codes=self.quantizer.codes(vectors),
            counts=keep_BP.sum(dim=1),
            keep_mask=keep_BP,
            merged=merged,
            intermediates=Intermediates(features=x_BPD, vectors=vectors) if return_intermediates else None,
        )

    def decode_codes(self, codes: Tensor, counts: Tensor, *, decoder: FeatureDecoder | None = None) -> Tensor:
        """Return decoded features float32 [B, P, D] of codes [T] and their counts [B], on the scale the loss sees.

        `decoder` is a detokenizer's own one, where it has one (the released SDXL detokenizer).
        Raises InputError if codes are outside [0, K), an image has more of them than patches, or there is no decoder.
        """
        num_codes = self.config.codebook_size
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < num_codes:
            found = f"[{int(codes.min())}, {int(codes.max())}]"
            raise InputError(f"codes are in {found}, expected [0, {num_codes}): another tokenizer made them")
        vectors = self.quantizer.vectors(codes.to(self.quantizer.codebook.device))
        return self.decode_vectors(vectors, counts, decoder=decoder)

    @torch.no_grad()
    def decode_vectors(self, vectors: Tensor, counts: Tensor, *, decoder: FeatureDecoder | None = None) -> Tensor:
        """Return decoded features float32 [B, P, D] of code vectors [T, C]; otherwise as `decode_codes`."""
        if decoder is None and not self.config.decoder_layers:
            raise InputError(
                "this tokenizer has no feature decoder (it was imported without visual_tokenizer/tokenizer_decoder.bin)"
            )
        if int(counts.max()) > self.config.num_patches:
            raise InputError(f"an image has {int(counts.max())} codes, expected at most {self.config.num_patches}")
        with self._autocast():
            return (decoder or self.decoder)(vectors, counts.to(vectors.device)).float()

    def _autocast(self) -> torch.autocast:
        bf16 = self.loaded.precision == "bf16"
        return torch.autocast(self.feature_mean.device.type, dtype=torch.bfloat16, enabled=bf16)


def shape_for(model: ModelSettings, encoder: Encoder) -> TokenizerConfig:
    """Return the configuration of a tokenizer of these settings on an encoder.

    Raises UsageError if the heads do not divide the encoder's width.
    """
    if encoder.feature_dim % model.heads:
        raise UsageError(
            f"setting model.heads: {model.heads}, expected a divisor of the encoder's width {encoder.feature_dim}"
        )
    return TokenizerConfig(
        preprocessing=encoder.preprocessing, grid=encoder.grid, feature_dim=encoder.feature_dim, **model.model_dump()
    )


def tokenizer_on_meta_device(
    config: TokenizerConfig, *, use: Use = "all", loaded: Loaded = UNTRAINED
) -> VisualTokenizer:
    """Return a tokenizer of names and shapes alone (torch's meta device), without encoder."""
    with torch.device("meta"):
        return VisualTokenizer(config, use=use, loaded=loaded)


def trained_state(tokenizer: VisualTokenizer) -> dict[str, Tensor]:
    """Return the tensors of all but the frozen encoder: those of checkpoints and of model.safetensors."""
    return {name: value for name, value in tokenizer.state_dict().items() if not name.startswith("encoder.")}
