"""Settings of the tokenizer stage. Defaults are the paper's (arXiv 2309.04669) unless a field says "Differs:"."""

from typing import Annotated, Literal, Self

from lavit_core.config import Config, Count, Decay, NonNegative, Positive, Share
from lavit_core.images import MAX_PIXELS, PIXELS_CEILING, Preprocessing
from lavit_core.modeldir import check_selection
from pydantic import Field, model_validator

from lavit_tokenizer.phase import Phase

SMALL_VIT: Literal["lavit_small_vit"] = "lavit_small_vit"
"""`model_type` of the encoder that `train-encoder` makes."""


class SmallVitConfig(Config):
    """Shape of the small image encoder that `train-encoder` makes; stored as encoder/config.json."""

    model_type: Literal["lavit_small_vit"] = SMALL_VIT
    """Written to config.json, so that the folder is recognised."""
    preprocessing: Preprocessing = Preprocessing(image_px=64)
    """Input size and normalisation the encoder was trained with."""
    patch_px: Count = 8
    """Side of a patch in pixels: a power of two, one stride-2 convolution per factor."""
    width: Count = 128
    """Feature width D."""
    layers: Count = 4
    """Transformer blocks."""
    heads: Count = 4
    """Attention heads."""
    mlp_dim: Count = 512
    """Width of the MLP."""
    registers: Annotated[int, Field(ge=0)] = 0
    """Register tokens, which every patch sees and no one reads as a feature: they hold global content, which
    otherwise settles in background patches and makes them look worth keeping."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads}: expected a divisor of width {self.width}")
        if self.patch_px & (self.patch_px - 1):
            raise ValueError(f"patch_px {self.patch_px}: expected a power of two")
        if self.patch_px > self.preprocessing.image_px:
            raise ValueError(f"patch_px {self.patch_px}: expected at most image_px {self.preprocessing.image_px}")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (rows, columns)."""
        side = self.preprocessing.image_px // self.patch_px
        return side, side


