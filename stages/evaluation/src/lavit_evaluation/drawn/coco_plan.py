"""What `lavit eval coco-fid --model` will draw and compute: settings, captions, what is missing; before it starts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lavit_core.errors import UsageError
from lavit_core.files import file_sha256
from lavit_scoring.references import read_references
from pydantic import Field

from lavit_evaluation.drawn.clip_score import load_clip
from lavit_evaluation.drawn.coco_prompts import (
    CocoPrompt,
    choose_prompts,
    find_captions,
    prompts_digest,
    real_pictures,
)
from lavit_evaluation.drawn.features import Folder, open_folder
from lavit_evaluation.drawn.fid import NO_FEATURES, FidConfig, check_inception, is_counted, read_reference, too_few
from lavit_evaluation.running.painter import check_painter

PROMPTS = 30_000


class CocoFidConfig(FidConfig):
    """Settings of pictures drawn from COCO's captions; the defaults are those of LaVIT's script."""

    prompts: int = Field(PROMPTS, ge=1)
    """Captions drawn by the seed, one a picture first (papers: 30,000)."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many of them; the score is then marked partial."""
    llm_guidance: float = Field(1.5, ge=0)
    """Guidance of the codes."""
    top_k: int = Field(300, ge=0)
    """Codes are drawn from the likeliest so many; 0 means all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Codes are drawn from the smallest set with this probability."""
    temperature: float = Field(1.0, ge=0)
    """Divides the log-probabilities of codes."""
    decoder_guidance: float = Field(1.5, ge=0)
    """Guidance of the pixels."""
    decoder_steps: int = Field(50, ge=1)
    """Denoising steps."""
    best_of: int = Field(1, ge=1)
    """Pictures drawn of each caption, of which a CLIP keeps the nearest (LaVIT's script: 4, ViT-L/14)."""

    @property
    def fid(self) -> FidConfig:
        """How pictures reach Inception."""
        return FidConfig(**{name: getattr(self, name) for name in FidConfig.model_fields})

    @property
    def drawing(self) -> dict[str, Any]:
        """What the pictures depend on beside model and captions."""
        return {
            name: value for name, value in self.model_dump(mode="json").items() if name not in FidConfig.model_fields
        }


PUBLISHED = CocoFidConfig.model_validate({"best_of": 4})
"""Everything as LaVIT's script has it; the CLIP that chooses is ViT-L/14."""
PUBLISHED_CLIP = "patch 14, width 1024, 24 layers"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be drawn and computed, known and checked before a picture is drawn."""

    captions: Path
    prompts: list[CocoPrompt]
    expected: int
    """Captions of a whole run."""
    inputs: dict[str, str]
    """Digests of what the pictures depend on."""
    real: Folder | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    """Metric -> why it can't be computed."""
    chooser: dict[str, Any] | None = None
    """The CLIP that keeps the best candidate."""


def plan_coco_fid(
    model: Path, data: Path, config: CocoFidConfig, *, inception: Path | None = None, clip: Path | None = None,
    real: Path | None = None, reference: Path | None = None, annotations: Path | None = None,
    images: Path | None = None, split: str | None = None, best_of_clip: Path | None = None, highres: bool = False,
    seed: int = 0,
) -> Plan:  # fmt: skip
    """Look for everything and say what can be computed.

    Raises InputError, UsageError, VerificationError for what is given and can't be used.
    """
    if real is not None and reference is not None:
        raise UsageError("give either --real FOLDER or --reference STATISTICS")
    if (config.best_of > 1) != (best_of_clip is not None):
        raise UsageError(f"best of {config.best_of}: --best-of N (more than 1) and --best-of-clip DIR go together")
    inputs = check_painter(model, highres=highres)
    chooser = None if best_of_clip is None else load_clip(best_of_clip, "cpu").about
    if chooser is not None:
        inputs |= {f"best_of_clip.{name}": digest for name, digest in chooser["clip_digests"].items()}
    captions = find_captions(data, annotations)
    every = choose_prompts(read_references(captions, split), config.prompts, seed)
    prompts = every[: config.limit]
    inputs |= {"annotations": file_sha256(captions), "prompts": prompts_digest(prompts)}
    skipped: dict[str, str] = {}
    fid, kid = config.names
    side: Folder | None = None
    if inception is None:
        skipped |= dict.fromkeys((fid, kid), "no Inception weights given (--inception FILE)")
    else:
        digest, smallest = check_inception(inception, config), len(prompts)
        if reference is not None:
            moments, about = read_reference(reference, config, digest)
            smallest = min(smallest, moments.count) if is_counted(about) else smallest
            skipped[kid] = NO_FEATURES
        else:
            side = open_folder(real, "--real") if real is not None else real_pictures(prompts, data, images)
            smallest = min(smallest, len(side.keys))
        if reason := too_few(smallest, config):
            skipped[fid] = reason
    if clip is None:
        skipped["clip_score"] = "no CLIP given (--clip DIR)"
    else:
        load_clip(clip, "cpu")  # a folder that is none is found out now, not after the last picture
    return Plan(
        captions=captions, prompts=prompts, expected=len(every), inputs=inputs, real=side, skipped=skipped,
        chooser=chooser,
    )  # fmt: skip


def is_published(plan: Plan, config: CocoFidConfig, *, highres: bool = False) -> bool:
    """Return whether all is as in LaVIT's script: settings, captions, detokenizer, the choice of the best of four."""
    same = config.model_copy(update={"few": False, "limit": None}) == PUBLISHED and plan.expected == PROMPTS
    return same and not highres and plan.chooser is not None and plan.chooser.get("clip_shape") == PUBLISHED_CLIP
