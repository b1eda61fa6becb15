"""A model directory as a model of lmms-eval: `python -m lmms_eval --model lavit --model_args model=DIR --tasks ...`.

Loaded by lmms-eval alone, through the entry point `lmms_eval.models`; nothing else here imports it.
"""

from collections.abc import Sequence
from typing import Any

from lavit_core.errors import InputError, UsageError
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from PIL import Image

manifest = ModelManifest(model_id="lavit", simple_class_path="lavit_evaluation.lmms_plugin.LavitForLmmsEval")

DEFAULT_TOKENS = 16
"""Longest answer where a task does not say (lmms-eval's own VQA tasks say 16)."""


class LavitForLmmsEval(lmms):
    """Answers greedily, or with beams where a task asks for them; one image a question, no sampling."""

    is_simple = True

    def __init__(self, model: str = "", batch_size: int | str = 16, device: str = "auto", **unknown: Any) -> None:
        super().__init__()
        from lavit import LaVIT

        if unknown:
            raise UsageError(f"--model_args: unknown {', '.join(unknown)}, expected model, batch_size, device")
        if not model:
            raise UsageError("--model_args model=RUN/model: expected a model directory")
        self.model = LaVIT.from_pretrained(model, parts=("tokenizer", "llm"), device=device)
        self.rows = int(batch_size)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return a reply to each request (context, settings, doc_to_visual, doc_id, task, split), in their order."""
        replies: dict[int, str] = {}
        order = sorted(range(len(requests)), key=lambda place: repr(sorted(requests[place].args[1].items(), key=str)))
        while order:
            settings = requests[order[0]].args[1]
            batch = [place for place in order[: self.rows] if requests[place].args[1] == settings]
            order = order[len(batch) :]
            shown = [self._image(requests[place]) for place in batch]
            texts = [requests[place].args[0].replace("<image>", " ").strip() for place in batch]
            replies.update(zip(batch, self._reply(shown, texts, settings), strict=True))
        return [replies[place] for place in range(len(requests))]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Refuse: likelihoods of continuations after a question are not offered."""
        raise UsageError("lavit answers generate_until tasks only; this task asks for log-likelihoods")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse: the model is trained on single questions."""
        raise UsageError("lavit answers single questions only; this task has several rounds")

    def _reply(self, images: Sequence[Image.Image], texts: Sequence[str], settings: dict[str, Any]) -> list[str]:
        from lavit import Beams

        if settings.get("do_sample") or settings.get("temperature"):
            raise UsageError(f"lavit does not sample text; the task sets {settings}, expected temperature 0")
        longest, num_beams = int(settings.get("max_new_tokens", DEFAULT_TOKENS)), int(settings.get("num_beams") or 1)
        beams = Beams(num_beams=num_beams) if num_beams > 1 else None
        if any(texts):
            replies = self.model.answer(images, texts, max_tokens=longest, beams=beams)
        else:
            replies = self.model.caption(images, max_tokens=longest, beams=beams)
        until = settings.get("until") or []
        for stop in [until] if isinstance(until, str) else until:
            replies = [reply.split(stop)[0] if stop else reply for reply in replies]
        return [reply.strip() for reply in replies]

    def _image(self, request: Any) -> Image.Image:
        _, _, doc_to_visual, doc_id, task, split = request.args
        images = doc_to_visual(self.task_dict[task][split][doc_id])
        if len(images) != 1 or not isinstance(images[0], Image.Image):
            raise InputError(f"{task}: document {doc_id} has {len(images)} visuals, expected one image")
        return images[0].convert("RGB")
