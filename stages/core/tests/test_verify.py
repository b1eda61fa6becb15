import json
import shutil

import pytest
from lavit_core.digests import with_digest
from lavit_core.errors import InputError, VerificationError
from lavit_core.files import file_sha256, write_json
from lavit_core.modeldir import export_part, find_part, missing_parts, read_metadata
from lavit_core.rundir import Diagnostic, open_run
from lavit_core.token_format import read_manifest, write_manifest
from lavit_core.verify import NO_DIGEST, NOT_RECORDED, verify


@pytest.fixture(name="model")
def model_fixture(tmp_path):
    for name in ("encoder", "tokenizer"):
        with export_part(tmp_path / "model", name) as folder:
            (folder / "config.json").write_text("{}")
            (folder / "model.safetensors").write_bytes(bytes(range(200)))
    return tmp_path / "model"


def flip(file, place=100):
    content = bytearray(file.read_bytes())
    content[place] ^= 64
    file.write_bytes(content)


def problems(path):
    return [problem for part in verify(path, quiet=True) for problem in part.problems]


def test_a_whole_model_has_a_line_a_part(model):
    assert [part.line() for part in verify(model, quiet=True)] == [
        "lavit.json: 1 file, 0.0 MB, content as it was written",
        "encoder: 2 files, 0.0 MB, every byte as it was written",
        "tokenizer: 2 files, 0.0 MB, every byte as it was written",
    ]


def test_a_flipped_byte_of_a_weight_is_named_with_the_next_command(model):
    flip(model / "tokenizer" / "model.safetensors")
    [problem] = problems(model)
    assert f"{model}/tokenizer/model.safetensors: SHA-256 " in problem
    assert problem.endswith("copy the model again, or make this part again with `lavit train-tokenizer`")
    find_part(model, "tokenizer")  # reading every byte is for `lavit verify`


