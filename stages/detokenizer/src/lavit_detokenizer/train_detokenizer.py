"""`lavit train-detokenizer`: a diffusion model learns to draw the images whose codes are in a token directory."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from lavit_core.data import Data, Source, open_data
from lavit_core.files import file_sha256
from lavit_core.follow import UNFOLLOWED, FollowOptions
from lavit_core.modeldir import export_part, part_digest
from lavit_core.progress import Progress
from lavit_core.seeds import repeat_items
from lavit_core.tokens import TokenReader, check_tokenizer, open_tokens, training_metadata
from lavit_tokenizer.api import load_tokenizer
from lavit_trainkit.clipping import clip_gradients
from lavit_trainkit.curves import diagnose_loss
from lavit_trainkit.device import check_training_device, make_accelerator, seed_init
from lavit_trainkit.distributed import across_processes, all_reduce_sum, shares_of
from lavit_trainkit.eight_bit import check_moment_bits
from lavit_trainkit.ema import Ema
from lavit_trainkit.optimizers import Part, build_optimizers, restore_optimizers, step_all, stored_optimizers
from lavit_trainkit.parallel import (
    copy_for_export,
    load_whole,
    no_sync_until_last,
    parallelize,
    take_weights,
)
from lavit_trainkit.precision import with_precision
from lavit_trainkit.samples import check_samples, unchanged
from lavit_trainkit.schedule import set_rate, warmup_cosine
from lavit_trainkit.session import Session, training_session
from lavit_trainkit.stopping import require_finite
from lavit_trainkit.throughput import Meter
from torch import Tensor, nn

from lavit_detokenizer.buckets import assign, bucket_batch
from lavit_detokenizer.build import build_detokenizer, check_files
from lavit_detokenizer.config import TrainDetokenizerConfig
from lavit_detokenizer.folder import load_vae, save_detokenizer
from lavit_detokenizer.network import Denoiser
from lavit_detokenizer.noise import draw_dropped, draw_noise, draw_timesteps, noisy_and_target, training_scheduler
from lavit_detokenizer.pairs import TrainingPairs, image_records
from lavit_detokenizer.samples import detokenizer_sheets
from lavit_detokenizer.sizes import trained_sizes
from lavit_detokenizer.start_files import StartFiles

SCALE_SAMPLES = 2048
"""Samples that the standardisation of the condition is fitted on."""


@across_processes
def train_detokenizer(
    tokens: Path,
    images: Path | Source,
    model: Path,
    out: Path,
    config: TrainDetokenizerConfig,
    *,
    start: StartFiles = StartFiles(),
    seed: int = 0,
    device: str = "auto",
    follow: FollowOptions = UNFOLLOWED,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train on the codes of `tokens` and the images of `images`, export `out/model/detokenizer`, return the summary.

    `model` holds the tokenizer that made the codes.
    Raises InputError for unusable input, UsageError for settings that do not fit, Interrupted if a signal stops it.
    """
    check_training_device(device)
    config = with_precision(config, device, out=out)
    check_samples(follow, config.parallel)
    reader = open_tokens(tokens)
    check_tokenizer(reader, model)
    check_files(config, start)
    check_moment_bits(config.moment_bits, config.parallel)
    opened = open_data(images)
    records = image_records(reader, opened, tokens)
    drawn = repeat_items(np.arange(len(reader)), [record.weight for record in records])
    inputs = input_digests(tokens, reader, opened, start)
    settings, num_steps = {**config.model_dump(mode="json"), "seed": seed}, config.num_steps
    shares = shares_of(config.batch_size, setting="batch_size", passes=config.accumulate_steps)
    with training_session(
        out,
        command="train-detokenizer",
        config=settings,
        inputs=inputs,
        num_steps=num_steps,
        settings=type(config),
        follow=follow,
        quiet=quiet,
    ) as session:
        if session.finished:
            return session.finished
        accelerator = make_accelerator(device=device, precision=config.precision)
        place = accelerator.device
        # Of several processes on CPUs, accelerate numbers the only one: cpu:0.
        where = str(place) if place.type == "cuda" else place.type
        tokenizer = load_tokenizer(model, device=where, precision=config.precision)
        vae = None if start.vae is None else load_vae(start.vae).to(place)
        seed_init(seed, "detokenizer")
        # Built before the caches are filled, which takes long: files that do not fit are refused at once.
        width, grid = tokenizer.config.decoder_width, tokenizer.config.grid
        detokenizer = build_detokenizer(
            config, width, grid, vae=vae, unet=start.unet, transformer=start.transformer,
            null_embedding=start.null_embedding,
        )  # fmt: skip
        denoiser = detokenizer.to(place).denoiser
        paths = [record.image for record in records]
        buckets = assign(paths, trained_sizes(detokenizer.config), quiet=quiet)
        pairs = TrainingPairs(
            reader, paths, tokenizer, detokenizer, cache_bytes=config.cache_bytes, bucket_N=buckets, quiet=quiet
        )
        if config.condition.standardise:
            denoiser.condition.fit_scale(pairs.features(np.arange(min(len(reader), SCALE_SAMPLES))))
        exported = copy_for_export(denoiser, config.parallel)
        if config.gradient_checkpointing:
            denoiser.network.enable_gradient_checkpointing()
        blocks = denoiser.blocks
        computed = parallelize(denoiser, Denoiser.__call__, parallel=config.parallel, device=place, blocks=blocks)
        scheduler = training_scheduler(detokenizer.scheduler)
        parts = {"denoiser": Part(module=denoiser, lr=config.lr)}
        optimizers = build_optimizers(
            parts, betas=config.betas, weight_decay=config.weight_decay, moment_bits=config.moment_bits
        )
        drawn_buckets = buckets[drawn]
        ema, losses, meter = Ema(denoiser, config.ema_decay), [], Meter()
        if checkpoint := session.resume():
            losses = list(checkpoint.state["losses"])
            load_whole(denoiser, checkpoint.tensors["denoiser"])
            restore_optimizers(optimizers, checkpoint.tensors)
            ema.restore(checkpoint.tensors["ema"])
        with Progress("train-detokenizer", num_steps, start=session.start, quiet=quiet) as progress:
            for step in range(session.start, num_steps):
                indices = drawn[bucket_batch(drawn_buckets, config.batch_size, step, seed)]
                size_px = pairs.size_px(indices)
                # Drawn for the whole step, so that they do not depend on how processes and passes share it.
                noise = draw_noise(len(indices), detokenizer.shape_of(size_px), seed=seed, step=step)
                timesteps = draw_timesteps(config.process, len(indices), seed=seed, step=step)
                dropped = draw_dropped(len(indices), config.condition_drop, seed=seed, step=step)
                loss = torch.zeros((), device=place)
                for rows in shares:
                    clean = pairs.clean(indices, rows, seed=seed, step=step)
                    levels = timesteps[rows].to(place)
                    noisy, target = noisy_and_target(scheduler, clean, noise[rows].to(place), levels, config.flow)
                    given = noisy, levels, pairs.features(indices[rows]), dropped[rows].to(place), size_px
                    with no_sync_until_last(computed, last=rows is shares[-1]):
                        loss += backward(accelerator, computed, given, target, share=len(clean) / len(indices))
                losses.append(all_reduce_sum(loss).item())
                require_finite(losses[-1], name="loss", step=step, run=session.path)
                norm = clip_gradients(denoiser.parameters(), config.max_grad_norm)
                factor = warmup_cosine(step, num_steps, warmup_steps=config.warmup_steps, floor=config.lr_floor)
                set_rate(optimizers, factor)
                step_all(optimizers)
                ema.decay = min(config.ema_decay, (1 + step) / (10 + step))
                ema.update(denoiser)
                done = step + 1
                meter.count(config.batch_size)
                progress.advance(1, loss=losses[-1], images_per_second=meter.per_second)
                if done % config.log_every == 0 or done == num_steps:
                    row = {"loss": float(np.mean(losses)), "grad_norm": norm, "lr": config.lr * factor}
                    losses = []
                    log(session, done, {**row, **meter.speed()}, config)
                if session.should_show(done):
                    with unchanged(denoiser), ema.swapped_into(denoiser):
                        session.show(done, detokenizer_sheets(detokenizer, pairs, reader))
                if session.should_save(done, every=config.checkpoint_every, at_end=False):
                    tensors = {"denoiser": denoiser.state_dict(), "ema": ema.shadow, **stored_optimizers(optimizers)}
                    session.save(done, tensors, {"losses": losses})
        ema.copy_to(denoiser)
        exported = take_weights(exported, denoiser, keep=session.writes)
        if session.writes:
            metadata = {"command": "train-detokenizer", **training_metadata(*reader.manifests)}
            with export_part(session.model, "detokenizer", carry_from=model, metadata=metadata) as folder:
                save_detokenizer(dataclasses.replace(detokenizer, denoiser=exported), folder)
        summary = {
            "steps": num_steps,
            "images": len(reader),
            "parameters": sum(parameter.numel() for parameter in denoiser.parameters()),
            "loss": session.rows[-1]["loss"],  # logged before, if the run was stopped at its very last step
            **meter.summary(),
            "model": str(session.model),
        }
        return session.finish(summary)


