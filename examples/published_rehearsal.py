"""The published model's sizes without its weights: random ones in the released layout, through import and every use.

    python examples/published_rehearsal.py --images PHOTOS --out /tmp/mini --miniature           (seconds)
    python examples/published_rehearsal.py --images PHOTOS --out /tmp/tokenizer --parts encoder tokenizer
    python examples/published_rehearsal.py --images PHOTOS --out /tmp/all                        (26 GB, twice on disk)

It says what a download would cost on this machine, before anything is downloaded: seconds, CPU seconds and peak memory
of each command, which has a process of its own. Codes, words and images mean nothing. The checkpoint is deleted once
it is imported (--keep keeps it). Needs lavit with its stages; writes model/, tokens/ and images below --out. The
numbers of one machine: docs/benchmarks.md.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from pathlib import Path

from published_checkpoint import FILES, FOLDERS, MINIATURE, PUBLISHED, write_part

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
PROMPT = "a red boat"
DRAWERS = {"sd15": "decoder", "sdxl": "highres"}
"""Folder of a UNet -> the file with its projections."""


def main() -> None:
    """Write the checkpoint, then run the commands on it."""
    options = parse()
    sizes = {name: getattr(options, name) for name in PUBLISHED}
    checkpoint, model = options.out / "checkpoint", options.out / "model"
    # In a process of its own: what this one holds would count as the commands' memory too.
    apart = multiprocessing.get_context("spawn").Process(
        target=write, args=(checkpoint, options.parts, sizes, options.dtype)
    )
    apart.start()
    apart.join()
    if apart.exitcode:
        raise SystemExit(apart.exitcode)
    heads = ["--encoder-heads", str(options.heads), "--heads", str(options.heads)]
    run("import-checkpoint", checkpoint, "--out", model, *heads, "--attention", options.attention, "--quiet")
    if not options.keep:
        shutil.rmtree(checkpoint)
    if {"encoder", "tokenizer"} <= set(options.parts):
        data = some_images(options.images, options.out / "images", options.count)
        use(options, model, sorted(data.iterdir()))


def use(options: argparse.Namespace, model: Path, photos: list[Path]) -> None:
    """Run what the parts at hand are enough for: tokenising, reading, drawing."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{len(photos)} images, {options.precision}, {options.attention} attention, threads: {threads}", flush=True)
    parts, tokens = set(options.parts), options.out / "tokens"
    settings = ["--set", f"precision={options.precision}", "--set", f"batch_size={options.batch_size}"]
    # Random weights would keep any share of the patches; a third is what trained ones do.
    policy = ["--selection", "topk", "--workers", "0"]
    run("tokenize-images", photos[0].parent, "--model", model, "--out", tokens, *policy, *settings)
    run("tokens", "verify", tokens)
    preset = ["--preset", "tiny" if options.miniature else "published"]
    steps = ["--num-steps", str(options.num_steps)]
    if {"llm", "visual"} <= parts:
        run("caption", photos[0], "--model", model, "--max-tokens", str(options.max_tokens))
    for drawer, decoder in DRAWERS.items():
        if {drawer, decoder} <= parts:
            more = [*preset, *steps, *(["--highres"] if drawer == "sdxl" else [])]
            if {"llm", "visual"} <= parts:
                run("generate", PROMPT, "--model", model, "--out", options.out / f"generated-{drawer}.png", *more)
            else:
                run("reconstruct", photos[0], "--model", model, "--out", options.out / f"back-{drawer}.png", *more)


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder of real photos")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--count", type=int, default=8, help="images to tokenise")
    parser.add_argument("--parts", nargs="+", choices=[*FILES, *FOLDERS], default=[*FILES, *FOLDERS])
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="as stored")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of tokenising")
    parser.add_argument("--attention", choices=("dense", "packed"), default="dense")
    parser.add_argument("--batch-size", type=int, default=4, help="of tokenising")
    parser.add_argument("--max-tokens", type=int, default=8, help="of the caption")
    parser.add_argument("--num-steps", type=int, default=2, help="of the diffusion sampler")
    parser.add_argument("--keep", action="store_true", help="keep the checkpoint after the import")
    parser.add_argument("--miniature", action="store_true", help="small sizes; single ones can be given too")
    for name in PUBLISHED:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"published: {PUBLISHED[name]}")
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"--out {options.out}: is there already, expected a new folder")
    defaults = MINIATURE if options.miniature else PUBLISHED
    for name in PUBLISHED:
        if getattr(options, name) is None:
            setattr(options, name, defaults[name])
    return options


def write(checkpoint: Path, parts: list[str], sizes: dict[str, int], dtype: str) -> None:
    """Write one part after another."""
    for part in parts:
        began, before = time.monotonic(), bytes_in(checkpoint)
        write_part(checkpoint, part, sizes, dtype)
        say(f"wrote {part}", time.monotonic() - began, f"{(bytes_in(checkpoint) - before) / 1e9:.2f} GB")


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def some_images(source: Path, target: Path, count: int) -> Path:
    """Copy the first images of a folder into a folder of their own."""
    found = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES)[:count]
    if not found:
        raise SystemExit(f"error: {source}: no images in it, expected {', '.join(SUFFIXES)}")
    target.mkdir(parents=True)
    for number, file in enumerate(found):
        shutil.copyfile(file, target / f"{number:04d}{file.suffix.lower()}")
    return target


def run(*arguments: str | Path) -> None:
    """Run a lavit command in a process of its own and say what it took; a failure ends the rehearsal."""
    command = [sys.executable, "-m", "lavit_cli", *map(str, arguments)]
    began = time.monotonic()
    child = os.posix_spawn(sys.executable, command, os.environ)
    _, status, used = os.wait4(child, 0)
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9
    say(f"lavit {arguments[0]}", time.monotonic() - began, f"{cpu:.1f} CPU-s, peak {peak:.2f} GB")
    if status:
        raise SystemExit(os.waitstatus_to_exitcode(status))


def say(what: str, seconds: float, more: str) -> None:
    """Print one line of the ledger."""
    print(f"{what}: {seconds:.1f} s, {more}", flush=True)


if __name__ == "__main__":
    main()
