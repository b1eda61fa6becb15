"""What a pretraining run reads, looked at before it begins."""

import dataclasses
import shutil

import numpy as np
from lavit_core.modeldir import part_digest
from lavit_core.tokens import Manifest, TokenSample, write_manifest, write_shard
from lavit_pretrain.training_inputs import open_inputs


def test_a_run_without_any_text_is_told(world, tiny_config, tmp_path, capsys) -> None:
    bare = TokenSample(key="a.png", codes=np.array([1, 2]), keep_mask=np.arange(16) < 2)
    digest = part_digest(world.model / "tokenizer")
    for name, sample in (("bare", bare), ("captioned", dataclasses.replace(bare, texts=("a dog",)))):
        (tmp_path / name).mkdir()
        entry = write_shard(tmp_path / name, "shard-000000.safetensors", [sample], codebook_size=64, grid=(4, 4))
        write_manifest(
            tmp_path / name, Manifest(tokenizer_digest=digest, codebook_size=64, grid=(4, 4), shards=(entry,))
        )
    settings = tiny_config(image_input="codes")
    shutil.copy(world.questions, tmp_path / "questions.jsonl")
    for name, questions, expected in (
        ("bare", [], True),
        ("bare", [tmp_path / "questions.jsonl"], False),
        ("captioned", [], False),
    ):
        open_inputs(settings, [tmp_path / name], world.model, questions=questions, text=[], llm=None, data=None)
        assert ("no image has a caption, and neither --questions nor --text" in capsys.readouterr().err) is expected
