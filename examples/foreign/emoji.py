"""Colour emoji on light ground with their Unicode names, 96 px: python examples/foreign/emoji.py --out data/emoji

Draws every emoji of one character that the font holds and Python's Unicode tables name. Which emoji are held out is
decided by the seed and the character, so no held-out emoji is trained on.
"""

import hashlib
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from write_set import SPLITS, Example, generator, parser, whole, write_set

SIDE = 96
STRIKE = 109
"""The one size, in pixels, that the font's bitmaps have."""
HELD_OUT = 0.2
"""Share of the emoji that are held out."""

USUAL_PLACES = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto-emoji/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
    "/usr/local/share/fonts/NotoColorEmoji.ttf",
    "~/.local/share/fonts/NotoColorEmoji.ttf",
    "~/.fonts/NotoColorEmoji.ttf",
)
INSTALL = "the font of Debian's package fonts-noto-color-emoji (apt install fonts-noto-color-emoji), or --font FILE"
BLOCKS = ((0x203C, 0x3300), (0x1F000, 0x1FB00))
"""Where Unicode has emoji; the digits, which the font holds as parts of keycaps, are left out."""
PARTS = ("regional indicator", "emoji modifier", "emoji component", "combining")
"""Beginnings of the names of characters that are parts of other emoji."""


def main() -> None:
    """Write the set; what can't be done ends in one line."""
    options = parser(__doc__)
    options.add_argument("--font", type=Path, help="colour-emoji font with bitmaps (default: NotoColorEmoji.ttf)")
    options.add_argument("--copies", type=whole(1), default=3, help="drawings of a training emoji (default: 3)")
    options.add_argument("--most", type=whole(2), help="draw this many of the font's emoji (default: all)")
    args = options.parse_args()
    file = find_font(args.font)
    font = open_font(file)
    found = [char for char in named_characters() if is_coloured(font, char)]
    # In an order of no meaning, so that a part of the set is like the whole.
    chosen = sorted(found, key=lambda char: generator("emoji", args.seed, "order", char).random())[: args.most]
    if not chosen:
        raise SystemExit(f"error: {file}: no colour emoji in it, expected {INSTALL}")
    splits = {split: [char for char in chosen if split_of(char, args.seed) == split] for split in SPLITS}
    if not all(splits.values()):
        raise SystemExit(f"error: --most {args.most}: too few to hold out {HELD_OUT:.0%} of them, expected more")
    settings = {"set": "emoji", "seed": args.seed, "copies": args.copies, "most": args.most}
    settings |= {"font": hashlib.sha256(file.read_bytes()).hexdigest(), "unicode": unicodedata.unidata_version}
    copies = {"train": args.copies, "heldout": 1}
    write_set(args.out, settings, {split: drawn(font, splits[split], args.seed, copies[split]) for split in SPLITS})


def find_font(given: Path | None) -> Path:
    """Return the font's file; end with one line if it is not there."""
    if given is not None:
        if not given.is_file():
            raise SystemExit(f"error: --font {given}: no such file, expected {INSTALL}")
        return given
    for place in map(Path, USUAL_PLACES):
        if (file := place.expanduser()).is_file():
            return file
    raise SystemExit(f"error: NotoColorEmoji.ttf: in none of the usual places, expected {INSTALL}")


def open_font(file: Path) -> ImageFont.FreeTypeFont:
    """Return the font; end with one line if it has no bitmaps of the size."""
    try:
        return ImageFont.truetype(str(file), STRIKE)
    except OSError as error:
        raise SystemExit(f"error: {file}: can't be used ({error}), expected {INSTALL}") from None


def named_characters() -> Iterator[str]:
    """Yield the characters that may be an emoji and have a name."""
    for char in (chr(code) for first, end in BLOCKS for code in range(first, end)):
        name = unicodedata.name(char, "").lower()
        if name and not name.startswith(PARTS):
            yield char


def is_coloured(font: ImageFont.FreeTypeFont, char: str) -> bool:
    """Return whether the font holds a colour bitmap of a character; what it lacks is drawn blank or in black."""
    box = font.getbbox(char)
    if box[2] - box[0] < 8 or box[3] - box[1] < 8:
        return False
    glyph = np.asarray(glyph_of(font, char))
    return bool(glyph[..., 3].max() == 255 and glyph[..., :3][glyph[..., 3] > 200].max() > 40)


def glyph_of(font: ImageFont.FreeTypeFont, char: str) -> Image.Image:
    """Return a glyph as RGBA, cut to what is seen of it."""
    canvas = Image.new("RGBA", (2 * STRIKE, 2 * STRIKE))
    ImageDraw.Draw(canvas).text((20, 20), char, font=font, fill="black", embedded_color=True)
    return canvas.crop(canvas.getchannel("A").getbbox())


def split_of(char: str, seed: int) -> str:
    """Return the split of a character."""
    return "heldout" if generator("emoji", seed, "split", char).random() < HELD_OUT else "train"


def drawn(font: ImageFont.FreeTypeFont, chars: list[str], seed: int, copies: int) -> Iterator[Example]:
    """Yield the examples of a split."""
    for char in chars:
        glyph = glyph_of(font, char)
        for copy in range(copies):
            yield draw(glyph, unicodedata.name(char).lower(), generator("emoji", seed, "drawing", char, copy))


def draw(glyph: Image.Image, name: str, rng: np.random.Generator) -> Example:
    """Draw one example: the glyph in a free size at a free place on ground of a free light colour."""
    scale = rng.uniform(0.55, 0.92) * SIDE / max(glyph.size)
    width, height = (max(1, round(side * scale)) for side in glyph.size)
    left, top = (int(rng.integers(0, SIDE - side + 1)) for side in (width, height))
    full = Image.new("RGBA", (SIDE, SIDE))
    full.paste(glyph.resize((width, height), Image.Resampling.LANCZOS), (left, top))
    mask = full.getchannel("A")
    ground = tuple(int(value) for value in rng.integers(228, 256) - rng.integers(0, 14, 3))
    image = Image.composite(full.convert("RGB"), Image.new("RGB", (SIDE, SIDE), ground), mask)
    return Example(image=image, captions=(name,), mask=mask)


if __name__ == "__main__":
    main()
