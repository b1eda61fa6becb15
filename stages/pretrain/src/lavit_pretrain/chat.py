"""What a language model's own chat template writes around the texts of a conversation.

The template's own text (roles, marks of turns) may hold special tokens; what people write never becomes one.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
from lavit_core.errors import UsageError

from lavit_pretrain.text_tokenizer import TextCodec

_PLACE = re.compile(r"<<(\d+)>>")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """The ids int64 [n] that a template writes around questions and replies."""

    before: Sequence[np.ndarray]
    """Before each question."""
    between: Sequence[np.ndarray]
    """Between each question and its reply."""
    opened: np.ndarray
    """What the last reply begins with that its prompt does not have (an empty thought): it is learned too."""
    end: np.ndarray
    """What follows the last reply, the end token included."""


class ChatTemplate:
    """The chat template of a text tokenizer. Raises UsageError if it has none."""

    def __init__(self, codec: TextCodec) -> None:
        if getattr(codec.tokenizer, "chat_template", None) is None:
            raise UsageError(
                "this language model has no chat template (chat_template in its tokenizer's files); leave out --chat, "
                "or --set chat=false when it is trained"
            )
        self.codec = codec
        self._frames: dict[tuple[int, bool], Frame] = {}

    def frame(self, num_turns: int, *, replied: bool) -> Frame:
        """Return what is written around the texts of `num_turns` turns; the last reply is there only if `replied`.

        Raises UsageError for a template that can't write them, or not in this order.
        """
        known = num_turns, replied
        if known not in self._frames:
            self._frames[known] = self._new_frame(num_turns, replied=replied)
        return self._frames[known]

    def _new_frame(self, num_turns: int, *, replied: bool) -> Frame:
        asked = self._pieces(2 * num_turns - 1, prompt=True)
        opened, end = "", np.empty(0, np.int64)
        if replied:
            whole = self._pieces(2 * num_turns, prompt=False)
            if whole[: len(asked) - 1] != asked[:-1] or not whole[len(asked) - 1].startswith(asked[-1]):
                raise UsageError(
                    "chat template: what it writes before a reply is not what it writes as a prompt for one"
                )
            opened = whole[len(asked) - 1].removeprefix(asked[-1])
            end = self._literal(whole[-1])
            eos = np.flatnonzero(end == self.codec.eos)
            end = end[: eos[0] + 1] if len(eos) else np.append(end, self.codec.eos)
        pieces = [self._literal(piece) for piece in asked]
        return Frame(before=pieces[::2], between=pieces[1::2], opened=self._literal(opened), end=end)

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

    def _literal(self, text: str) -> np.ndarray:
        return np.asarray(self.codec.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)
