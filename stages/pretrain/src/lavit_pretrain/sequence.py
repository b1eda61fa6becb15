"""The one place where text, images and questions become token sequences: training, generation, reading and scoring
all call it.

Source: arXiv 2309.04669, section 3.2. There is no BOS anywhere.
text to image    `text [IMG] codes [/IMG]`; unconditional: a bare `[IMG]` in front
image to text    `[IMG] image [/IMG] text <eos>`
text             `text <eos>`; with images: `text [IMG] codes [/IMG] text ... <eos>`
questions        `[IMG] image [/IMG] Question: ... Answer: ... <eos>`
prompts          texts and images in any order, then `[IMG]`
conversations    any number of images, by these words or the language model's own template (`conversation.py`)
A model trained without images (blind) reads `<eos>` where the image would be.
Letters: n tokens of a sequence, F continuous image rows, D merger width, H hidden width.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from lavit_core.errors import InputError

from lavit_pretrain.encoded_images import EncodedImages
from lavit_pretrain.vocabulary import Vocabulary

Prompt = str | Sequence[str | np.ndarray]
"""Text, or texts and images in the order they are read: an image is its codes (integers [n]) or its continuous rows
(float32 [n, D])."""


MAX_QUESTION_WORDS = 50
"""Words of a question that are read, as in the paper."""


def question_prompt(question: str) -> str:
    """Return the paper's question-answering prompt: lower case, without .!"()*#:;~ , at most 50 words."""
    return f"Question: {' '.join(_question_words(question)[:MAX_QUESTION_WORDS])} Answer:"


def is_cut(question: str) -> bool:
    """Return whether a question has more words than its prompt."""
    # Most are far too short: a word and its space are two letters at least.
    return len(question) > 2 * MAX_QUESTION_WORDS and len(_question_words(question)) > MAX_QUESTION_WORDS


def _question_words(question: str) -> list[str]:
    return question.lower().translate(str.maketrans("", "", '.!"()*#:;~')).split()


def question_text(question: str, answer: str) -> str:
    """Return a question with its answer, as one text."""
    return f"{question_prompt(question)} {answer}"


def text_continuation(text: np.ndarray, eos: int) -> np.ndarray:
    """Return `text <eos>`: what follows an image, or stands alone."""
    return np.append(text, eos)


def drawing_prefix(vocabulary: Vocabulary, text: np.ndarray) -> np.ndarray:
    """Return `text [IMG]`, after which codes are drawn or scored."""
    return np.append(text, vocabulary.img)


def code_continuation(vocabulary: Vocabulary, codes: np.ndarray) -> np.ndarray:
    """Return `codes [/IMG]`, which follows `drawing_prefix`."""
    return np.append(vocabulary.to_ids(codes), vocabulary.end_img)


def text_to_image(vocabulary: Vocabulary, text: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return `text [IMG] codes [/IMG]`."""
    return np.concatenate([drawing_prefix(vocabulary, text), code_continuation(vocabulary, codes)])


def image_span(vocabulary: Vocabulary, codes: np.ndarray) -> np.ndarray:
    """Return `[IMG] codes [/IMG]`."""
    return text_to_image(vocabulary, np.empty(0, np.int64), codes)


def blind_span(eos: int) -> np.ndarray:
    """Return `<eos>`, which stands for the image in a model trained without images."""
    return np.array([eos])


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizedPrompt:
    """A sequence that the language model continues, or a part of one."""

    ids: np.ndarray
    """int64 [n]; anything under continuous rows."""
    places: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    """int64 [F]: positions of the continuous rows."""
    features: np.ndarray | None = None
    """float32 [F, D]"""
    num_images: int = 0

    def __len__(self) -> int:
        return len(self.ids)


def join_prompts(parts: Sequence[TokenizedPrompt]) -> TokenizedPrompt:
    """Return parts of a sequence one after another."""
    starts = np.cumsum([0, *map(len, parts)])[:-1]
    features = [part.features for part in parts if part.features is not None]
    return TokenizedPrompt(
        ids=np.concatenate([part.ids for part in parts]).astype(np.int64),
        places=np.concatenate([start + part.places for start, part in zip(starts, parts, strict=True)]),
        features=np.concatenate(features) if features else None,
        num_images=sum(part.num_images for part in parts),
    )


def tokenize_prompt(
    prompt: Prompt, vocabulary: Vocabulary, encode: Callable[[str], np.ndarray], *, brackets: bool = True
) -> TokenizedPrompt:
    """Return a prompt's parts in their order and the [IMG] that opens the image to be drawn.

    `encode` returns the ids int64 [n] of a text.

    Source: the released code's `multimodal_synthesis`. Differs: an image stands in brackets, `[IMG] codes [/IMG]`, as
    in every document of the training; without `brackets`, as released.
    Raises InputError for codes outside the codebook.
    """
    parts = tokenize_parts(prompt, vocabulary, encode, brackets=brackets)
    return join_prompts([*parts, TokenizedPrompt(ids=drawing_prefix(vocabulary, np.empty(0, np.int64)))])


def tokenize_parts(
    prompt: Prompt, vocabulary: Vocabulary, encode: Callable[[str], np.ndarray], *, brackets: bool = True
) -> list[TokenizedPrompt]:
    """Return each text and image of a prompt in their order. Raises InputError for codes outside the codebook."""
    return [
        TokenizedPrompt(ids=encode(part))
        if isinstance(part, str)
        else tokenize_image(vocabulary, part, brackets=brackets)
        for part in ((prompt,) if isinstance(prompt, str) else prompt)
    ]


def tokenize_image(vocabulary: Vocabulary, image: np.ndarray, *, brackets: bool = True) -> TokenizedPrompt:
    """Return an image in a prompt: codes int [n], or continuous rows float [n, D]. Raises InputError for bad codes."""
    if image.ndim == 1:
        if image.size and not 0 <= int(image.min()) <= int(image.max()) < vocabulary.codebook_size:
            found = f"[{int(image.min())}, {int(image.max())}]"
            raise InputError(f"prompt: codes lie in {found}, expected [0, {vocabulary.codebook_size})")
        ids = image_span(vocabulary, image) if brackets else vocabulary.to_ids(image)
        return TokenizedPrompt(ids=ids, num_images=1)
    under = np.zeros(len(image), np.int64)
    return TokenizedPrompt(
        ids=image_span(vocabulary, under) if brackets else vocabulary.to_ids(under),
        places=np.arange(len(image)) + int(brackets),
        features=image.astype(np.float32, copy=False),
        num_images=1,
    )


def reading_prompts(
    vocabulary: Vocabulary,
    images: EncodedImages | None,
    texts: Sequence[np.ndarray],
    *,
    blind_eos: int | None = None,
) -> list[TokenizedPrompt]:
    """Return `[IMG] image [/IMG] text` for each image and text (ids int64 [n]); without images the texts alone.

    `blind_eos` is the `<eos>` that a model trained without images reads where the image would be.
    """
    tails = [TokenizedPrompt(ids=text) for text in texts]
    if blind_eos is not None:
        shown = [TokenizedPrompt(ids=blind_span(blind_eos))] * len(tails)
    elif images is None:
        shown = [TokenizedPrompt(ids=np.empty(0, np.int64))] * len(tails)
    else:
        shown = [tokenize_image(vocabulary, image) for image in images.each()]
    return [join_prompts(parts) for parts in zip(shown, tails, strict=True)]
