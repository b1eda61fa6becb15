"""`lavit train-encoder`: a small CLIP on image-text pairs, for people without a pretrained image encoder."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lavit_core.data import Record, Source, open_data
from lavit_core.errors import InputError, VerificationError
from lavit_core.files import atomic_folder, file_sha256
from lavit_core.follow import UNFOLLOWED, FollowOptions
from lavit_core.modeldir import export_part
from lavit_core.processes import num_processes
from lavit_core.progress import Progress
from lavit_core.seeds import derive_seed, repeat_items, shuffled_batch
from lavit_trainkit.clipping import clip_gradients
from lavit_trainkit.device import check_training_device, make_accelerator, seed_init
from lavit_trainkit.distributed import (
    across_processes,
    all_gather_with_gradient,
    all_reduce_sum,
    on_main,
    shares_of,
    sum_terms,
)
from lavit_trainkit.optimizers import Part, build_optimizers, restore_optimizers, step_all, stored_optimizers
from lavit_trainkit.parallel import gather_back, load_whole, parallelize, refuse_sharded_muon
from lavit_trainkit.pixels import Pixels, normalise
from lavit_trainkit.precision import with_precision
from lavit_trainkit.schedule import set_rate, warmup_cosine
from lavit_trainkit.session import training_session
from lavit_trainkit.stopping import require_finite
from lavit_trainkit.throughput import Meter
from tokenizers import Tokenizer
from torch import Tensor

from lavit_tokenizer.config import TrainEncoderConfig
from lavit_tokenizer.contrastive import (
    ContrastiveModel,
    caption_loss,
    clip_loss,
    fit_text_tokenizer,
    patch_pixels,
    retrieval_top1,
    text_ids,
)
from lavit_tokenizer.diagnose import diagnose_encoder
from lavit_tokenizer.encoder import small_encoder
from lavit_tokenizer.encoder_folder import save_encoder
from lavit_tokenizer.validation import split_validation

PIECES = Path("text/tokenizer.json")
"""The file of a run that holds its word pieces."""


@across_processes
def train_encoder(
    data: Path | Source,
    out: Path,
    config: TrainEncoderConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    follow: FollowOptions = UNFOLLOWED,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train on the captioned images of `data`, export `out/model/encoder`, return the run's summary.

    Raises InputError if no image has a caption or one can't be read, Interrupted if a signal stops the run.
    """
    check_training_device(device)
    config = with_precision(config, device, out=out)
    refuse_sharded_muon(config.parallel, config.optimizer)
    [rows] = shares_of(config.batch_size, setting="batch_size")
    opened = open_data(data)
    records = [record for record in opened.records if any(text.strip() for text in record.captions)]
    if not records:
        raise InputError(f"{data}: none of {len(opened.records)} images has a caption, expected image-text pairs")
    settings, num_steps = {**config.model_dump(mode="json"), "seed": seed}, config.num_steps
    inputs = {"data": opened.digest}
    with training_session(
        out,
        command="train-encoder",
        config=settings,
        inputs=inputs,
        num_steps=num_steps,
        settings=type(config),
        follow=follow,
        quiet=quiet,
    ) as session:
        if session.finished:
            return session.finished
        on_main(lambda: _learn_pieces(session.path, records, config))
        words, pieces = _read_pieces(session.path / PIECES)
        train, held = split_validation(len(records), config.num_validation, seed)
        drawn = repeat_items(train, [record.weight for record in records])
        pixels = Pixels([record.image for record in records], config.vision.preprocessing.image_px)
        seed_init(seed, "encoder")
        model = ContrastiveModel(config, words.get_vocab_size())
        accelerator = make_accelerator(device=device, precision=config.precision)
        model.to(accelerator.device)
        computed = parallelize(
            model,
            lambda net, pixels_u8, ids: pair_losses(net, pixels_u8, ids, config, accelerator.autocast),
            parallel=config.parallel,
            device=accelerator.device,
        )
        muon_lr = config.muon_lr if config.optimizer == "muon" else None
        parts = {"model": Part(module=model, lr=config.lr, muon_lr=muon_lr)}
        optimizers = build_optimizers(parts, betas=config.betas, weight_decay=config.weight_decay)
        if checkpoint := session.resume():
            if checkpoint.state.get(PIECES.name, pieces) != pieces:
                raise VerificationError(f"{out / PIECES}: changed since the last checkpoint; give another --out")
            load_whole(model, checkpoint.tensors["model"])
            restore_optimizers(optimizers, checkpoint.tensors)
        meter = Meter()
        with Progress("train-encoder", num_steps, start=session.start, quiet=quiet) as progress:
            for step in range(session.start, num_steps):
                batch = drawn[shuffled_batch(len(drawn), config.batch_size, step, derive_seed(seed, "pairs"))]
                pixels_u8 = pixels.batch(batch[rows]).to(accelerator.device)
                captions = _captions(records, batch, derive_seed(seed, "captions", step))[rows]
                ids = text_ids(words, captions, config.text_tokens).to(accelerator.device)
                set_rate(optimizers, warmup_cosine(step, num_steps, warmup_steps=config.warmup_steps))
                terms = computed(pixels_u8, ids)
                metrics = sum_terms([terms])
                require_finite(metrics["loss"], name="loss", step=step, run=out)
                accelerator.backward(terms["loss"])
                clip_gradients(model.parameters(), config.max_grad_norm)
                step_all(optimizers)
                done = step + 1
                meter.count(config.batch_size)
                progress.advance(1, **{name: value for name, value in metrics.items() if name != "loss"})
                if done % config.log_every == 0 or done == num_steps:
                    session.log(done, "train", {**metrics, **meter.speed()})
                    session.warn(done, "train", diagnose_encoder(session.rows, config))
                if session.should_save(done, every=config.checkpoint_every):
                    state = {PIECES.name: pieces}
                    session.save(done, {"model": model.state_dict(), **stored_optimizers(optimizers)}, state)
        gather_back(model)
        metrics = _evaluate(model, pixels, records, held, words, config, accelerator.device, seed)
        if session.writes:
            encoder = small_encoder(model.vision.first_blocks(config.vision.layers))
            metadata = {"command": "train-encoder", **metrics}
            with export_part(session.model, "encoder", metadata=metadata) as folder:
                save_encoder(encoder, folder)
        return session.finish({"steps": num_steps, **meter.summary(), **metrics})