def test_sizes_of_weights_are_checked_whenever_a_part_is_loaded(model):
    (model / "tokenizer" / "model.safetensors").write_bytes(b"short")
    for check in (lambda: find_part(model, "tokenizer"), lambda: find_part(model, "tokenizer")):
        with pytest.raises(InputError, match=r"model.safetensors: 5 bytes, expected 200 bytes; .*`lavit verify "):
            check()
    find_part(model, "encoder")
    (model / "tokenizer" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model.safetensors: missing, expected 200 bytes"):
        find_part(model, "tokenizer")


def test_a_recorded_name_that_is_too_long_for_the_disk_is_missing(model):
    name = "x" * 300 + ".safetensors"
    record = json.loads((model / "lavit.json").read_text())
    record["parts"]["encoder"]["files"][name] = {"bytes": 1, "sha256": "a" * 64}
    write_json(model / "lavit.json", with_digest({key: record[key] for key in ("format", "parts") if key in record}))
    with pytest.raises(InputError, match=r"x.safetensors: missing, expected 1 bytes"):
        find_part(model, "encoder")
    assert "x.safetensors: missing, expected 1 bytes" in problems(model)[0]


def test_a_part_that_is_not_known_and_not_there_is_named(model):
    record = json.loads((model / "lavit.json").read_text())
    record["parts"]["vocoder"] = record["parts"].pop("encoder")
    write_json(model / "lavit.json", with_digest({"format": record["format"], "parts": record["parts"]}))
    assert missing_parts(model).endswith("no vocoder/ here (it holds encoder, tokenizer)")
    assert "make this part again with the command it is from" in "".join(problems(model))


def test_missing_and_foreign_files_are_named(model):
    (model / "encoder" / "config.json").unlink()
    (model / "tokenizer" / "note.txt").touch()
    found = problems(model)
    assert "encoder/config.json: missing, expected 2 bytes; " in found[0]
    assert "tokenizer/note.txt: found a file that lavit.json does not record, expected none" in found[1]
    assert found[1].endswith("delete it: it changes the digest of the part")
    shutil.rmtree(model / "encoder")
    assert "encoder: missing, expected what lavit.json records" in problems(model)[0]


def test_a_flipped_byte_of_lavit_json_is_noticed(model):
    file = model / "lavit.json"
    content = file.read_bytes()
    before = read_metadata(model)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        file.write_bytes(changed)
        if problems(model):
            continue
        assert {**json.loads(changed), "sha256": 0} == {**before, "sha256": 0}, place  # white space


def test_a_model_of_before_there_were_digests_loads_and_is_checked_as_a_whole(model):
    about = read_metadata(model)
    for part in about["parts"].values():
        del part["files"]
    write_json(model / "lavit.json", about)
    (model / "llm").mkdir()
    (model / "llm" / "x").touch()
    find_part(model, "tokenizer")
    found = {part.part: part.unchecked for part in verify(model, quiet=True)}
    assert found == {"lavit.json": NO_DIGEST, "encoder": "", "tokenizer": "", "llm": NOT_RECORDED}
    flip(model / "encoder" / "model.safetensors")
    [problem] = problems(model)
    assert f"{model}/encoder: SHA-256 " in problem
    assert "of all its files, expected" in problem


def test_a_token_directory_has_its_manifest_and_its_shards(tmp_path, samples, tokens):
    folder = tokens(tmp_path / "t", samples(25))
    assert [(part.part, part.problems, part.unchecked) for part in verify(folder, quiet=True)] == [
        ("manifest.json", (), ""),
        ("shards", (), ""),
    ]
    flip(folder / "shard-000001.safetensors")
    [problem] = problems(folder)
    assert "shard-000001.safetensors: SHA-256 " in problem
    assert problem.endswith("delete it and run the same `lavit tokenize-images` again")


def test_a_flipped_byte_of_a_manifest_is_noticed(tmp_path, samples, tokens):
    folder = tokens(tmp_path / "t", samples(5))
    file = folder / "manifest.json"
    content = file.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        file.write_bytes(changed)
        try:
            assert json.loads(changed) == json.loads(content)  # white space
        except (ValueError, AssertionError):
            assert problems(folder), place
    file.write_bytes(content.replace(b'"d', b'"e', 1))
    with pytest.raises(VerificationError, match=r"manifest.json: SHA-256 .* changed after it was written"):
        read_manifest(folder)


def test_a_manifest_of_before_there_were_digests_loads_and_stays_as_it_is(tmp_path, samples, tokens):
    folder = tokens(tmp_path / "t", samples(5))
    values = json.loads((folder / "manifest.json").read_text())
    del values["sha256"]
    write_json(folder / "manifest.json", values)
    assert [part.unchecked for part in verify(folder, quiet=True)] == [NO_DIGEST, ""]
    write_manifest(folder, read_manifest(folder))
    assert json.loads((folder / "manifest.json").read_text()) == values


@pytest.fixture(name="run")
def run_fixture(tmp_path, model):
    write_json(tmp_path / "run.json", {})
    write_json(tmp_path / "DONE", {})
    for step in (5, 10):
        folder = tmp_path / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        (folder / "net.safetensors").write_bytes(bytes(range(200)))
        files = {"net.safetensors": file_sha256(folder / "net.safetensors")}
        write_json(folder / "state.json", with_digest({"step": step, "state": {"best": 0.5}, "files": files}))
    return tmp_path


def test_a_run_has_its_checkpoints_and_its_model(run):
    assert [part.part for part in verify(run, quiet=True)] == [
        "checkpoints/step-00000005",
        "checkpoints/step-00000010",
        "model/lavit.json",
        "model/encoder",
        "model/tokenizer",
        "record of the run",
    ]
    assert problems(run) == []


@pytest.mark.parametrize("name", ["net.safetensors", "state.json"])
def test_every_flipped_byte_of_a_checkpoint_is_named(run, name):
    file = run / "checkpoints" / "step-00000010" / name
    content = file.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        file.write_bytes(changed)
        found = problems(run)
        if name == "state.json" and not found:
            assert json.loads(changed) == json.loads(content)  # white space
            continue
        assert len(found) == 1
        assert str(file) in found[0]
        assert found[0].endswith("the same command goes on from an older checkpoint")


def test_every_flipped_byte_of_a_finished_run_s_record_is_named(tmp_path):
    with open_run(tmp_path, command="train", config={"lr": 1e-5}, inputs={}) as run:
        run.log({"step": 1, "loss": 0.25})
        run.warn([Diagnostic("codes", "few")], step=1, phase="all")
        [unfinished] = verify(tmp_path, quiet=True)
        assert "digests of it are written when the run is finished" in unfinished.line()
        run.finish({"steps": 1, "seconds": 0.5})
    assert [part.line() for part in verify(tmp_path)] == [
        "record of the run: 6 files, 0.0 MB, every byte as it was written"
    ]
    for name in ("config.yaml", "run.json", "metrics.jsonl", "warnings.jsonl", "DONE", "digests.json"):
        content = (tmp_path / name).read_bytes()
        for place in range(0, len(content), 7):
            changed = bytearray(content)
            changed[place] ^= 1 << place % 8
            (tmp_path / name).write_bytes(changed)
            [problem] = problems(tmp_path)
            assert str(tmp_path / name) in problem or name == "digests.json"
        (tmp_path / name).write_bytes(content)
    (tmp_path / "metrics.jsonl").unlink()
    assert [problem.partition(": ")[2].partition(",")[0] for problem in problems(tmp_path)] == ["missing"]
    with open_run(tmp_path, command="train", config={"lr": 1e-5}, inputs={}) as run:
        assert run.done == {"steps": 1, "seconds": 0.5}


def test_a_finished_run_without_its_model_is_named(run):
    shutil.rmtree(run / "model")
    assert problems(run) == [f"{run}/model/lavit.json: missing, expected the model of a finished run; run it again"]
    flip(run / "checkpoints" / "step-00000005" / "net.safetensors")
    assert len(problems(run)) == 2


def test_what_is_neither_is_refused(tmp_path, model):
    with pytest.raises(InputError, match="absent: no such directory, expected a model, token or run directory"):
        verify(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no lavit.json .* and no manifest.json"):
        verify(tmp_path / "empty")


def test_a_folder_of_token_directories_names_them(tmp_path, samples, tokens):
    tokens(tmp_path / "train", samples(2))
    with pytest.raises(InputError, match=rf"holds the token directories train; give one, say {tmp_path / 'train'}"):
        verify(tmp_path, quiet=True)
