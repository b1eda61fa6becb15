"""Options that several benchmarks share, each written once."""

from pathlib import Path
from typing import Annotated

import typer

Downloads = Annotated[Path, typer.Option("--data", help="Folder of the official downloads.", show_default=False)]
DownloadsOrDataset = Annotated[
    Path,
    typer.Option(
        "--data", help="Official downloads, or a data set: parquet, save_to_disk, OWNER/NAME.", show_default=False
    ),
]
Annotations = Annotated[
    Path | None, typer.Option("--annotations", help="Instead of the one under --data.", show_default=False)
]
Images = Annotated[Path | None, typer.Option("--images", help="Folder of the pictures.", show_default=False)]
Split = Annotated[str | None, typer.Option("--split", help="Split of a Karpathy file (test).", show_default=False)]
AnySplit = Annotated[
    str | None,
    typer.Option("--split", help="Split of a data set, or of a Karpathy file (test).", show_default=False),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only so many; marked partial.", show_default=False)]
Protocol = Annotated[str, typer.Option("--protocol", help="official (the server's rules) or lavit.")]
AllowNetwork = Annotated[
    bool, typer.Option("--allow-network", help="Download --data OWNER/NAME from the Hugging Face hub.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="How many at once.")]
ClipDir = Annotated[
    Path | None, typer.Option("--clip", help="Edits: transformers directory of a CLIP.", show_default=False)
]
DinoDir = Annotated[
    Path | None, typer.Option("--dino", help="Edits: transformers directory of DINO's ViT.", show_default=False)
]
LpipsTrunk = Annotated[
    Path | None, typer.Option("--lpips-trunk", help="Edits: alexnet-owt-7be5be79.pth.", show_default=False)
]
LpipsHeads = Annotated[
    Path | None, typer.Option("--lpips-heads", help="Edits: lpips' weights/v0.1/alex.pth.", show_default=False)
]
Generated = Annotated[Path, typer.Option("--generated", help="Folder of drawn pictures.", show_default=False)]
