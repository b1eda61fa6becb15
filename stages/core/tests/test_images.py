import collections
import io
import os

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_core.image_warnings import count_image_warnings
from lavit_core.images import (
    image_height_width,
    open_rgb,
    png_bytes,
    resize_to_square,
    resized_pixels,
    square_pixels,
)
from PIL import Image

from .image_bytes import png, saved


def halves(mode: str = "RGB") -> Image.Image:
    """Left half black, right half white, 8 x 4."""
    pixels = np.zeros((4, 8), dtype=np.uint8)
    pixels[:, 4:] = 255
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK"])
def test_every_mode_becomes_the_same_rgb(kind, mode):
    if mode == "CMYK" and kind != "JPEG":
        pytest.skip("CMYK is a JPEG matter")
    if mode in ("P", "1") and kind in ("JPEG", "WEBP", "AVIF"):
        pytest.skip("no palettes there")
    found = open_rgb(saved(halves(mode), kind))
    assert (found.mode, found.size) == ("RGB", (8, 4))
    pixels = np.asarray(found).astype(int)
    assert pixels[:, :2].max() < 40
    assert pixels[:, 6:].min() > 215


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header announces more than it holds."""
    return png((width, height), 8, 2, bytes(100))


@pytest.mark.parametrize("side", [9_500, 30_000, 2**31 - 1])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_by_their_header(side):
    with pytest.raises(InputError, match="pixels") as caught:
        open_rgb(bomb(side, side))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="100x100 pixels, more than the limit of 9999"):
        open_rgb(saved(Image.new("RGB", (100, 100)), "PNG"), max_pixels=9999)
    with pytest.raises(InputError, match="2x3 pixels, fewer than the limit of 7"):
        square_pixels(saved(Image.new("RGB", (2, 3)), "PNG"), 4, min_pixels=7)
    assert square_pixels(saved(Image.new("RGB", (2, 3)), "PNG"), 4, min_pixels=6, max_pixels=6).shape == (4, 4, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_truncated_files_are_refused(tmp_path, kind):
    random = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    content = saved(Image.fromarray(random), kind)
    for length in (0, 10, len(content) // 2):
        (tmp_path / "x.img").write_bytes(content[:length])
        with pytest.raises(InputError, match=r"x.img: not a readable image"):
            open_rgb(tmp_path / "x.img")


def test_other_content(tmp_path):
    (tmp_path / "x.jpg").write_text("no image at all")
    with pytest.raises(InputError, match=r"x.jpg: not a readable image, expected JPEG, PNG"):
        open_rgb(tmp_path / "x.jpg")
    with pytest.raises(InputError, match="file not found"):
        open_rgb(tmp_path / "absent.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path, tmp_path / "pipe.jpg"):
        with pytest.raises(InputError, match=r"not a readable image \(not a regular file\)"):
            open_rgb(path)
    (tmp_path / "x.png").write_bytes(saved(halves(), "PPM"))
    with pytest.raises(InputError, match="expected JPEG"):
        open_rgb(tmp_path / "x.png")


def test_fuzzed_images_open_or_are_refused():
    random = np.random.default_rng(0)
    refused = []
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"):
        whole = saved(halves(), kind)
        for _ in range(60):
            content = bytearray(whole)
            for position in random.integers(0, len(whole), 4):
                content[position] = random.integers(0, 256)
            try:
                with count_image_warnings(collections.Counter()):
                    assert open_rgb(bytes(content), max_pixels=10_000).mode == "RGB"
            except InputError as error:
                refused.append(str(error))
    assert refused
    assert not any("\n" in message for message in refused)


def test_square_pixels():
    content = saved(halves(), "PNG")
    pixels = square_pixels(content, 16)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (16, 16, 3))
    np.testing.assert_array_equal(pixels, np.asarray(halves().resize((16, 16), Image.Resampling.BICUBIC)))
    assert square_pixels(saved(Image.new("RGB", (5, 5), "red"), "PNG"), 5)[0, 0].tolist() == [255, 0, 0]


def test_height_and_width_are_those_of_the_upright_image():
    for value in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = value
        for kind in ("JPEG", "PNG", "TIFF"):
            buffer = io.BytesIO()
            Image.new("RGB", (6, 4)).save(buffer, kind, exif=exif)
            upright = open_rgb(buffer.getvalue())
            assert image_height_width(buffer.getvalue()) == (upright.height, upright.width)
            assert upright.size == ((4, 6) if value >= 5 else (6, 4))


def test_resized_pixels_are_those_of_the_whole_image():
    pixels = resized_pixels(saved(halves(), "PNG"), (10, 16))
    np.testing.assert_array_equal(pixels, np.asarray(halves().resize((16, 10), Image.Resampling.BICUBIC)))


def test_png_carries_pixels_and_text():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    for optimize in (False, True):
        with Image.open(io.BytesIO(png_bytes(pixels, {"prompt": "a dog", "ort": "Köln"}, optimize=optimize))) as image:
            assert image.info == {"prompt": "a dog", "ort": "Köln"}
            np.testing.assert_array_equal(np.asarray(image), pixels)
    assert png_bytes(pixels) == png_bytes(pixels, {})


def test_pixels_can_be_written_to():
    """torch warns of arrays that can't be, and PIL's own are of that kind."""
    assert resize_to_square(Image.new("RGB", (8, 8)), 8).flags.writeable
    assert resize_to_square(Image.new("RGB", (8, 6)), 8).flags.writeable