def pair_losses(
    model: ContrastiveModel,
    pixels_u8: Tensor,
    ids_BL: Tensor,
    config: TrainEncoderConfig,
    autocast: Callable[[], contextlib.AbstractContextManager[Any]],
) -> dict[str, Tensor]:
    """Return the loss and its terms for this process's pairs: parts that add up to those of the whole step.

    Each pair is contrasted with all others of the step, on every process; so a step can't be cut into passes.
    """
    share, words = pixels_u8.shape[0] / config.batch_size, (ids_BL != 0).sum()
    with autocast():
        image, text, words_BLV, patches = model(normalise(pixels_u8, config.vision.preprocessing), ids_BL)
    contrast = (
        clip_loss(all_gather_with_gradient(image), all_gather_with_gradient(text), model.log_scale) / num_processes()
    )
    pixel_mse = F.mse_loss(patches, patch_pixels(pixels_u8, config.vision.patch_px, config.context_patches)) * share
    spoken = caption_loss(words_BLV, ids_BL) * (words / all_reduce_sum(words))
    loss = contrast + config.caption_weight * spoken + config.pixel_weight * pixel_mse
    return {"loss": loss, "clip_loss": contrast, "caption_loss": spoken, "pixel_mse": pixel_mse}


def _learn_pieces(run: Path, records: list[Record], config: TrainEncoderConfig) -> None:
    """Learn the word pieces once; a resumed run reads the ones it began with."""
    folder = (run / PIECES).parent
    if not folder.is_dir():
        texts = (text for record in records for text in record.captions)
        with atomic_folder(folder) as scratch:
            fit_text_tokenizer(texts, config.vocabulary_size).save(str(scratch / PIECES.name))


def _read_pieces(file: Path) -> tuple[Tokenizer, str]:
    """Return the word pieces of a run, and the digest of their file. Raises InputError."""
    digest = file_sha256(file)
    try:
        return Tokenizer.from_file(str(file)), digest
    # The library raises plain Exception, whatever is wrong.
    except Exception as error:  # noqa: BLE001
        raise InputError(f"{file}: not a text tokenizer ({error}); give another --out") from None


def _captions(records: list[Record], batch: np.ndarray, seed: int) -> list[str]:
    """Return one caption of each record, drawn from the stream."""
    draws = np.random.default_rng(seed).random(len(batch))
    chosen = [(records[index].captions, draw) for index, draw in zip(batch, draws, strict=True)]
    return [captions[int(draw * len(captions))] for captions, draw in chosen]


@torch.no_grad()
def _evaluate(
    model: ContrastiveModel,
    pixels: Pixels,
    records: list[Record],
    held: np.ndarray,
    words: Tokenizer,
    config: TrainEncoderConfig,
    device: torch.device,
    seed: int,
) -> dict[str, Any]:
    """Return retrieval among the held-out pairs, and their pixel error."""
    model.eval()
    captions = _captions(records, held, derive_seed(seed, "captions", "validation"))
    images, texts, errors = [], [], []
    for part in np.array_split(np.arange(len(held)), max(1, len(held) // config.batch_size)):
        pixels_u8 = pixels.batch(held[part]).to(device)
        ids = text_ids(words, [captions[i] for i in part], config.text_tokens).to(device)
        image, text, _, patches = model(normalise(pixels_u8, config.vision.preprocessing), ids)
        images.append(image)
        texts.append(text)
        errors.append(
            F.mse_loss(patches, patch_pixels(pixels_u8, config.vision.patch_px, config.context_patches)).item()
        )
    top1 = retrieval_top1(torch.cat(images), torch.cat(texts), captions)
    return {"retrieval_top1": top1, "retrieval_among": len(held), "validation_pixel_mse": float(np.mean(errors))}
