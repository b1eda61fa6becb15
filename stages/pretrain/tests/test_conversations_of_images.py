"""Conversations about several images or none: training reads the ids that inference reads."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_core.tokens import open_tokens
from lavit_pretrain.captioning import answer, conversation_prompt
from lavit_pretrain.chat import ChatTemplate
from lavit_pretrain.config import Mix, PretrainConfig
from lavit_pretrain.corpus import leave_out_long, open_corpus
from lavit_pretrain.documents import Document, DocumentSource
from lavit_pretrain.image_input import stored_images
from lavit_pretrain.language_model import LanguageModel, load_llm
from lavit_pretrain.packing import collate
from lavit_pretrain.sequence import Prompt, TokenizedPrompt
from lavit_pretrain.text_tokenizer import TextCodec
from lavit_pretrain.train_language_model import train_language_model

CHATML = (
    "{% for m in messages %}# {{ m['role'] }}\n{{ m['content'] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}# assistant\n{% endif %}"
)
KEYS = [f"images/{number:04d}.png" for number in range(4)]
ROWS: list[dict[str, Any]] = [
    {"images": KEYS[:2], "question": "<image> or <image>, which is red?", "answer": "the first"},
    {"images": KEYS[:3], "question": "And <image>?", "answer": "no",
     "earlier": [["<image><image> Which is red?", "the first"], ["Sure?", "yes"]]},
    {"images": [], "question": "Hello!", "answer": "hi", "earlier": [["Who?", "a model"]]},
    {"images": KEYS[3:], "question": "What colour is it?", "answer": "blue", "earlier": [["What?", "a square"]]},
    {"images": KEYS[2:3], "question": "Large, <image>?", "answer": "small", "earlier": [["<image> What?", "round"]]},
]  # fmt: skip
"""The last two are about one image, which stands first whatever marks say."""
ALONE = Mix(text_to_image=0.0, image_to_text=0.0, questions=1.0, text=0.0)


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(json.dumps({"question_id": n, **row}) + "\n" for n, row in enumerate(ROWS)))
    return file


def prompt_of(llm: LanguageModel, chat: bool, row: dict[str, Any], images: Sequence[np.ndarray]) -> TokenizedPrompt:
    """Return the prompt that inference makes of a question's row, whose images are those of the first keys."""
    template = ChatTemplate(llm.codec) if chat else None
    shown = [images[KEYS.index(key)] for key in row["images"]] if llm.image_input != "none" else []
    first = shown.pop() if len(shown) == 1 else None

    def pieces(text: str) -> Prompt:
        if not shown or "<image>" not in text:
            return text.replace("<image> ", "").replace(" <image>", " ")
        before, *after = text.split("<image>")
        return [before.strip(), *(piece for one in after for piece in (shown.pop(0), one.strip()) if len(piece))]

    earlier = [(pieces(question), reply) for question, reply in row.get("earlier", [])]
    return conversation_prompt(llm, template, first, earlier, pieces(row["question"]))


def documents_of(source: DocumentSource) -> dict[str, Document]:
    """Return a document of each question, by its scored text."""
    found = [source.document(number) for number in range(64)]
    return {source.codec.decode(one.ids[one.weights > 0].tolist()).strip(): one for one in found}


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("image_input", ["codes", "features"])
def test_training_reads_what_inference_reads(
    world: Any, random_llm: Callable[..., LanguageModel], tiny_config: Callable[..., PretrainConfig], asked: Path,
    image_input: str, chat: bool,
) -> None:  # fmt: skip
    reader = open_tokens(world.tokens)
    llm = random_llm(image_input, ["user assistant which is red", "what colour is it", "question: answer:"] * 3)
    llm.codec.tokenizer.chat_template = CHATML
    config = tiny_config(image_input=image_input, chat=chat, mix=ALONE)
    corpus = open_corpus(reader, questions=[asked], text=[])
    assert [[one.images for one in alike] for alike in corpus.conversations] == [[(0, 1)], [(0, 1, 2)], [()]]
    source = DocumentSource(corpus, llm.vocabulary, llm.codec, config, 0)
    documents = documents_of(source)
    assert set(documents) == {row["answer"] for row in ROWS}
    images = stored_images(llm, reader, np.arange(4)).each()
    for row in ROWS:
        document, prompt = documents[row["answer"]], prompt_of(llm, chat, row, images)
        assert prompt.num_images == len(row["images"]) == len(document.samples)
        ids = document.ids.copy()
        for first, last in document.images:
            ids[first:last] = llm.vocabulary.first_code  # what lies under continuous rows is not read
        assert ids[: len(prompt)].tolist() == prompt.ids.tolist()
        places = [place for first, last in document.images for place in range(first, last)]
        assert places == prompt.places.tolist()
        if image_input == "features":
            assert np.array_equal(document.features, prompt.features) if row["images"] else document.features is None
        # The reply alone is scored, after the last id of the prompt.
        assert not document.weights[: len(prompt)].any()
        assert document.weights[len(prompt) :].all()
        assert document.ids[-1] == llm.codec.eos
    packed = collate([documents[row["answer"]] for row in ROWS])
    assert packed.samples == (() if image_input == "codes" else (0, 1, 0, 1, 2, 3, 2))
    if image_input == "features":
        assert packed.features_FD is not None
        assert len(packed.features_FD) == len(packed.image_rows_F)
        under = packed.ids_T[packed.image_rows_F]
        assert (under >= llm.vocabulary.first_code).all()


