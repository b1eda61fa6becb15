"""Settings of the pretrain stage. Never imports torch. Defaults follow the paper (arXiv 2309.04669, stage 2)."""

from typing import Literal, Self

from lavit_core.config import Config, Count, Decay, NonNegative, Positive, Share
from pydantic import Field, model_validator

ImageInputKind = Literal["codes", "features", "live", "none"]
CodeRows = Literal["drawn", "features"]
PromptImages = Literal["codes", "bare", "continuous"]


class LlmShape(Config):
    """Shape of a new language model (LLaMA architecture); unused when `--llm` gives one."""

    hidden_size: Count = 4096
    """Width of the residual stream."""
    num_layers: Count = 32
    """Decoder layers."""
    num_heads: Count = 32
    """Attention heads."""
    intermediate_size: Count = 11008
    """Width inside the gated MLP."""
    max_positions: Count = 4096
    """Longest document the position encoding is made for, in tokens."""
    initializer_range: Share = 0.02
    """Standard deviation of new weights (LLaMA's 0.02; a narrow model starts faster near hidden_size ** -0.5)."""
    tie_embeddings: bool = False
    """Use one table for input and output (LLaMA has two)."""
    text_vocab_size: Count = 32000
    """At most this many text ids, but never fewer than 258 (all bytes, and two of its own); the text tokenizer is
    trained on the captions and questions."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} with num_heads {self.num_heads}: expected a multiple of twice the "
                "heads (a head's width is an even number, for its rotary positions)"
            )
        return self


class Mix(Config):
    """Shares of the kinds of documents; a kind without input is left out and the others grow in proportion."""

    text_to_image: float = Field(default=0.55, ge=0)
    """`[caption] [IMG] codes [/IMG]`: teaches drawing."""
    image_to_text: float = Field(default=0.30, ge=0)
    """`[IMG] image [/IMG] caption`: teaches describing."""
    questions: float = Field(default=0.0, ge=0)
    """`[IMG] image [/IMG] Question: ... Answer: ...` (files given by `--questions`)."""
    text: float = Field(default=0.15, ge=0)
    """Text alone, and texts with images between them (files given by `--text`)."""


class LoraSettings(Config):
    """Adapters in place of the language model's own weights, under peft's names for all but the rank."""

    rank: int = Field(default=0, ge=0)
    """Rank of the adapters (peft: r); 0 trains all weights. The rows of `[IMG]`, `[/IMG]` and the codes, projector and
    merger are trained in full either way."""
    lora_alpha: int | None = Field(default=None, gt=0)
    """Scale of the adapters, over the rank; None: twice the rank."""
    target_modules: str = "all-linear"
    """Layers with adapters: all-linear (those of the head and of the tables left out), or names with commas between
    them, say q_proj,v_proj."""
    use_rslora: bool = False
    """Divide the scale by the square root of the rank instead (arXiv 2312.03732)."""
    use_dora: bool = False
    """Learn the length of each weight's columns apart from their direction (arXiv 2402.09353)."""
    bits: Literal[4, 8] | None = None
    """Keep the frozen linear layers in 4 bits (NF4, as QLoRA) or 8 (LLM.int8), through bitsandbytes (None: as they
    are). Adapters are merged into what these bits stand for."""


