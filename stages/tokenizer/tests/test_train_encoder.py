"""train-encoder: exact resume, exported features, refusals."""

import collections

import numpy as np
import pytest
import torch
from lavit_core.data import open_data
from lavit_core.errors import InputError, LavitError
from lavit_tokenizer import train_encoder as encoder_verb
from lavit_tokenizer.encoder_folder import load_encoder
from lavit_trainkit.pixels import Pixels
from lavit_trainkit.testing import Killed, have_equal_weights, kill_at_step, metrics_of

from .conftest import VISION, encoder_settings


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_encoder_resumes_to_the_same_bits(data, tmp_path, monkeypatch, optimizer):
    settings = encoder_settings(optimizer=optimizer)
    whole = encoder_verb.train_encoder(data, tmp_path / "whole", settings, seed=3, device="cpu", quiet=True)
    for steps in (6, 3):  # dies in step 6 (checkpoint at 3), then in step 6 again
        with monkeypatch.context() as patch:
            kill_at_step(patch, steps)
            with pytest.raises(Killed):
                encoder_verb.train_encoder(data, tmp_path / "cut", settings, seed=3, device="cpu", quiet=True)
    again = encoder_verb.train_encoder(data, tmp_path / "cut", settings, seed=3, device="cpu", quiet=True)
    assert whole["steps"] == again["steps"] == 8
    assert whole["retrieval_top1"] == again["retrieval_top1"]
    assert have_equal_weights(tmp_path / "whole" / "model" / "encoder", tmp_path / "cut" / "model" / "encoder")
    assert metrics_of(tmp_path / "whole") == metrics_of(tmp_path / "cut")
    assert load_encoder(tmp_path / "cut" / "model" / "encoder").feature_dim == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + " ", "changed since the last checkpoint"),
        (lambda text: text[:100], "not a text tokenizer"),
    ],
)
def test_word_pieces_that_changed_are_noticed(data, tmp_path, monkeypatch, change, message):
    settings = encoder_settings()
    with monkeypatch.context() as patch:
        kill_at_step(patch, 6)
        with pytest.raises(Killed):
            encoder_verb.train_encoder(data, tmp_path / "cut", settings, seed=3, device="cpu", quiet=True)
    file = tmp_path / "cut" / "text" / "tokenizer.json"
    before = file.read_text()
    file.write_text(change(before))
    assert file.read_text() != before
    with pytest.raises(LavitError, match=rf"text/tokenizer.json: {message}"):
        encoder_verb.train_encoder(data, tmp_path / "cut", settings, seed=3, device="cpu", quiet=True)


def test_features_can_come_from_an_earlier_block(data, tmp_path):
    for layers, head in ((3, 0), (2, 1)):
        vision = VISION.model_copy(update={"layers": layers, "registers": 2})
        settings = encoder_settings(vision=vision, head_layers=head)
        encoder_verb.train_encoder(data, tmp_path / f"{layers}", settings, seed=3, device="cpu", quiet=True)
    whole, cut = (load_encoder(tmp_path / name / "model" / "encoder") for name in ("3", "2"))
    assert [len(one.network.blocks) for one in (whole, cut)] == [3, 2]
    # Trained alike: every pair of rows after the second block is the same.
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    whole.network.blocks = whole.network.blocks[:2]
    assert torch.equal(whole(pixels), cut(pixels))


def test_images_without_captions_are_refused(data, tmp_path):
    bare = tmp_path / "bare"
    (data / "images").rename(bare)
    with pytest.raises(InputError, match="none of 40 images has a caption"):
        encoder_verb.train_encoder(bare, tmp_path / "enc", encoder_settings(), quiet=True)


def test_images_of_weight_3_are_shown_three_times_as_often(data, tmp_path, monkeypatch):
    (tmp_path / "few").mkdir()
    rows = (data / "captions.jsonl").read_text().splitlines()
    (tmp_path / "few" / "captions.jsonl").write_text("\n".join(rows[:4]))
    (tmp_path / "few" / "images").symlink_to(data / "images")
    (tmp_path / "two.yaml").write_text(f"sources: [{{data: {data}, name: a}}, {{data: few, weight: 3}}]")
    shown = []
    batch = Pixels.batch

    def watched(self, indices):
        shown.extend(np.asarray(indices).tolist())
        return batch(self, indices)

    monkeypatch.setattr(Pixels, "batch", watched)
    records = open_data(tmp_path / "two.yaml").records
    drawn = sum(record.weight for record in records)
    settings = encoder_settings(num_steps=drawn, batch_size=2, num_validation=4, checkpoint_every=1000)
    summary = encoder_verb.train_encoder(tmp_path / "two.yaml", tmp_path / "out", settings, device="cpu", quiet=True)
    assert summary["steps"] == drawn
    held = set(range(len(records))) - set(shown[: 2 * drawn])
    times = collections.Counter(shown[: 2 * (drawn - sum(records[place].weight for place in held))])
    assert {records[place].weight for place in times} == {1, 3}
    assert all(count == 2 * records[place].weight for place, count in times.items())