class TrainEncoderConfig(Config):
    """Settings of `train-encoder`: a small CLIP on image-text pairs, plus captioning and a pixel term."""

    vision: SmallVitConfig = SmallVitConfig()
    """The encoder."""
    head_layers: Annotated[int, Field(ge=0)] = 0
    """Further blocks between the features and the training's losses, not exported. Features nearer to pixels hold less
    global content, so codes compose better for colours and shapes that were never seen together."""
    text_width: Count = 128
    """Width of the text tower, which is trained along and not exported."""
    text_layers: Count = 2
    """Blocks of the text tower."""
    text_heads: Count = 4
    """Heads of the text tower."""
    text_tokens: Count = 32
    """Longest caption in word pieces; the rest is cut."""
    vocabulary_size: Count = 4096
    """Limit on the number of word pieces learned from the captions."""
    embed_dim: Count = 128
    """Width of the shared image-text space."""
    caption_weight: NonNegative = 1.0
    """Weight of captioning (each word from the patches and the words before): in a small batch of easy negatives the
    contrastive loss alone has no need of the details that captions name."""
    pixel_weight: NonNegative = 5.0
    """Weight of the per-patch pixel regression (mean squared error on the [0, 1] scale); 0 leaves it out."""
    context_patches: Count = 1
    """Odd side, in patches, of the neighbourhood whose pixels (at half resolution) a patch regresses as well; 1 leaves
    it out. It puts the outline around a patch into the patch's feature."""
    num_steps: Count = 640
    """Training steps."""
    batch_size: Count = 64
    """Image-text pairs a step."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Layout over torchrun's processes: ddp, each holds the whole model; fsdp (FSDP2), each a part of weights,
    gradients and optimiser state, gathered for a step. They share each step's pairs either way."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw, or muon for the matrices inside the layers and adamw for the rest (a small new model needs far fewer
    steps with it)."""
    lr: NonNegative = 1e-3
    """Peak learning rate."""
    muon_lr: NonNegative = 5e-3
    """Peak rate of Muon's matrices, on AdamW's scale: their updates have a root mean square of 0.2 times this."""
    warmup_steps: Annotated[int, Field(ge=0)] = 32
    """Steps of linear warm-up."""
    weight_decay: NonNegative = 0.05
    """AdamW weight decay."""
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    """AdamW betas (CLIP's)."""
    max_grad_norm: Positive = 1.0
    """Gradient clip."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast precision of training (auto: bf16 where the device computes it, else fp32)."""
    num_validation: Count = 256
    """Images held out of training for the retrieval metric (at most a tenth of the data)."""
    log_every: Count = 20
    """Steps between rows of metrics.jsonl."""
    checkpoint_every: Count = 200
    """Steps between checkpoints."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.text_width % self.text_heads:
            raise ValueError(f"text_heads {self.text_heads}: expected a divisor of text_width {self.text_width}")
        if self.context_patches % 2 == 0:
            raise ValueError(f"context_patches {self.context_patches}: expected an odd number")
        return self


class ModelSettings(Config):
    """Shape of selector, merger, codebook and decoder: the settings of a tokenizer that a person chooses."""

    keep_threshold: Share = 0.5
    """`threshold` selection keeps a patch of at least this keep probability (0.5: keep is the likelier class)."""
    least_share: Share = 0.0
    """`threshold` selection keeps at least this share of the tokens that an image's keep probabilities add up to.
    Differs when not 0: equal patches share the probability of one, and all of them can lie below the threshold."""
    keep_ratio: Share = 1 / 3
    """rho: share of patches to keep; the loss pulls towards it and `topk` selection keeps exactly round(rho * P)."""
    merger_layers: Annotated[int, Field(ge=0)] = 12
    """Merger blocks; without any, kept features are handed on as they are."""
    heads: Count = 16
    """Attention heads of merger and decoder."""
    mlp_dim: Count = 6144
    """MLP width of merger and decoder."""
    merger_positions: bool = False
    """Add a learned patch position table to the merger's input. Differs when on: selection by content
    leaves no other trace of position if the encoder's features hold little of it."""
    codebook_size: Count = 16384
    """K."""
    codebook_factors: tuple[Count, Count] | None = None
    """Sizes Ka, Kb of two small codebooks instead of one of K = Ka * Kb: each quantises one half of the vector, and
    code a * Kb + b is their pair. Differs when set: a pair of entries that training never showed has a code."""
    code_dim: Count = 32
    """Width of a code."""
    decoder_layers: Count = 12
    """Feature decoder blocks."""
    whiten_power: float = 0.0
    """Features are centred and divided by (PCA eigenvalue)^power before anything sees them; 0 leaves them raw.
    Differs when not 0 (0.25: half-whitening): with a few dominant directions 1 - cos is blind to the others."""

    @model_validator(mode="after")
    def _factors_make_the_codebook(self) -> Self:
        if self.codebook_factors is None:
            return self
        first, second = self.codebook_factors
        if first * second != self.codebook_size:
            raise ValueError(
                f"codebook_factors [{first}, {second}] make {first * second} codes, codebook_size is "
                f"{self.codebook_size}; expected codebook_size: {first * second}, or factors of {self.codebook_size}"
            )
        if self.code_dim % 2:
            raise ValueError(f"code_dim is {self.code_dim}, expected an even number: codebook_factors halve the vector")
        return self


