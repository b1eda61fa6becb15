import pytest
from lavit_core.errors import InputError
from lavit_core.modeldir import (
    check_made_with,
    export_part,
    find_part,
    part_digest,
    part_files,
    read_metadata,
    selection_of,
)


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
    assert (third / "encoder" / "weights").samefile(first / "encoder" / "weights")
    check_made_with(third, "llm")
    # Exporting once more changes one part, and the folders it was linked from not at all.
    export(third, "encoder", "new")
    assert list(read_metadata(third)["parts"]) == ["encoder", "tokenizer", "llm"]
    assert (first / "encoder" / "weights").read_text() == "e"


def test_a_model_reads_the_patches_that_its_token_files_kept(tmp_path):
    first = export(tmp_path / "a", "tokenizer", "t")
    assert selection_of(tmp_path / "none") == selection_of(first) == "threshold"
    second = export(tmp_path / "b", "detokenizer", "d", carry_from=first, metadata={"selection": "sample"})
    assert selection_of(second) == "sample"
    third = export(tmp_path / "c", "llm", "l", carry_from=second, metadata={"selection": "topk"})
    assert selection_of(third) == "topk", "what reads comes before what draws"
    assert selection_of(export(tmp_path / "d", "llm", "l", metadata={"selection": "drawn"})) == "threshold"


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
    with pytest.raises(InputError, match=r"no tokenizer/ here \(no model directory\)"):
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
