"""Prompts of text and images: what is laid out, what is read, and that a batch changes nothing."""

import numpy as np
import pytest
import torch
from lavit_core.errors import InputError, UsageError
from lavit_core.images import Preprocessing
from lavit_pretrain.attention import use_padded
from lavit_pretrain.config import SampleSettings
from lavit_pretrain.language_model import LanguageModel, VisualAbout, build_llm
from lavit_pretrain.prompts import read_prompts
from lavit_pretrain.reading import encode_images
from lavit_pretrain.sampler import sample_codes
from lavit_pretrain.sequence import tokenize_prompt
from lavit_tokenizer.api import VisualTokenizer, new_merger
from lavit_tokenizer.config import SmallVitConfig, TokenizerConfig
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.small_vit import SmallVit
from lavit_trainkit.device import generator
from PIL import Image

VISION = SmallVitConfig(preprocessing=Preprocessing(image_px=16), patch_px=4, width=16, layers=1, heads=2, mlp_dim=32)
SHAPE = {"merger_layers": 1, "heads": 2, "mlp_dim": 32, "codebook_size": 24, "code_dim": 8, "decoder_layers": 1}


@pytest.fixture(scope="module")
def tokenizer() -> VisualTokenizer:
    torch.manual_seed(0)
    encoder = Encoder(
        SmallVit(VISION), preprocessing=VISION.preprocessing, grid=VISION.grid, feature_dim=16, num_prefix=0
    )
    config = TokenizerConfig(preprocessing=VISION.preprocessing, grid=VISION.grid, feature_dim=16, **SHAPE)
    tokenizer = VisualTokenizer(config, encoder)
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return tokenizer.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def build(tiny_config, tokenizer):
    """A function that gives a random language model of an `image_input`."""

    def make(image_input: str) -> LanguageModel:
        torch.manual_seed(1)
        network, text, vocabulary = build_llm(tiny_config().llm, None, ["a red circle"] * 3, 24)
        about = VisualAbout(
            image_input=image_input,
            text_vocab=vocabulary.text_vocab,
            codebook_size=24,
            feature_dim=16,
            grid=(4, 4),
            preprocessing={},
            tokenizer_digest="0" * 64,
            code_range=(3, 9),
        )
        # Large weights: an untrained model hardly hears its prompt otherwise.
        for matrix in (parameter for parameter in network.parameters() if parameter.ndim == 2):
            matrix.data.normal_(0, 0.4)
        use_padded(network)
        merger = new_merger(tokenizer.config) if image_input == "live" else None
        return LanguageModel(network, text, about, merger).eval().requires_grad_(False)

    return make


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


def test_parts_stand_in_their_order(build):
    llm = build("codes")
    vocabulary, word = llm.vocabulary, llm.codec.encode("red").tolist()
    codes, more = np.array([0, 5]), np.array([7])
    first = [vocabulary.img, vocabulary.first_code, vocabulary.first_code + 5, vocabulary.end_img]
    second = [vocabulary.img, vocabulary.first_code + 7, vocabulary.end_img]
    assert tokenize_prompt(llm, [codes, "red", more]).ids.tolist() == [*first, *word, *second, vocabulary.img]
    assert tokenize_prompt(llm, ["red", codes]).ids.tolist() == [*word, *first, vocabulary.img]
    assert tokenize_prompt(llm, "red").ids.tolist() == [*word, vocabulary.img]
    # Released: visual_tokenizer.tokenize_image(..., add_special=False).
    bare = tokenize_prompt(llm, [codes, "red", more], brackets=False).ids.tolist()
    assert bare == [*first[1:3], *word, second[1], vocabulary.img]


def test_continuous_rows_stand_where_codes_would(build):
    llm = build("features")
    rows = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    laid = tokenize_prompt(llm, ["red", rows, "red", rows[:1]])
    embedded = laid.embed(llm)
    projected = llm.projector(torch.from_numpy(rows))
    length = len(llm.codec.encode("red"))
    torch.testing.assert_close(embedded[length + 1 : length + 4], projected)
    torch.testing.assert_close(embedded[-3], projected[0])
    brackets = [length, length + 4, len(laid) - 4, len(laid) - 2, len(laid) - 1]
    vocabulary = llm.vocabulary
    assert laid.ids[brackets].tolist() == [
        vocabulary.img,
        vocabulary.end_img,
        vocabulary.img,
        vocabulary.end_img,
        vocabulary.img,
    ]


def test_pictures_are_read_as_the_tokenizer_reads_them(build, tokenizer, pictures, tmp_path):
    llm = build("codes")
    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    large = np.asarray(Image.fromarray(pictures[1]).resize((40, 24), Image.Resampling.NEAREST))
    read = read_prompts(llm, tokenizer, ["x", [tmp_path / "a.png", "y", large], [np.array([3]), pictures[0]]], "codes")
    squashed = np.asarray(Image.fromarray(large).resize((16, 16), Image.Resampling.BICUBIC))
    expected = [tokenizer.encode(torch.from_numpy(one[None].copy())).codes.tolist() for one in (pictures[0], squashed)]
    assert read[0] == ["x"]
    assert [part if isinstance(part, str) else part.tolist() for part in read[1]] == [expected[0], "y", expected[1]]
    assert [part.tolist() for part in read[2]] == [[3], expected[0]]


