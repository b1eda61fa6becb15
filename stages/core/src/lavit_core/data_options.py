"""Options of every command that reads a data set: how to read it where its files don't say."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lavit_core.records import Source

DATA_HELP = "Images with or without captions: a folder, a list of them, or sources.yaml (docs/data.md)."


def _option(name: str, metavar: str, text: str) -> object:
    return typer.Option(name, metavar=metavar, help=text, show_default=False, rich_help_panel="Layout of the data")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Columns and splits of the data."""

    image_column: Annotated[
        str | None, _option("--image-column", "NAME", "Column of the image's name, or of its bytes (guessed).")
    ] = None
    caption_column: Annotated[
        str | None, _option("--caption-column", "NAME", "Column of captions (guessed); none: read no captions.")
    ] = None
    split: Annotated[
        str | None, _option("--split", "NAME,...", "Splits to read, where there are several; all for all.")
    ] = None
    allow_network: Annotated[
        bool,
        typer.Option(
            "--allow-network",
            help="Read hub:OWNER/NAME from the Hugging Face hub.",
            rich_help_panel="Layout of the data",
        ),
    ] = False

    def source(self, path: Path) -> "Source":
        """Return the data set at a path, read as these options say."""
        from lavit_core.records import Source

        return Source(
            path,
            image_column=self.image_column,
            caption_column=self.caption_column,
            split=self.split,
            allow_network=self.allow_network,
        )
