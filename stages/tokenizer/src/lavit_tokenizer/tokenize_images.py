"""`lavit tokenize-images`: images to a token directory, the same bytes whatever the workers, tasks and kills."""

import contextlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lavit_core.data import Source, check_data, check_out_outside, digest_before, source_of
from lavit_core.data_plan import keep_plan, open_plan
from lavit_core.errors import ErrorBudgetExceeded, InputError, UsageError
from lavit_core.image_batch import decode_batch
from lavit_core.interrupt import stop_signals
from lavit_core.progress import Progress, note
from lavit_core.rundir import open_run, recorded_inputs
from lavit_core.token_journal import JournalLine, append_shard, journal_folder
from lavit_trainkit.precision import with_precision
from lavit_trainkit.stopping import stopped
from lavit_trainkit.throughput import Meter

from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.disk_space import check_space
from lavit_tokenizer.make_shards import LIMITS, ShardJob, Stopped, make_shards, shard_name
from lavit_tokenizer.selector import topk_tokens
from lavit_tokenizer.tasks import Task, running_tasks, start_task, turn
from lavit_tokenizer.token_directory import (
    ERRORS_FILE,
    TokenDirectory,
    close_directory,
    failed_images,
    failed_sizes,
    finish_directory,
    finished_shards,
    is_whole,
    new_manifest,
    reopen_directory,
    replaced_images,
)
from lavit_tokenizer.tokenizer_folder import load_tokenizer

NEWER = (*LIMITS, "tokens")
"""Settings that directories of before do not record."""

MOST_NAMED = 8
"""Tasks with missing shards that are named."""


