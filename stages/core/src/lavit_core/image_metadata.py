"""Image files without their metadata: what to read when EXIF, profiles or text are damaged or too large."""

import re
import struct
import zlib
from collections.abc import Iterator

PNG_MAGIC, JPEG_MAGIC = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
TIFF_MAGIC = {b"II*\0": "<", b"MM\0*": ">"}
"""Byte order of a TIFF by its first four bytes; BigTIFF is left as it is."""

PNG_ANCILLARY = 0x20
"""Bit of the first letter of a PNG chunk that says that its pixels can be read without it."""
WEBP_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
WEBP_METADATA_FLAGS = 0x20 | 0x08 | 0x04
"""Bits of VP8X that announce a profile, EXIF and XMP."""

TIFF_PIXELS = frozenset(
    (
        *(254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320),
        *(322, 323, 324, 325, 330, 332, 338, 339, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
    )
)
"""Tags of a TIFF that say where its pixels are and how to read them, with the orientation."""

JPEG_SEGMENTS_DROPPED = (*range(0xE2, 0xEE), 0xEF, 0xFE)
"""APP2 to APP13, APP15 and comments; APP0 (JFIF), APP1 with EXIF and APP14 (Adobe's colour transform) stay."""

EXIF_ORIENTATION_BYTES = 1 << 16


def format_of(head: bytes) -> str | None:
    """Return the name of the image format that a file's first 16 bytes announce, or None."""
    if head.startswith(PNG_MAGIC):
        return "PNG"
    if head.startswith(JPEG_MAGIC):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:4] in TIFF_MAGIC or head[:4] in (b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[4:12] in (b"ftypavif", b"ftypavis", b"ftypmif1"):
        return "AVIF"
    if head[4:8] == b"ftyp" and head[8:11] in (b"hei", b"hev", b"mif"):
        return "HEIC"
    return "BMP" if head[:2] == b"BM" else None


def without_metadata(content: bytes) -> bytes | None:
    """Return an image file without the metadata that a reader may stumble over, or None if it has no such metadata.

    The pixels, and the orientation where it can be read, stay as they are. Content whose structure is damaged is cut
    there: whether enough of it is left, the decoder says.
    """
    strip = {"PNG": _bare_png, "JPEG": _bare_jpeg, "WEBP": _bare_webp, "TIFF": _bare_tiff, "AVIF": _bare_avif}
    name = format_of(content[:16])
    bare = strip[name](content) if name in strip else content
    return None if bare == content else bare


def _bare_png(content: bytes) -> bytes:
    kept = [PNG_MAGIC]
    position = len(PNG_MAGIC)
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        chunk = content[position : position + 12 + length]
        # EXIF carries the orientation: it stays if it is whole.
        exif = kind == b"eXIf" and length < EXIF_ORIENTATION_BYTES and _has_crc(chunk)
        if not kind[0] & PNG_ANCILLARY or kind == b"tRNS" or exif:
            kept.append(chunk)
        position += len(chunk)
    return b"".join(kept)


def _has_crc(chunk: bytes) -> bool:
    return chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))


def _bare_jpeg(content: bytes) -> bytes:
    kept = [content[:2]]
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4], "big")
        segment = content[position : position + 2 + length]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xDA:  # the scans begin
            break
        exif = segment[4:10] == b"Exif\0\0"
        if marker not in JPEG_SEGMENTS_DROPPED and (marker != 0xE1 or exif):
            kept.append(segment)
        position += len(segment)
    return b"".join(kept) + content[position:]


def _bare_webp(content: bytes) -> bytes:
    kept = []
    for kind, chunk in _riff_chunks(content):
        if kind == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & ~WEBP_METADATA_FLAGS]) + chunk[9:]
        if kind in WEBP_PIXELS:
            kept.append(chunk)
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _riff_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    while position + 9 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, position)
        end = position + 8 + length + length % 2
        if end > len(content):
            return
        yield kind, content[position:end]
        position = end


def _bare_tiff(content: bytes) -> bytes:
    """The directory of the first image is written again at the end with the needed tags only."""
    order = TIFF_MAGIC.get(content[:4])
    if order is None or len(content) < 8:
        return content
    start = struct.unpack_from(f"{order}I", content, 4)[0]
    if start + 2 > len(content):
        return content
    count = struct.unpack_from(f"{order}H", content, start)[0]
    entries = [content[start + 2 + 12 * n : start + 14 + 12 * n] for n in range(count)]
    kept = [entry for entry in entries if len(entry) == 12 and struct.unpack(f"{order}H", entry[:2])[0] in TIFF_PIXELS]
    if len(kept) == count:
        return content
    padding = bytes(len(content) % 2)
    head = content[:4] + struct.pack(f"{order}I", len(content) + len(padding))
    return head + content[8:] + padding + struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)


def _bare_avif(content: bytes) -> bytes:
    """The entries of EXIF and XMP in the list of items get a type that no reader knows; nothing moves."""
    return re.sub(rb"(infe\x02.{7})(?:Exif|mime)", rb"\1free", content, flags=re.DOTALL)
