"""CLIPScore: its variants by hand, a folder, kills, and a CLIP against the library's own forward pass."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_evaluation.compute import Compute
from lavit_evaluation.image_metrics import clip_score as module
from lavit_evaluation.image_metrics.clip_score import Clip, center_square, clip_scores, evaluate_clip_score
from PIL import Image

Draw = Callable[..., Path]

torch = pytest.importorskip("torch")

QUIET = Compute(quiet=True)


def test_clip_score_variants_by_hand() -> None:
    image = np.array([[1.0, 0.0], [1.0, 0.0]])
    prefixed = np.array([[0.6, 0.8], [-0.6, 0.8]])
    plain = np.array([[0.8, 0.6], [-0.8, 0.6]])
    scores = clip_scores(image, prefixed, plain)
    assert scores["clip_score"].tolist() == [1.5, 0.0]
    assert scores["clip_score.torchmetrics"].tolist() == [80.0, 0.0]
    assert scores["clip_score.cosine"].tolist() == [0.8, -0.8]


def test_clip_score_of_a_folder(draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw(tmp_path / "d", 3, 10)
    rows = [{"file_name": f"{n:04d}.png", "captions": [f"prompt {n}"]} for n in range(3)]
    (drawn / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    heard: list[str] = []

    def texts(said: Sequence[str]) -> np.ndarray:
        heard.extend(said)
        return np.array([[1.0, 0.0]] * len(said))

    clip = Clip(images=lambda images: np.array([[0.6, 0.8]] * len(images)), texts=texts, image_px=8, metadata={})
    monkeypatch.setattr(module, "load_clip", lambda *given: clip)
    result = evaluate_clip_score(drawn, tmp_path / "o", Path("none"), compute=QUIET)
    assert result["figures"]["clip_score"]["value"] == pytest.approx(1.5)
    assert heard[:3] == [f"A photo depicts prompt {n}" for n in range(3)]
    assert heard[3:] == [f"prompt {n}" for n in range(3)]
    (drawn / "0009.png").write_bytes((drawn / "0000.png").read_bytes())
    with pytest.raises(InputError, match=r"1 images have no prompt, say 0009.png"):
        evaluate_clip_score(drawn, tmp_path / "o", Path("none"), compute=QUIET)
    for name in ("0009.png", "0001.png"):
        (drawn / name).unlink()
    with pytest.raises(InputError, match=r"1 prompts have no image, say 0001.png"):
        evaluate_clip_score(drawn, tmp_path / "o", Path("none"), compute=QUIET)


def test_clip_score_killed_and_resumed_scores_nothing_twice(
    draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = draw(tmp_path / "d", 10, 10)
    rows = [{"file_name": f"{n:04d}.png", "captions": [f"prompt {n}"]} for n in range(10)]
    (drawn / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen: list[int] = []

    def clip(most: int) -> Clip:
        def images(pixels: Sequence[np.ndarray]) -> np.ndarray:
            if len(seen) + len(pixels) > most:
                raise KeyboardInterrupt
            seen.extend(int(one.sum()) for one in pixels)
            angles = np.array([float(one.sum() % 7) for one in pixels])
            return np.stack([np.cos(angles), np.sin(angles)], axis=1)

        return Clip(images=images, texts=lambda said: np.array([[0.6, 0.8]] * len(said)), image_px=8, metadata={})

    compute = Compute(batch_size=3, quiet=True)
    monkeypatch.setattr(module, "load_clip", lambda *given: clip(10))
    whole = evaluate_clip_score(drawn, tmp_path / "whole", Path("none"), compute=compute)
    seen.clear()
    monkeypatch.setattr(module, "load_clip", lambda *given: clip(7))
    with pytest.raises(KeyboardInterrupt):
        evaluate_clip_score(drawn, tmp_path / "o", Path("none"), compute=compute)
    assert len(seen) == 6
    monkeypatch.setattr(module, "load_clip", lambda *given: clip(10))
    result = evaluate_clip_score(drawn, tmp_path / "o", Path("none"), compute=compute)
    assert len(seen) == 10
    assert result["figures"] == whole["figures"]
    items = [(tmp_path / name / "items.jsonl").read_bytes() for name in ("o", "whole")]
    assert items[0] == items[1]


def test_clip_from_a_local_directory_is_the_library_s(tiny_clip: Path, tmp_path: Path) -> None:
    """A tiny random CLIP: our cosine is that of the library's own forward pass."""
    transformers = pytest.importorskip("transformers")
    from lavit_evaluation.image_metrics.clip_score import load_clip

    model, fast = (
        transformers.CLIPModel.from_pretrained(tiny_clip),
        transformers.AutoTokenizer.from_pretrained(tiny_clip),
    )
    file = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 20, 3), dtype=np.uint8)).save(file)
    clip = load_clip(tiny_clip, "cpu")
    pixels = center_square(file, clip.image_px)
    assert pixels.shape == (16, 16, 3)
    cosine = float((clip.images([pixels]) * clip.texts(["a dog"])).sum())
    from lavit_core.images import CLIP_MEAN, CLIP_STD

    scaled = (torch.from_numpy(pixels.copy()).float() / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    with torch.inference_mode():
        out = model(pixel_values=scaled.permute(2, 0, 1)[None], **fast(["a dog"], return_tensors="pt"))
        expected = float(out.logits_per_image[0, 0] / model.logit_scale.exp())
    assert cosine == pytest.approx(expected, abs=1e-5)
    # Weights that are stored in half precision are computed in fp32: only their own rounding shows.
    half = model.half()
    half.save_pretrained(tmp_path / "half")
    fast.save_pretrained(tmp_path / "half")
    stored = load_clip(tmp_path / "half", "cpu")
    with torch.inference_mode():
        out = half.float()(pixel_values=scaled.permute(2, 0, 1)[None], **fast(["a dog"], return_tensors="pt"))
        expected = float(out.logits_per_image[0, 0] / model.logit_scale.exp())
    assert float((stored.images([pixels]) * stored.texts(["a dog"])).sum()) == pytest.approx(expected, abs=1e-6)
    assert list(clip.metadata["clip_digests"]) == ["model.safetensors"]
    with pytest.raises(InputError, match=r"no config\.json here"):
        load_clip(tmp_path, "cpu")


def test_a_clip_without_some_weights_is_refused(tiny_clip: Path, tmp_path: Path) -> None:
    """transformers draws missing weights at random and goes on: a score by them would be noise."""
    from lavit_evaluation.image_metrics.clip_score import load_clip
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_clip, tmp_path / "clip")
    file = tmp_path / "clip" / "model.safetensors"
    tensors = load_file(file)
    kept = {name: value for name, value in tensors.items() if not name.startswith("text_projection")}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights of CLIP are missing \(first: text_projection\.weight\)"):
        load_clip(tmp_path / "clip", "cpu")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"--clip-model .*: not a whole safetensors file"):
        load_clip(tmp_path / "clip", "cpu")
