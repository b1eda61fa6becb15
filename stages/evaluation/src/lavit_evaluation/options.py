"""Options that several commands share, each written once; the dataclasses are also what the benchmarks take."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from lavit_core.command import CommonOptions
from lavit_core.device_name import check_device_name
from lavit_core.distributions import require_stages
from lavit_core.options import option

from lavit_evaluation.compute import Compute

Limit = Annotated[int | None, option("--limit", min=1, help="Only so many; marked partial.")]
Protocol = Annotated[str, typer.Option("--protocol", help="official (the server's rules) or lavit.")]
Lemmatizer = Annotated[str | None, option("--lemmatizer", help="With lavit: rules or a spaCy model.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="How many at once.")]
ClipDir = Annotated[Path | None, option("--clip-model", help="Transformers directory of a CLIP.")]
Generated = Annotated[Path, option("--generated", help="Folder of drawn images.")]
Images = Annotated[Path | None, option("--images", help="Folder of the images.")]
Split = Annotated[str | None, option("--split", help="Split of a data set, or of a Karpathy file (test).")]
Inception = Annotated[Path | None, option("--inception", help="pt_inception-2015-12-05-6726825d.pth.")]
Reference = Annotated[Path | None, option("--reference", help="Not --real but what `lavit eval fid-stats` saved.")]


def compute_of(common: CommonOptions, batch_size: int = 32) -> Compute:
    """Return where and how many at once a command computes. Raises UsageError for a device that is not there."""
    check_device_name(common.device)
    if common.device.startswith("cuda"):  # only then is torch asked
        with require_stages("lavit eval"):
            from lavit_trainkit.device import check_device

        check_device(common.device)
    return Compute(batch_size=batch_size, device=common.device, precision=common.precision, quiet=common.silent)


@dataclass(frozen=True, kw_only=True)
class Files:
    """Official downloads, or a data set, of a benchmark."""

    data: Annotated[
        Path, option("--data", help="Official downloads, or a data set: parquet, save_to_disk, OWNER/NAME.")
    ]
    annotations: Annotated[Path | None, option("--annotations", help="Instead of the one under --data.")] = None
    images: Images = None
    split: Split = None
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="Download --data OWNER/NAME from the Hugging Face hub.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class QuestionFiles(Files):
    """The same with a file of questions."""

    questions: Annotated[Path | None, option("--questions", help="Instead of the one under --data.")] = None


@dataclass(frozen=True, kw_only=True)
class MetricFiles:
    """What the metrics of drawn images need; a metric without its files is skipped."""

    inception: Inception = None
    clip: Annotated[Path | None, option("--clip-model", help="Transformers directory of a CLIP, for CLIPScore.")] = None
    real: Annotated[Path | None, option("--real", help="Real images, instead of the captions' own.")] = None
    reference: Reference = None
    rerank_clip: Annotated[
        Path | None, option("--rerank-clip-model", help="CLIP that chooses of --best-of (published: ViT-L/14).")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ReconstructionWeights:
    """Local weights that metrics of reconstructions need; a metric without them is skipped."""

    inception: Inception = None
    lpips_trunk: Annotated[
        Path | None, option("--lpips-trunk", help="alexnet-owt-7be5be79.pth or vgg16-397923af.pth, for LPIPS.")
    ] = None
    lpips_heads: Annotated[Path | None, option("--lpips-heads", help="lpips' weights/v0.1/alex.pth or vgg.pth.")] = None


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Local weights that the metrics of edited images need; a metric without them is skipped."""

    clip: Annotated[Path | None, option("--clip-model", help="Edits: transformers directory of a CLIP.")] = None
    """The official script: ViT-B/32."""
    dino: Annotated[Path | None, option("--dino", help="Edits: transformers directory of DINO's ViT.")] = None
    """The official script: ViT-S/16."""
    lpips_trunk: Annotated[Path | None, option("--lpips-trunk", help="Edits: alexnet-owt-7be5be79.pth.")] = None
    """torchvision's alexnet-owt-7be5be79.pth or vgg16-397923af.pth."""
    lpips_heads: Annotated[Path | None, option("--lpips-heads", help="Edits: lpips' weights/v0.1/alex.pth.")] = None
    """lpips' weights/v0.1/alex.pth or vgg.pth."""

    def by_option(self) -> dict[str, Path | None]:
        """Return each file or folder under the option that gives it."""
        return {
            "--clip-model": self.clip,
            "--dino": self.dino,
            "--lpips-trunk": self.lpips_trunk,
            "--lpips-heads": self.lpips_heads,
        }
