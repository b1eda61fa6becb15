"""train-tokenizer: exact resume, refusals, warnings. (Sizes: tests/conftest.py.)"""

import json
import re

import numpy as np
import pytest
import torch
from lavit_core.data import open_data
from lavit_core.errors import InputError, Interrupted, LavitError, UsageError
from lavit_core.follow import UNFOLLOWED, FollowOptions
from lavit_core.rundir import read_metrics, read_warnings
from lavit_tokenizer import phase_step
from lavit_tokenizer import train_tokenizer as tokenizer_verb
from lavit_tokenizer.config import ModelSettings
from lavit_tokenizer.phase import Phase
from lavit_tokenizer.quantizer import Quantizer
from lavit_tokenizer.tokenizer_folder import load_tokenizer
from lavit_trainkit.pixels import Pixels
from lavit_trainkit.testing import Killed, have_equal_weights, kill_at_step, metrics_of, stop_at_step

from .conftest import MODEL, make_tokenizer, own_phases, phases, tokenizer_settings, write_images


def train_tokens(data, folder, out, follow=UNFOLLOWED, **changes):
    settings = tokenizer_settings(**changes)
    return tokenizer_verb.train_tokenizer(
        data, out, settings, model=folder, seed=3, device="cpu", follow=follow, quiet=True
    )


@pytest.mark.parametrize(("steps", "optimizer"), [(5, "adamw"), (7, "muon"), (11, "adamw"), (11, "muon")])
def test_tokenizer_resumes_to_the_same_bits(data, model, tmp_path, monkeypatch, steps, optimizer):
    (tmp_path / "model" / "tokenizer" / "config.json").unlink()  # only encoder/ is read
    whole = train_tokens(data, model, tmp_path / "whole", optimizer=optimizer)
    with monkeypatch.context() as patch:
        kill_at_step(patch, steps)
        with pytest.raises(Killed):
            train_tokens(data, model, tmp_path / "cut", optimizer=optimizer)
    again = train_tokens(data, model, tmp_path / "cut", optimizer=optimizer)
    assert have_equal_weights(tmp_path / "whole" / "model" / "tokenizer", tmp_path / "cut" / "model" / "tokenizer")
    assert metrics_of(tmp_path / "whole") == metrics_of(tmp_path / "cut")
    assert read_warnings(tmp_path / "whole") == read_warnings(tmp_path / "cut") != []
    timing = {"per_second", "seconds", "cpu_seconds", "peak_memory_bytes"}
    assert {k: v for k, v in whole.items() if k not in timing} == {k: v for k, v in again.items() if k not in timing}
    assert train_tokens(data, model, tmp_path / "cut", optimizer=optimizer) == again  # a finished run answers from DONE


@pytest.mark.parametrize("steps", [2, 5, 9])
def test_own_evidence_resumes_to_the_same_bits(data, model, tmp_path, monkeypatch, steps):
    """Killed in its first phase, in its second, and after both; what it is fitted on is no part of the checkpoint."""
    recipe = {"phases": own_phases(4), "checkpoint_every": 1}
    train_tokens(data, model, tmp_path / "whole", **recipe)
    with monkeypatch.context() as patch:
        kill_at_step(patch, steps)
        with pytest.raises(Killed):
            train_tokens(data, model, tmp_path / "cut", **recipe)
    train_tokens(data, model, tmp_path / "cut", **recipe)
    assert have_equal_weights(tmp_path / "whole" / "model" / "tokenizer", tmp_path / "cut" / "model" / "tokenizer")
    assert metrics_of(tmp_path / "whole") == metrics_of(tmp_path / "cut")
    names = set(load_tokenizer(tmp_path / "whole" / "model").state_dict())
    assert names == set(make_tokenizer().state_dict()), "nothing of it is exported"


