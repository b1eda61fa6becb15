"""Commands that describe images with a model: `caption`, `ask`."""

from pathlib import Path

from lavit_core.command import NO_PRESET, CommonOptions, command, settings_of, show, show_plan
from lavit_core.default_model import model_or_default
from lavit_core.distributions import require_stages
from lavit_core.errors import UsageError
from lavit_core.options import ModelOrDefault
from lavit_core.progress import LOADING, waiting

from lavit_cli import options


@command()
def caption(
    image: options.ImageFiles,
    model: ModelOrDefault = None,
    max_tokens: options.MaxTokens = None,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Describe images."""
    with require_stages("lavit caption"):
        from lavit_pretrain.config import CaptionSettings

        from lavit_cli.image_to_text import open_reader

    settings = settings_of(common, CaptionSettings, ("lavit_pretrain", "caption"), {"max_tokens": max_tokens})
    model = model_or_default(model, "tokenizer", "llm")
    from lavit_core.images import check_image

    for file in image:
        check_image(file)
    if common.dry_run:
        return show_plan(settings, common, images=[str(file) for file in image], model=str(model))
    with waiting(LOADING, quiet=common.silent):
        captions = open_reader(model, common).caption(image, max_tokens=settings.max_tokens)
    rows = [{"image": str(file), "caption": text} for file, text in zip(image, captions, strict=True)]
    show({"captions": rows}, common, lines=[f"{row['image']}: {row['caption']}" for row in rows])


@command()
def ask(
    image: options.ImageFile,
    question: options.Question,
    model: ModelOrDefault = None,
    max_tokens: options.MaxTokens = None,
    more: options.MoreImages = None,
    earlier: options.EarlierTurns = None,
    conversation: options.Conversation = False,
    chat: options.Chat = False,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Answer questions about images, each by itself or, with --conversation, after the ones before it."""
    with require_stages("lavit ask"):
        from lavit_pretrain.config import AskSettings

        from lavit_cli.image_to_text import ask as ask_reader
        from lavit_cli.image_to_text import open_reader

    settings = settings_of(common, AskSettings, ("lavit_pretrain", "ask"), {"max_tokens": max_tokens})
    if not image.exists() and any(Path(text).is_file() for text in question):
        raise UsageError(f"{image}: file not found; give the image first: lavit ask IMAGE QUESTION")
    from lavit_core.data import IMAGE_MARK, turns_about, without_marks

    if not all(without_marks(text).strip() for text in question):
        raise UsageError("QUESTION is empty, expected text, say 'what is on the sofa?'")
    images = [image, *(more or ())]
    turns = turns_about([_turn(text) for text in earlier or ()], len(images))
    if more and turns:
        raise UsageError("--earlier with --image: one conversation about several images is asked from Python")
    if more and conversation and any(IMAGE_MARK in text for text in question[1:]):
        raise UsageError(
            f"{IMAGE_MARK} in a later question of --conversation: all images are read with the first; write it there"
        )
    # One image is read first, whatever marks say.
    question = question if more else [without_marks(text) for text in question]
    model = model_or_default(model, "tokenizer", "llm")
    from lavit_core.images import check_image

    for file in images:
        check_image(file)
    if common.dry_run:
        shown: dict[str, object] = {"images": [str(file) for file in images]} if more else {"image": str(image)}
        return show_plan(settings, common, **shown, earlier=turns, questions=question, model=str(model))
    with waiting(LOADING, quiet=common.silent):
        reader = open_reader(model, common)
        answers = ask_reader(
            reader, images, question, turns, conversation=conversation, max_tokens=settings.max_tokens, chat=chat
        )
    pairs = zip(question, answers, strict=True)
    named: dict[str, object] = {"images": [str(file) for file in images]} if more else {"image": str(image)}
    rows = [{**named, "question": asked, "answer": answer} for asked, answer in pairs]
    show({"answers": rows}, common, lines=answers)


def _turn(text: str) -> tuple[str, str]:
    question, equals, answer = text.partition("=")
    if not equals or not question.strip() or not answer.strip():
        raise UsageError(f"--earlier {text!r}: expected QUESTION=ANSWER, say 'what is on the sofa?=a dog'")
    return question.strip(), answer.strip()
