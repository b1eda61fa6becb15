"""Golden pixels of every mode: files made by Pillow or byte by byte, their RGB by hand."""

import io
import struct
import zlib

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_core.image_conversion import to_rgb
from lavit_core.images import open_rgb
from PIL import Image

from .image_bytes import png, png_chunk, saved, tiff, tiff_data

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
WHITE = [255, 255, 255]


def pixels(content: bytes) -> list:
    """The first row."""
    return np.asarray(open_rgb(content))[0].tolist()


def shorts(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def test_grey_of_every_depth():
    assert pixels(png((4, 1), 1, GREY, b"\0\x50")) == [[0] * 3, WHITE, [0] * 3, WHITE]
    assert pixels(png((4, 1), 2, GREY, b"\0\x1b")) == [[0] * 3, [85] * 3, [170] * 3, WHITE]
    assert pixels(png((2, 1), 4, GREY, b"\0\x1f")) == [[17] * 3, WHITE]
    assert pixels(png((2, 1), 8, GREY, b"\0\x01\xfe")) == [[1] * 3, [254] * 3]
    sixteen = png((5, 1), 16, GREY, b"\0" + shorts(0, 128, 129, 0x8000, 0xFFFF))
    assert pixels(sixteen) == [[0] * 3, [0] * 3, [1] * 3, [128] * 3, WHITE]


def test_colour_of_sixteen_bits_keeps_the_upper_byte():
    content = png((2, 1), 16, RGB, b"\0" + shorts(0x00FF, 0x1234, 0xFFFF, 0, 0x80FF, 0x0100))
    assert pixels(content) == [[0, 0x12, 255], [0, 0x80, 1]]
    clear = png((2, 1), 16, RGB_ALPHA, b"\0" + shorts(0, 0, 0, 0, 0x1234, 0, 0, 0xFFFF))
    assert pixels(clear) == [WHITE, [0x12, 0, 0]]


def test_alpha_is_laid_on_white():
    assert pixels(png((2, 1), 8, RGB_ALPHA, b"\0" + bytes([255, 0, 0, 0, 0, 0, 0, 128]))) == [WHITE, [127] * 3]
    assert pixels(png((2, 1), 8, GREY_ALPHA, b"\0" + bytes([9, 0, 9, 255]))) == [WHITE, [9] * 3]
    assert pixels(png((2, 1), 16, GREY_ALPHA, b"\0" + shorts(0x0900, 0, 0x0900, 0xFFFF))) == [WHITE, [9] * 3]


def test_palettes():
    colours = png_chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
    assert pixels(png((2, 1), 8, PALETTE, b"\0\0\1", before=colours)) == [[255, 0, 0], [0, 0, 255]]
    assert pixels(png((2, 1), 1, PALETTE, b"\0\x40", before=colours)) == [[255, 0, 0], [0, 0, 255]]
    half = colours + png_chunk(b"tRNS", b"\x80")
    assert pixels(png((2, 1), 8, PALETTE, b"\0\0\1", before=half)) == [[255, 127, 127], [0, 0, 255]]


@pytest.mark.parametrize(
    ("depth", "row", "clear", "expected"),
    [
        (1, b"\x40", 1, [[0] * 3, WHITE]),
        (1, b"\x40", 0, [WHITE, WHITE]),
        (2, b"\x60", 1, [WHITE, [170] * 3]),
        (4, b"\x12", 1, [WHITE, [34] * 3]),
        (8, b"\x01\x02", 1, [WHITE, [2] * 3]),
        (16, shorts(0x1234, 0x1235), 0x1234, [WHITE, [18] * 3]),
    ],
)
def test_one_transparent_grey(depth, row, clear, expected):
    """16-bit grey is compared on 16 bits; greys of 2 and 4 bits on their own scale."""
    assert pixels(png((2, 1), depth, GREY, b"\0" + row, before=png_chunk(b"tRNS", shorts(clear)))) == expected


def test_one_transparent_colour():
    eight = png((2, 1), 8, RGB, b"\0" + bytes([1, 2, 3, 1, 2, 4]), before=png_chunk(b"tRNS", shorts(1, 2, 3)))
    assert pixels(eight) == [WHITE, [1, 2, 4]]
    for clear in ((0x0100, 0x0200, 0x0300), (0, 0, 0x80)):
        row = shorts(*clear, 0x0900, 0, 0)
        assert pixels(png((2, 1), 16, RGB, b"\0" + row, before=png_chunk(b"tRNS", shorts(*clear)))) == [
            WHITE,
            [9, 0, 0],
        ]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind):
    options = {"quality": 100} if kind == "JPEG" else {}
    content = saved(Image.new("CMYK", (16, 16), (255, 0, 100, 51)), kind, **options)
    # (255 - C) * (255 - K) / 255
    assert np.abs(np.array(pixels(content)[5]) - [0, 204, 124]).max() <= 2


