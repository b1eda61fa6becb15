"""`lavit tokenize-images`: images to a token directory, the same bytes whatever the workers and interruptions."""

import collections
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lavit_core.data import Record, Source, check_out_outside, open_data, source_of
from lavit_core.errors import ErrorBudgetExceeded
from lavit_core.files import file_sha256
from lavit_core.image_batch import TOO_SMALL, decode_batch
from lavit_core.image_warnings import warning_lines
from lavit_core.interrupt import stop_signals
from lavit_core.json_lines import read_json_lines, write_json_lines
from lavit_core.progress import Progress, note
from lavit_core.rundir import open_run
from lavit_core.seeds import epoch_batches
from lavit_core.tokens import Manifest, ShardEntry, TokenSample, read_manifest, write_manifest, write_shard
from lavit_trainkit.stopping import stopped
from lavit_trainkit.throughput import Meter

from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.decoded_batches import decoded_batches
from lavit_tokenizer.selector import topk_tokens
from lavit_tokenizer.tokenizer import VisualTokenizer
from lavit_tokenizer.tokenizer_folder import load_tokenizer

ERRORS_FILE = "errors.jsonl"

MOST_WARNINGS = 5
"""Kinds of warnings about images that are shown at the end."""

LIMITS = ("min_pixels", "max_pixels")

NEWER = (*LIMITS, "tokens")
"""Settings that directories of before do not record."""


