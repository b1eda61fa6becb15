"""Linear probes: the regression, where it reads, whose labels, the split, and a whole run on an untrained tokenizer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.data import open_data
from lavit_core.errors import InputError
from lavit_core.images import square_pixels
from lavit_core.modeldir import export_part
from lavit_evaluation.cli import evaluate
from lavit_evaluation.compute import Compute
from lavit_evaluation.config import ProbeConfig
from lavit_evaluation.probing.features import STATIONS, patches_inside, reading_weights
from lavit_evaluation.probing.labels import read_labels
from lavit_evaluation.probing.linear_probe import fit_probe
from lavit_evaluation.probing.probe import eval_probe
from lavit_evaluation.probing.show_probe import show_probe
from rich.console import Console
from typer.testing import CliRunner

QUIET = Compute(quiet=True)


@pytest.fixture
def short_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop fits early: they take most of the time where their quality is not what a test is about."""
    monkeypatch.setattr("lavit_evaluation.probing.linear_probe.MAX_ITERATIONS", 5)


def names(count: int) -> list[str]:
    return [f"p{index}" for index in range(count)]


def test_a_probe_finds_what_is_linear_and_nothing_in_noise() -> None:
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, 600)
    centres = draw.normal(size=(3, 20))
    x = (centres[y] + 0.3 * draw.normal(size=(600, 20))).astype(np.float32)
    x[:, 5] = 1.0  # a constant column must not become a division by zero
    probe = fit_probe(x[:400], y[:400], names(400), num_classes=3, seed=0)
    assert (probe.predict(x[400:]) == y[400:]).mean() > 0.98
    noise = draw.normal(size=(600, 20)).astype(np.float32)
    probe = fit_probe(noise[:400], y[:400], names(400), num_classes=3, seed=0)
    assert 0.2 < (probe.predict(noise[400:]) == y[400:]).mean() < 0.47


def test_the_fit_is_the_minimum_of_its_loss() -> None:
    torch = pytest.importorskip("torch")
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(200, 6)), draw.integers(0, 3, 200)
    probe = fit_probe(x.astype(np.float32), y, names(200), num_classes=3, seed=0)
    standard = torch.from_numpy((x.astype(np.float32) - probe.mean) / probe.scale).double()
    weight, bias = (torch.from_numpy(part).requires_grad_(True) for part in (probe.weight, probe.bias))
    loss = torch.nn.functional.cross_entropy(standard @ weight + bias, torch.from_numpy(y))
    (loss + probe.l2 / 2 * weight.square().sum()).backward()
    assert float(weight.grad.abs().max()) < 1e-4
    assert float(bias.grad.abs().max()) < 1e-4


def test_a_box_reads_the_patches_whose_centre_it_holds_or_the_nearest() -> None:
    everywhere = np.ones(16, dtype=bool)
    inside = patches_inside((10, 10, 30, 30), (40, 40), (4, 4))  # centres at 5, 15, 25, 35
    assert np.flatnonzero(inside).tolist() == [5, 6, 9, 10]
    assert reading_weights((10, 10, 30, 30), (40, 40), (4, 4), everywhere)[5] == pytest.approx(0.25)
    # A wide image is squashed: its patches are wide too, with centres at 10, 30, 50, 70.
    assert np.flatnonzero(patches_inside((10, 10, 29, 30), (80, 40), (4, 4))).tolist() == [4, 8]
    point = reading_weights((36, 4, 36, 4), (40, 40), (4, 4), everywhere)
    assert np.flatnonzero(point).tolist() == [3]
    only = np.zeros(16, dtype=bool)
    only[[0, 12]] = True
    assert np.flatnonzero(reading_weights((30, 0, 40, 10), (40, 40), (4, 4), only)).tolist() == [0]
    assert reading_weights(None, (40, 40), (4, 4), only)[12] == pytest.approx(0.5)


