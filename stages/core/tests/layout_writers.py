"""The same photographs with the same captions, written in every layout."""

import csv
import dataclasses
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from lavit_core.data import Data
from PIL import Image

NUM_IMAGES = 6


@dataclasses.dataclass(frozen=True)
class Photos:
    """A data set in our own layout: file names below images/, and captions in order."""

    root: Path
    captions: dict[str, list[str]]

    @property
    def first_captions(self) -> dict[str, list[str]]:
        return {name: texts[:1] for name, texts in self.captions.items()}


def make_photos(root: Path, count: int = NUM_IMAGES) -> Photos:
    """Draw images of one colour each, with two captions each: separators, quotes and words that tables misread."""
    (root / "images").mkdir(parents=True)
    captions = {}
    for number in range(count):
        name = f"{number:012d}.jpg"
        Image.new("RGB", (20 + number, 16), (40 * number, 10, 10)).save(root / "images" / name)
        captions[name] = [["None", 'a "red", big; dog', "NA | x", "123", "é dog", "nan"][number % 6], f"dog {number}"]
    own = [{"file_name": f"images/{name}", "captions": texts} for name, texts in captions.items()]
    (root / "captions.jsonl").write_text(json_lines(own), encoding="utf-8")
    return Photos(root, captions)


def json_lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def link_images(photos: Photos, folder: Path, inside: str = "images") -> None:
    (folder / inside).mkdir(parents=True, exist_ok=True)
    for name in photos.captions:
        os.link((photos.root / "images" / name).resolve(), folder / inside / name)


def write_table(file: Path, rows: list[list[str]], delimiter: str = ",") -> None:
    with open(file, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, delimiter=delimiter).writerows(rows)


def pairs(photos: Photos, prefix: str = "images/") -> list[list[str]]:
    return [[prefix + name, text] for name, texts in photos.captions.items() for text in texts]