def test_cmyk_jpeg_without_adobes_marker_is_read_as_inverted_too():
    content = saved(Image.new("CMYK", (16, 16), (255, 0, 100, 51)), "JPEG", quality=100)
    start = content.index(b"Adobe") - 4
    without = content[:start] + content[start + 16 :]
    assert b"Adobe" not in without
    assert np.abs(np.array(pixels(without)[5]) - [0, 204, 124]).max() <= 2


def test_ycck_jpeg():
    luma, blue, red, black = 140, 100, 180, 200
    stored = Image.new("CMYK", (16, 16), (255 - luma, 255 - blue, 255 - red, 255 - black))
    content = bytearray(saved(stored, "JPEG", quality=100, subsampling=0))
    transform = content.index(b"Adobe") + 11
    assert content[transform] == 0
    content[transform] = 2  # the four channels are Y, Cb, Cr, K
    cyan = [luma + 1.402 * (red - 128), luma - 0.344 * (blue - 128) - 0.714 * (red - 128), luma + 1.772 * (blue - 128)]
    expected = [(255 - ink) * black / 255 for ink in cyan]
    assert np.abs(np.array(pixels(bytes(content))[5]) - expected).max() <= 2


def letter(size: tuple[int, int] = (8, 4)) -> np.ndarray:
    """White with a black lower left corner: no turn or flip of it equals another."""
    image = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
    image[size[1] // 2 :, : size[0] // 4] = 0
    return image


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
    0: lambda a: a,
    99: lambda a: a,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(kind, orientation):
    if kind == "AVIF" and orientation not in range(1, 9):
        pytest.skip("AVIF has no such orientation")
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossy = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}
    content = saved(Image.fromarray(letter((16, 8))), kind, exif=exif, **lossy.get(kind, {}))
    found, expected = np.asarray(open_rgb(content)).astype(int), UPRIGHT[orientation](letter((16, 8)))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 12


def test_an_upright_image_says_nothing_of_turning_again():
    exif = Image.Exif()
    exif[0x0112] = 6
    once = open_rgb(saved(Image.fromarray(letter()), "PNG", exif=exif))
    assert to_rgb(once).size == once.size == (4, 8)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(np.array(pixels(content)[0]) - [255, 0, 0]).max() <= 3


def grey_tiff(bits: int, photometric: int, data: bytes, *, width: int = 2, sample_format: int = 1) -> bytes:
    offset = tiff_data(9)
    head = [(256, 3, 1, width), (257, 3, 1, 1), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, photometric)]
    where = [(273, 4, 1, offset), (277, 3, 1, 1), (279, 4, 1, len(data)), (339, 3, 1, sample_format)]
    return tiff([*head, *where], data)


def test_grey_tiffs():
    assert pixels(grey_tiff(8, 1, b"\x01\xff")) == [[1] * 3, WHITE]
    assert pixels(grey_tiff(8, 0, b"\x01\xff")) == [[254] * 3, [0] * 3]
    assert pixels(grey_tiff(1, 0, b"\x40")) == [WHITE, [0] * 3]
    sixteen = struct.pack("<2H", 0x8000, 0xFFFF)
    assert pixels(grey_tiff(16, 1, sixteen)) == [[128] * 3, WHITE]
    assert pixels(grey_tiff(16, 0, sixteen)) == [[127] * 3, [0] * 3]


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P"])
def test_tiffs_of_every_mode_and_compression(mode, compression):
    image = Image.new("RGBA", (3, 2), (10, 10, 10, 255)).convert(mode)
    options = {"compression": compression} if compression else {}
    assert pixels(saved(image, "TIFF", **options)) == [[10, 10, 10]] * 3


@pytest.mark.parametrize(("bits", "sample_format"), [(12, 1), (16, 2), (32, 1), (32, 2), (32, 3)])
def test_tiffs_without_a_defined_conversion_are_refused(bits, sample_format):
    with pytest.raises(InputError, match=r"TIFF of mode .*, expected grey, RGB or CMYK of up to 16 bits"):
        open_rgb(grey_tiff(bits, 1, bytes(8), sample_format=sample_format))


def test_a_tile_larger_than_its_image_is_no_way_around_the_limit():
    data = zlib.compress(bytes(1000))
    offset = tiff_data(10)
    head = [(256, 4, 1, 10), (257, 4, 1, 10), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    bomb = tiff([*head, (322, 4, 1, 32768), (323, 4, 1, 32768), (324, 4, 1, offset), (325, 4, 1, len(data))], data)
    with pytest.raises(InputError, match="tiles of 32768x32768 pixels, more than the limit"):
        open_rgb(bomb)


def test_pil_images_of_every_mode():
    grey = Image.new("L", (2, 1), 100)
    for mode in ("L", "RGB", "P", "I", "F", "LA", "La", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV"):
        image = grey.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode)).convert(mode)
        if mode == "I":
            image = image.point(lambda value: value * 257)
        found = np.asarray(to_rgb(image))
        assert np.abs(found.astype(int) - 100).max() <= 1, mode
    image = Image.open(io.BytesIO(saved(grey, "PNG", transparency=100)))
    assert np.asarray(to_rgb(image)).tolist() == [[WHITE, WHITE]]
    assert image.info["transparency"] == 100
