"""Which files a benchmark reads; the fields are command-line options too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True)
class Files:
    """Official downloads, or a data set, of a benchmark."""

    data: Annotated[
        Path,
        typer.Option(
            "--data", help="Official downloads, or a data set: parquet, save_to_disk, OWNER/NAME.", show_default=False
        ),
    ]
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="Instead of the one under --data.", show_default=False)
    ] = None
    images: Annotated[Path | None, typer.Option("--images", help="Folder of the images.", show_default=False)] = None
    split: Annotated[
        str | None,
        typer.Option("--split", help="Split of a data set, or of a Karpathy file (test).", show_default=False),
    ] = None
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="Download --data OWNER/NAME from the Hugging Face hub.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class QuestionFiles(Files):
    """The same with a file of questions."""

    questions: Annotated[
        Path | None, typer.Option("--questions", help="Instead of the one under --data.", show_default=False)
    ] = None


@dataclass(frozen=True, kw_only=True)
class MetricFiles:
    """What the metrics of drawn images need; a metric without its files is skipped."""

    inception: Annotated[
        Path | None, typer.Option("--inception", help="pt_inception-2015-12-05-6726825d.pth.", show_default=False)
    ] = None
    clip: Annotated[
        Path | None,
        typer.Option("--clip-model", help="Transformers directory of a CLIP, for CLIPScore.", show_default=False),
    ] = None
    real: Annotated[
        Path | None, typer.Option("--real", help="Real images, instead of the captions' own.", show_default=False)
    ] = None
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="Instead: statistics of `lavit eval fid-stats`.", show_default=False),
    ] = None
    rerank_clip: Annotated[
        Path | None,
        typer.Option(
            "--rerank-clip-model", help="CLIP that chooses of --best-of (published: ViT-L/14).", show_default=False
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Local weights that the metrics of edited images need; a metric without them is skipped."""

    clip: Annotated[
        Path | None, typer.Option("--clip-model", help="Edits: transformers directory of a CLIP.", show_default=False)
    ] = None
    """The official script: ViT-B/32."""
    dino: Annotated[
        Path | None, typer.Option("--dino", help="Edits: transformers directory of DINO's ViT.", show_default=False)
    ] = None
    """The official script: ViT-S/16."""
    lpips_trunk: Annotated[
        Path | None, typer.Option("--lpips-trunk", help="Edits: alexnet-owt-7be5be79.pth.", show_default=False)
    ] = None
    """torchvision's alexnet-owt-7be5be79.pth or vgg16-397923af.pth."""
    lpips_heads: Annotated[
        Path | None, typer.Option("--lpips-heads", help="Edits: lpips' weights/v0.1/alex.pth.", show_default=False)
    ] = None
    """lpips' weights/v0.1/alex.pth or vgg.pth."""

    def by_option(self) -> dict[str, Path | None]:
        """Return each file or folder under the option that gives it."""
        return {
            "--clip-model": self.clip,
            "--dino": self.dino,
            "--lpips-trunk": self.lpips_trunk,
            "--lpips-heads": self.lpips_heads,
        }
