"""Conversations as a language model's own chat template writes them, the image at the start of the first question.

The template's own text (roles, marks of turns) may hold special tokens; what people write never becomes one.
"""

import re
from collections.abc import Sequence

import numpy as np
from lavit_core.errors import UsageError

from lavit_pretrain.text_tokenizer import TextCodec

_PLACE = re.compile(r"<<(\d+)>>")
Turn = tuple[str, str]
"""A question and its answer."""


class ChatTemplate:
    """The chat template of a text tokenizer. Raises UsageError if it has none."""

    def __init__(self, codec: TextCodec) -> None:
        if getattr(codec.tokenizer, "chat_template", None) is None:
            raise UsageError(
                "this language model has no chat template (chat_template in its tokenizer's files); leave out --chat, "
                "or --set chat=false when it is trained"
            )
        self.codec = codec

    def prompt(self, earlier: Sequence[Turn], question: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids before the image, and from there to where the reply begins."""
        texts = [*(text for turn in earlier for text in turn), question]
        pieces = self._pieces(len(texts), prompt=True)
        return self._literal(pieces[0]), self._join(pieces[1:], texts)

    def turns(self, turns: Sequence[Turn]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the ids before the image, from there to where the last reply begins, and of the reply with its end."""
        *earlier, (question, reply) = turns
        before, prompt = self.prompt(earlier, question)
        texts = [text for turn in turns for text in turn]
        asked, whole = self._pieces(len(texts) - 1, prompt=True), self._pieces(len(texts), prompt=False)
        # Some templates open a reply with more than their prompt has (an empty thought): that is learned too.
        opened = whole[len(asked) - 1].removeprefix(asked[-1])
        if whole[: len(asked) - 1] != asked[:-1] or not whole[len(asked) - 1].startswith(asked[-1]):
            raise UsageError("chat template: what it writes before a reply is not what it writes as a prompt for one")
        end = self._literal(whole[-1])
        eos = np.flatnonzero(end == self.codec.eos)
        end = end[: eos[0] + 1] if len(eos) else np.append(end, self.codec.eos)
        return before, prompt, np.concatenate([self._literal(opened), self.codec.encode(reply), end])

    def _pieces(self, num_texts: int, *, prompt: bool) -> list[str]:
        """Return the template's own text before, between and after the texts of a conversation. Raises UsageError."""
        messages = [{"role": ("user", "assistant")[n % 2], "content": f"<<{n}>>"} for n in range(num_texts)]
        try:
            written = self.codec.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except Exception as error:  # noqa: BLE001 - a template raises what it likes
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"chat template: it can't write {num_texts} messages ({reason})") from None
        found = [int(number) for number in _PLACE.findall(str(written))]
        if found != list(range(num_texts)):
            raise UsageError(
                f"chat template: it writes messages {found} of {num_texts}, expected each once and in order"
            )
        return _PLACE.split(str(written))[::2]

    def _join(self, pieces: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        parts = [(self.codec.encode(text), self._literal(piece)) for text, piece in zip(texts, pieces, strict=True)]
        return np.concatenate([ids for pair in parts for ids in pair])

    def _literal(self, text: str) -> np.ndarray:
        return np.asarray(self.codec.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)
