import pytest
from lavit_core import modeldir
from lavit_core.errors import InputError
from lavit_core.files import write_json
from lavit_core.modeldir import (
    check_made_with,
    export_part,
    find_part,
    image_input_of,
    part_digest,
    part_files,
    read_metadata,
    recorded_digest,
    selection_of,
)
from lavit_core.tokens import Manifest, training_metadata


def export(model, name, text, **more):
    with export_part(model, name, **more) as folder:
        (folder / "weights").write_text(text)
    return model


def test_parts_are_carried_over(tmp_path):
    first = export(tmp_path / "a", "encoder", "e", metadata={"data": "d"})
    second = export(tmp_path / "b", "tokenizer", "t", carry_from=first)
    digest = part_digest(second / "tokenizer")
    third = export(tmp_path / "c", "llm", "l", carry_from=second, metadata={"tokenizer_digest": digest})
    parts = read_metadata(third)["parts"]
    assert list(parts) == ["encoder", "tokenizer", "llm"]
    files = part_files(first / "encoder")
    assert parts["encoder"] == {"digest": part_digest(first / "encoder"), "files": files, "data": "d"}
    assert (third / "encoder" / "weights").read_text() == "e"
    check_made_with(third, "llm")
    # Exporting once more changes one part, and the folders it was linked from not at all.
    export(third, "encoder", "new")
    assert list(read_metadata(third)["parts"]) == ["encoder", "tokenizer", "llm"]
    assert (first / "encoder" / "weights").read_text() == "e"


def test_a_model_reads_the_patches_that_its_token_files_kept(tmp_path):
    first = export(tmp_path / "a", "tokenizer", "t")
    assert selection_of(tmp_path / "none") == selection_of(first) == ("threshold", None)
    second = export(tmp_path / "b", "detokenizer", "d", carry_from=first, metadata={"selection": "sample"})
    assert selection_of(second) == ("sample", None)
    third = export(tmp_path / "c", "llm", "l", carry_from=second, metadata={"selection": "topk"})
    assert selection_of(third) == ("topk", None), "what reads comes before what draws"
    fourth = export(tmp_path / "e", "llm", "l", metadata={"selection": "topk", "selection_tokens": 9})
    assert selection_of(fourth) == ("topk", 9)
    unknown = export(tmp_path / "d", "llm", "l", metadata={"selection": "drawn", "selection_tokens": 9})
    assert selection_of(unknown) == ("threshold", None)


def test_a_part_records_the_selection_that_its_token_directories_share():
    def of(*selections):
        manifests = [Manifest(tokenizer_digest="a", codebook_size=4, grid=(2, 2), selection=one) for one in selections]
        return training_metadata(*manifests)

    three, four = ({"policy": "topk", "tokens": count} for count in (3, 4))
    assert of(three) == of(three, three) == {"tokenizer_digest": "a", "selection": "topk", "selection_tokens": 3}
    assert of({"policy": "sample", "seed": 0}, {"policy": "sample", "seed": 1})["selection"] == "sample"
    for mixed in ((three, four), (three, {"policy": "threshold", "keep_threshold": 0.5})):
        assert of(*mixed) == {"tokenizer_digest": "a", "selection": None}


def test_failed_export_keeps_the_old_part(tmp_path):
    model = export(tmp_path / "a", "encoder", "e")
    before = read_metadata(model)
    with pytest.raises(RuntimeError), export_part(model, "encoder"):
        raise RuntimeError
    assert (model / "encoder" / "weights").read_text() == "e"
    assert read_metadata(model) == before


def test_missing_parts_name_the_command(tmp_path):
    model = export(tmp_path / "a", "encoder", "e")
    with pytest.raises(InputError, match=r"no llm/ here \(it holds encoder\); `lavit pretrain` makes one"):
        find_part(model, "llm")
    with pytest.raises(InputError, match=r"absent: no such directory; `lavit train-tokenizer` makes a model directory"):
        find_part(tmp_path / "absent", "tokenizer")