@pytest.mark.parametrize("image_input", ["features", "live"])
def test_continuous_pictures_go_through_the_models_own_merger(build, tokenizer, pictures, image_input):
    llm = build(image_input)
    read = read_prompts(llm, tokenizer, [["x", pictures[0]], [pictures[1]]], "continuous")
    seen = encode_images(llm, tokenizer, pictures[:2])
    np.testing.assert_array_equal(np.concatenate([read[0][1], read[1][0]]), seen.features)


def reference(llm: LanguageModel, embeddings: torch.Tensor, seed: int, scale: float, num_codes: int) -> list[int]:
    """One prompt at a time, whole sequences without cache or padding, the likeliest nine codes."""
    vocabulary = llm.vocabulary
    ids: list[int] = []
    uniform = torch.rand(num_codes, generator=generator(seed, "codes"), dtype=torch.float64)
    start = llm.embed(torch.tensor([vocabulary.img]))
    for step in range(num_codes):
        after = llm.embed(torch.tensor(ids, dtype=torch.int64))
        both = [
            llm.llm(inputs_embeds=torch.cat([rows, after])[None]).logits[0, -1].log_softmax(-1)
            for rows in (embeddings, start)
        ]
        scores = (scale * (both[0] - both[1]) + both[1])[vocabulary.first_code :]
        kept = scores.topk(9)
        probs = torch.zeros_like(scores).double().scatter(0, kept.indices, kept.values.double().softmax(-1))
        ids.append(vocabulary.first_code + int(torch.searchsorted(probs.cumsum(0), uniform[step], right=True)))
    return [one - vocabulary.first_code for one in ids]


@pytest.mark.parametrize(
    ("image_input", "how"), [("codes", "codes"), ("codes", "bare"), ("features", "continuous"), ("live", "continuous")]
)
def test_against_a_plain_loop_and_alone(build, tokenizer, pictures, image_input, how):
    llm = build(image_input)
    prompts = [
        [pictures[0], "a red circle"],
        "a red circle",
        ["red", pictures[1], "circle"],
        [pictures[2], pictures[3]],
        [pictures[4]],
        [pictures[0], "red"],
    ]
    settings = SampleSettings(
        guidance_scale=2.0, image_guidance_scale=3.0, prompt_images=how, top_k=9, min_codes=6, max_codes=6
    )
    seeds = list(range(6))
    together = sample_codes(llm, read_prompts(llm, tokenizer, prompts, how), seeds=seeds, settings=settings)
    for prompt, seed, codes in zip(prompts, seeds, together, strict=True):
        read = read_prompts(llm, tokenizer, [prompt], how)
        alone = sample_codes(llm, read, seeds=[seed], settings=settings, batch_size=2)[0]
        assert alone.tolist() == codes.tolist()
        embeddings = tokenize_prompt(llm, read[0], brackets=how != "bare").embed(llm)
        scale = 2.0 if isinstance(prompt, str) else 3.0
        assert reference(llm, embeddings, seed, scale, 6) == codes.tolist()
    assert len({tuple(codes.tolist()) for codes in together}) == 6


def test_every_part_of_a_prompt_counts(build, tokenizer, pictures):
    llm, settings = build("codes"), SampleSettings(guidance_scale=1, min_codes=9)
    prompts = [["red", pictures[0]], [pictures[0], "red"], [pictures[1], "red"], [pictures[0], "blue"], [pictures[0]]]
    read = read_prompts(llm, tokenizer, prompts, "codes")
    drawn = sample_codes(llm, read, seeds=[0] * 5, settings=settings)
    bare = sample_codes(llm, read, seeds=[0] * 5, settings=settings.model_copy(update={"prompt_images": "bare"}))
    assert len({tuple(codes.tolist()) for codes in [*drawn, *bare]}) == 10


def test_what_cannot_be_is_refused(build, tokenizer, pictures, tmp_path):
    with pytest.raises(UsageError, match="trained without images"):
        read_prompts(build("none"), tokenizer, [[pictures[0]]], "codes")
    llm = build("codes")
    with pytest.raises(UsageError, match="prompt_images: continuous, but this model reads images as codes"):
        read_prompts(llm, tokenizer, [[pictures[0]]], "continuous")
    with pytest.raises(InputError, match=r"gone\.png: file not found"):
        read_prompts(llm, tokenizer, [[tmp_path / "gone.png"]], "codes")
    with pytest.raises(InputError, match=r"codes lie in \[3, 24\], expected \[0, 24\)"):
        tokenize_prompt(llm, [np.array([3, 24])])
    long = [np.zeros(60, np.int64), np.zeros(60, np.int64)]
    with pytest.raises(UsageError, match=r"prompt: 125 tokens and up to 9 codes after it, more than .* 128 positions"):
        sample_codes(llm, [long], seeds=[0], settings=SampleSettings())
    assert read_prompts(build("none"), tokenizer, ["text alone"], "continuous") == [["text alone"]]
