"""Your photographs as a set: python examples/foreign/photos.py FOLDER --out data/photos --seed 0

FOLDER holds photographs, in subfolders too, and a file of captions (default: FOLDER/captions.jsonl), one of

    captions.jsonl   {"file_name": "images/1.jpg", "captions": ["a dog", ...]}, or "caption": "a dog"; one object a line
    captions.tsv     images/1.jpg<TAB>a dog; a photograph may have several lines, and its name may end in #0, #1, ...

Names are relative to FOLDER. Photographs become PNG files of at most --longest pixels a side; small ones are not
enlarged. A hash of name and seed decides what is held out, so photographs that are added later move none.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from write_set import SPLITS, Example, generator, parser, whole, write_set

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def main() -> None:
    """Write the set; what can't be done ends in one line."""
    options = parser(__doc__)
    options.add_argument("folder", type=Path, help="folder of photographs")
    options.add_argument("--captions", type=Path, help="captions, .jsonl or .tsv (default: FOLDER/captions.jsonl)")
    options.add_argument("--longest", type=whole(16), default=256, help="longest side in pixels (default: 256)")
    options.add_argument("--share", type=share, default=0.1, help="share that is held out (default: 0.1)")
    args = options.parse_args()
    file = args.captions or args.folder / "captions.jsonl"
    if not args.folder.is_dir():
        raise SystemExit(f"error: {args.folder}: no such folder, expected one of photographs")
    if args.out.resolve().is_relative_to(args.folder.resolve()):
        raise SystemExit(f"error: --out {args.out}: inside {args.folder}, expected a folder outside it")
    captions = read_captions(file)
    for name in captions:
        if not (args.folder / name).is_file():
            raise SystemExit(f"error: {args.folder / name}: no such photograph, yet {file} names it")
    held = {split: [name for name in sorted(captions) if split_of(name, args) == split] for split in SPLITS}
    for split, names in held.items():
        if not names:
            raise SystemExit(f"error: {file}: none of {len(captions)} photographs is in {split}, expected more of them")
    settings = {"set": "photos", "seed": args.seed, "share": args.share, "longest": args.longest}
    write_set(args.out, settings, {split: read(args, held[split], captions) for split in SPLITS})
    found = [path for path in args.folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    if left := sum(path.relative_to(args.folder).as_posix() not in captions for path in found):
        print(f"{args.folder}: {left} photographs have no caption and were left out")


def share(text: str) -> float:
    """Return a number between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number between 0 and 1")
    return value


def split_of(name: str, args: argparse.Namespace) -> str:
    """Return the split of a photograph."""
    return "heldout" if generator("photos", args.seed, "split", name).random() < args.share else "train"


def read_captions(file: Path) -> dict[str, list[str]]:
    """Return the captions of each photograph by its name; end with one line that names what is wrong."""
    reader = {".jsonl": from_json, ".tsv": from_tsv}.get(file.suffix)
    if reader is None:
        raise SystemExit(f"error: {file}: found {file.suffix or 'no suffix'}, expected .jsonl or .tsv")
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"error: {file}: can't be read ({error}), expected captions; see --help") from None
    captions = dict[str, list[str]]()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            name, texts = reader(line.rstrip("\r"))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SystemExit(f"error: {file}:{number}: found {line[:60]!r}, expected a line as in --help") from None
        captions.setdefault(Path(name).as_posix(), []).extend(text.strip() for text in texts)
    if not captions:
        raise SystemExit(f"error: {file}: empty, expected captions; see --help")
    return captions


def from_json(line: str) -> tuple[str, list[str]]:
    """Return name and captions of a line of JSON."""
    row: dict[str, Any] = json.loads(line)
    texts = row["captions"] if "captions" in row else [row["caption"]]
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError
    return row["file_name"], texts


def from_tsv(line: str) -> tuple[str, list[str]]:
    """Return name and caption of a line of two columns."""
    name, text = line.split("\t")
    if not text.strip() or not name.strip():
        raise ValueError
    return re.sub(r"#\d+$", "", name.strip()), [text]


def read(args: argparse.Namespace, names: list[str], captions: dict[str, list[str]]) -> Iterator[Example]:
    """Yield the photographs of a split."""
    for name in names:
        try:
            with Image.open(args.folder / name) as opened:
                turned = ImageOps.exif_transpose(opened).convert("RGBA")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise SystemExit(f"error: {args.folder / name}: not a readable image ({error})") from None
        image = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned).convert("RGB")
        image.thumbnail((args.longest, args.longest), Image.Resampling.LANCZOS)
        yield Example(image=image, captions=tuple(captions[name]), source=name)


if __name__ == "__main__":
    main()
