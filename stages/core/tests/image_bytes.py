"""Image files made byte by byte, for tests."""

import io
import struct
import zlib
from collections.abc import Sequence

from PIL import Image


def saved(image: Image.Image, kind: str, **options) -> bytes:
    """Return a PIL image as a file of that kind."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_chunk(kind: bytes, data: bytes, *, crc: int | None = None) -> bytes:
    """Return a PNG chunk, with a wrong checksum if one is given."""
    return (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    )


def png(
    size: tuple[int, int], depth: int, colour: int, rows: bytes, *, before: bytes = b"", after: bytes = b""
) -> bytes:
    """Return a PNG of unpacked rows (each begins with its filter byte), with chunks before and after its pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + after + png_chunk(b"IEND", b"")


def tiff(entries: Sequence[tuple[int, int, int, int]], data: bytes) -> bytes:
    """Return a little-endian TIFF of entries (tag, type, count, value); `data` begins where `tiff_data` says."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + data


def tiff_data(num_entries: int) -> int:
    """Return the offset in bytes of the data of `tiff`."""
    return 8 + 2 + 12 * num_entries + 4