def backward(
    accelerator: Accelerator, computed: nn.Module, given: tuple[Any, ...], target_BCHW: Tensor, *, share: float
) -> Tensor:
    """Add the gradients of one pass, `share` of its step's images, and return its part of the step's loss."""
    with accelerator.autocast():
        predicted = computed(*given)
    loss = F.mse_loss(predicted, target_BCHW) * share
    accelerator.backward(loss)
    return loss.detach()


def log(session: Session, done: int, row: dict[str, Any], config: TrainDetokenizerConfig) -> None:
    """Write the metrics of the steps since the last row, and warn of what looks wrong in all rows."""
    session.log(done, "detokenizer", row)
    findings = diagnose_loss(
        session.rows, "loss", num_steps=config.num_steps, warmup_steps=config.warmup_steps, lower="lr"
    )
    session.warn(done, "detokenizer", findings)


def input_digests(tokens: Path, reader: TokenReader, images: Data, start: StartFiles) -> dict[str, str]:
    """Return the digests of everything that a run reads; a resumed run must find the same."""
    digests = {"tokens": file_sha256(tokens / "manifest.json"), "tokenizer": reader.manifest.tokenizer_digest}
    folders = {"unet": start.unet, "transformer": start.transformer, "vae": start.vae}
    digests |= {name: part_digest(folder) for name, folder in folders.items() if folder is not None}
    if start.null_embedding is not None:
        digests["null_embedding"] = file_sha256(start.null_embedding)
    return {**digests, "images": images.digest}
