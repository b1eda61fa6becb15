"""The steps of a quickstart, in order: each calls one function of one stage, which has its own run directory."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit_core.data import Data, Source, open_data
from lavit_core.errors import InputError, VerificationError
from lavit_core.follow import UNFOLLOWED, FollowOptions

from lavit_cli.quickstart.config import QuickstartConfig
from lavit_cli.quickstart.settings import StepSettings, drawing_style
from lavit_cli.quickstart.split import held_out, split_data
from lavit_cli.report.page import write_report

if TYPE_CHECKING:
    from lavit_pretrain.config import PretrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One quickstart: its directory, settings and options."""

    out: Path
    config: QuickstartConfig
    settings: StepSettings
    data: Path | Source | None
    seed: int
    device: str
    quiet: bool
    follow: FollowOptions = UNFOLLOWED

    @property
    def train(self) -> Path:
        """Images to learn from."""
        return self.out / "data" / "train"

    @property
    def heldout(self) -> Path:
        """Images no step learns from."""
        return self.out / "data" / "heldout"

    def tokens(self, split: str) -> Path:
        """Token files of a split."""
        return self.out / "tokens" / split

    def model(self, step: str) -> Path:
        """Model directory that a training step exported."""
        return self.out / step / "model"

    @property
    def evaluation_precision(self) -> str:
        """Precision of drawing and of the language model in the evaluation."""
        from lavit_trainkit.precision import fastest_precision

        return fastest_precision(self.config.evaluation_precision, self.device)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of every stage's function."""
        return {"seed": self.seed, "device": self.device, "quiet": self.quiet}

    @property
    def training(self) -> dict[str, Any]:
        """Keyword arguments of every training's function."""
        return {**self.options, "follow": self.follow}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One step; `run` returns at once if it is done already."""

    name: str
    title: str
    run: Callable[[Job], Mapping[str, Any]]
    wanted: Callable[[Job], bool] = lambda job: True


def data_digest(data: Path | Source | None, config: QuickstartConfig, seed: int) -> str:
    """Return a digest of the image set `data`, or of the drawn shapes. Raises InputError if a quickstart can't
    learn from it."""
    if data is None:
        return "drawn shapes"
    opened = open_data(data)
    held = held_out(opened, data, share=config.heldout_share, seed=seed)
    if not any(record.captions for record in opened.records if record.key not in held):
        raise InputError(
            f"{data}: none of {len(opened.records) - len(held)} images to learn from has a caption, expected captions "
            "beside the images or in a list (docs/data.md)"
        )
    return opened.digest


def _has_questions(job: Job) -> bool:
    return bool(open_data(job.train).questions)


def _make_data(job: Job) -> dict[str, Any]:
    if job.data is None:
        from lavit_shapes.make_shapes import make_shapes

        counts = job.config.images, job.seed, job.config.heldout_images
        make_shapes(job.out / "data", *counts, style=drawing_style(job.config), quiet=job.quiet)
    else:
        split_data(job.data, job.out / "data", share=job.config.heldout_share, seed=job.seed)
    splits = {"train": open_data(job.train), "heldout": open_data(job.heldout)}
    return {name: _counts(split) for name, split in splits.items()}


def _counts(data: Data) -> dict[str, int]:
    captions = sum(len(record.captions) for record in data.records)
    return {"images": len(data.records), "captions": captions, "questions": len(data.questions)}


def _train_encoder(job: Job) -> dict[str, Any]:
    from lavit_tokenizer.api import train_encoder

    return train_encoder(job.train, job.out / "encoder", job.settings.encoder, **job.training)


def _train_tokenizer(job: Job) -> dict[str, Any]:
    from lavit_tokenizer.api import train_tokenizer

    config = job.settings.tokenizer
    return train_tokenizer(job.train, job.out / "tokenizer", config, model=job.model("encoder"), **job.training)


def _tokenize(job: Job) -> dict[str, Any]:
    from lavit_tokenizer.api import tokenize_images

    made = {}
    for split, data in (("train", job.train), ("heldout", job.heldout)):
        made[split] = tokenize_images(
            data, job.model("tokenizer"), job.tokens(split), job.settings.tokens, **job.options
        )
    return made


def _verify(job: Job) -> dict[str, Any]:
    from lavit_core.token_check import inspect_tokens, verify_tokens

    for split in ("train", "heldout"):
        if problems := verify_tokens(job.tokens(split), quiet=job.quiet):
            raise VerificationError(f"{problems[0]}; delete {job.tokens(split)} and run the same command again")
    return {split: inspect_tokens(job.tokens(split)) for split in ("train", "heldout")}


def _pretrain(job: Job) -> dict[str, Any]:
    return _train_llm(job, "pretrain", job.settings.pretrain)


def _pretrain_blind(job: Job) -> dict[str, Any]:
    return _train_llm(job, "blind", job.settings.blind)


def _train_llm(job: Job, name: str, config: "PretrainConfig") -> dict[str, Any]:
    from lavit_pretrain.api import train_language_model

    questions = [job.train / "questions.jsonl"] if _has_questions(job) else []
    return train_language_model(
        [job.tokens("train")],
        job.model("tokenizer"),
        job.out / name,
        config,
        questions=questions,
        data=job.train,
        **job.training,
    )


def _train_detokenizer(job: Job) -> dict[str, Any]:
    from lavit.save import save_model
    from lavit_detokenizer.api import train_detokenizer

    made = train_detokenizer(
        job.tokens("train"),
        job.train,
        job.model("pretrain"),
        job.out / "detokenizer",
        job.settings.detokenizer,
        **job.training,
    )
    # The directory that users give as `--model`.
    save_model(job.model("detokenizer"), job.out / "model", replace=True)
    return made


def _evaluate(job: Job) -> dict[str, Any]:
    from lavit_evaluation.api import Compute, eval_shapes

    blind = job.model("blind") if _has_questions(job) else None
    eval_shapes(
        job.out / "model",
        job.heldout,
        job.out / "evaluation",
        job.settings.evaluation,
        blind=blind,
        tokens=job.tokens("heldout"),
        train_data=job.train,
        seed=job.seed,
        compute=Compute(device=job.device, precision=job.evaluation_precision, quiet=job.quiet),
    )
    return {}


def _evaluate_tokenizer(job: Job) -> dict[str, Any]:
    from lavit_evaluation.api import Compute, eval_tokenizer, warn_again

    made = eval_tokenizer(
        job.out / "model",
        job.heldout,
        job.out / "tokenizer_evaluation",
        job.settings.tokenizer_evaluation,
        seed=job.seed,
        compute=Compute(device=job.device, precision=job.evaluation_precision, quiet=job.quiet),
    )
    warn_again(made)
    return {}


def _report(job: Job) -> dict[str, Any]:
    file = write_report(job.out)
    return {"file": str(file), "bytes": file.stat().st_size}


STEPS = (
    Step(name="data", title="images, captions, questions; a part is held out", run=_make_data),
    Step(name="encoder", title="a small CLIP on the image-caption pairs", run=_train_encoder),
    Step(name="tokenizer", title="selector, merger, codebook, feature decoder", run=_train_tokenizer),
    Step(name="tokens", title="images to token files, train and held out", run=_tokenize),
    Step(name="verify", title="every digest and offset of the token files", run=_verify),
    Step(name="pretrain", title="one language model for words and image codes", run=_pretrain),
    Step(name="blind", title="the same model without images, to compare", run=_pretrain_blind, wanted=_has_questions),
    Step(name="detokenizer", title="a diffusion model from codes to pixels", run=_train_detokenizer),
    Step(name="evaluation", title="held-out images: answers, captions, drawings", run=_evaluate),
    Step(name="tokenizer_evaluation", title="held-out images: what the tokenizer keeps", run=_evaluate_tokenizer),
    Step(name="report", title="one page to look at", run=_report),
)