@pytest.mark.parametrize("steps", [13, 15])
def test_a_factorised_codebook_resumes_to_the_same_bits(data, model, tmp_path, monkeypatch, steps):
    recipe = {"model": factored_model(8, 4), "checkpoint_every": 2}
    whole = train_tokens(data, model, tmp_path / "whole", **recipe)
    with monkeypatch.context() as patch:
        kill_at_step(patch, steps)
        with pytest.raises(Killed):
            train_tokens(data, model, tmp_path / "cut", **recipe)
    train_tokens(data, model, tmp_path / "cut", **recipe)
    assert have_equal_weights(tmp_path / "whole" / "model" / "tokenizer", tmp_path / "cut" / "model" / "tokenizer")
    assert metrics_of(tmp_path / "whole") == metrics_of(tmp_path / "cut")
    assert load_tokenizer(tmp_path / "whole" / "model").quantizer.codebook.shape == (12, 4)
    assert {"code_usage_a", "perplexity_b"} <= set(whole)
    assert {"code_usage_a", "perplexity_b"} <= set(read_metrics(tmp_path / "whole")[-1])


def test_factors_that_do_not_make_the_codebook_are_refused():
    with pytest.raises(ValueError, match=r"codebook_factors \[8, 8\] make 64 codes, codebook_size is 32; expected"):
        factored_model(8, 8)
    with pytest.raises(ValueError, match=r"code_dim is 7, expected an even number"):
        factored_model(8, 4, code_dim=7)


def factored_model(first, second, **changes):
    values = {**MODEL.model_dump(), "codebook_factors": (first, second), **changes}
    return ModelSettings.model_validate(values)


def test_a_calibrated_threshold_keeps_the_ratio_and_survives_a_kill(data, model, tmp_path, monkeypatch):
    settings = {"calibrate_threshold": True, "model": MODEL.model_copy(update={"keep_ratio": 0.25})}
    train_tokens(data, model, tmp_path / "whole", **settings)
    for steps in (7, 4):  # in step 7, the selector's phase, and in step 10, a later one
        with monkeypatch.context() as patch:
            kill_at_step(patch, steps)
            with pytest.raises(Killed):
                train_tokens(data, model, tmp_path / "cut", **settings)
    train_tokens(data, model, tmp_path / "cut", **settings)
    assert have_equal_weights(tmp_path / "whole" / "model" / "tokenizer", tmp_path / "cut" / "model" / "tokenizer")
    config = "model/tokenizer/config.json"
    assert (tmp_path / "whole" / config).read_text() == (tmp_path / "cut" / config).read_text()

    tokenizer = load_tokenizer(tmp_path / "whole" / "model")
    assert tokenizer.config.keep_threshold != 0.5
    paths = [record.image for record in open_data(data).records]
    pixels = Pixels(paths, tokenizer.config.preprocessing.image_px)
    _, keep = tokenizer.select(pixels.batch(np.arange(len(paths))))
    assert float(keep.float().mean()) == pytest.approx(0.25, abs=0.05)


def test_a_step_cut_into_passes_is_the_same_step(data, model, tmp_path):
    config = tokenizer_settings(
        precision="fp32", keep_term="image", commitment_weight=0.0, nmse_weight=0.5, log_every=1, phases=own_phases(4)
    )
    for passes in (1, 3):
        cut = config.model_copy(update={"accumulate_steps": passes, "gradient_checkpointing": passes > 1})
        tokenizer_verb.train_tokenizer(data, tmp_path / str(passes), cut, model=model, quiet=True)
    whole, cut = (read_metrics(tmp_path / passes) for passes in "13")
    assert len(whole) == len(cut)
    for name in ("loss", "cos_loss", "nmse", "keep_term", "mean_predictor", "decided", "kept_mean"):
        assert [row[name] for row in cut] == pytest.approx([row[name] for row in whole], rel=1e-5, abs=1e-5)