def tokenize_images(
    data: Path | Source,
    model: Path,
    out: Path,
    config: TokenizeConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    task: Task = Task(),
    engine: str = "local",
    ray_address: str | None = None,
    retry_errors: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write the images of `data` as codes to the token directory `out`, return the summary; finished shards are kept,
    and missing ones of a finished directory made again; with `retry_errors` also those of images that failed before
    and can be read now. One of several tasks makes its own shards alone; the last one finishes the directory. `engine`
    is `local` (this process and `config.workers` others) or `ray`, at `ray_address`.

    Raises InputError for unusable input, ErrorBudgetExceeded after finishing when too many images were unreadable,
    Interrupted when stopped by a signal.
    """
    if retry_errors and not task.alone:
        raise UsageError("--retry-errors with --num-tasks: leave --num-tasks out; the other shards stay as they are")
    if engine == "ray" and not task.alone:
        raise UsageError("--engine ray with --num-tasks: leave --num-tasks out; Ray shares the shards out itself")
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        raise UsageError(
            "--engine ray: Ray is not installed; pip install 'lavit-tokenizer[ray]' here and on every node"
        )
    check_out_outside(out, data)
    check_data(data)
    # Ray's actors have the GPUs, and all of them compute in what this process settles.
    own = "cpu" if engine == "ray" else device
    config = with_precision(config, own, out=out)
    tokenizer = load_tokenizer(model, device=own, precision=config.precision, use="encode")
    topk_tokens(tokenizer.config, config.tokens)  # refused before the run directory is bound to it
    # How the work is done (workers, where the run gives up) does not decide what is written.
    undecided = {"workers", "max_error_rate"}
    # Settings nobody set are not recorded, so that directories from before there were any go on.
    undecided |= {name for name in NEWER if getattr(config, name) == TokenizeConfig.model_fields[name].default}
    decides = {**config.model_dump(mode="json", exclude=undecided), "seed": seed}
    source = source_of(data)
    job = ShardJob(out=out, config=config, seed=seed, source=source.path.name)
    manifest = new_manifest(tokenizer, config, seed)
    with contextlib.ExitStack() as opened:
        with turn(out, task):
            plan = open_plan(journal_folder(out), source, config.shard_samples)
            repaired = _only_failed_changed(out, source, plan.digest)
            if repaired and not retry_errors:
                raise UsageError(
                    f"{out}: files that could not be read have changed since; --retry-errors (without --num-tasks) "
                    "reads them again"
                )
            known = recorded_inputs(out)["data"] if repaired else plan.digest
            inputs = {"data": known, "tokenizer": tokenizer.loaded.digest}
            run = opened.enter_context(
                open_run(out, command="tokenize-images", config=decides, inputs=inputs, shared=not task.alone)
            )
            if repaired:  # before anything else changes: the rows that tell the sizes of before go with their shards
                run.record_input("data", plan.digest)
            directory = TokenDirectory(out=out, plan=plan)
            again = _readable_now(directory, job, quiet=quiet) if retry_errors else set[str]()
            if run.done and not again and is_whole(directory):
                close_directory(run)
                note(f"{out}: already finished", quiet=quiet)
                return _within_budget(run.done, out, config)
            reopen_directory(run, directory, without=again)
            held = opened.enter_context(start_task(out, task))
            plan = keep_plan(journal_folder(out), source, plan)
            directory = TokenDirectory(out=out, plan=plan)
        stop = opened.enter_context(stop_signals())
        with held:
            kept = finished_shards(directory, task.shards(directory.num_shards), check_digests=True)
            if replaced := replaced_images(directory, kept):
                names = f"{len(replaced)} shards (first: {shard_name(replaced[0])})"
                note(f"{out}: images of {names} were replaced since; these are made again", quiet=quiet)
                kept = {number: line for number, line in kept.items() if number not in replaced}
            todo = [number for number in task.shards(directory.num_shards) if number not in kept]
            meter, errors = Meter(), 0
            total = sum(plan.size(number) for number in todo)
            check_space(out, total, plan, tokenizer.config, config)
            with Progress("tokenize-images", total, unit="image", quiet=quiet) as progress:

                def advance(looked_at: int, unreadable: int) -> None:
                    nonlocal errors
                    errors += unreadable
                    meter.count(looked_at)
                    progress.advance(looked_at, errors=errors)

                done = len(kept)
                if engine == "ray":
                    from lavit_tokenizer.ray_engine import RayJob, make_shards_on_ray

                    ray_job = RayJob(
                        shards=job,
                        model=model,
                        data=source.path,
                        device=device,
                        image_px=tokenizer.config.preprocessing.image_px,
                        folder=os.getcwd(),
                    )
                    made = make_shards_on_ray(
                        ray_job, todo, plan.read, address=ray_address, stop=stop, advance=advance, quiet=quiet
                    )
                else:
                    made = make_shards(tokenizer, job, todo, plan.read, stop=stop, advance=advance)
                try:
                    for shard in made:
                        append_shard(task.journal(out), shard)
                        done += 1
                except Stopped:
                    raise stopped(out, done, len(kept) + len(todo)) from None
        with turn(out, task):
            if run.done:
                return _within_budget(run.done, out, config)
            lines = finished_shards(directory, range(directory.num_shards))
            if (left := _left(directory, task, lines)) is not None:
                return {"shards": len(kept) + len(todo), **left, "errors": errors, **meter.summary()}
            summary = finish_directory(run, manifest, lines, timing=meter.summary(), quiet=quiet)
        return _within_budget(summary, out, config)


def _left(directory: TokenDirectory, task: Task, lines: Mapping[int, JournalLine]) -> dict[str, Any] | None:
    """Return what other tasks have still to do, and say it; None if the directory can be finished.

    Raises InputError if shards of this task are gone.
    """
    missing = [number for number in range(directory.num_shards) if number not in lines]
    if gone := [number for number in missing if number in task.shards(directory.num_shards)]:
        raise InputError(
            f"{directory.out / shard_name(gone[0])}: gone or changed meanwhile; run the same command again"
        )
    running = [other.number for other in running_tasks(directory.out, task)]
    if not missing and not running:
        return None
    tasks = sorted({number % task.of for number in missing})
    idle = [number for number in tasks if number not in running]
    follow = "the last of those that are running finishes the directory"
    if idle:
        named = ", ".join(map(str, idle[:MOST_NAMED])) + (", ..." if idle[MOST_NAMED:] else "")
        follow = f"not running now: {named} (unless a scheduler will, start the same command with each as --task-id)"
    note(f"{directory.out}: {task} is done, {len(missing)} of {directory.num_shards} shards are missing; {follow}")
    return {"missing_shards": len(missing), "missing_tasks": tasks, "running_tasks": running}


def _only_failed_changed(out: Path, source: Source, digest: str) -> bool:
    """Return whether the data differs from that of before, and in nothing but files that could not be read."""
    before = recorded_inputs(out).get("data", digest)
    return before != digest and before == digest_before(source, failed_sizes(out))


def _readable_now(directory: TokenDirectory, job: ShardJob, *, quiet: bool) -> set[str]:
    """Return the shards of images that failed before and can be read now: they are made again."""
    again, total = set(), 0
    for number, failed in failed_images(directory):
        total += len(failed)
        # One pixel: only whether they can be read matters.
        if any(decode_batch([(record.key, record.image)], 1, **job.limits)[0] for record in failed):
            again.add(shard_name(number))
    note(f"{directory.out}: {total} images failed before; shards to make again: {len(again)}", quiet=quiet)
    return again


def _within_budget(summary: dict[str, Any], out: Path, config: TokenizeConfig) -> dict[str, Any]:
    seen = summary["images"] + summary["errors"] + summary.get("too_small", 0)
    if summary["errors"] > config.max_error_rate * seen:
        raise ErrorBudgetExceeded(
            f"{out}: finished, but {summary['errors']} of {seen} images could not be read "
            f"(--max-error-rate {config.max_error_rate}); {out / ERRORS_FILE} names each with its reason; "
            "--retry-errors reads them again"
        )
    return summary