def tokenize_images(
    data: Path | Source,
    model: Path,
    out: Path,
    config: TokenizeConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    retry_errors: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write the images of `data` as codes to the token directory `out`, return the summary; finished shards are kept,
    and missing ones of a finished directory made again; with `retry_errors` also those of images that failed before
    and can be read now.

    Raises InputError for unusable input, ErrorBudgetExceeded after finishing when too many images were unreadable,
    Interrupted when stopped by a signal.
    """
    check_out_outside(out, data)
    opened = open_data(data)
    tokenizer = load_tokenizer(model, device=device, precision=config.precision, use="encode")
    topk_tokens(tokenizer.config, config.tokens)  # refused before the run directory is bound to it
    # How the work is done (workers, where the run gives up) does not decide what is written.
    undecided = {"workers", "max_error_rate"}
    # Settings nobody set are not recorded, so that directories from before there were any go on.
    undecided |= {name for name in NEWER if getattr(config, name) == TokenizeConfig.model_fields[name].default}
    decides = config.model_dump(mode="json", exclude=undecided)
    inputs = {"data": opened.digest, "tokenizer": tokenizer.loaded.digest}
    shards = list(epoch_batches(len(opened.records), config.shard_samples))
    with (
        open_run(out, command="tokenize-images", config={**decides, "seed": seed}, inputs=inputs) as run,
        stop_signals() as stop,
    ):
        if retry_errors:
            _forget_readable(out, opened.records, shards, config, quiet=quiet)
        if run.done:
            # By size alone: a finished directory answers at once, `lavit tokens verify` reads every byte.
            known = read_manifest(out).shards if (out / "manifest.json").exists() else None
            if known is not None and len(known) == len(shards) and all(_has_size(out, entry) for entry in known):
                note(f"{out}: already finished", quiet=quiet)
                return _within_budget(run.done, out, config)
            run.reopen()
        manifest, errors = _resume(out, tokenizer, config, seed)
        finished = {entry.file: entry for entry in manifest.shards if _whole(out, entry)}
        todo = [number for number in range(len(shards)) if shard_name(number) not in finished]
        kept_errors = _errors_of(errors, opened.records, [shards[n] for n in range(len(shards)) if n not in set(todo)])
        meter, image_px = Meter(), tokenizer.config.preprocessing.image_px
        warned: collections.Counter[str] = collections.Counter()
        limits = {name: getattr(config, name) for name in LIMITS}
        total = sum(shards[n].stop - shards[n].start for n in todo)
        every = _batches(opened.records, [shards[n] for n in todo], config.batch_size)
        decoded = decoded_batches(every, image_px, limits, workers=config.workers, stop=stop)
        with (
            Progress("tokenize-images", total, unit="image", quiet=quiet) as progress,
            contextlib.closing(decoded),
        ):
            for number in todo:
                samples: list[TokenSample] = []
                for records in _batches(opened.records, [shards[number]], config.batch_size):
                    # A shard that is begun is not waited for: a scheduler gives half a minute, and it is made again.
                    if stop() or (batch := next(decoded, None)) is None:
                        raise stopped(out, len(finished), len(shards))
                    good, pixels, unreadable, kinds = batch
                    warned.update(kinds)
                    samples += _tokenized(
                        tokenizer, [records[place] for place in good], torch.from_numpy(pixels), config, seed
                    )
                    kept_errors += unreadable
                    meter.count(len(good) + len(unreadable))
                    progress.advance(len(good) + len(unreadable), errors=len(kept_errors))
                entry = write_shard(
                    out, shard_name(number), samples, codebook_size=manifest.codebook_size, grid=manifest.grid,
                    source=source_of(data).path.name,
                )  # fmt: skip
                finished[entry.file] = entry
                # Errors first: a kill in between leaves rows of a shard that will be done, and listed, again.
                kept_errors.sort(key=lambda row: row["key"])
                write_json_lines(out / ERRORS_FILE, kept_errors)
                manifest = manifest.model_copy(update={"shards": tuple(finished[name] for name in sorted(finished))})
                write_manifest(out, manifest)
        codes = sum(entry.codes for entry in manifest.shards)
        samples_written = sum(entry.samples for entry in manifest.shards)
        summary = {
            "images": samples_written,
            "codes": codes,
            "codes_per_image": codes / max(1, samples_written),
            "errors": len(kept_errors) - (too_small := sum(row.get("kind") == TOO_SMALL for row in kept_errors)),
            "too_small": too_small,
            "image_warnings": warned.total(),
            "shards": len(manifest.shards),
            **meter.summary(),
        }
        for line in warning_lines(warned)[:MOST_WARNINGS]:
            note(f"images with a warning, {line}", quiet=quiet)
        run.finish(summary)
        with contextlib.suppress(OSError):
            run.checkpoints.rmdir()
        return _within_budget(summary, out, config)


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:06d}.safetensors"


def _batches(records: Sequence[Record], shards: Sequence[slice], batch_size: int) -> list[Sequence[Record]]:
    """Return the records of each batch of the given shards: where it begins and ends never depends on who decodes."""
    return [
        records[shard.start + part.start : shard.start + part.stop]
        for shard in shards
        for part in epoch_batches(shard.stop - shard.start, batch_size)
    ]


def _tokenized(
    tokenizer: VisualTokenizer, records: Sequence[Record], pixels: torch.Tensor, config: TokenizeConfig, seed: int
) -> Iterator[TokenSample]:
    if not records:
        return
    keys = [record.key for record in records]
    # Not the number of a language model beside it: the manifest records what the settings say.
    tokens = topk_tokens(tokenizer.config, config.tokens) if config.selection == "topk" else None
    encoded = tokenizer.encode(pixels, selection=config.selection, tokens=tokens, seed=seed, keys=keys)
    ends = encoded.counts.cumsum(0).tolist()
    codes, masks = encoded.codes.cpu().numpy(), encoded.keep_mask.cpu().numpy()
    merged = encoded.merged.cpu().numpy() if config.features else None
    for row, (record, start, end) in enumerate(zip(records, [0, *ends[:-1]], ends, strict=True)):
        features = None if merged is None else merged[start:end]
        yield TokenSample(
            key=record.key, codes=codes[start:end], keep_mask=masks[row], texts=record.captions, features=features
        )


def _resume(
    out: Path, tokenizer: VisualTokenizer, config: TokenizeConfig, seed: int
) -> tuple[Manifest, list[dict[str, str]]]:
    """Return the manifest so far (without shards on the first run) and the recorded errors."""
    shape = tokenizer.config
    selection: dict[str, Any] = {"policy": config.selection}
    if config.selection == "sample":
        selection["seed"] = seed
    if config.selection == "topk":
        selection["tokens"] = topk_tokens(shape, config.tokens)
    if config.selection == "threshold":
        selection["keep_threshold"] = shape.keep_threshold
    fresh = Manifest(
        tokenizer_digest=tokenizer.loaded.digest,
        codebook_size=shape.codebook_size,
        grid=shape.grid,
        preprocessing=shape.preprocessing.model_dump(mode="json"),
        selection=selection,
        feature_dim=shape.feature_dim if config.features else None,
        shards=(),
    )
    if not (out / "manifest.json").exists():
        return fresh, []
    return fresh.model_copy(update={"shards": read_manifest(out).shards}), read_json_lines(out / ERRORS_FILE)


def _has_size(out: Path, entry: ShardEntry) -> bool:
    file = out / entry.file
    return file.is_file() and file.stat().st_size == entry.bytes


def _whole(out: Path, entry: ShardEntry) -> bool:
    return _has_size(out, entry) and file_sha256(out / entry.file) == entry.sha256


def _errors_of(
    errors: Sequence[dict[str, str]], records: Sequence[Record], shards: Sequence[slice]
) -> list[dict[str, str]]:
    """Return the recorded errors that belong to finished shards."""
    keys = {records[index].key for shard in shards for index in range(shard.start, shard.stop)}
    return [row for row in errors if row["key"] in keys]


def _forget_readable(
    out: Path, records: Sequence[Record], shards: Sequence[slice], config: TokenizeConfig, *, quiet: bool
) -> None:
    """Take the shards of images that failed before and can be read now out of the manifest: they are made again."""
    if not (out / "manifest.json").exists():
        return
    failed = {row["key"] for row in read_json_lines(out / ERRORS_FILE)}
    limits = {name: getattr(config, name) for name in LIMITS}
    again = set()
    for number, shard in enumerate(shards):
        images = [(record.key, record.image) for record in records[shard] if record.key in failed]
        # One pixel: only whether they can be read matters.
        if any(decode_batch([image], 1, **limits)[0] for image in images):
            again.add(shard_name(number))
    manifest = read_manifest(out)
    if again:
        kept = tuple(entry for entry in manifest.shards if entry.file not in again)
        write_manifest(out, manifest.model_copy(update={"shards": kept}))
    note(f"{out}: {len(failed)} images failed before; shards to make again: {len(again)}", quiet=quiet)


def _within_budget(summary: dict[str, Any], out: Path, config: TokenizeConfig) -> dict[str, Any]:
    seen = summary["images"] + summary["errors"] + summary.get("too_small", 0)
    if summary["errors"] > config.max_error_rate * seen:
        raise ErrorBudgetExceeded(
            f"{out}: finished, but {summary['errors']} of {seen} images could not be read "
            f"(--max-error-rate {config.max_error_rate}); {out / ERRORS_FILE} names each with its reason; "
            "--retry-errors reads them again"
        )
    return summary
