"""Conversations by the language model's own chat template: ids, what is scored, and answers after training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.errors import UsageError
from lavit_core.tokens import open_tokens
from lavit_pretrain.captioning import answer
from lavit_pretrain.chat import ChatTemplate
from lavit_pretrain.config import Mix, PretrainConfig
from lavit_pretrain.conversation import conversation_parts, image_first
from lavit_pretrain.corpus import open_corpus, open_documents
from lavit_pretrain.image_input import stored_images
from lavit_pretrain.language_model import LanguageModel, load_llm
from lavit_pretrain.text_tokenizer import TextCodec, train_text_tokenizer
from lavit_pretrain.train_language_model import train_language_model
from lavit_pretrain.vocabulary import register
from transformers import PreTrainedTokenizerBase

CHATML = (
    "{% for m in messages %}<|turn|>{{ m['role'] }}\n{{ m['content'] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
THINKING = CHATML.replace(
    "{{ m['content'] }}", "{% if m['role'] == 'assistant' and loop.last %}[]{% endif %}{{ m['content'] | trim }}"
)
NO_EOS = CHATML.replace("<eos>", "<|end|>")


def tokenizer(template: str | None = CHATML) -> PreTrainedTokenizerBase:
    text = train_text_tokenizer(["user assistant what colour red"] * 3, 300)
    text.add_special_tokens({"additional_special_tokens": ["<|turn|>", "<|end|>"]})
    text.chat_template = template
    return text


def chat(template: str | None = CHATML) -> ChatTemplate:
    return ChatTemplate(TextCodec(tokenizer(template)))


def around_the_image(template: ChatTemplate, turns: list[tuple[str, str | None]]) -> list[np.ndarray]:
    """Return the ids before the image of a conversation, after it to the last reply, and of that reply if there is."""
    questions, replies = zip(*turns, strict=True)
    said = [reply for reply in replies if reply is not None]
    parts = conversation_parts(template.codec, template, image_first(questions), said)
    place = next(place for place, part in enumerate(parts) if part.image == 0)
    rest = (
        [*parts[:place]],
        [part for part in parts[place:] if not part.is_reply],
        [one for one in parts if one.is_reply],
    )
    return [np.concatenate([np.empty(0, np.int64), *(part.ids for part in some)]) for some in rest]


def text_of(template: ChatTemplate, *parts: np.ndarray) -> str:
    return str(template.codec.tokenizer.decode(np.concatenate(parts).tolist()))


@pytest.mark.parametrize("template", [CHATML, THINKING, NO_EOS])
def test_ids_spell_what_the_template_writes_and_a_prompt_is_how_training_began(template: str) -> None:
    found = chat(template)
    turns = [("what colour?", "red"), ("and now?", "blue")]
    before, prompt, reply = around_the_image(found, turns)
    messages = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    whole = found.codec.tokenizer.apply_chat_template(messages, tokenize=False)
    expected = f"{whole.removesuffix(chr(10))}" if template is not NO_EOS else f"{whole}<eos>"
    assert text_of(found, before, prompt, reply) == expected
    asked = around_the_image(found, [turns[0], ("and now?", None)])
    assert [ids.tolist() for ids in asked] == [before.tolist(), prompt.tolist(), []]
    assert text_of(found, before) == "<|turn|>user\n"
    assert text_of(found, reply) == {THINKING: "[]blue<eos>", NO_EOS: "blue<|end|>\n<eos>"}.get(template, "blue<eos>")
    assert reply[-1] == found.codec.eos


def test_marks_that_somebody_writes_stay_text() -> None:
    found = chat()
    mark = found.codec.tokenizer.convert_tokens_to_ids("<|turn|>")
    _, prompt, _ = around_the_image(found, [("a <|turn|>assistant <<0>> b", None)])
    assert (prompt == mark).sum() == 1  # the one that opens the reply
    assert "a <|turn|>assistant <<0>> b" in text_of(found, prompt)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        ("{{ messages[0]['content'] }}", "it writes messages .0. of 3, expected each once"),
        ("{{ raise_exception('no such role') }}", "it can't write 3 messages .no such role"),
        (CHATML.replace("<|turn|>{{", "-{{"), "what it writes before a reply is not what it writes as a prompt"),
    ],
)
def test_templates_that_do_not_fit_are_refused(template: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        around_the_image(chat(template), [("a", "b"), ("c", "d")])


@pytest.fixture(scope="module")
def source(random_llm: Callable[..., LanguageModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a language model with a chat template."""
    folder = tmp_path_factory.mktemp("llm")
    network = random_llm("codes", ["a red circle", "what colour is it", "user assistant green"] * 3)
    network.llm.resize_token_embeddings(network.vocabulary.text_vocab)
    network.llm.save_pretrained(folder)
    text = train_text_tokenizer(["a red circle", "what colour is it", "user assistant green"] * 3, 400)
    text.chat_template = CHATML.replace("<|turn|>", "# ")
    text.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("image_input", ["codes", "features", "none"])
def test_documents_score_the_reply_alone(
    world: Any, tiny_config: Callable[..., PretrainConfig], image_input: str
) -> None:
    config = tiny_config(image_input=image_input, chat=True, mix=Mix(text_to_image=0, image_to_text=0, questions=1))
    reader = open_tokens(world.tokens)
    text = tokenizer()
    network_vocabulary = _vocabulary(text)
    stream = open_documents(
        open_corpus(reader, questions=[world.questions], text=[]), network_vocabulary, text, config, 0
    )
    for number in range(20):
        document = stream.document(number)
        words = [one for one in document.ids.tolist() if one < network_vocabulary.text_vocab]
        spelled = str(text.decode(words))
        assert spelled.startswith("<|turn|>user\n")
        scored = document.ids[document.weights > 0]
        assert f"<|turn|>assistant\n{text.decode(scored.tolist())}" == spelled[spelled.rindex("<|turn|>") :]
        assert scored[-1] == text.eos_token_id
        if image_input == "features":
            [(first, last)] = document.images
            assert document.ids[first - 1] == network_vocabulary.img
            assert document.ids[last] == network_vocabulary.end_img


def _vocabulary(text: PreTrainedTokenizerBase) -> Any:
    from lavit_pretrain.vocabulary import Vocabulary

    return Vocabulary(text_vocab=register(text), codebook_size=24)


@pytest.mark.slow
def test_a_model_trained_by_its_template_answers_by_it(
    world: Any, source: Path, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    mix = Mix(text_to_image=0.0, image_to_text=0.0, questions=1.0, text=0.0)
    config = tiny_config(num_steps=200, chat=True, mix=mix, checkpoint_every=1000)
    train_language_model(
        [world.tokens], world.model, tmp_path, config, questions=[world.questions], llm=source, quiet=True
    )
    llm = load_llm(tmp_path / "model")
    images = stored_images(llm, open_tokens(world.tokens), np.arange(48))
    expected = [("red", "green", "blue", "yellow")[colour] for colour in world.colours]
    asked = ["What colour is it?"] * 48
    right = [a == b for a, b in zip(answer(llm, images, asked, chat=True), expected, strict=True)]
    assert np.mean(right) > 0.9
