"""The command `lavit data preview`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from lavit_core.command import CommonOptions, command, settings_of, show, show_plan
from lavit_core.data_options import DATA_HELP, DataOptions
from lavit_core.distributions import require_stages
from lavit_core.errors import InputError, UsageError
from lavit_core.options import argument, option
from lavit_core.progress import LOADING, waiting


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownOptions:
    """What the page shows."""

    samples: Annotated[int, typer.Option("--samples", min=1, help="Images on the page.")] = 24
    check: Annotated[int, typer.Option("--check", min=0, help="Images that are decoded and compared; 0: all.")] = 10_000
    duplicates: Annotated[bool, typer.Option("--duplicates", help="Compare the bytes of all images.")] = False
    image_px: Annotated[
        int | None, option("--image-px", min=1, help="Side of the model's square without --model (224).")
    ] = None


@command()
def preview(
    path: Annotated[Path, argument(metavar="DATA", help=DATA_HELP)],
    out: Annotated[Path | None, option("--out", help="HTML file (required), say page.html.")] = None,
    model: Annotated[Path | None, option("--model", help="Show kept patches, codes and training documents.")] = None,
    llm: Annotated[Path | None, option("--llm", help="Language model whose text tokenizer is used.")] = None,
    shown: ShownOptions = ShownOptions(),
    *,
    layout: DataOptions,
    common: CommonOptions,
) -> None:
    """Write one self-contained page about a data set: problems, and images and documents as a model will see them.

    Settings are those of `lavit pretrain`. Exits with 3 if the data set has problems for which training refuses it.
    """
    from lavit_core.files import check_out_file

    settings, opened = None, None
    if model is not None or common.print_config:
        with require_stages("lavit data preview --model"):
            from lavit_pretrain.config import PretrainConfig

        settings = settings_of(
            common, PretrainConfig, ("lavit_pretrain", "pretrain"), {"image_input": _input_of(model)}
        )
    elif common.sets or common.config or llm or common.preset != CommonOptions().preset:
        raise UsageError("--preset, --set, --config and --llm are about training documents, which need --model")
    if out is None:
        raise UsageError("--out is missing, for example: lavit data preview photos --out page.html")
    check_out_file(out)
    if out.suffix.lower() not in (".html", ".htm"):
        # A list of captions would be gone.
        raise UsageError(f"--out {out}: expected a name that ends in .html")
    if common.dry_run and settings is not None:
        return show_plan(settings, common, data=str(path), out=str(out), model=str(model))
    from lavit_cli.preview.collect import PUBLISHED_PX, PreviewSettings, collect_preview
    from lavit_cli.preview.page import write_preview

    if model is not None:
        if shown.image_px is not None:
            raise UsageError("--image-px is the model's own where --model is given: leave one out")
        with require_stages("lavit data preview --model"):
            from lavit import LaVIT

        opened = LaVIT.from_pretrained(model, parts="tokenizer", device=common.device)
    image_px = opened.image_px if opened is not None else shown.image_px or PUBLISHED_PX
    what = PreviewSettings(
        samples=shown.samples,
        check=shown.check,
        duplicates=shown.duplicates,
        image_px=image_px,
        seed=common.seed,
        quiet=common.silent,
    )
    if common.dry_run:
        return show({"data": str(path), "out": str(out), **dataclasses.asdict(what)}, common)
    collected, view = collect_preview(layout.source(path), what), None
    if opened is not None and model is not None and settings is not None:
        with require_stages("lavit data preview --model"):
            from lavit_cli.preview.with_model import view_by_model

        with waiting(LOADING, quiet=common.silent):
            view = view_by_model(opened, model, collected, settings, llm=llm, seed=common.seed)
    page = write_preview(out, collected, view)
    made = {
        "page": str(out),
        "bytes": len(page.encode()),
        "images": collected.report["images"],
        "shown": len(collected.samples),
        "problems": collected.num_problems,
        "unreadable": len(collected.report["unreadable"]),
        "duplicates": [list(group) for group in collected.duplicates],
    }
    show(made, common, lines=[f"{out}: {len(collected.samples)} of {made['images']} images; open it in a browser"])
    if collected.num_problems:
        raise InputError(
            f"{path}: {collected.num_problems} problem(s), first on the page; training refuses such a data set"
        )


def _input_of(model: Path | None) -> str | None:
    """Return how the model reads images, if it has a language model."""
    if model is None or not (model / "llm").is_dir():
        return None
    from lavit_core.modeldir import image_input_of

    return image_input_of(model)
