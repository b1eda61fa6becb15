"""Files of any content: readers give a result or one of our errors, never another one, and never hang.

`LAVIT_FUZZ=20000 pytest stages/core/tests/test_fuzz.py` looks further than the suite does.
"""

import contextlib
import io
import json
import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lavit_core.checkpoints import check_checkpoint
from lavit_core.config import read_yaml
from lavit_core.data import scan_data
from lavit_core.digests import with_digest
from lavit_core.errors import LavitError
from lavit_core.files import canonical_json, file_sha256, read_json, write_json
from lavit_core.images import ImageError, open_rgb
from lavit_core.json_lines import iterate_json_lines
from lavit_core.modeldir import find_part, read_metadata
from lavit_core.token_check import inspect_tokens, verify_tokens
from lavit_core.token_export import export_tokens
from lavit_core.tokens import open_tokens
from lavit_core.verify import verify
from PIL import Image

from .conftest import make_samples, write_tokens
from .image_bytes import saved

EXAMPLES = int(os.environ.get("LAVIT_FUZZ", "15"))


def fuzz(**strategies):
    """Give a test drawn arguments: the same ones each time, and as many as LAVIT_FUZZ says."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    chosen = settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=checks
    )
    return lambda test: chosen(given(**strategies)(test))


numbers = st.one_of(
    st.integers(-3, 3), st.sampled_from([2**31, 2**53 + 1, 2**63, 10**30, -(2**63)]), st.floats(), st.booleans()
)
texts = st.one_of(
    st.text(max_size=4), st.sampled_from(["", "a.png", "../a.png", "/a.png", "\0", "\u2028", "\ud800", "x" * 300])
)


def json_of(names):
    """Any JSON, whose objects often have the names that a reader looks for."""
    keys = st.one_of(st.sampled_from(names), st.text(max_size=3))
    return st.recursive(
        st.one_of(st.none(), numbers, texts),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=5)),
        max_leaves=12,
    )


def written(value):
    return json.dumps(value).encode(errors="surrogatepass")


@st.composite
def changed(draw, value, names):
    """A JSON value of which one part is another one, or gone, or doubled."""
    value = json.loads(json.dumps(value))
    parts = [(value, key) for key in (value if isinstance(value, dict) else range(len(value)))]
    for holder, key in parts:
        inner = holder[key]
        if isinstance(inner, dict | list):
            parts += [(inner, name) for name in (inner if isinstance(inner, dict) else range(len(inner)))]
    holder, key = draw(st.sampled_from(parts))
    kind = draw(st.sampled_from(["other", "gone", "number"]))
    if kind == "gone":
        del holder[key]
    else:
        holder[key] = draw(numbers if kind == "number" else json_of(names))
    return value


@st.composite
def spoiled(draw, content):
    """Bytes of which a few are others, or some are cut out, doubled or inserted."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "double", "end"]))
        if kind == "flip" and content:
            content[place] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del content[place : place + draw(st.integers(1, 600))]
        elif kind == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=20))
        elif kind == "double":
            content[place:place] = content[place : place + 512]
        else:
            del content[place:]
    return bytes(content)


def read_everything(folder):
    """Use every reader of a token directory; return whether none of them refused it."""
    whole = True
    with tempfile.TemporaryDirectory() as place:
        for use in (
            lambda: inspect_tokens(folder),
            lambda: export_tokens(folder, "jsonl", Path(place) / "out.jsonl"),
            lambda: read_samples(open_tokens(folder, check_digests=False)),
        ):
            try:
                use()
            except LavitError:
                whole = False
    return whole