def test_drawn_objects_carry_their_labels_and_combinations(shapes_data: Path, scene_rows: list[dict]) -> None:
    labels = read_labels(open_data(shapes_data / "heldout"))
    assert labels.source == "scenes.jsonl"
    objects = [(row, thing) for row in scene_rows for thing in row["objects"]]
    assert [one.value for one in labels.by_kind["colour"]] == [thing["colour"] for _, thing in objects]
    held_out = {("yellow", "triangle"), ("blue", "circle"), ("purple", "square")}
    expected = ["unseen" if (thing["colour"], thing["shape"]) in held_out else "seen" for _, thing in objects]
    assert [one.combination for one in labels.by_kind["shape"]] == expected
    place = {(one.key, one.box): one.value for one in labels.by_kind["place"]}
    assert 0 < len(place) < len(objects)  # objects near the middle lines are not asked about
    for row, thing in objects:
        x, y, radius = thing["x"], thing["y"], thing["radius"]
        key = (row["file_name"], (x - radius, y - radius, x + radius, y + radius))
        if key in place:
            assert place[key] == f"{'top' if y < 32 else 'bottom'} {'left' if x < 32 else 'right'}"
            assert min(abs(x - 32), abs(y - 32)) > 4


def write_labels(folder: Path, rows: list[dict], file: str = "labels.jsonl") -> Path:
    (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / file


@pytest.fixture
def own_data(shapes_data: Path, tmp_path: Path) -> Path:
    """Images with captions alone, as somebody else would bring them."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "images").symlink_to(shapes_data / "heldout" / "images")
    (folder / "captions.jsonl").write_text((shapes_data / "heldout" / "captions.jsonl").read_text())
    return folder


def test_labels_of_ones_own(own_data: Path) -> None:
    rows = [
        {"file_name": "images/000000.png", "label": "dog", "kind": "animal", "box": [1, 2, 30, 40]},
        {"file_name": "images/000001.png", "label": 3},
        {"file_name": "images/000002.png", "label": "cat", "kind": "animal", "point": [5, 6]},
    ]
    write_labels(own_data, rows)
    found = read_labels(open_data(own_data))
    assert found.source == "labels.jsonl"
    assert [(one.value, one.box) for one in found.by_kind["animal"]] == [("dog", (1, 2, 30, 40)), ("cat", (5, 6, 5, 6))]
    assert [(one.value, one.box) for one in found.by_kind["label"]] == [("3", None)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"label": "dog"}, "labels.jsonl:1: found .* expected an object with file_name, label"),
        ({"file_name": "images/000000.png", "label": None}, "label is null, expected a string"),
        ({"file_name": "images/000000.png", "label": "a", "box": [3, 0, 1, 1]}, r"box is \[3, 0, 1, 1\], expected"),
        ({"file_name": "images/000000.png", "label": "a", "point": [1, "2"]}, r"point is .* expected \[x, y\]"),
        ({"file_name": "nowhere.png", "label": "a"}, "no label is about an image of the data"),
    ],
)
def test_broken_labels_are_named(own_data: Path, row: dict, words: str) -> None:
    write_labels(own_data, [row])
    with pytest.raises(InputError, match=words):
        read_labels(open_data(own_data))


def test_data_without_any_label_says_what_to_write(own_data: Path) -> None:
    with pytest.raises(InputError, match=r"nothing to probe for; write labels\.jsonl with lines"):
        read_labels(open_data(own_data))


def test_questions_asked_of_many_images_are_labels(own_data: Path, shapes_data: Path) -> None:
    text = (shapes_data / "heldout" / "questions.jsonl").read_text()
    (own_data / "questions.jsonl").write_text(text)
    found = read_labels(open_data(own_data))
    assert found.source == "questions.jsonl"
    counts = {one.value for one in found.by_kind["how many shapes are there?"]}
    assert counts == {"one", "two"}
    assert len(found.by_kind) == 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tokenizer that keeps about half of the patches."""
    torch = pytest.importorskip("torch")
    from lavit_core.images import Preprocessing
    from lavit_tokenizer.config import SmallVitConfig, TokenizerConfig
    from lavit_tokenizer.encoder import Encoder
    from lavit_tokenizer.small_vit import SmallVit
    from lavit_tokenizer.tokenizer import VisualTokenizer
    from lavit_tokenizer.tokenizer_folder import write_tokenizer

    torch.manual_seed(0)
    torch.set_num_threads(1)
    vision = SmallVitConfig(preprocessing=Preprocessing(image_px=64), width=32, layers=1, heads=2, mlp_dim=64)
    encoder = Encoder(
        SmallVit(vision), preprocessing=vision.preprocessing, grid=vision.grid, feature_dim=32, num_prefix=0
    )
    config = TokenizerConfig(
        preprocessing=vision.preprocessing, grid=vision.grid, feature_dim=32, merger_layers=1, heads=2, mlp_dim=64,
        codebook_size=16, code_dim=4, decoder_layers=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("probed") / "model"
    with export_part(folder, "tokenizer") as part:
        write_tokenizer(VisualTokenizer(config, encoder).eval(), part)
    return folder


CONFIG = ProbeConfig(fit_pictures=60, test_pictures=40, min_labels=5)


def test_a_whole_run_reads_colour_before_the_codebook_and_writes_its_score(
    model: Path, shapes_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "score"
    result = eval_probe(model, shapes_data / "heldout", out, CONFIG, compute=QUIET)
    metrics = result["figures"]
    for kind in ("colour", "shape", "place"):
        for station in STATIONS:
            assert metrics[f"probe.{kind}.{station}"]["count"] > 30
    # Even random features hold colour; sixteen random codes hold little of anything.
    assert metrics["probe.colour.encoder"]["value"] > 0.5
    assert metrics["probe.colour.encoder"]["value"] > metrics["probe.colour.codes"]["value"]
    assert metrics["probe.colour.chance"]["value"] == pytest.approx(1 / 6)
    assert metrics["probe.shape.encoder.unseen"]["count"] > 0
    assert result["notes"]["labels"] == "scenes.jsonl"
    assert json.loads((out / "score.json").read_text()) == result
    assert eval_probe(model, shapes_data / "heldout", out, CONFIG, compute=QUIET) == result
    again = eval_probe(model, shapes_data / "heldout", None, CONFIG, compute=QUIET)
    assert again["figures"] == metrics
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show_probe(result, console)
    shown = console.export_text()
    row = next(line for line in shown.splitlines() if "code vectors" in line)
    assert len(row.split()) == 2 + 2 * 6
    assert "colour, unseen" in shown
    assert "…" not in shown


@pytest.mark.usefixtures("short_fits")
@pytest.mark.parametrize(("name", "limit"), [("dense_stations", 1), ("dense_stations", 3), ("fit_probe", 4)])
def test_killed_and_resumed_is_the_same_and_computes_nothing_twice(
    model: Path, shapes_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Any, name: str, limit: int
) -> None:
    from lavit_evaluation.probing import features, probe

    module = features if name == "dense_stations" else probe
    monkeypatch.setattr(module, name, calls.counted(getattr(module, name)))
    whole = eval_probe(model, shapes_data / "heldout", tmp_path / "whole", CONFIG, compute=QUIET)
    asked, calls.made, calls.limit = calls.made, 0, limit
    with pytest.raises(KeyboardInterrupt):
        eval_probe(model, shapes_data / "heldout", tmp_path / "o", CONFIG, compute=QUIET)
    calls.limit = asked
    result = eval_probe(model, shapes_data / "heldout", tmp_path / "o", CONFIG, compute=QUIET)
    assert calls.made == asked
    assert list(result["figures"].items()) == list(whole["figures"].items())
    assert not (tmp_path / "o" / "unfinished").exists()


def test_fitted_images_are_never_scored(model: Path, own_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lavit_evaluation.probing import probe

    seen: list[set[str]] = []
    real = probe.read_places

    def spy(session: object, model: object, data: object, places: list, **options: object) -> object:
        seen.append({key for key, _ in places})
        return real(session, model, data, places, **options)

    monkeypatch.setattr(probe, "read_places", spy)
    write_labels(own_data, [{"file_name": f"images/{n:06d}.png", "label": n // 2 % 2} for n in range(100)])
    result = eval_probe(model, own_data, None, CONFIG.model_copy(update={"test_share": 0.3}), compute=QUIET)
    fit, test = seen
    assert (len(fit), len(test)) == (60, 30)
    assert not fit & test
    # Labels that say nothing about the images: near chance at every station.
    assert all(result["figures"][f"probe.label.{station}"]["value"] < 0.8 for station in STATIONS)


@pytest.mark.usefixtures("short_fits")
def test_a_probe_warns_of_the_scored_images_tokens(model: Path, shapes_data: Path) -> None:
    from lavit import LaVIT
    from lavit_tokenizer.api import diagnose_tokens, facts_of, patch_detail

    heldout = open_data(shapes_data / "heldout")
    config = CONFIG.model_copy(update={"test_pictures": len(heldout.records)})
    train = shapes_data / "train"
    result = eval_probe(model, heldout.root, None, config, train_data=train, compute=QUIET)
    opened = LaVIT.from_pretrained(model)
    tokens = opened.encode([record.image for record in heldout.records])
    pixels = np.stack([square_pixels(record.image, 64) for record in heldout.records])
    counts = np.bincount(np.concatenate(tokens.codes), minlength=16)
    expected = diagnose_tokens(facts_of(tokens.keep_mask, patch_detail(pixels, opened.grid), counts))
    assert [row["kind"] for row in result["notes"]["warnings"]] == [one.kind for one in expected]
    assert [row["message"] for row in result["notes"]["warnings"]] == [one.message for one in expected]
    # Of sixteen random codes few occur; an untrained selector keeps many patches of each image, so that is no fault.
    assert "codes unused" in {one.kind for one in expected}
    assert "one-patch images" not in {one.kind for one in expected}


def test_a_kind_with_one_value_is_left_out_with_its_reason(model: Path, own_data: Path) -> None:
    write_labels(own_data, [{"file_name": f"images/{n:06d}.png", "label": "same"} for n in range(40)])
    result = eval_probe(model, own_data, None, CONFIG, compute=QUIET)
    assert result["figures"] == {}
    assert "1 values with at least 5 labels" in result["skipped"]["probe.label"]


@pytest.mark.usefixtures("short_fits")
def test_the_command(model: Path, shapes_data: Path, tmp_path: Path) -> None:
    line = ["probe", "--model", str(model), "--data", str(shapes_data / "heldout"), "--set", "fit_pictures=30"]
    shown = json.loads(CliRunner().invoke(evaluate, [*line, "--dry-run", "--json"]).stdout)
    assert (shown["config"]["fit_pictures"], shown["seed"]) == (30, 0)
    done = CliRunner().invoke(evaluate, [*line, "--json", "--set", "test_pictures=20", "--set", "min_labels=3"])
    assert json.loads(done.stdout)["data"] == {
        "path": str(shapes_data / "heldout"), "fit_pictures": 30, "test_pictures": 20,
    }  # fmt: skip
    missing = CliRunner().invoke(evaluate, ["probe", "--model", str(tmp_path), "--data", str(shapes_data / "heldout")])
    assert isinstance(missing.exception, InputError)
    assert "lavit train-tokenizer" in str(missing.exception)
    same = CliRunner().invoke(evaluate, [*line, "--train-data", str(shapes_data / "heldout")])
    assert "is the data itself" in str(same.exception)
