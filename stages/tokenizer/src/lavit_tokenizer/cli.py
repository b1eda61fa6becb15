"""Commands of the tokenizer stage: `train-encoder`, `train-tokenizer`, `tokenize-images`."""

import dataclasses
from pathlib import Path
from typing import Annotated

from lavit_core.command import NO_PRESET, CommonOptions, command, required, settings_of, show, word
from lavit_core.data_options import DATA_HELP, DataOptions
from lavit_core.errors import UsageError
from lavit_core.follow import FollowOptions
from lavit_core.modeldir import find_part, is_imported
from lavit_core.options import Model, Out, OutUnlessDry, argument, option

PACKAGE = "lavit_tokenizer"

Images = Annotated[Path, argument(metavar="DATA", help=DATA_HELP)]
ImagesUnlessDry = Annotated[Path | None, argument(metavar="DATA", help=DATA_HELP)]
EncoderModel = Annotated[Path | None, option("--model", help="Model directory with encoder/.")]
EncoderFolder = Annotated[Path | None, option("--encoder", help="transformers vision folder, instead of --model.")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizeOptions:
    """Settings of `tokenize-images` that have an option of their own."""

    workers: Annotated[int | None, option("--workers", min=0, help="Decoding processes.")] = None
    selection: Annotated[str | None, option("--selection", help="threshold, topk or sample.")] = None
    tokens: Annotated[int | None, option("--tokens", min=1, help="With topk: so many tokens of every image.")] = None
    features: Annotated[bool | None, option("--features/--no-features", help="Store merger features too.")] = None
    max_error_rate: Annotated[
        float | None, option("--max-error-rate", min=0, max=1, help="Unreadable share allowed.")
    ] = None
    min_pixels: Annotated[int | None, option("--min-pixels", min=1, help="Leave smaller images out.")] = None
    max_pixels: Annotated[int | None, option("--max-pixels", min=1, help="Refuse larger images.")] = None
    retry_errors: Annotated[bool, option("--retry-errors", help="Read the images of errors.jsonl again.")] = False
    num_tasks: Annotated[int | None, option("--num-tasks", min=1, help="Tasks that fill one --out.")] = None
    task_id: Annotated[int | None, option("--task-id", min=0, help="This task: 0 .. num-tasks - 1.")] = None
    engine: Annotated[str, option("--engine", help="local (with --workers), or ray.")] = "local"
    ray_address: Annotated[str | None, option("--ray-address", help="Ray cluster; without: RAY_ADDRESS, or local.")] = (
        None
    )


@command(omit=["sample_every"])
def train_encoder(
    data: ImagesUnlessDry = None,
    out: OutUnlessDry = None,
    *,
    follow: FollowOptions,
    layout: DataOptions,
    common: CommonOptions,
) -> None:
    """Train a small image encoder (CLIP) on your captioned images."""
    from lavit_core.data import check_data

    from lavit_tokenizer.config import TrainEncoderConfig

    settings = settings_of(common, TrainEncoderConfig, (PACKAGE, "train-encoder"))
    if common.dry_run:
        from lavit_trainkit.cost import plan_lines

        from lavit_tokenizer.plan import plan_encoder

        planned = plan_encoder(settings, device=common.device)
        return show(planned, common, lines=plan_lines(planned))
    source, out = layout.source(required("DATA", data)), required("--out", out)
    check_data(source)
    from lavit_tokenizer.train_encoder import train_encoder as verb

    summary = verb(source, out, settings, seed=common.seed, device=common.device, follow=follow, quiet=common.silent)
    model = out / "model"
    following = f"next: lavit train-tokenizer {source.words} --model {word(model)} --out RUN"
    show(summary, common, f"encoder in {model / 'encoder'}; {following}")


@command()
def train_tokenizer(
    data: ImagesUnlessDry = None,
    out: OutUnlessDry = None,
    model: EncoderModel = None,
    encoder: EncoderFolder = None,
    *,
    follow: FollowOptions,
    layout: DataOptions,
    common: CommonOptions,
) -> None:
    """Train the visual tokenizer: which patches become tokens, and their codebook."""
    from lavit_core.data import check_data

    from lavit_tokenizer.config import TrainTokenizerConfig

    settings = settings_of(common, TrainTokenizerConfig, (PACKAGE, "train-tokenizer"))
    if common.dry_run:
        from lavit_trainkit.cost import plan_lines

        from lavit_tokenizer.plan import plan_tokenizer

        source = None if data is None else layout.source(data)
        planned = plan_tokenizer(
            settings, data=source, model=model, encoder=encoder, preset=common.preset, device=common.device
        )
        return show(planned, common, lines=plan_lines(planned))
    source, out = layout.source(required("DATA", data)), required("--out", out)
    check_data(source)
    if model is not None:
        find_part(model, "encoder")
    from lavit_tokenizer.train_tokenizer import train_tokenizer as verb

    seed, device = common.seed, common.device
    summary = verb(
        source,
        out,
        settings,
        model=model,
        encoder=encoder,
        seed=seed,
        device=device,
        follow=follow,
        quiet=common.silent,
    )
    model = out / "model"
    following = f"next: lavit tokenize-images {source.words} --model {word(model)} --out TOKENS"
    show(summary, common, f"tokenizer in {model / 'tokenizer'}; {following}")


@command()
def tokenize_images(
    data: Images,
    model: Model,
    out: Out,
    options: TokenizeOptions,
    layout: DataOptions,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Write images as codes to a token directory; resumable.

    Without --preset: `imported` for imported weights, else `tiny`.
    """
    from lavit_core.data import check_data

    from lavit_tokenizer.config import TokenizeConfig

    source = layout.source(data)
    preset = common.preset or ("imported" if model is not None and is_imported(model, "tokenizer") else "tiny")
    common = dataclasses.replace(common, preset=preset)
    given = dataclasses.asdict(options)
    retry_errors = given.pop("retry_errors")
    num_tasks, task_id = given.pop("num_tasks"), given.pop("task_id")
    engine, ray_address = given.pop("engine"), given.pop("ray_address")
    if engine not in ("local", "ray"):
        raise UsageError(f"--engine {engine}: expected local or ray")
    if ray_address is not None and engine != "ray":
        raise UsageError(f"--ray-address {ray_address} without --engine ray; give both")
    if num_tasks is None and task_id is not None:
        raise UsageError(f"--task-id {task_id} needs --num-tasks: of how many tasks this is one")
    num_tasks = num_tasks or 1
    if num_tasks > 1 and task_id is None:
        raise UsageError(f"--num-tasks {num_tasks} needs --task-id, 0 .. {num_tasks - 1}: which of them this is")
    settings = settings_of(common, TokenizeConfig, (PACKAGE, "tokenize-images"), given)
    if common.dry_run:
        from lavit_tokenizer.plan import plan_tokenize

        return show(plan_tokenize(source, model, settings, device=common.device), common)
    check_data(source)
    find_part(model, "tokenizer")
    from lavit_tokenizer.tasks import Task
    from lavit_tokenizer.tokenize_images import tokenize_images as verb

    task = Task(number=task_id or 0, of=num_tasks)
    seed, device, quiet = common.seed, common.device, common.silent
    summary = verb(
        source, model, out, settings, seed=seed, device=device, task=task, engine=engine, ray_address=ray_address,
        retry_errors=retry_errors, quiet=quiet,
    )  # fmt: skip
    if summary.get("missing_tasks") is not None:
        return show(summary, common, f"{task} is done; {out} is not finished yet")
    # The language model's presets read stored features; tokens without them have their codes.
    codes = "" if settings.features else " --image-input codes"
    show(summary, common, f"tokens in {out}; next: lavit pretrain {word(out)} --model {word(model)}{codes} --out RUN")
