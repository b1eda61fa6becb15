"""Options that several commands share, each written once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from lavit_core.command import CommonOptions

if TYPE_CHECKING:
    from lavit_evaluation.compute import Compute

Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only so many; marked partial.", show_default=False)]
Protocol = Annotated[str, typer.Option("--protocol", help="official (the server's rules) or lavit.")]
Lemmatizer = Annotated[
    str | None, typer.Option("--lemmatizer", help="With lavit: rules or a spaCy model.", show_default=False)
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="How many at once.")]
ClipDir = Annotated[
    Path | None, typer.Option("--clip-model", help="Transformers directory of a CLIP.", show_default=False)
]
Generated = Annotated[Path, typer.Option("--generated", help="Folder of drawn images.", show_default=False)]


def compute_of(common: CommonOptions, batch_size: int = 32) -> "Compute":
    """Return where and how many at once a command computes."""
    from lavit_evaluation.compute import Compute

    return Compute(batch_size=batch_size, device=common.device, precision=common.precision, quiet=common.silent)