@pytest.mark.parametrize("chat", [False, True])
def test_a_blind_model_reads_its_end_token_in_training_and_inference(
    world: Any, random_llm: Callable[..., LanguageModel], tiny_config: Callable[..., PretrainConfig], asked: Path,
    chat: bool,
) -> None:  # fmt: skip
    llm = random_llm("none", ["user assistant which is red", "what colour is it"] * 3)
    llm.codec.tokenizer.chat_template = CHATML
    config = tiny_config(image_input="none", chat=chat, mix=ALONE)
    corpus = open_corpus(open_tokens(world.tokens), questions=[asked], text=[])
    documents = documents_of(DocumentSource(corpus, llm.vocabulary, llm.codec, config, 0))
    for row in ROWS[2:]:
        prompt = prompt_of(llm, chat, row, [])
        assert documents[row["answer"]].ids[: len(prompt)].tolist() == prompt.ids.tolist()
        assert (prompt.ids[0] == llm.codec.eos) == (not chat)
    assert (documents["the first"].ids == llm.codec.eos).sum() == (4 if chat else 3)  # two images, and the ends


def test_an_answer_depends_on_each_image(world: Any, random_llm: Callable[..., LanguageModel]) -> None:
    llm = random_llm("codes")
    one, two, three = stored_images(llm, open_tokens(world.tokens), np.arange(3)).each()
    talks = [[one, "or", two, "?"], [one, "or", three, "?"], ["or ?"], [one, "or", two, "?"]]
    batch = answer(llm, None, talks, max_tokens=8)
    assert batch == [answer(llm, None, [talk], max_tokens=8)[0] for talk in talks]
    assert batch[0] == batch[3]
    assert len(set(batch)) == 3
    # One image in a question is one before the conversation.
    [only] = answer(llm, None, [[one, "what?"]])
    assert [only] == answer(llm, stored_images(llm, open_tokens(world.tokens), np.arange(1)), ["what?"])


def test_what_can_not_be_joined_is_left_out_or_refused(
    world: Any, random_llm: Callable[..., LanguageModel], asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = open_tokens(world.tokens)
    corpus = open_corpus(reader, questions=[asked], text=[])
    short = TextCodec(random_llm("codes").codec.tokenizer, 85)
    fewer = leave_out_long(corpus, short)
    assert sum(map(len, fewer.conversations)) == 2
    assert fewer.questions.keys() == corpus.questions.keys()
    with asked.open("a") as file:
        file.write(json.dumps({"question_id": 9, "images": ["x.png", KEYS[0]], "question": "<image><image>?",
                               "answer": "no"}) + "\n")  # fmt: skip
    assert open_corpus(reader, questions=[asked], text=[]).conversations == corpus.conversations
    assert "1 of 6 questions are about images that are not in the tokens; left out" in capsys.readouterr().err
    asked.write_text(json.dumps({"images": KEYS[:2], "question": "<image>?", "answer": "no"}))
    with pytest.raises(InputError, match=r"asked.jsonl:1: 1 <image> in the questions but 2 images"):
        open_corpus(reader, questions=[asked], text=[])


@pytest.mark.slow
def test_a_trained_model_tells_two_images_apart(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    colours = ("red", "green", "blue", "yellow")
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, len(world.colours), (400, 2))

    def row(number: int, one: int, two: int, place: int) -> dict[str, Any]:
        return {
            "question_id": number,
            "images": [f"images/{one:04d}.png", f"images/{two:04d}.png"],
            "question": f"<image><image> What colour is the {('first', 'second')[place]}?",
            "answer": colours[world.colours[(one, two)[place]]],
        }

    rows = [row(2 * number + place, one, two, place) for number, (one, two) in enumerate(pairs) for place in (0, 1)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    config = tiny_config(mix=ALONE, num_steps=400, checkpoint_every=1000)
    config = config.model_copy(update={"llm_lr": 5e-3})
    train_language_model(
        [world.tokens], world.model, tmp_path / "run", config, questions=[tmp_path / "asked.jsonl"], quiet=True
    )
    llm = load_llm(tmp_path / "run" / "model")
    images = stored_images(llm, open_tokens(world.tokens), np.arange(len(world.colours))).each()
    tried = rng.integers(0, len(images), (40, 2))
    for place in (0, 1):
        asked = [[images[one], images[two], f"What colour is the {('first', 'second')[place]}?"] for one, two in tried]
        expected = [colours[world.colours[pair[place]]] for pair in tried]
        assert np.mean([a == b for a, b in zip(answer(llm, None, asked), expected, strict=True)]) > 0.9
