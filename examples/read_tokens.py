"""Read a token directory with numpy and safetensors alone: python examples/read_tokens.py TOKENS

The format is docs/token-format.md. Nothing of lavit is imported, on purpose: nothing of it is needed.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import safe_open


def read_tokens(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, list[str]]]:
    """Yield (key, codes [T], raster indices of the kept patches [T], captions) of every image."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["version"] == 1, f"format version {manifest['version']}, this example reads 1"
    num_patches = manifest["grid"][0] * manifest["grid"][1]
    names = ("codes", "code_offsets", "keep_mask", "keys", "key_offsets", "texts", "text_offsets", "text_sample")
    for shard in manifest["shards"]:
        with safe_open(folder / shard["file"], framework="np") as file:
            tensor = {name: file.get_tensor(name) for name in names}
        masks = np.unpackbits(tensor["keep_mask"], axis=1, count=num_patches, bitorder="little")
        for i in range(shard["samples"]):
            first, last = np.searchsorted(tensor["text_sample"], [i, i + 1])
            captions = [text(tensor["texts"], tensor["text_offsets"], j) for j in range(first, last)]
            codes = tensor["codes"][tensor["code_offsets"][i] : tensor["code_offsets"][i + 1]]
            yield text(tensor["keys"], tensor["key_offsets"], i), codes, np.flatnonzero(masks[i]), captions


def text(content: np.ndarray, offsets: np.ndarray, i: int) -> str:
    """Return the i-th of the strings that lie one after another in `content`."""
    return content[offsets[i] : offsets[i + 1]].tobytes().decode("utf-8")


def read_features(file: Path) -> np.ndarray:
    """Return a shard's features as float32 [T, D]; numpy has no bfloat16, so its bits are moved by hand."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + length])["features"]
    first, last = (8 + length + position for position in entry["data_offsets"])
    bits = np.frombuffer(content[first:last], dtype="<u2").astype(np.uint32) << 16
    return bits.view(np.float32).reshape(entry["shape"])


if __name__ == "__main__":
    for key, codes, patches, captions in read_tokens(Path(sys.argv[1])):
        print(f"{key}: {len(codes)} codes {codes[:6].tolist()}..., patches {patches[:6].tolist()}..., {captions[:1]}")
