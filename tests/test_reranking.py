"""`lavit generate` with somebody looking on: best of N by a CLIP, a safety checker, and the released presets."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from lavit.reranking import candidate_seeds
from lavit_core.command import CommonOptions
from lavit_core.images import square_pixels
from lavit_detokenizer.api import DrawSettings
from lavit_evaluation.api import load_clip, similarities
from lavit_pretrain.api import SampleSettings, encode_images, load_llm, text_log_likelihoods
from lavit_tokenizer.api import load_tokenizer
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from lavit_cli.generate import generate, open_painter
from lavit_cli.generate_settings import GenerateSettings, generate_settings

PROMPT = "a red circle"
VISION = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
          "image_size": 16, "patch_size": 8}  # fmt: skip
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
        "vocab_size": 8, "max_position_embeddings": 8, "eos_token_id": 3}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny tensors: threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP that knows three words."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8)).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "red": 2, "</s>": 3, "circle": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="</s>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def make_checker(tmp_path_factory: pytest.TempPathFactory):
    """A function that writes a random safety checker which flags whatever is `near` (a threshold) to its concepts."""

    def make(near: float, *, suffix: str = "safetensors") -> Path:
        folder = tmp_path_factory.mktemp("checker")
        torch.manual_seed(0)
        checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8))
        checker.concept_embeds.data.normal_()
        checker.special_care_embeds.data.normal_()
        checker.special_care_embeds_weights.data.fill_(2.0)
        checker.concept_embeds_weights.data.fill_(near)
        checker.save_pretrained(folder)
        if suffix == "bin":  # as published: a torch checkpoint, CLIP nested twice, a table of positions
            file = folder / "model.safetensors"
            file.unlink()
            nested = {
                name.replace("vision_model.", "vision_model.vision_model.", 1): value
                for name, value in checker.state_dict().items()
                if not name.startswith("vision_model.vision_model.")
            }
            nested["vision_model.vision_model.embeddings.position_ids"] = torch.arange(5)[None]
            torch.save(nested, folder / "pytorch_model.bin")
        return folder

    return make


def line(mini, out: Path, *more: str | Path) -> list[str | Path]:
    return ["generate", PROMPT, "--model", mini.model, "--out", out, "--num-steps", "2", "--device", "cpu", *more]


def test_the_candidate_with_the_highest_clip_similarity_is_kept(mini, here, clip: Path, tmp_path: Path) -> None:
    more = ["--best-of", "3", "--rerank-clip-model", clip, "--num-images", "2", "--seed", "5", "--json"]
    done = here(*line(mini, tmp_path / "a.png", *more))
    assert done.code == 0, done.err
    candidates = json.loads(done.out)["candidates"]
    assert [one["seed"] for one in candidates] == candidate_seeds([5, 6], 3)
    assert candidate_seeds([5], 1) == [5]
    assert len({one["seed"] for one in candidates}) == 6
    short = generate_settings(CommonOptions(), {"draw": {"num_steps": 2}})
    # Each candidate drawn alone, by its seed, and compared by hand.
    judge, sheet = load_clip(clip, "cpu"), np.asarray(Image.open(tmp_path / "a.png"))
    assert sheet.shape == (128, 2 * 128 + 8, 3)
    for image in range(2):
        own = candidates[3 * image : 3 * image + 3]
        assert [one["kept"] for one in own].count(True) == 1
        best = max(own, key=lambda one: one["clip_similarity"])
        assert best["kept"]
        alone = []
        for one in own:
            file = tmp_path / f"{one['seed']}.png"
            generate(open_painter(mini.model, short, device="cpu"), [PROMPT], file, seed=one["seed"])
            alone.append(np.asarray(Image.open(file)))
        np.testing.assert_allclose(
            similarities(judge, alone, [PROMPT] * 3), [one["clip_similarity"] for one in own], atol=2e-3
        )
        shown = sheet[:: 128 // 32, image * 136 : image * 136 + 128 : 4]
        assert (np.abs(shown.astype(int) - alone[own.index(best)].astype(int)) <= 2).all()
    again = here(*line(mini, tmp_path / "b.png", *more))
    assert json.loads(again.out)["candidates"] == candidates
    info = Image.open(tmp_path / "a.png").info
    assert json.loads(info["candidates"]) == candidates
    assert list(json.loads(info["clip"])["clip_digests"]) == ["model.safetensors"]


def test_similarity_is_the_cosine_of_the_squashed_image_and_the_text_alone(clip: Path) -> None:
    model = CLIPModel.from_pretrained(clip).eval()
    wide = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    square = np.asarray(Image.fromarray(wide).resize((16, 16), Image.Resampling.BICUBIC)).astype(np.float32) / 255
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    pixels = torch.from_numpy((square - np.float32(mean)) / np.float32(deviation)).permute(2, 0, 1)[None]
    with torch.no_grad():
        out = model(input_ids=torch.tensor([[1, 2, 4]]), pixel_values=pixels, attention_mask=torch.ones(1, 3).long())
    expected = float((out.image_embeds * out.text_embeds).sum())
    found = similarities(load_clip(clip, "cpu"), [wide], ["a red circle"])
    assert float(found[0]) == pytest.approx(expected, abs=1e-5)


def test_the_candidate_with_the_highest_likelihood_is_kept(mini, here, tmp_path: Path) -> None:
    more = ["--best-of", "3", "--num-images", "2", "--seed", "5"]
    done = here(*line(mini, tmp_path / "a.png", *more, "--json"))
    assert done.code == 0, done.err
    candidates = json.loads(done.out)["candidates"]
    assert [one["seed"] for one in candidates] == candidate_seeds([5, 6], 3)
    llm, eyes = load_llm(mini.model, device="cpu"), load_tokenizer(mini.model, device="cpu", use="encode")
    short = generate_settings(CommonOptions(), {"draw": {"num_steps": 2}})
    for image in range(2):
        own = candidates[3 * image : 3 * image + 3]
        assert max(own, key=lambda one: one["log_likelihood"])["kept"]
        assert [one["kept"] for one in own].count(True) == 1
        # Each candidate drawn alone, by its seed, and read by the plain scorer.
        for one in own:
            file = tmp_path / f"{one['seed']}.png"
            generate(open_painter(mini.model, short, device="cpu"), [PROMPT], file, seed=one["seed"])
            seen = encode_images(llm, eyes, square_pixels(file, eyes.config.preprocessing.image_px)[None])
            expected = next(text_log_likelihoods(llm, seen, [PROMPT]))[0]
            assert one["log_likelihood"] == pytest.approx(expected, abs=0.05)
    said = here(*line(mini, tmp_path / "b.png", *more)).out.splitlines()
    assert said[0].startswith(f"seed 5: log-likelihood of the prompt {candidates[0]['log_likelihood']:.2f}")
    assert sum(row.endswith(", kept") for row in said) == 2


def test_clip_similarities_are_printed(mini, here, clip: Path, tmp_path: Path) -> None:
    done = here(*line(mini, tmp_path / "a.png", "--best-of", "2", "--rerank-clip-model", clip))
    assert done.code == 0, done.err
    rows = done.out.splitlines()
    assert rows[0].startswith("seed 0: CLIP similarity ")
    assert rows[1].startswith(f"seed {candidate_seeds([0], 2)[1]}: CLIP similarity ")
    assert sum(row.endswith(", kept") for row in rows) == 1


@pytest.mark.parametrize(
    ("code", "more", "message"),
    [
        (
            2,
            ["--best-of", "4", "--rerank-by", "clip"],
            "best of 4 (preset tiny) needs a CLIP model to choose by: give --rerank-clip-model DIR",
        ),
        (
            2,
            ["--best-of", "2", "--rerank-by", "likelihood", "--rerank-clip-model", "CLIP"],
            "--rerank-clip-model and --rerank-by likelihood: give one",
        ),
        (2, ["--preset", "released-fid"], "best of 4 (preset released-fid) needs a CLIP model to choose by"),
        (2, ["--rerank-clip-model", "CLIP"], "--rerank-clip-model chooses among candidates: give --best-of N too"),
        (
            3,
            ["--best-of", "2", "--rerank-clip-model", "nothing"],
            "nothing: no config.json here, expected a transformers",
        ),
        (3, ["--safety-checker", "nothing"], "--safety-checker nothing: no config.json here"),
        (3, ["--safety-checker", "CLIP"], "weights"),
        (2, ["--preset", "huge"], "generate has the presets base, published, released-fid, released-v2-readme, tiny"),
        (3, ["--preset", "released-v2-readme"], "no detokenizer-highres/ here"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    mini, here, clip: Path, tmp_path: Path, code: int, more: list[str], message: str
) -> None:
    done = here(*line(mini, tmp_path / "a.png", *(clip if word == "CLIP" else word for word in more)))
    assert done.code == code, done.err
    assert message in done.last_error
    assert not list(tmp_path.iterdir())


def test_best_of_needs_a_text(mini, here, clip: Path, tmp_path: Path) -> None:
    image = mini.heldout / "images/000000.png"
    arguments = ["generate", "--image", image, "--model", mini.model, "--out", tmp_path / "a.png"]
    done = here(*arguments, "--best-of", "2", "--rerank-clip-model", clip)
    assert done.code == 2
    assert "best of 2 compares images with the text of the prompt, which has no text" in done.last_error


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_flagged_images_are_black(mini, here, make_checker, tmp_path: Path, suffix: str) -> None:
    checker = make_checker(-1.0, suffix=suffix)  # every cosine is above
    done = here(*line(mini, tmp_path / "a.png", "--num-images", "2", "--safety-checker", checker))
    assert done.code == 0, done.err
    assert "2 of 2 image(s) flagged by the safety checker: black" in done.out
    image = Image.open(tmp_path / "a.png")
    assert json.loads(image.info["flagged"]) == [True, True]
    assert image.info["safety_checker"] == str(checker)
    assert set(np.unique(np.asarray(image))) == {0, 255}  # black images, white gap


def test_images_that_are_not_flagged_stay_as_they_are(mini, here, make_checker, tmp_path: Path) -> None:
    assert here(*line(mini, tmp_path / "plain.png")).code == 0
    done = here(*line(mini, tmp_path / "a.png", "--safety-checker", make_checker(1.0)))
    assert done.code == 0, done.err
    assert "flagged" not in done.out
    assert json.loads(Image.open(tmp_path / "a.png").info["flagged"]) == [False]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(Image.open(tmp_path / "plain.png")))


def test_the_safety_checker_agrees_with_diffusers(make_checker) -> None:
    from lavit_detokenizer.api import load_safety_checker

    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    images[6:] //= 8
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    pixels = (images.astype(np.float32) / 255 - np.float32(mean)) / np.float32(deviation)
    folder = make_checker(0.0)
    checker = StableDiffusionSafetyChecker.from_pretrained(folder).eval()
    with torch.no_grad():
        near = checker.visual_projection(checker.vision_model(torch.from_numpy(pixels).permute(0, 3, 1, 2))[1])
    cosines = torch.nn.functional.normalize(near) @ torch.nn.functional.normalize(checker.concept_embeds.detach()).T
    # A threshold between the images, so that some are flagged and some are not.
    middle = make_checker(round(float(cosines.max(1).values.median()), 3))
    checker = StableDiffusionSafetyChecker.from_pretrained(middle).eval()
    _, expected = checker(clip_input=torch.from_numpy(pixels).permute(0, 3, 1, 2), images=images.copy())
    assert 0 < sum(expected) < 12
    assert load_safety_checker(middle, device="cpu")(images).tolist() == expected


def test_the_released_presets() -> None:
    def settings(preset: str) -> tuple[GenerateSettings, SampleSettings, DrawSettings]:
        chosen = generate_settings(CommonOptions(preset=preset), {})
        return chosen, chosen.sample, chosen.draw

    whole, codes, pixels = settings("released-v2-readme")
    assert (whole.highres, whole.best_of) == (True, 1)
    assert (codes.guidance_scale, codes.image_guidance_scale, codes.prompt_images) == (4.0, 5.0, "bare")
    assert (codes.top_k, codes.top_p, codes.temperature, codes.min_codes, codes.max_codes) == (50, 1.0, 1.0, 20, 200)
    assert (pixels.sampler, pixels.num_steps, pixels.guidance_scale) == ("ddim", 25, 7.0)
    whole, codes, pixels = settings("released-fid")
    assert (whole.highres, whole.best_of) == (False, 4)
    assert (codes.guidance_scale, codes.top_k, codes.top_p, codes.temperature) == (1.5, 300, 1.0, 1.0)
    assert (pixels.sampler, pixels.num_steps, pixels.guidance_scale) == ("ddim", 50, 1.5)
    for preset, rerank_by in {"tiny": "likelihood", "base": "likelihood", "published": "clip"}.items():
        whole = settings(preset)[0]
        assert (whole.highres, whole.best_of, whole.rerank_by) == (False, 1, rerank_by)