class TokenizerConfig(ModelSettings):
    """A whole tokenizer, with what follows from its encoder; stored as tokenizer/config.json, part of its digest."""

    format: Literal[1] = 1
    """Version of the folder's layout."""
    preprocessing: Preprocessing = Preprocessing()
    """The steps from an image to the encoder's input."""
    grid: tuple[int, int] = (16, 16)
    """Patches (rows, columns); P = rows * columns, in raster order."""
    feature_dim: Count = 1408
    """Encoder width D."""
    decoder_layers: Annotated[int, Field(ge=0)] = 12
    """Feature decoder blocks; 0: no decoder (imported weights that came without one)."""
    decoded_dim: Count | None = None
    """Width of the decoder's output, where it is not the encoder's width D."""
    released_softmax: bool = False
    """Merge with the released code's softmax, in which closed keys keep a trace of weight (masked, so slower): for
    weights that were trained with it. Off for our own training; `lavit import-checkpoint --attention` chooses."""

    @property
    def num_patches(self) -> int:
        """P."""
        return self.grid[0] * self.grid[1]

    @property
    def decoder_width(self) -> int:
        """Width of decoded features."""
        return self.decoded_dim or self.feature_dim


class EncoderFeatures(Config):
    """Which features of a transformers encoder are the tokenizer's."""

    layer: int = -1
    """Block whose output they are, from the end if negative."""
    norm: bool = False
    """After the network's last norm instead (paper: before it)."""

    @model_validator(mode="after")
    def _norm_follows_the_last_block(self) -> Self:
        if self.norm and self.layer != -1:
            raise ValueError(f"norm: true takes the last block's features, but layer is {self.layer}; leave one out")
        return self