def read_samples(reader):
    everything = np.arange(len(reader))
    for read in (reader.codes, reader.keep_masks, reader.keys, reader.texts):
        read(everything)
    if reader.manifest.feature_dim is not None:
        reader.features(everything)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A token directory with features: the bytes of its shard, and its manifest."""
    folder = write_tokens(tmp_path_factory.mktemp("whole"), make_samples(5, features=True))
    shard = (folder / "shard-000000.safetensors").read_bytes()
    return shard, json.loads((folder / "manifest.json").read_text())


def check_tokens(folder, shard, manifest):
    """Write a directory whose digests are right, and read it in every way."""
    (folder / "shard-000000.safetensors").write_bytes(shard)
    manifest = {key: value for key, value in manifest.items() if key != "sha256"}
    with contextlib.suppress(TypeError, KeyError, IndexError):
        manifest["shards"][0] |= {
            "bytes": len(shard),
            "sha256": file_sha256(folder / "shard-000000.safetensors"),
        }
    with contextlib.suppress(ValueError):
        manifest = with_digest(manifest)
    (folder / "manifest.json").write_bytes(written(manifest))
    try:
        problems = verify_tokens(folder, quiet=True)
        verify(folder, quiet=True)
    except LavitError:
        problems = ["refused"]
    assert read_everything(folder) or problems


@fuzz(data=st.data())
def test_shards_of_any_bytes(data, whole, tmp_path):
    shard, manifest = whole
    check_tokens(tmp_path, data.draw(spoiled(shard)), manifest)


@fuzz(data=st.data())
def test_shards_with_any_header(data, whole, tmp_path):
    shard, manifest = whole
    length = int.from_bytes(shard[:8], "little")
    header = json.loads(shard[8 : 8 + length])
    about = json.loads(header["__metadata__"]["lavit"])
    if data.draw(st.booleans()):
        names = ["dtype", "shape", "data_offsets", "codes", "keep_mask"]
        header = data.draw(changed(header, names))
    else:
        header["__metadata__"]["lavit"] = json.dumps(data.draw(changed(about, ["grid", "version", "codebook_size"])))
    text = written(header)
    check_tokens(tmp_path, len(text).to_bytes(8, "little") + text + shard[8 + length :], manifest)


@fuzz(data=st.data())
def test_shards_with_any_offsets(data, whole, tmp_path):
    """Numbers inside the tensors, not only around them."""
    shard, manifest = whole
    length = int.from_bytes(shard[:8], "little")
    header = json.loads(shard[8 : 8 + length])
    name = data.draw(st.sampled_from(["code_offsets", "key_offsets", "text_offsets", "text_sample", "codes"]))
    first, last = header[name]["data_offsets"]
    width = 2 if name == "codes" else 8
    place = data.draw(st.integers(0, (last - first) // width - 1))
    number = data.draw(st.sampled_from([0, 1, 5, 511, 512, 2**16 - 1, 2**31, 2**40, 2**63 - 1, -1, -5, -(2**63)]))
    content = bytearray(shard)
    where = 8 + length + first + place * width
    content[where : where + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
    check_tokens(tmp_path, bytes(content), manifest)


@fuzz(data=st.data())
def test_any_manifest(data, whole, tmp_path):
    shard, manifest = whole
    manifest = data.draw(changed(manifest, ["file", "samples", "grid", "shards", "version"]))
    check_tokens(tmp_path, shard, manifest if isinstance(manifest, dict) else {})


def tar(names, content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            data = b"a caption" if name.endswith("txt") else b'{"caption": "c"}' if name.endswith("json") else content
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def scan(path):
    """Read a data set and every image of it; return the number of images."""
    try:
        data, _ = scan_data(path)
    except LavitError:
        return 0
    for record in data.records:
        with contextlib.suppress(ImageError):
            open_rgb(record.image)
        assert str(record.image)
    return len(data.records)


@pytest.fixture(scope="module")
def image():
    return saved(Image.new("RGB", (8, 8), "red"), "PNG")


@fuzz(data=st.data())
def test_tars_of_any_bytes(data, image, tmp_path):
    names = ["a/0.png", "a/0.txt", "ü" * 60 + ".png", "a/1.json", "a/1.jpg"]
    (tmp_path / "a.tar").write_bytes(data.draw(spoiled(tar(names, image))))
    scan(tmp_path / "a.tar")


@fuzz(
    names=st.lists(
        st.sampled_from(
            ["0.png", "0.txt", "0.json", "0.b.png", "0.c.txt", "../e.png", "/abs.png", "a//b.png", ".h.png",
             "__MACOSX/0.png", "./0.png", "d.d/0.png", "0.PNG", "x" * 200 + ".png", "0.jpg/"]
        ),
        max_size=6,
    )
)  # fmt: skip
def test_tars_with_any_members(names, image, tmp_path):
    (tmp_path / "a.tar").write_bytes(tar(names, image))
    scan(tmp_path / "a.tar")
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]  # nothing is unpacked


NAMES = {
    "captions.jsonl": ["file_name", "captions"],
    "questions.jsonl": ["file_name", "question", "answer", "question_id", "earlier", "images", "<image>"],
    "metadata.jsonl": ["file_name", "text", "caption"],
    "coco.json": ["images", "annotations", "id", "image_id", "caption", "file_name"],
    "dataset.json": ["images", "filename", "filepath", "sentences", "raw", "split", "cocoid"],
    "llava.json": ["image", "images", "conversations", "from", "value", "id", "messages", "role", "content"],
    "talks.json": ["messages", "role", "content", "type", "image_url", "image", "text", "url", "<image>"],
    "vqa.json": ["questions", "annotations", "image_id", "question_id", "question", "answers", "answer"],
    "a.json": ["caption", "text"],
    "rows.csv": ["file_name", "caption"],
}
"""File name -> names that its reader looks for."""

EXAMPLE = {
    "captions.jsonl": {"file_name": "a.png", "captions": ["c"]},
    "questions.jsonl": {"question_id": 1, "file_name": "a.png", "question": "q", "answer": "a", "earlier": [["", ""]]},
    "metadata.jsonl": {"file_name": "a.png", "text": "c"},
    "coco.json": {
        "images": [{"id": 1, "file_name": "a.png"}] * 2,
        "annotations": [{"image_id": 1, "caption": "c"}] * 2,
    },
    "dataset.json": {"images": [{"filename": "a.png", "split": "train", "sentences": [{"raw": "c"}]}] * 2},
    "llava.json": [{"image": "a.png", "conversations": [{"from": "human", "value": ""}, {"from": "gpt", "value": ""}]}],
    "talks.json": [{"messages": [
        {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": ""},
                                     {"type": "image_url", "image_url": {"url": "a.png"}}]},
        {"role": "assistant", "content": ""},
    ]}],
    "vqa.json": {"questions": [{"image_id": 1, "question_id": 2, "question": "q"}] * 2},
    "a.json": {"caption": "c"},
}  # fmt: skip

ANSWERS = {"annotations": [{"question_id": 2, "multiple_choice_answer": "a", "answers": [{"answer": "a"}]}] * 2}


@pytest.mark.parametrize("name", NAMES)
@fuzz(data=st.data())
def test_lists_of_any_content(name, data, image, tmp_path):
    (tmp_path / "a.png").write_bytes(image)
    kind = data.draw(st.sampled_from(["json", "changed", "bytes"] if name in EXAMPLE else ["bytes"]))
    if kind == "json":
        lines = [written(data.draw(json_of(NAMES[name])))]
    elif kind == "changed":
        lines = [written(data.draw(changed(EXAMPLE[name], NAMES[name])))] * data.draw(st.integers(1, 2))
    else:
        whole = written(EXAMPLE.get(name, 0)) if name in EXAMPLE else b"file_name,caption\na.png,c\n"
        lines = [data.draw(spoiled(whole))]
    (tmp_path / name).write_bytes(b"\n".join(lines) + b"\n")
    if name == "vqa.json":
        (tmp_path / "annotations.json").write_bytes(written(data.draw(changed(ANSWERS, NAMES[name]))))
    scan(tmp_path)
    scan(tmp_path / name)


@fuzz(data=st.data())
def test_json_and_yaml_of_any_bytes(data, tmp_path):
    file = tmp_path / "x.json"
    file.write_bytes(
        data.draw(st.one_of(st.binary(max_size=40), spoiled(b'{"a": [1, {"b": "\\u00e9"}], "c": 1e5}\n{}')))
    )
    for use in (read_json, lambda file: list(iterate_json_lines(file)), lambda file: read_yaml(file, "x")):
        with contextlib.suppress(LavitError):
            use(file)
    for _, value in iterate_json_lines(file, on_problem=lambda message: None):
        with contextlib.suppress(ValueError):  # NaN has no canonical form
            canonical_json(value)


@fuzz(data=st.data())
def test_any_lavit_json(data, tmp_path):
    (tmp_path / "tokenizer").mkdir(exist_ok=True)
    (tmp_path / "tokenizer" / "w.safetensors").write_bytes(b"w")
    digest = "a" * 64
    files = {"w.safetensors": {"bytes": 1, "sha256": digest}}
    about = {"format": 1, "parts": {"tokenizer": {"digest": digest, "files": files, "selection": "topk"}}}
    about = data.draw(changed(about, ["parts", "files", "bytes", "digest"]))
    with contextlib.suppress(ValueError):
        about = with_digest(about) if data.draw(st.booleans()) else about
    (tmp_path / "lavit.json").write_bytes(written(about))
    for use in (read_metadata, lambda model: find_part(model, "tokenizer"), lambda model: verify(model, quiet=True)):
        with contextlib.suppress(LavitError):
            use(tmp_path)


@fuzz(data=st.data())
def test_any_state_of_a_checkpoint(data, tmp_path):
    folder = tmp_path / "step-00000005"
    folder.mkdir(exist_ok=True)
    (folder / "net.safetensors").write_bytes(b"n")
    state = {"step": 5, "state": {}, "files": {"net.safetensors": file_sha256(folder / "net.safetensors")}}
    state = data.draw(changed(state, ["step", "files", "sha256"]))
    write_json(folder / "state.json", {})
    with contextlib.suppress(ValueError):
        state = with_digest(state) if data.draw(st.booleans()) else state
    (folder / "state.json").write_bytes(written(state))
    with contextlib.suppress(LavitError):
        check_checkpoint(folder)


@pytest.mark.filterwarnings("ignore")  # PIL's, which commands count
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@fuzz(data=st.data())
def test_images_of_any_bytes(kind, data):
    content = saved(Image.linear_gradient("L").resize((16, 12)).convert("RGB"), kind)
    with contextlib.suppress(ImageError):
        assert open_rgb(data.draw(spoiled(content)), max_pixels=10**6).mode == "RGB"