def test_terms_over_a_whole_step_refuse_several_passes():
    with pytest.raises(ValueError, match="accumulate_steps 2: keep_term batch needs a step's images in one pass"):
        tokenizer_settings(accumulate_steps=2, keep_term="batch", commitment_weight=0.0)
    with pytest.raises(ValueError, match="accumulate_steps 2: commitment_weight needs"):
        tokenizer_settings(accumulate_steps=2, keep_term="image", commitment_weight=0.1)


def test_the_codebook_starts_from_vectors_its_phase_quantises(data, model, tmp_path, monkeypatch):
    """An untrained selector keeps one patch an image; a phase of random masks quantises others."""
    started = []
    real = Quantizer.start_from

    def start(self, vectors, **arguments):
        started.append(vectors)
        real(self, vectors, **arguments)

    monkeypatch.setattr(Quantizer, "start_from", start)
    first = Phase(
        name="masks", num_steps=2, batch_size=8, selection="random", merger="off", quantise=True,
        train=("merger", "decoder"), mask_rates=(0.5, 0.5), lr=1e-3,
    )  # fmt: skip
    train_tokens(data, model, tmp_path / "run", phases=(first,), num_validation=4)
    assert len(started) == 1
    assert 0.4 < len(started[0]) / (36 * 16) < 0.6  # all training images at half of their patches


def test_live_features_give_the_cached_ones(data, model, tmp_path):
    precise = {"precision": "fp32", "phases": phases(2)}
    train_tokens(data, model, tmp_path / "cached", **precise)
    train_tokens(data, model, tmp_path / "live", cache_bytes=0, **precise)
    cached, live = metrics_of(tmp_path / "cached"), metrics_of(tmp_path / "live")
    for one, two in zip(cached, live, strict=True):
        assert one["cos_loss"] == pytest.approx(two["cos_loss"], abs=0.02)  # the cache is bfloat16


def test_exported_tokenizer_loads_and_carries_the_encoder(data, model, tmp_path):
    summary = train_tokens(data, model, tmp_path / "run")
    loaded = load_tokenizer(tmp_path / "run" / "model", device="cpu")
    assert loaded.config.codebook_size == 32
    assert (tmp_path / "run" / "model" / "encoder" / "config.json").exists()
    metadata = json.loads((tmp_path / "run" / "model" / "lavit.json").read_text())
    assert metadata["parts"]["tokenizer"]["digest"] == loaded.loaded.digest
    assert 0 < summary["cos_loss"] < 2
    assert summary["kept_min"] >= 1
    for key in (
        "steps",
        "per_second",
        "cpu_seconds",
        "peak_memory_bytes",
        "code_usage",
        "perplexity",
        "mean_predictor",
    ):
        assert key in summary