def test_a_run_directory_is_told_from_its_model(tmp_path):
    export(tmp_path / "run" / "model", "tokenizer", "t")
    (tmp_path / "run" / "tokenizer").mkdir()  # a quickstart's step of that name
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"run: a run directory, expected a model directory; give .*run/model"):
        find_part(tmp_path / "run", "tokenizer")


def test_another_tokenizer_is_refused(tmp_path):
    other = {"tokenizer_digest": "f" * 64}
    model = export(export(tmp_path / "a", "tokenizer", "t"), "detokenizer", "d", metadata=other)
    with pytest.raises(InputError, match="trained with tokenizer ffffffffffff, this model holds tokenizer"):
        check_made_with(model, "detokenizer")


def weighty(model, name="tokenizer", fill=0):
    with export_part(model, name) as folder:
        (folder / "config.json").write_text("{}")
        (folder / "inner").mkdir()
        (folder / "inner" / "model.safetensors").write_bytes(bytes([fill] * 100))
    return model


@pytest.fixture(name="hashed")
def hashed_fixture(monkeypatch):
    names, original = [], modeldir.file_sha256

    def noted(file):
        names.append(file.name)
        return original(file)

    monkeypatch.setattr(modeldir, "file_sha256", noted)
    return names


def test_the_recorded_digest_is_the_part_s_and_reads_no_weights(tmp_path, hashed):
    model = weighty(tmp_path / "a")
    expected = part_digest(model / "tokenizer")
    assert expected == read_metadata(model)["parts"]["tokenizer"]["digest"]
    hashed.clear()
    assert recorded_digest(model, "tokenizer") == expected
    check_made_with(export(model, "llm", "l", metadata={"tokenizer_digest": expected}), "llm")
    assert "model.safetensors" not in hashed
    assert recorded_digest(weighty(tmp_path / "b", fill=1), "tokenizer") != expected, "other weights of the same size"


def test_what_is_not_recorded_is_read(tmp_path, hashed):
    model = weighty(tmp_path / "a")
    before = recorded_digest(model, "tokenizer")
    (model / "tokenizer" / "config.json").write_text("[]")
    changed = recorded_digest(model, "tokenizer")
    assert changed == part_digest(model / "tokenizer") != before, "a changed configuration of equal size"
    weighty(model)
    (model / "tokenizer" / "more.safetensors").write_bytes(b"more")
    assert recorded_digest(model, "tokenizer") == part_digest(model / "tokenizer") != before
    for gone in (lambda: old_record(model), (model / "lavit.json").unlink):
        gone()
        hashed.clear()
        assert recorded_digest(model, "tokenizer") == part_digest(model / "tokenizer")
        assert hashed.count("model.safetensors") == 2


def old_record(model):
    """Leave what was recorded before the files of a part were."""
    metadata = read_metadata(model)
    del metadata["parts"]["tokenizer"]["files"]
    write_json(model / "lavit.json", metadata)


def test_weights_of_another_size_are_refused(tmp_path):
    model = weighty(tmp_path / "a")
    (model / "tokenizer" / "inner" / "model.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match=r"model.safetensors: 5 bytes, expected 100 bytes; copy the model again"):
        recorded_digest(model, "tokenizer")


def test_how_a_model_is_shown_images_is_recorded(tmp_path):
    assert image_input_of(tmp_path / "none") is None
    assert image_input_of(export(tmp_path / "a", "llm", "l")) is None
    assert image_input_of(export(tmp_path / "b", "llm", "l", metadata={"image_input": "none"})) == "none"


def test_damaged_lavit_json(tmp_path):
    model = export(tmp_path / "a", "encoder", "e")
    (model / "lavit.json").write_text("[]")
    with pytest.raises(InputError, match="no `parts` in it"):
        read_metadata(model)


def test_digest_covers_names_and_contents(tmp_path):
    folder = export(tmp_path / "a", "encoder", "e") / "encoder"
    first = part_digest(folder)
    (folder / "weights").rename(folder / "weights2")
    second = part_digest(folder)
    (folder / "weights2").write_text("f")
    assert len({first, second, part_digest(folder)}) == 3
