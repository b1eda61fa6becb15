"""What `lavit eval coco-fid --model` will draw and compute: settings, captions, what is missing; before it starts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit_core.errors import UsageError
from lavit_core.files import file_sha256
from lavit_scoring.references import read_references
from pydantic import Field

from lavit_evaluation.config import DrawingConfig
from lavit_evaluation.image_metrics.clip_score import load_clip
from lavit_evaluation.image_metrics.coco_prompts import (
    CocoPrompt,
    choose_prompts,
    find_captions,
    prompts_digest,
    real_images,
)
from lavit_evaluation.image_metrics.features import Folder, open_folder
from lavit_evaluation.image_metrics.fid import (
    INSTEAD,
    NO_FEATURES,
    FidConfig,
    check_inception,
    is_counted,
    read_reference,
    too_few,
)
from lavit_evaluation.model import find_drawing_parts
from lavit_evaluation.options import Files, MetricFiles

if TYPE_CHECKING:
    from lavit import LaVIT

PROMPTS = 30_000


class CocoFidConfig(FidConfig, DrawingConfig):
    """Settings of images drawn from COCO's captions; the defaults are those of LaVIT's script."""

    prompts: int = Field(PROMPTS, ge=1)
    """Captions drawn by the seed, one an image first (papers: 30,000)."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many of them; the score is then marked partial."""
    top_k: int = Field(300, ge=0)
    """Codes are drawn among this many of the most probable (0 = all)."""
    decoder_steps: int = Field(50, ge=1)
    """Denoising steps an image."""
    best_of: int = Field(1, ge=1)
    """Images drawn of each caption, of which a CLIP keeps the nearest (LaVIT's script: 4, ViT-L/14)."""

    @property
    def fid(self) -> FidConfig:
        """How images reach Inception."""
        return FidConfig(**{name: getattr(self, name) for name in FidConfig.model_fields})

    @property
    def drawing(self) -> dict[str, Any]:
        """What the images depend on beside model and captions."""
        return self.model_dump(mode="json", exclude=set(FidConfig.model_fields))


PUBLISHED = CocoFidConfig.model_validate({"best_of": 4})
"""Everything as LaVIT's script has it; the CLIP that chooses is ViT-L/14."""
PUBLISHED_CLIP = "patch 14, width 1024, 24 layers"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be drawn and computed, known and checked before an image is drawn."""

    captions: Path
    prompts: list[CocoPrompt]
    expected: int
    """Captions of a whole run."""
    settings: dict[str, Any]
    """What the images depend on beside model and captions."""
    inputs: dict[str, str]
    """Digests of what the images depend on."""
    metrics: MetricFiles
    real: Folder | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    """Metric -> why it can't be computed."""
    chooser: dict[str, Any] | None = None
    """The CLIP that keeps the best candidate."""


def plan_coco_fid(
    model: "Path | LaVIT", files: Files, config: CocoFidConfig, metrics: MetricFiles = MetricFiles(), *,
    highres: bool = False, precision: str = "auto", seed: int = 0,
) -> Plan:  # fmt: skip
    """Look for everything and return what can be computed.

    Raises InputError, UsageError, VerificationError for what is given and can't be used.
    """
    if metrics.real is not None and metrics.reference is not None:
        raise UsageError("give either --real FOLDER or --reference STATISTICS")
    if (config.best_of > 1) != (metrics.rerank_clip is not None):
        raise UsageError(f"best of {config.best_of}: --best-of N (more than 1) and --rerank-clip-model DIR go together")
    inputs = find_drawing_parts(model, highres=highres)
    chooser = None
    if metrics.rerank_clip is not None:
        chooser = load_clip(metrics.rerank_clip, "cpu", option="--rerank-clip-model").metadata
        inputs |= {f"best_of_clip.{name}": digest for name, digest in chooser["clip_digests"].items()}
    captions = find_captions(files.data, files.annotations)
    every = choose_prompts(read_references(captions, files.split), config.prompts, seed)
    prompts = every[: config.limit]
    inputs |= {"annotations": file_sha256(captions), "prompts": prompts_digest(prompts)}
    skipped: dict[str, str] = {}
    fid, kid = config.names
    side: Folder | None = None
    if metrics.inception is None:
        skipped |= dict.fromkeys((fid, kid), "no Inception weights given (--inception FILE)")
    else:
        digest, smallest = check_inception(metrics.inception, config), len(prompts)
        if metrics.reference is not None:
            moments, metadata = read_reference(metrics.reference, config, digest)
            smallest = min(smallest, moments.count) if is_counted(metadata) else smallest
            skipped[kid] = NO_FEATURES
        else:
            given = metrics.real
            side = real_images(prompts, files.data, files.images) if given is None else open_folder(given, "--real")
            smallest = min(smallest, len(side.keys))
        if reason := too_few(smallest, config):
            skipped[fid] = f"{reason}; {INSTEAD}"
    if metrics.clip is None:
        skipped["clip_score"] = "no CLIP given (--clip-model DIR)"
    else:
        load_clip(metrics.clip, "cpu")  # a folder that is not one is found out now, not after the last image
    settings = {**config.drawing, "split": files.split, "highres": highres, "precision": precision, "seed": seed}
    return Plan(
        captions=captions, prompts=prompts, expected=len(every), settings=settings, inputs=inputs, metrics=metrics,
        real=side, skipped=skipped, chooser=chooser,
    )  # fmt: skip


def is_published(plan: Plan, config: CocoFidConfig) -> bool:
    """Return whether all is as in LaVIT's script: settings, captions, detokenizer, the choice of the best of four."""
    same = config.model_copy(update={"few": False, "limit": None}) == PUBLISHED and plan.expected == PROMPTS
    chosen_as_published = plan.chooser is not None and plan.chooser.get("clip_shape") == PUBLISHED_CLIP
    return same and not plan.settings["highres"] and chosen_as_published