def test_a_signal_saves_and_names_the_next_command(data, model, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at_step(patch, 8)
        with pytest.raises(Interrupted, match=r"at step 8 of 16, state saved; run the same command"):
            train_tokens(data, model, tmp_path / "cut", checkpoint_every=1000)
    train_tokens(data, model, tmp_path / "cut", checkpoint_every=1000)
    train_tokens(data, model, tmp_path / "cut", checkpoint_every=1000)
    train_tokens(data, model, tmp_path / "whole", checkpoint_every=1000)
    assert have_equal_weights(tmp_path / "whole" / "model" / "tokenizer", tmp_path / "cut" / "model" / "tokenizer")


def test_collapse_and_an_undecided_selector_are_reported(data, model, tmp_path, monkeypatch, capsys):
    def collapse(self, vectors, *, iterations, stream):
        self.codebook.zero_()
        self.codebook[0] = vectors.mean(0)
        self.codebook[1:] -= vectors.mean(0)

    monkeypatch.setattr(Quantizer, "start_from", collapse)
    monkeypatch.setattr(Quantizer, "update", lambda self, z, codes, **_: 0)
    wide = MODEL.model_copy(update={"keep_threshold": 0.1})  # many tokens, so that few codes in use mean something
    train_tokens(data, model, tmp_path / "run", window_steps=4, model=wide)
    said = capsys.readouterr().err
    assert re.search(r"codebook collapse: [36]% of 32 codes used in the last 4 steps of phase codes", said)
    assert re.search(
        r"the selector is undecided: late in phase selector features explain \d+% of .*evidence: own", said
    )
    kinds = [row["kind"] for row in read_warnings(tmp_path / "run")]
    assert {"codebook collapse", "undecided selector"} <= set(kinds)
    assert len(kinds) == len(set(kinds)) == said.count("warning: ")
    assert all("\n" not in row["message"] for row in read_warnings(tmp_path / "run"))


def test_nan_stops_with_one_line_and_keeps_the_checkpoint(data, model, tmp_path, monkeypatch):
    real = phase_step.losses

    def poisoned(output, target, config, vectors, count=[0], **weights):  # noqa: B006
        count[0] += 1
        terms = real(output, target, config, vectors, **weights)
        return {**terms, "loss": terms["loss"] * float("nan")} if count[0] == 5 else terms

    monkeypatch.setattr(phase_step, "losses", poisoned)
    with pytest.raises(LavitError, match="loss is nan at step 4"):
        train_tokens(data, model, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "step-00000003").is_dir()


def test_unusable_input(data, model, tmp_path):
    settings = tokenizer_settings()
    with pytest.raises(UsageError, match=r"expected either --model .* or --encoder"):
        tokenizer_verb.train_tokenizer(data, tmp_path / "run", settings)
    with pytest.raises(InputError, match=r"nothing: no such directory; `lavit train-encoder` makes"):
        tokenizer_verb.train_tokenizer(data, tmp_path / "run", settings, model=tmp_path / "nothing")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match=r"no encoder/ here .*lavit train-encoder"):
        tokenizer_verb.train_tokenizer(data, tmp_path / "run", settings, model=tmp_path / "nothing")
    odd = tokenizer_settings(model=MODEL.model_copy(update={"heads": 3}))
    with pytest.raises(UsageError, match=r"model.heads: 3, expected a divisor of the encoder's width 16"):
        tokenizer_verb.train_tokenizer(data, tmp_path / "odd", odd, model=model, quiet=True)
    bare = tmp_path / "bare"
    (data / "images").rename(bare)
    (bare / "000.png").write_text("not an image")
    with pytest.raises(InputError, match=r"000.png: not a readable image"):
        train_tokens(bare, model, tmp_path / "run2")


def test_one_image_is_enough(model, tmp_path):
    one = write_images(tmp_path / "one", 1)
    train_tokens(one, model, tmp_path / "run", phases=phases(1))
    assert (tmp_path / "run" / "model" / "tokenizer" / "model.safetensors").exists()


def test_samples_change_no_weight_no_metric_and_no_random_stream(data, model, tmp_path):
    """Whoever looks at a training must not steer it; checkpoints hold the state of the optimisers too."""
    streams = {}
    for name, follow in (("unseen", FollowOptions()), ("seen", FollowOptions(sample_every=2))):
        train_tokens(data, model, tmp_path / name, follow=follow)
        streams[name] = torch.get_rng_state()
    for part in ("model", "checkpoints"):
        assert have_equal_weights(tmp_path / "unseen" / part, tmp_path / "seen" / part)
    assert metrics_of(tmp_path / "unseen") == metrics_of(tmp_path / "seen")
    assert torch.equal(streams["unseen"], streams["seen"])
    assert not (tmp_path / "unseen" / "samples").exists()
    steps = len(tokenizer_settings().phases) and sum(phase.num_steps for phase in tokenizer_settings().phases)
    sheets = {file.name for file in (tmp_path / "seen" / "samples").iterdir()}
    assert {f"{done:08d}-kept-patches.png" for done in [*range(2, steps, 2), steps]} <= sheets
    assert f"{steps:08d}-code-usage.png" in sheets
    assert "00000002-code-usage.png" not in sheets, "there is no codebook yet"
