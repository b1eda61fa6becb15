"""Memory and CPU time of listing, planning, indexing, checking and reading data sets of growing size.

    python stages/core/benchmarks/scale.py --counts 10000 100000 1000000 --folder /tmp/scale

Each cell is a process of its own. Images are files of one byte, alone and in tars and Parquet files of 100,000; token
samples have about 12 codes and a caption. What was made for a count is kept in the folder and used again.
"""

import argparse
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from lavit_core.data import open_data, source_of
from lavit_core.data_plan import keep_plan, open_plan
from lavit_core.peak_memory import peak_resident_bytes
from lavit_core.token_check import inspect_tokens, verify_tokens
from lavit_core.tokens import Manifest, TokenSample, open_tokens, write_manifest, write_shard

IN_A_FOLDER, IN_A_TAR, IN_A_SHARD = 1_000, 100_000, 4_096
CODEBOOK_SIZE, GRID = 2_048, (8, 8)
BATCH = 512
CAPTION = "a red circle above a blue square"


def main() -> None:
    """Print a table: a row a measurement and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--folder", type=Path, required=True, help="where data sets are made")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "PATH"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        measure(asked.one[0], Path(asked.one[1]))
        return
    print("| what | images | CPU, s | µs an image | peak memory, MB |\n|---|---|---|---|---|")
    for name, (kind, _) in MEASURED.items():
        for count in asked.counts:
            path = made(asked.folder, kind, count)
            line = [sys.executable, __file__, "--folder", str(asked.folder), "--one", name, str(path)]
            done = subprocess.run(line, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            found = json.loads(done.stdout)
            each = found["cpu"] / count * 1e6
            print(f"| {name} | {count:,} | {found['cpu']:.1f} | {each:.1f} | {found['peak'] / 1e6:.0f} |", flush=True)


def measure(name: str, path: Path) -> None:
    """Run one measurement in this process; its imports are not counted."""
    began = time.process_time()
    MEASURED[name][1](path)
    print(json.dumps({"cpu": time.process_time() - began, "peak": peak_resident_bytes()}))


def made(folder: Path, kind: str, count: int) -> Path:
    """Return a data set of `count` images, made if it is not there yet."""
    out = folder / f"{kind}-{count}"
    if not out.exists():
        place = out.with_suffix(".tmp")
        place.mkdir(parents=True)
        MAKERS[kind](place, count)
        place.rename(out)
    return out


def make_files(out: Path, count: int) -> None:
    """Write image files of one byte."""
    for number in range(count):
        place = out / f"{number // IN_A_FOLDER:06d}"
        if number % IN_A_FOLDER == 0:
            place.mkdir()
        (place / f"{number:09d}.jpg").write_bytes(b"x")


def make_tars(out: Path, count: int) -> None:
    """Write tars of image files."""
    for first in range(0, count, IN_A_TAR):
        with tarfile.open(out / f"{first // IN_A_TAR:05d}.tar", "w") as tar:
            for number in range(first, min(first + IN_A_TAR, count)):
                tar.addfile(tarfile.TarInfo(f"{number:09d}.jpg"))


def listed_files(out: Path, count: int) -> Iterator[str]:
    """Yield the names of image files below a link to the folder that `make_files` made of the same count."""
    (out / "images").symlink_to(made(out.parent, "files", count).resolve())
    return (f"images/{number // IN_A_FOLDER:06d}/{number:09d}.jpg" for number in range(count))


def make_table(out: Path, count: int) -> None:
    """Write a table of the image files."""
    with open(out / "list.csv", "w") as table:
        table.write("image,caption\n")
        table.writelines(f"{name},{CAPTION}\n" for name in listed_files(out, count))


def make_coco(out: Path, count: int) -> None:
    """Write one JSON file of the image files, as COCO does."""
    names = list(enumerate(listed_files(out, count)))
    images = [{"id": number, "file_name": name} for number, name in names]
    captions = [{"id": number, "image_id": number, "caption": CAPTION} for number, _ in names]
    (out / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))


def make_parquet(out: Path, count: int) -> None:
    """Write Parquet files with images of one byte."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for first in range(0, count, IN_A_TAR):
        rows = [
            {"image": {"bytes": b"x", "path": f"{number:09d}.jpg"}, "caption": CAPTION}
            for number in range(first, min(first + IN_A_TAR, count))
        ]
        pq.write_table(pa.Table.from_pylist(rows), out / f"{first // IN_A_TAR:05d}.parquet", row_group_size=1000)


def make_tokens(out: Path, count: int) -> None:
    """Write a token directory."""
    random = np.random.default_rng(0)
    shards = []
    for first in range(0, count, IN_A_SHARD):
        masks = random.random((min(IN_A_SHARD, count - first), GRID[0] * GRID[1])) < 0.2
        masks[:, 0] = True
        samples = [
            TokenSample(
                key=f"{first + i:09d}.jpg",
                codes=random.integers(0, CODEBOOK_SIZE, int(mask.sum()), dtype=np.int32),
                keep_mask=mask,
                texts=(CAPTION,),
            )
            for i, mask in enumerate(masks)
        ]
        name = f"shard-{len(shards):06d}.safetensors"
        shards.append(write_shard(out, name, samples, codebook_size=CODEBOOK_SIZE, grid=GRID))
    manifest = Manifest(tokenizer_digest="x", codebook_size=CODEBOOK_SIZE, grid=GRID, shards=tuple(shards))
    write_manifest(out, manifest)


def plan(path: Path) -> None:
    """List the data and keep the plan on disk beside it."""
    folder = path.with_name(f"{path.name}-plan")
    folder.mkdir(exist_ok=True)
    source = source_of(path)
    keep_plan(folder, source, open_plan(folder, source, IN_A_SHARD))


def read_epoch(path: Path) -> None:
    """Read the codes of every image once, in random order."""
    reader = open_tokens(path)
    order = np.random.default_rng(1).permutation(len(reader))
    for first in range(0, len(order), BATCH):
        reader.codes(order[first : first + BATCH])


MAKERS: dict[str, Callable[[Path, int], None]] = {
    "files": make_files,
    "tars": make_tars,
    "table": make_table,
    "parquet": make_parquet,
    "coco": make_coco,
    "tokens": make_tokens,
}
MEASURED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "list a folder": ("files", open_data),
    "list and plan a folder": ("files", plan),
    "go on from the plan": ("files", plan),
    "index tars": ("tars", open_data),
    "list a CSV table": ("table", open_data),
    "list Parquet files": ("parquet", open_data),
    "list COCO captions": ("coco", open_data),
    "inspect tokens": ("tokens", inspect_tokens),
    "verify tokens": ("tokens", lambda path: verify_tokens(path, quiet=True)),
    "read an epoch, shuffled": ("tokens", read_epoch),
}

if __name__ == "__main__":
    main()