class TrainTokenizerConfig(Config):
    """Settings of `train-tokenizer`."""

    encoder: EncoderFeatures | None = None
    """Features of a transformers encoder (None: those that its folder was stored with, else the last block's)."""
    model: ModelSettings = ModelSettings()
    """Shape of selector, merger, codebook and decoder."""
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)] = (
        Phase(
            name="features", num_steps=25_000, batch_size=2048, selection="gumbel",
            train=("selector", "merger", "decoder"), warmup_steps=4000,
        ),
        Phase(
            name="codes", num_steps=25_000, batch_size=2048, selection="fixed", quantise=True,
            train=("merger", "decoder"), warmup_steps=4000,
        ),
    )  # fmt: skip
    """Phases in order. 50K steps of 2048 in the paper; their split is published nowhere."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw (paper), or muon for the matrices inside the layers of merger and decoder (Differs), adamw for the rest."""
    keep_weight: NonNegative = 2.0
    """lambda of the keep-ratio term (eq. 4)."""
    keep_term: Literal["image", "batch"] = "image"
    """Whether the keep-ratio term is squared per image (eq. 4) or for the batch mean (more content-adaptive)."""
    nmse_weight: NonNegative = 0.0
    """Weight of the normalised squared error beside 1 - cos. Differs when not 0: it weights patches by their energy."""
    energy_power: NonNegative = 0.0
    """Weigh a patch's squared error by its own energy to this power. Differs when not 0: empty patches are mostly
    noise, and many of them outweigh one patch of an object."""
    patch_energy: Literal["feature", "contrast"] = "feature"
    """The energy of a patch: its squared feature, or the squared distance of its feature from those of the patches
    around it. By the squared feature bright sky and snow of photographs count most, far from the mean of the data, and
    the ground beside an object that fills an image; by contrast patches count where there is detail."""
    calibrate_threshold: bool = False
    """Set `model.keep_threshold` before phases of `fixed` selection so that `model.keep_ratio` of the training patches
    are kept. Differs when on: at 0.5 a selector of few steps, undecided about many patches, keeps another share."""
    position_init: Literal["normal", "sincos"] = "normal"
    """The start of the merger's position table and of the decoder's queries: normal(0, 0.02) or 2-D sine-cosine."""
    accumulate_steps: Count = 1
    """Forward and backward passes that a step's images are cut into; the step is the same."""
    gradient_checkpointing: bool = False
    """Recompute the blocks of merger and decoder in the backward pass: less memory, a third more work."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Layout over torchrun's processes: ddp, each holds the whole tokenizer; fsdp (FSDP2), each a part of weights,
    gradients and optimiser state, gathered for a step. They share each step's images either way."""
    commitment_weight: NonNegative = 0.0
    """Weight of ||z - sg(c)||^2; absent from eq. 4."""
    ema_decay: Share = 0.99
    """Decay of the codebook's moving averages (0.995 in Video-LaVIT)."""
    restart_below: NonNegative = 0.1
    """A code used less than this share of the mean use (moving average) restarts at a vector of the batch; 0 never."""
    kmeans_samples: Count = 65536
    """Vectors for the codebook's k-means start."""
    kmeans_iterations: Annotated[int, Field(ge=0)] = 12
    """Iterations of k-means; 0 starts the codebook at vectors drawn at random."""
    weight_decay: NonNegative = 0.01
    """AdamW weight decay."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """AdamW betas."""
    max_grad_norm: Positive = 1.0
    """Gradient clip, for the selector and the other modules apart (the selector's gradient is heavy-tailed)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast precision (auto: bf16 where the device computes it, else fp32); selector scores, losses and code
    distances stay fp32."""
    statistics_images: Count = 2048
    """Images behind the feature mean and whitening."""
    cache_bytes: int = 2 << 30
    """Encoder features are computed once and kept (bfloat16) when all fit in this many bytes; else in every step."""
    num_validation: Count = 512
    """Images held out of training for the final metrics (at most a tenth of the data)."""
    collapse_below: Share = 0.2
    """Warn when less of the codebook was used in a window than this share of what equally likely codes would show."""
    window_steps: Count = 100
    """Steps of the window behind code usage and perplexity."""
    log_every: Count = 20
    """Steps between rows of metrics.jsonl."""
    checkpoint_every: Count = 500
    """Steps between checkpoints."""

    @model_validator(mode="after")
    def _phases_have_names_of_their_own(self) -> Self:
        names = [phase.name for phase in self.phases]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"phases: {len(names)}, and {twice[0]} names more than one; give each its own name")
        return self

    @model_validator(mode="after")
    def _passes_know_enough(self) -> Self:
        for name, unfit in (
            ("keep_term batch", self.keep_term == "batch"),
            ("commitment_weight", self.commitment_weight),
        ):
            if self.accumulate_steps > 1 and unfit:
                raise ValueError(f"accumulate_steps {self.accumulate_steps}: {name} needs a step's images in one pass")
        return self


class TokenizeConfig(Config):
    """Settings of `tokenize-images`."""

    workers: Annotated[int, Field(ge=0)] = 2
    """Processes that decode images; 0 decodes in the main one. The bytes written do not depend on it."""
    selection: Literal["threshold", "topk", "sample"] = "threshold"
    """threshold (deterministic), topk (a fixed number of patches), sample (as released: Gumbel; seeded per key)."""
    tokens: Count | None = None
    """Tokens of every image with topk, at most its patches (None: round(keep_ratio * P) of the tokenizer)."""
    features: bool = False
    """Store the merger's features (bfloat16) beside the codes: the continuous image input of the language model."""
    shard_samples: Count = 4096
    """Images per shard."""
    batch_size: Count = 64
    """Images per forward pass; batches never cross a shard."""
    max_error_rate: Share = 0.01
    """Share of unreadable images above which the finished job exits with 5."""
    min_pixels: Count = 1
    """Fewest pixels (width x height) of an image that is read; smaller ones are listed, but are no errors."""
    max_pixels: Annotated[int, Field(ge=1, le=PIXELS_CEILING)] = MAX_PIXELS
    """Most pixels of an image that is read, by its header; larger ones are errors."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Precision of encoder and merger (auto: bf16 where the device computes it, else fp32); selection and code
    distances are always fp32. Codes that lie near ties depend on it."""

    @model_validator(mode="after")
    def _tokens_are_those_of_topk(self) -> Self:
        check_selection(self.selection, self.tokens)
        return self
