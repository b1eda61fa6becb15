"""Settings of the detokenizer stage. Defaults are the paper's low-resolution decoder (arXiv 2309.04669, SD 1.5 shape)
unless a field says "Differs:"; values that are published nowhere are marked."""

from typing import Annotated, Literal, Self

from lavit_core.config import Config, Count, Decay, NonNegative, Positive, Share
from pydantic import Field, model_validator

DownBlock = Literal["CrossAttnDownBlock2D", "DownBlock2D"]
UpBlock = Literal["CrossAttnUpBlock2D", "UpBlock2D"]

AspectRatio = Literal["1:1", "4:3", "3:2", "16:9", "2:3", "3:4"]

Size = Annotated[str, Field(pattern="^[1-9][0-9]*x[1-9][0-9]*$")]
"""Width x height of an image in pixels: 80x48."""


class UNetShape(Config):
    """Shape of diffusers' UNet2DConditionModel, in its own terms; ignored if `--unet` is given."""

    block_out_channels: tuple[Count, ...] = (320, 640, 1280, 1280)
    """Channels of each resolution level."""
    layers_per_block: Count = 2
    """Residual blocks a level."""
    down_block_types: tuple[DownBlock, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    """Levels on the way down."""
    mid_block_type: Literal["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"] | None = "UNetMidBlock2DCrossAttn"
    """Block at the lowest resolution."""
    up_block_types: tuple[UpBlock, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    """Levels on the way up."""
    transformer_layers_per_block: Count | tuple[Count, ...] = 1
    """Transformer layers of an attention block."""
    attention_head_dim: Count | tuple[Count, ...] = 8
    """Number of attention heads, which diffusers calls a dimension."""
    norm_num_groups: Count = 32
    """Groups of the group norms."""
    conv_in_kernel: int = 3
    """Side of the first convolution."""
    use_linear_projection: bool = False
    """Linear instead of 1x1 convolutions around transformers (SDXL: true)."""


class TransformerShape(Config):
    """Shape of diffusers' PixArtTransformer2DModel, in its own terms (docs/adr/0017); the defaults are DiT-XL/2's and
    PixArt's. Ignored if `--transformer` is given."""

    num_layers: int = Field(default=28, ge=1)
    """Blocks: self-attention, cross-attention (with a condition that is attended to), MLP."""
    num_attention_heads: int = Field(default=16, ge=1)
    """Attention heads."""
    attention_head_dim: int = Field(default=72, ge=1)
    """Width of a head; heads times this is the transformer's width, a multiple of 4."""
    patch_size: int = Field(default=2, ge=1)
    """Squares of this side of the sample (latents, or pixels after `unshuffle`) are one token."""


class ConditionShape(Config):
    """How decoded features [B, P, D] reach the network (released decoders: unet_proj_1, unet_proj_2)."""

    kind: Literal["cross", "concat", "both"] = "cross"
    """cross: attended to, as published. Differs when concat or both: the feature map, projected and resized to the
    sample's grid, is concatenated to its input channels, for features that are aligned with the image."""
    cross_dims: tuple[int, ...] = (768,)
    """Widths of the linear projections whose outputs, side by side, are attended to: 768 for SD 1.5, 768 and 1280
    for SDXL (2048 in all)."""
    pooled_dim: int | None = None
    """SDXL: width of the pooled condition (1280), by attention pooling, added to the time embedding with size ids."""
    pooled_heads: Count = 16
    """Heads of the attention pooling."""
    map_channels: Count = 128
    """Channels of the concatenated map."""
    standardise: bool = False
    """Bring every feature channel to mean 0 and deviation 1 first. Differs when on: features of
    another encoder have any scale, those of EVA-CLIP suit a plain projection."""
    null_condition: Literal["zeros", "stored"] = "zeros"
    """The condition of dropped rows and of the unguided branch: zeros (published for SDXL), or a stored null-text
    embedding behind a key mask (published for SD 1.5; needs --null-embedding)."""

    @property
    def attended(self) -> bool:
        """Whether the network attends to the features."""
        return self.kind != "concat"

    @property
    def concatenated(self) -> bool:
        """Whether the network reads the feature map with its input."""
        return self.kind != "cross"


class NoiseShape(Config):
    """The diffusion process, in diffusers' terms; stored as scheduler/."""

    num_train_timesteps: Count = 1000
    """Noise levels."""
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear"
    """Shape of the noise schedule (Stable Diffusion: scaled_linear)."""
    beta_start: float = 0.00085
    """First beta."""
    beta_end: float = 0.012
    """Last beta."""
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"
    """What the UNet predicts: the noise (eq. 5). Differs when `sample` (the image itself) or `v_prediction`."""
    rescale_betas_zero_snr: bool = False
    """Make the last level pure noise."""
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "leading"
    """Spacing of the levels that drawing visits."""
    steps_offset: int = 1
    """Offset of `leading` levels (Stable Diffusion: 1)."""
    clip_sample: bool = False
    """Clip the estimate of the image to [-1, 1] while drawing: for pixels, never for latents."""

    @model_validator(mode="after")
    def _epsilon_needs_signal(self) -> Self:
        if self.rescale_betas_zero_snr and self.prediction_type == "epsilon":
            raise ValueError(
                "rescale_betas_zero_snr with prediction_type epsilon: the last level is noise alone, where predicting "
                "the noise teaches nothing; set prediction_type to sample or v_prediction"
            )
        return self


class FlowShape(Config):
    """Flow matching: the straight path x_s = (1 - s) x + s noise, and Euler steps along it (arXiv 2209.03003; Stable
    Diffusion 3, 2403.03206). Stored as scheduler/."""

    prediction_type: Literal["velocity", "sample"] = "velocity"
    """What the network predicts: the velocity noise - x, or the image x itself (for pixels: arXiv 2511.13720), from
    which the velocity follows."""
    timestep_sampling: Literal["uniform", "logit_normal"] = "logit_normal"
    """How training draws s: evenly, or as the sigmoid of a normal number, mostly from the middle (SD 3)."""
    logit_mean: float = 0.0
    """Mean of that normal number."""
    logit_std: float = Field(default=1.0, gt=0)
    """Deviation of that normal number."""
    shift: float = Field(default=1.0, gt=0)
    """s becomes shift s / (1 + (shift - 1) s), in training and in drawing: above 1, more noise, for larger images
    (Stable Diffusion 3 at 1024 px: 3). From n tokens to m, sqrt(m / n) keeps as much of an image visible."""
    num_train_timesteps: int = Field(default=1000, ge=1)
    """The network is told s times this, as diffusers does."""


class DecoderShape(Config):
    """Shape of the detokenizer's own feature decoder; its weights are decoder.safetensors."""

    width: int
    """Width of its blocks."""
    layers: int
    """Blocks."""
    heads: int
    """Attention heads."""
    mlp_dim: int
    """Width of its MLP."""
    code_dim: int
    """Width of a code."""


class DetokenizerConfig(Config):
    """Configuration of a detokenizer; stored as detokenizer/config.json."""

    format: Literal[1] = 1
    """Version of the folder's layout."""
    space: Literal["latent", "pixel"] = "latent"
    """Where diffusion runs: a VAE's latents (published), or pixels. Differs when pixel."""
    image_px: int = 512
    """Side of the square images that are drawn, in pixels."""
    unshuffle: int = 8
    """Pixel space: squares of this side become channels, so that the network works at image_px / unshuffle."""
    refine_channels: int = 0
    """Pixel space with prediction_type sample: channels of the 3x3 convolutions that refine the predicted image, pixel
    by pixel and across the borders of the network's squares; 0 for none (published). Differs when not 0."""
    refine_layers: int = 2
    """3x3 convolutions of the refinement; each sees one pixel further."""
    seam_levels: float = 0.0
    """Pixel space: steps between the network's squares are smoothed where both sides change by less than this (of 255)
    beside them; 0: none (published). Differs when not 0."""
    condition: ConditionShape = ConditionShape()
    """The condition."""
    flow: FlowShape | None = None
    """Flow matching; None: the diffusion process of scheduler/."""
    feature_dim: int = 1408
    """Width D of the decoded features."""
    grid: tuple[int, int] = (16, 16)
    """Patches (rows, columns); P = rows * columns."""
    sizes: tuple[Size, ...] = Field(default=(), exclude_if=lambda sizes: not sizes)
    """Sizes that were trained, the default first; empty: the square of image_px."""
    decoder: DecoderShape | None = None
    """A feature decoder of its own (the released SDXL detokenizer has one); None: the tokenizer's."""


class TrainDetokenizerConfig(Config):
    """Settings of `train-detokenizer`."""

    space: Literal["latent", "pixel"] = "latent"
    """See DetokenizerConfig."""
    image_px: int = Field(default=512, ge=1)
    """See DetokenizerConfig."""
    sizes: tuple[Size, ...] = Field(default=(), exclude_if=lambda sizes: not sizes)
    """Images are drawn at these sizes (width x height: [64x64, 80x48, 48x80]) and each learned at the nearest to its
    own shape; the first is drawn unless another is asked for. Differs when given: empty is the square of image_px."""
    unshuffle: int = Field(default=8, ge=1)
    """See DetokenizerConfig."""
    refine_channels: int = Field(default=0, ge=0)
    """See DetokenizerConfig."""
    refine_layers: int = Field(default=2, ge=2)
    """See DetokenizerConfig."""
    seam_levels: float = Field(default=0.0, ge=0)
    """See DetokenizerConfig."""
    unet: UNetShape = UNetShape()
    """Shape of the UNet, unless `--unet` gives one."""
    transformer: TransformerShape | None = None
    """Shape of a transformer in place of the UNet. Differs when given: the paper's network is a UNet."""
    condition: ConditionShape = ConditionShape()
    """The condition."""
    noise: NoiseShape = NoiseShape()
    """The diffusion process."""
    flow: FlowShape | None = None
    """Flow matching in place of `noise`. Differs when given: the paper trains a diffusion model."""
    condition_drop: float = Field(default=0.1, ge=0, le=1)
    """Share of images trained without their condition, for guidance (published nowhere; the usual value)."""
    num_steps: int = Field(default=20_000, ge=1)
    """Training steps (paper; unconfirmed)."""
    batch_size: int = Field(default=128, ge=1)
    """Images a step (published nowhere; Video-LaVIT's)."""
    accumulate_steps: int = Field(default=1, ge=1)
    """Forward and backward passes that a step's images are cut into; the step is the same."""
    lr: NonNegative = 5e-5
    """Peak learning rate (published nowhere; Video-LaVIT's)."""
    warmup_steps: int = Field(default=1000, ge=0)
    """Steps of linear warm-up (published nowhere)."""
    lr_floor: Share = 0.0
    """Learning rate at the end as a share of its peak (cosine)."""
    weight_decay: NonNegative = 0.01
    """AdamW weight decay."""
    moment_bits: Literal[8, 32] = 32
    """Bits of AdamW's moments: 8 for those of large matrices and convolutions, through bitsandbytes (Differs)."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """AdamW betas."""
    max_grad_norm: Positive = 1.0
    """Gradient clip."""
    ema_decay: Decay = 0.9999
    """Decay of the averaged weights, which are exported; it rises to this value as (1 + step) / (10 + step)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast precision (auto: bf16 where the device computes it, else fp32); the loss is taken in fp32."""
    gradient_checkpointing: bool = False
    """Recompute the network's blocks in the backward pass: less memory, a third more work."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How the processes of torchrun share the model: ddp, each has all of it; fsdp (FSDP2), each has a part of weights,
    gradients, averages and optimiser state. They share each step's images either way."""
    cache_bytes: int = 4 << 30
    """Images, features and latents are each computed once and kept if they fit in this many bytes."""
    log_every: int = Field(default=50, ge=1)
    """Steps between rows of metrics.jsonl; the loss logged is their mean."""
    checkpoint_every: int = Field(default=1000, ge=1)
    """Steps between checkpoints."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.space == "pixel" and self.image_px % self.unshuffle:
            raise ValueError(f"image_px {self.image_px} is not a multiple of unshuffle {self.unshuffle}")
        if len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"sizes {', '.join(self.sizes)}: one stands twice, expected different ones")
        if self.refine_channels and (self.space, self.process.prediction_type) != ("pixel", "sample"):
            raise ValueError(
                f"refine_channels {self.refine_channels} with space {self.space} and prediction_type "
                f"{self.process.prediction_type}: predicted pixels are refined; set space to pixel and prediction_type "
                "to sample, or refine_channels to 0"
            )
        if self.seam_levels and self.space != "pixel":
            raise ValueError(f"seam_levels {self.seam_levels} with space {self.space}: expected 0, or space pixel")
        if self.transformer is not None and self.condition.pooled_dim is not None:
            raise ValueError(
                f"condition.pooled_dim {self.condition.pooled_dim} with a transformer: only SDXL's UNet takes a pooled "
                "condition; leave one of the two out"
            )
        return self

    @property
    def process(self) -> NoiseShape | FlowShape:
        """The way from noise to images: diffusion, or flow matching if it is given."""
        return self.noise if self.flow is None else self.flow

    def detokenizer(self, feature_dim: int, grid: tuple[int, int]) -> DetokenizerConfig:
        """Return the configuration of a detokenizer for decoded features of a width and grid."""
        return DetokenizerConfig(
            space=self.space,
            image_px=self.image_px,
            unshuffle=self.unshuffle,
            refine_channels=self.refine_channels,
            refine_layers=self.refine_layers,
            seam_levels=self.seam_levels,
            condition=self.condition,
            flow=self.flow,
            feature_dim=feature_dim,
            grid=grid,
            sizes=self.sizes,
        )


class DrawSettings(Config):
    """Settings of drawing images."""

    num_steps: int = Field(default=25, ge=1)
    """Denoising steps."""
    guidance_scale: float = Field(default=7.0, ge=0)
    """Guidance on the codes: 1 switches it off (published: 7.0; 1.5 for the FID metrics)."""
    sampler: Literal["ddim", "ddpm"] = "ddim"
    """ddim (published, deterministic after the first noise; on the path of flow matching it is Euler's step) or ddpm
    (fresh noise in every step; diffusion only)."""
    aspect_ratio: AspectRatio = "1:1"
    """Width to height. Others than 1:1 need a detokenizer of SDXL's shape."""
    size: Size | None = Field(default=None, exclude_if=lambda size: size is None)
    """Width x height in pixels, one of those that the detokenizer draws; None: its first, or by aspect_ratio."""
    batch_size: int = Field(default=32, ge=1)
    """Images drawn together; an image does not depend on its neighbours."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.size is not None and self.aspect_ratio != "1:1":
            raise ValueError(f"size {self.size} and aspect_ratio {self.aspect_ratio}: expected one of the two")
        return self
