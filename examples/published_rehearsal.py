"""The published model's sizes without its weights: random ones in the released layout, through import and tokenising.

    python examples/published_rehearsal.py --images PHOTOS --out /tmp/rehearsal            (ViT-g, 16,384 codes: 3.7 GB)
    python examples/published_rehearsal.py --images PHOTOS --out /tmp/mini --miniature     (seconds)

It says what a download would cost on this machine: seconds and peak memory of each command, before anything is
downloaded. The codes mean nothing. Needs lavit with its stages; writes checkpoint/, model/ and tokens/ below --out.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FILES = {
    "encoder": "visual_tokenizer/eva_vitg_psz14.bin",
    "tokenizer": "visual_tokenizer/tokenizer_encoder.bin",
    "decoder": "visual_tokenizer/tokenizer_decoder.bin",
    "highres": "visual_tokenizer/highres_tokenizer_decoder.bin",
    "visual": "language_model/visual_weight.bin",
}
PUBLISHED = {"width": 1408, "encoder_layers": 40, "layers": 12, "heads": 16, "mlp": 6144, "side": 16, "codes": 16384}
MINIATURE = {"width": 64, "encoder_layers": 2, "layers": 2, "heads": 4, "mlp": 128, "side": 4, "codes": 256}
LLM_WIDTH, LOW_WIDTH, HIGH_WIDTHS = 4096, 768, (768, 1280)
"""Widths outside the visual part; the same in the miniature."""


def main() -> None:
    """Write the checkpoint, then run the commands on it."""
    options = parse()
    sizes = {name: getattr(options, name) for name in PUBLISHED}
    checkpoint, model, tokens = (options.out / name for name in ("checkpoint", "model", "tokens"))
    for part in options.parts:
        write_apart(checkpoint / FILES[part], part, sizes, options.dtype)
    heads = ["--encoder-heads", str(options.heads), "--heads", str(options.heads)]
    run("import-checkpoint", checkpoint, "--out", model, *heads, "--quiet")
    if not {"encoder", "tokenizer"} <= set(options.parts):
        return
    data = some_images(options.images, options.out / "images", options.count)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{len(list(data.iterdir()))} pictures, {options.precision}, {options.softmax} softmax, threads: {threads}")
    if options.softmax == "exact":
        model = options.out / "model-exact"
        run("import-checkpoint", checkpoint, "--out", model, *heads, "--softmax", "exact", "--quiet")
    settings = ["--set", f"precision={options.precision}", "--set", f"batch_size={options.batch_size}"]
    run("tokenize-images", data, "--model", model, "--out", tokens, "--workers", "0", *settings)
    run("tokens", "verify", tokens)


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder of real photos")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--count", type=int, default=8, help="pictures to tokenise")
    parser.add_argument("--parts", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="as stored")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="as computed")
    parser.add_argument("--softmax", choices=("released", "exact"), default="released")
    parser.add_argument("--batch-size", type=int, default=4)
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


def write_apart(file: Path, part: str, sizes: dict[str, int], dtype: str) -> None:
    """Write one file in a process of its own: what this one holds would count as the commands' memory too."""
    began = time.monotonic()
    child = multiprocessing.get_context("spawn").Process(target=write_file, args=(file, part, sizes, dtype))
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(child.exitcode)
    say(f"wrote {file.name}", time.monotonic() - began, f"{file.stat().st_size / 1e9:.2f} GB")


def shapes_of_part(part: str, sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of one released file."""
    from lavit_tokenizer.config import TokenizerConfig
    from lavit_tokenizer.released import decoder_shapes, merger_shapes, tokenizer_shapes
    from lavit_tokenizer.released_encoder import EncoderShape, released_shapes

    side, width = sizes["side"], sizes["width"]
    encoder = EncoderShape(
        width=width, layers=sizes["encoder_layers"], heads=sizes["heads"], mlp_dim=sizes["mlp"], patch_px=14, side=side,
        head_dim=1024,
    )  # fmt: skip
    config = TokenizerConfig(
        preprocessing=encoder.preprocessing, grid=(side, side), feature_dim=width, merger_layers=sizes["layers"],
        heads=sizes["heads"], mlp_dim=sizes["mlp"], codebook_size=sizes["codes"], decoder_layers=sizes["layers"],
    )  # fmt: skip
    if part == "encoder":
        return released_shapes(encoder)
    if part == "tokenizer":
        return tokenizer_shapes(config)
    if part == "visual":
        merger = {f"causal_encoder.{name}": shape for name, shape in merger_shapes(config).items()}
        return merger | linear("vit_proj", LLM_WIDTH, width)
    if part == "decoder":
        return decoder_shapes(config) | linear("unet_proj", LOW_WIDTH, width)
    shapes = decoder_shapes(config) | {"unet_attnpool.positional_embedding": (side * side + 1, width)}
    for number, out in enumerate(HIGH_WIDTHS, 1):
        shapes |= linear(f"unet_proj_{number}", out, width)
    for name in ("q_proj", "k_proj", "v_proj"):
        shapes |= linear(f"unet_attnpool.{name}", width, width)
    return shapes | linear("unet_attnpool.c_proj", HIGH_WIDTHS[1], width)


def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    """Return weight and bias of a linear layer."""
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def write_file(file: Path, part: str, sizes: dict[str, int], dtype: str) -> None:
    """Write seeded random weights that keep activations near 1."""
    import torch

    shapes = shapes_of_part(part, sizes)
    stream = torch.Generator().manual_seed(len(shapes))
    tensors = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=stream)
        if len(shape) == 1:
            value = 1 + 0.1 * value if name.endswith("weight") else 0.1 * value
        elif name.endswith("embedding.weight") or "embed" in name:
            value *= 0.3
        else:
            value /= value[0].numel() ** 0.5
        tensors[name] = value.to(getattr(torch, dtype))
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, file)


def some_images(source: Path, target: Path, count: int) -> Path:
    """Copy the first pictures of a folder into a folder of their own."""
    found = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES)[:count]
    if not found:
        raise SystemExit(f"error: {source}: no pictures in it, expected {', '.join(SUFFIXES)}")
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
    say(f"lavit {arguments[0]}", time.monotonic() - began, f"peak {used.ru_maxrss * 1024 / 1e9:.2f} GB")
    if status:
        raise SystemExit(os.waitstatus_to_exitcode(status))


def say(what: str, seconds: float, more: str) -> None:
    """Print one line of the ledger."""
    print(f"{what}: {seconds:.1f} s, {more}", flush=True)


if __name__ == "__main__":
    main()