class PretrainConfig(Config):
    """Settings of `lavit pretrain`."""

    image_input: ImageInputKind = "live"
    """How the model reads an image: codes (from the token files), features (merger features stored there,
    through a trained projector), live (images encoded again, with a copy of the merger trained along, as published),
    none (no-image baseline: the image is left out)."""
    llm: LlmShape = LlmShape()
    """Shape of a new language model."""
    code_rows: CodeRows = "drawn"
    """Initial code embeddings: drawn at random, or features, the projected mean features of their patches (Differs;
    random if the token files have no features). Those that `--llm` brings along stay as they are."""
    lora: LoraSettings = LoraSettings()
    """LoRA: adapters are trained, and the language model that `--llm` gives stays as it is."""
    mix: Mix = Mix()
    """Shares of the kinds of documents."""

    num_steps: int = Field(default=20_000, gt=0)
    """Optimiser steps."""
    tokens_per_step: int = Field(default=262_144, gt=0)
    """Room for packed documents in one forward pass, in tokens."""
    accumulate_steps: int = Field(default=1, gt=0)
    """Forward and backward passes per optimiser step."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw (paper), or muon for the matrices inside the layers and adamw for the rest (Differs: a small new model
    needs fewer steps with it)."""
    llm_lr: NonNegative = 5e-5
    """Peak learning rate of the language model."""
    muon_lr: NonNegative = 7e-3
    """Peak rate of Muon's matrices, on AdamW's scale: their updates have a root mean square of 0.2 times this."""
    visual_lr: NonNegative = 1.5e-4
    """Peak learning rate of projector and merger."""
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    """AdamW's betas."""
    eps: Positive = 1e-6
    """AdamW's epsilon."""
    weight_decay: NonNegative = 0.1
    """Decay of matrices."""
    moment_bits: Literal[8, 32] = 32
    """Bits of AdamW's moments: 8 for those of large matrices, through bitsandbytes (Differs); vectors and tables of
    tokens keep 32, and Muon's matrices what they have."""
    warmup_steps: int = Field(default=2000, ge=0)
    """Steps of linear warm-up before the cosine."""
    lr_floor: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the peak rate that the cosine ends at."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward and backward passes (auto: bf16 where the device computes it, else fp32); weights and
    optimiser are fp32 (bf16: a working copy computes)."""
    gradient_checkpointing: bool = False
    """Recompute layers in the backward pass: less memory, a third more work."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Contents of each process that torchrun started: ddp, the whole model; fsdp (FSDP2), a part of weights,
    gradients and optimiser state, for models that do not fit one GPU. They share each step's tokens either way."""

    caption_drop: float = Field(default=0.1, ge=0, le=1)
    """Share of text-to-image documents that start at a bare `[IMG]`, for guidance (unpublished; 0.1 is usual)."""
    caption_word_drop: float = Field(default=0.0, ge=0, lt=1)
    """Share of a caption's words that image-to-text documents hide from the words after them (`<eos>` is read in their
    place; all words are still scored). Differs when not 0: a model that reads `yellow` has learned which shapes are
    yellow in the captions, and looks no further; with words hidden it has to look at the image."""
    t2i_text_loss: bool = True
    """Score the caption of text-to-image documents (paper: cross-entropy on both modalities)."""
    i2t_image_loss: bool = False
    """Score the image of image-to-text documents (Differs: the paper scores both; the follow-up's code masks it, and
    continuous inputs come from bidirectional features that already hold the answer)."""
    question_text_loss: bool = False
    """Score the words of a question too, not only its answer."""
    image_loss_weight: float = Field(default=1.0, ge=0)
    """Weight of a code in the loss."""
    text_loss_weight: float = Field(default=1.0, ge=0)
    """Weight of a text token in the loss."""
    chat: bool = False
    """Write questions and answers as the language model's own chat template does, the image at the start of the first
    one (Differs: the paper writes `Question: ... Answer:`), one conversation a document; its last reply is scored."""
    questions_per_document: int = Field(default=1, gt=0)
    """At most this many questions about one image follow it in one document."""
    max_text_tokens: int = Field(default=512, gt=1)
    """Longer captions, questions and texts are cut here."""

    log_every: int = Field(default=20, gt=0)
    """Steps between rows of metrics.jsonl."""
    checkpoint_every: int = Field(default=1000, gt=0)
    """Steps between checkpoints."""


class SampleSettings(Config):
    """How codes are drawn from the language model (defaults: the paper's text-to-image settings)."""

    guidance_scale: float = Field(default=4.0, ge=0)
    """scale * (log p(code | prompt) - log p(code | nothing)) + log p(code | nothing); 1 turns guidance off."""
    image_guidance_scale: float | None = Field(default=None, ge=0)
    """`guidance_scale` of prompts that hold images (released code: 5.0); None: the same as of others."""
    prompt_images: PromptImages = "codes"
    """How images stand in a prompt. codes: `[IMG] codes [/IMG]`, as in documents; bare: codes without the brackets, as
    the released code writes them; continuous (Differs): the rows by which the model reads images, in brackets."""
    top_k: int = Field(default=50, ge=0)
    """Draw from the k most likely codes; 0 means all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the smallest set of codes with this probability."""
    temperature: float = Field(default=1.0, ge=0)
    """Divides the log-probabilities; 0 takes the most likely code."""
    min_codes: int | None = Field(default=None, ge=1)
    """`[/IMG]` is impossible before this many codes; None: the fewest an image of the training data has (paper: 20)."""
    max_codes: int | None = Field(default=None, ge=1)
    """`[/IMG]` is forced after this many codes, and after as many as an image has patches; None: the most that an image
    of the training data has (paper: 200)."""

    def scale_of(self, *, images: bool) -> float:
        """Return the guidance scale of a prompt with or without images."""
        if images and self.image_guidance_scale is not None:
            return self.image_guidance_scale
        return self.guidance_scale


class InterleaveSettings(Config):
    """How texts and images are written by turns."""

    max_tokens: int = Field(default=512, ge=1)
    """Tokens after the prompt, at most; no image is begun that would not fit."""
    max_images: int = Field(default=4, ge=0)
    """Images after the prompt, at most."""
    text_temperature: float = Field(default=0.0, ge=0)
    """Divides the log-probabilities of words and of `[IMG]`; 0 takes the most likely one."""
    text_top_k: int = Field(default=0, ge=0)
    """Draw words from the k most likely ones; 0 means all."""
    codes: SampleSettings = SampleSettings()
    """How the codes of images are drawn."""


class CaptionSettings(Config):
    """Settings of `lavit caption`."""

    max_tokens: int = Field(default=36, ge=1)
    """Longest caption in tokens."""


class AskSettings(Config):
    """Settings of `lavit ask`."""

    max_tokens: int = Field(default=10, ge=1)
    """Longest answer in tokens."""