def write_own(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    (out / "captions.jsonl").write_bytes((photos.root / "captions.jsonl").read_bytes())
    return out


def write_txt(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    for name, texts in photos.captions.items():
        (out / "images" / name).with_suffix(".txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return out


def write_caption(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    for name, texts in photos.captions.items():
        (out / "images" / name).with_suffix(".caption").write_text("\r\n".join(texts), encoding="utf-8-sig")
    return out


def write_metadata_jsonl(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    rows: list[dict[str, object]] = [
        {"file_name": f"images/{name}", "text": texts} for name, texts in photos.captions.items()
    ]
    (out / "metadata.jsonl").write_text(json_lines(rows), encoding="utf-8")
    return out


def write_metadata_csv(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    write_table(out / "metadata.csv", [["file_name", "text"], *pairs(photos)])
    return out


def write_csv(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    write_table(out / "list.csv", [["path", "caption"], *pairs(photos)])
    return out


def write_csv_of_bare_names(photos: Photos, out: Path) -> Path:
    """Flickr8k's own file: captions.txt beside Images/, its names without the folder."""
    link_images(photos, out)
    write_table(out / "captions.txt", [["image", "caption"], *pairs(photos, "")])
    return out


def write_tsv(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    write_table(out / "list.tsv", [["image", "text"], *pairs(photos)], "\t")
    return out


def write_semicolons(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    write_table(out / "list.csv", [["image_name", " comment"], *pairs(photos)], ";")
    return out


def write_jsonl(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    rows: list[dict[str, object]] = [{"image": name, "caption": text} for name, text in pairs(photos)]
    (out / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")
    return out


def write_jsonl_as_file(photos: Photos, out: Path) -> Path:
    return write_jsonl(photos, out) / "data.jsonl"


def write_json_list(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    rows = [{"image": name, "caption": text, "image_id": "x"} for name, text in pairs(photos)]
    (out / "data.json").write_text(json.dumps(rows), encoding="utf-8")
    return out


def coco_of(photos: Photos) -> dict[str, object]:
    images = [{"id": int(name[:12]), "file_name": name, "height": 16} for name in photos.captions]
    texts = [(int(name[:12]), text) for name, own in photos.captions.items() for text in own]
    annotations = [
        {"id": number, "image_id": image, "caption": text} for number, (image, text) in enumerate(texts, start=100)
    ]
    return {"info": {}, "images": images, "licenses": [], "annotations": annotations}


def write_coco(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    (out / "annotations").mkdir()
    (out / "annotations" / "captions_train2017.json").write_text(json.dumps(coco_of(photos)), encoding="utf-8")
    instances = {"images": [{"id": 1, "file_name": "x.jpg"}], "annotations": [{"image_id": 1, "bbox": []}]}
    (out / "annotations" / "instances_train2017.json").write_text(json.dumps(instances))
    return out


def write_coco_as_file(photos: Photos, out: Path) -> Path:
    return write_coco(photos, out) / "annotations" / "captions_train2017.json"


def karpathy_of(photos: Photos, split: str = "train") -> dict[str, object]:
    images = [
        {
            "filename": name,
            "imgid": number,
            "split": split,
            "sentences": [{"raw": text, "tokens": []} for text in texts],
        }
        for number, (name, texts) in enumerate(photos.captions.items())
    ]
    return {"dataset": "x", "images": images}


def write_karpathy(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    (out / "dataset.json").write_text(json.dumps(karpathy_of(photos)), encoding="utf-8")
    return out


def write_tars(photos: Photos, out: Path, texts: str = ".txt", stats: bool = False) -> Path:
    """Two tars of webdataset; with `stats`, the files that img2dataset writes beside them."""
    out.mkdir(parents=True)
    names = sorted(photos.captions)
    for shard in range(2):
        own = names[shard::2]
        with tarfile.open(out / f"{shard:05d}.tar", "w") as tar:
            for name in own:
                add_member(tar, f"images/{name}", (photos.root / "images" / name).read_bytes())
                stem = f"images/{name[:-4]}"
                lines = "\n".join(photos.captions[name]).encode()
                row = json.dumps({"caption": photos.captions[name], "url": "x"}).encode()
                add_member(tar, stem + texts, row if texts == ".json" else lines)
        if stats:
            row = {"count": len(own) + 1, "successes": len(own), "failed_to_download": 1}
            (out / f"{shard:05d}_stats.json").write_text(json.dumps(row))
            (out / f"{shard:05d}.parquet").write_bytes(b"not read")
    return out


def add_member(tar: tarfile.TarFile, name: str, content: bytes, **more: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for part, value in more.items():
        setattr(member, part, value)
    tar.addfile(member, io.BytesIO(content))


def write_parquet(photos: Photos, out: Path, *, embedded: bool = True) -> Path:
    """Two files of one split, in small row groups."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (out / "data").mkdir(parents=True)
    names = sorted(photos.captions)
    if not embedded:
        link_images(photos, out)
    for shard in range(2):
        own = names[shard::2]
        paths = [f"images/{name}" for name in own]
        cells = [
            {"bytes": (photos.root / "images" / name).read_bytes(), "path": path}
            for name, path in zip(own, paths, strict=True)
        ]
        columns = {"image": cells if embedded else paths, "caption": [photos.captions[name] for name in own]}
        file = out / "data" / f"train-{shard:05d}-of-00002.parquet"
        pq.write_table(pa.table(columns), file, row_group_size=2)
    return out


def write_saved(photos: Photos, out: Path) -> Path:
    """What datasets' save_to_disk writes, in two files."""
    datasets = pytest.importorskip("datasets")
    names = list(photos.captions)
    cells = [{"bytes": (photos.root / "images" / name).read_bytes(), "path": f"images/{name}"} for name in names]
    rows = {"image": cells, "text": list(photos.captions.values())}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.List(datasets.Value("string"))})
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(out, num_shards=2)
    return out


def write_saved_splits(photos: Photos, out: Path) -> Path:
    write_saved(photos, out / "train")
    (out / "dataset_dict.json").write_text('{"splits": ["train"]}')
    return out


def write_absolute_paths(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    write_table(out / "list.csv", [["path", "caption"], *pairs(photos, f"{out.absolute()}/images/")])
    return out


def write_captions_of_other_columns(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    rows: list[dict[str, object]] = [
        {"image": f"./images/{name}", "captions": texts} for name, texts in photos.captions.items()
    ]
    (out / "captions.jsonl").write_text(json_lines(rows), encoding="utf-8")
    return out


def merged(folder: Path) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    tables = [pq.read_table(file) for file in sorted((folder / "data").iterdir())]
    pq.write_table(pa.concat_tables(tables), folder / "all.parquet")
    return folder / "all.parquet"


Writer = Callable[[Photos, Path], Path]
WRITERS: dict[str, Writer] = {
    "own": write_own,
    "txt": write_txt,
    "caption": write_caption,
    "metadata.jsonl": write_metadata_jsonl,
    "metadata.csv": write_metadata_csv,
    "csv": write_csv,
    "captions.txt": write_csv_of_bare_names,
    "tsv": write_tsv,
    "semicolons": write_semicolons,
    "jsonl": write_jsonl,
    "jsonl file": write_jsonl_as_file,
    "json list": write_json_list,
    "coco": write_coco,
    "coco file": write_coco_as_file,
    "karpathy": write_karpathy,
    "tars": write_tars,
    "tars of json": lambda photos, out: write_tars(photos, out, ".json"),
    "img2dataset": lambda photos, out: write_tars(photos, out, stats=True),
    "tar range": lambda photos, out: write_tars(photos, out) / "{00000..00001}.tar",
    "parquet": write_parquet,
    "parquet file": lambda photos, out: merged(write_parquet(photos, out)),
    "parquet of names": lambda photos, out: write_parquet(photos, out, embedded=False),
    "saved": write_saved,
    "saved splits": write_saved_splits,
    "absolute": write_absolute_paths,
    "other columns": write_captions_of_other_columns,
}


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def texts_of(data: Data) -> list[tuple[str, tuple[str, ...]]]:
    return [(record.key, record.captions) for record in data.records]
