"""The reader of tars, on a tar of any bytes."""

import contextlib
import tempfile
from pathlib import Path

from lavit_core.data import scan_data
from lavit_core.errors import LavitError
from lavit_core.images import ImageError, open_rgb


def read(content: bytes) -> None:
    """Read a tar, its captions and its images. Raises what no reader may: another error than ours, or an assertion when
    something was unpacked to the disk."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "a.tar"
        file.write_bytes(content)
        with contextlib.suppress(LavitError):
            data, _ = scan_data(file)
            for record in data.records:
                with contextlib.suppress(ImageError):
                    open_rgb(record.image, max_pixels=10**6)
        assert [one.name for one in Path(place).rglob("*")] == ["a.tar"]
