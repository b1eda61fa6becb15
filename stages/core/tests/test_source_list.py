"""Several data sets read as one: keys, weights, digests, and lists that can't be meant."""

import json
import tarfile

import pytest
from lavit_core.data import Source, check_data, check_out_outside, digest_before, open_data, scan_data
from lavit_core.data_report import inspect_data, report_lines
from lavit_core.errors import InputError, UsageError
from PIL import Image


def image(file, colour):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), colour).save(file)


@pytest.fixture(name="folder")
def folder_fixture(tmp_path):
    """Photos with text files, and a tar with JSON captions of two columns; both hold 1.png."""
    for name, colour in (("1", "red"), ("sub/2", "blue")):
        image(tmp_path / f"photos/{name}.png", colour)
        (tmp_path / f"photos/{name}.txt").write_text(f"photo {name}\n")
    image(tmp_path / "1.png", "green")
    (tmp_path / "1.json").write_text(json.dumps({"caption": "short", "long": "a long one"}))
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars/00000.tar", "w") as tar:
        for name in ("1.png", "1.json"):
            tar.add(tmp_path / name, name)
            (tmp_path / name).unlink()
    return tmp_path


SOURCES = """
sources:
  - {data: photos, weight: 2}
  - {data: "tars/{00000..00000}.tar", name: a-web, caption_column: long}
"""


def listed(folder, text=SOURCES, name="sources.yaml"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_keys_begin_with_names_and_images_keep_captions_and_weights(folder):
    data = open_data(listed(folder))
    assert [(record.key, record.captions, record.weight) for record in data.records] == [
        ("a-web/1.png", ("a long one",), 1),
        ("photos/1.png", ("photo 1",), 2),
        ("photos/sub/2.png", ("photo sub/2",), 2),
    ]
    assert data.layout == "sources"
    assert data.roots == {"a-web": folder / "tars", "photos": folder / "photos"}
    assert "photos: layout sidecars, weight 2 (trainings alone)" in data.notes


def test_a_list_in_json_is_the_same_and_options_are_defaults(folder):
    rows = [{"data": "photos", "weight": 2}, {"data": "tars", "name": "a-web"}]
    file = listed(folder, json.dumps({"sources": rows}, indent="\t"), "my.sources.json")
    data = open_data(Source(file, caption_column="long"))
    assert data.records == open_data(listed(folder)).records
    assert data.digest == open_data(listed(folder)).digest


def test_the_digest_depends_on_content_names_and_weights_alone(folder, tmp_path_factory):
    first = open_data(listed(folder)).digest
    moved = tmp_path_factory.mktemp("moved") / "elsewhere"
    folder.rename(moved)
    turned = "\n".join(["sources:", *reversed(SOURCES.strip().splitlines()[1:])])
    assert open_data(listed(moved, turned)).digest == first
    other = {
        SOURCES.replace("weight: 2", "weight: 3"),
        SOURCES.replace("a-web", "web"),
        SOURCES.replace("long", "caption"),
    }
    assert len({open_data(listed(moved, text)).digest for text in other} | {first}) == 4


def test_the_digest_of_before_is_that_of_the_sizes_of_before(folder):
    before, file = open_data(listed(folder)).digest, folder / "photos/1.png"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes() + b"0")
    assert open_data(listed(folder)).digest != before
    assert digest_before(listed(folder), {"photos/1.png": size}) == before
    assert digest_before(folder / "photos", {"1.png": size}) == digest_before(
        folder / "photos", {"1.png": size, "x": 0}
    )
    assert digest_before(folder / "photos", {}) == open_data(folder / "photos").digest


def test_questions_go_to_their_own_images(folder):
    for name in ("photos", "more"):
        image(folder / name / "1.png", "red")
        row = {"question_id": 1, "file_name": "1.png", "question": f"what is in {name}?", "answer": "red"}
        (folder / name / "questions.jsonl").write_text(json.dumps(row))
        (folder / name / "captions.jsonl").write_text(json.dumps({"file_name": "1.png", "captions": ["x"]}))
    data = open_data(listed(folder, "sources: [{data: photos}, {data: more}]"))
    assert [(one.question_id, one.key, one.question) for one in data.questions] == [
        ("more/1", "more/1.png", "what is in more?"),
        ("photos/1", "photos/1.png", "what is in photos?"),
    ]


def test_inspect_counts_and_names_problems_of_every_source(folder):
    image(folder / "photos/unread.heic.png", "red")
    (folder / "photos/x.heic").write_text("")
    (folder / "unseen.png").write_text("not in a source")
    (folder / "photos/1.png").write_text("<html>")
    report = inspect_data(listed(folder), quiet=True)
    assert (report["layout"], report["images"], report["unlisted_images"]) == ("sources", 4, 0)
    assert [row["file"] for row in report["unreadable"]] == ["photos/1.png"]
    assert report["not_read"] == {".heic": 1}
    assert "a-web: layout tars" in "\n".join(report_lines(report))
    (folder / "photos/captions.jsonl").write_text('{"file_name": "gone.png", "captions": ["x"]}\n')
    _, problems = scan_data(listed(folder))
    assert [problem.message.split(":")[0] for problem in problems] == [str(folder / "photos/gone.png")]


def test_images_in_two_sources_are_said(folder):
    data = open_data(listed(folder, "sources: [{data: photos}, {data: photos/sub}]"))
    assert data.notes[-1] == "1 images stand in more than one source, and are read for each"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: []", "sources.yaml: sources is [], expected a list, say [{data: photos, weight: 2}]"),
        ("sources: photos", 'sources is "photos", expected a list'),
        ("sources: [photos, tars]", 'sources.0 is "photos", expected {data: PATH}'),
        ("images: [1]", "no `sources:`"),
        ("[1, 2]", "expected a mapping"),
        ("sources: [{data: photos, wieght: 2}]", "unknown setting sources.0.wieght; did you mean weight?"),
        ("sources: [{data: photos, weight: 0.5}]", "setting sources.0.weight"),
        ("sources: [{data: photos, weight: 0}]", "setting sources.0.weight"),
        ("sources: [{data: photos, data: tars}]", "data stands twice"),
        ("sources: [{data: photos}, {data: ./photos/}]", "are both called 'photos'"),
        ("sources: [{data: photos, name: a/b}]", "name 'a/b' of photos, expected one without slashes"),
        ("sources: [{data: photos, name: ..}]", "name '..' of photos"),
        ("sources: [{data: other.yaml}]", "is a list too"),
        ("sources: [{data: gone}]", "gone: found nothing"),
        ("sources: [{data: 'tars/{00000..00003}.tar'}]", "3 are missing"),
        ("sources: {", "not valid YAML"),
        ('sources: [{data: "\\0/{0..1}.tar"}]', "'\\x00/{0..1}.tar' can't be a path"),
        (f"sources: [{{data: {'x' * 300}}}]", "xxx: found nothing"),
    ],
)
def test_lists_that_cannot_be_meant_are_one_line(folder, text, message):
    file = listed(folder, text)
    with pytest.raises(InputError) as error:
        check_data(file)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_out_is_refused_inside_any_source(folder):
    with pytest.raises(UsageError, match="inside the data folder"):
        check_out_outside(folder / "photos/out", listed(folder))
    check_out_outside(folder / "out", listed(folder))


def test_a_folder_that_holds_only_a_list_names_it(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    listed(empty, f"sources: [{{data: {folder / 'photos'}}}]")
    with pytest.raises(InputError, match=r"give .*/sources.yaml if it lists several data sets"):
        open_data(empty)
