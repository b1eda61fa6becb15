"""Settings of the benchmarks; every one is written into score.json."""

from typing import Any, Literal, Self

from lavit_core.config import Config
from lavit_core.modeldir import check_selection
from pydantic import Field, model_validator


class DrawingConfig(Config):
    """How images are drawn from prompts."""

    llm_guidance: float = Field(1.5, ge=0)
    """Guidance scale of the codes (1 switches it off). Source: the released COCO script uses 1.5."""
    temperature: float = Field(1.0, ge=0)
    """Divides the codes' log-probabilities; 0 takes the most likely code."""
    top_k: int = Field(50, ge=0)
    """Codes are drawn among this many of the most probable (0 = all)."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Codes are drawn among the fewest that hold this much probability."""
    decoder_guidance: float = Field(1.5, ge=0)
    """Guidance scale of the detokenizer (1 switches it off)."""
    decoder_steps: int = Field(20, ge=1)
    """Denoising steps an image."""

    @property
    def sampling(self) -> dict[str, Any]:
        """Settings of `lavit sample`."""
        return {
            "guidance_scale": self.llm_guidance,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "temperature": self.temperature,
        }

    @property
    def pixels(self) -> dict[str, Any]:
        """Settings of `lavit detokenize`."""
        return {"guidance_scale": self.decoder_guidance, "num_steps": self.decoder_steps}


class ShapesConfig(DrawingConfig):
    """Settings of `lavit eval shapes`."""

    pictures: int = Field(256, ge=1)
    """Images that are captioned, reconstructed and drawn from their prompt, half of them unseen combinations."""
    questions: int = Field(2000, ge=0)
    """Questions asked, drawn from all of the data's."""
    token_pictures: int = Field(1024, ge=1)
    """Images over which codes and kept patches are counted."""
    random_pictures: int = Field(64, ge=0)
    """Images drawn from random codes: what the judge finds in images that no image's codes led to."""
    samples: int = Field(24, ge=0)
    """Examples of each kind that are kept for the report."""
    batch_size: int = Field(64, ge=1)
    """Images, questions or prompts handled at once; on CPU it may change a result in its last bits."""
    selection: Literal["threshold", "topk", "sample"] | None = None
    """How patches of evaluated images are kept, as in tokenize-images (None: as in the token files that the model
    learned from; it reads other lengths badly)."""
    best_of: int = Field(1, ge=1)
    """Images drawn from each prompt; kept is the one after which the model finds the prompt likeliest, reading it
    back. What the first of them got stands beside it as `generation_first`."""
    max_answer_tokens: int = Field(10, ge=1)
    """Longest answer in text tokens."""
    max_caption_tokens: int = Field(36, ge=1)
    """Longest caption in text tokens."""


class ProbeConfig(Config):
    """Settings of `lavit eval probe`."""

    fit_pictures: int = Field(2048, ge=2)
    """Images the probes are fitted on, at most."""
    test_pictures: int = Field(1024, ge=1)
    """Images the probes are scored on, at most."""
    test_share: float = Field(0.4, gt=0, lt=1)
    """Share of the images that is scored when there is no --train-data."""
    min_labels: int = Field(10, ge=1)
    """Values with fewer labels than this to fit on are left out."""
    batch_size: int = Field(32, ge=1)
    """Images in one forward pass."""


class DecodingConfig(Config):
    """How images go through a tokenizer and are drawn again from their tokens."""

    batch_size: int = Field(32, ge=1)
    """Images handled at once; on CPU it may change a result in its last bits."""
    decoder_steps: int | None = Field(None, ge=1)
    """Denoising steps an image (None: as the model draws by itself)."""
    decoder_guidance: float | None = Field(None, ge=0)
    """Guidance scale of the detokenizer (None: as the model draws by itself)."""


class EvalTokenizerConfig(DecodingConfig):
    """Settings of `lavit eval tokenizer`."""

    images: int = Field(1024, ge=1)
    """Images that are tokenized, at most, drawn from all of the data's."""
    reconstructions: int = Field(256, ge=0)
    """How many of them are drawn again from their tokens, where the model can draw."""
    samples: int = Field(24, ge=0)
    """Reconstructions with their kept patches that are kept for the report."""
    selection: Literal["threshold", "topk", "sample"] | None = None
    """How patches are kept, as in tokenize-images (None: as in the token files that the model learned from)."""
    tokens: int | None = Field(None, ge=1)
    """With selection topk: tokens of every image (None: the model's number)."""
    compare_px: int | None = Field(None, ge=1)
    """Side in pixels at which reconstructions are compared with the images (None: their own)."""
    probe: bool = False
    """Fit linear probes too, on the labels of the data (`lavit eval probe`)."""
    few: bool = False
    """Compute the reconstruction FID of fewer than 2,048 images too (rank-deficient, marked)."""
    any_inception: bool = False
    """Take other Inception weights than the published; the metric is then named rfd."""
    any_lpips: bool = False
    """Take other LPIPS weights than the published; the metric is then named lpips_other."""

    @model_validator(mode="after")
    def _tokens_are_those_of_topk(self) -> Self:
        check_selection(self.selection, self.tokens)
        return self


class RateDistortionConfig(DecodingConfig):
    """Settings of `lavit eval rate-distortion`."""

    tokens: tuple[int, ...] = Field((8, 12, 16, 24, 32), min_length=1)
    """Tokens an image at which the learned selection is held against the best patches of each image and random ones."""
    images: int = Field(256, ge=1)
    """Images that are tokenized at each number of tokens, at most, drawn from all of the data's."""
    reconstructions: int = Field(128, ge=0)
    """How many of them are drawn again at each number of tokens, where the model can draw."""
