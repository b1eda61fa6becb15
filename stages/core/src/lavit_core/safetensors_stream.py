"""safetensors files written as a stream: no more than one tensor is held at a time, and equal content is equal bytes.

Format: https://github.com/huggingface/safetensors#format (8 bytes of header length, a JSON header, the tensors' bytes).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Layout = Mapping[str, tuple[str, Sequence[int], int]]
"""Name -> (safetensors' name of the element type, shape, bytes), in the order of the file."""


def safetensors_chunks(
    layout: Layout, data: Iterable[bytes | memoryview], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """Yield the content of a safetensors file; `data` gives each tensor's bytes in the order of `layout`."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape, num_bytes) in layout.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + num_bytes]}
        end += num_bytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    yield from data
