"""`lavit train-detokenizer`: a diffusion model learns to draw the images whose codes are in a token directory."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from lavit_core.data import open_data
from lavit_core.errors import InputError, UsageError
from lavit_core.files import file_sha256
from lavit_core.modeldir import export_part, part_digest
from lavit_core.progress import Progress
from lavit_core.seeds import shuffled_batch
from lavit_core.tokens import check_tokenizer, open_tokens, training_metadata
from lavit_tokenizer.api import load_tokenizer
from lavit_trainkit.clipping import clip_gradients
from lavit_trainkit.curves import diagnose_loss
from lavit_trainkit.device import generator, make_accelerator, seed_init
from lavit_trainkit.distributed import across_processes, all_reduce_sum, shares_of
from lavit_trainkit.ema import Ema
from lavit_trainkit.external_weights import read_tensors
from lavit_trainkit.optimizers import Part, build_optimizers, restore_optimizers, step_all, stored_optimizers
from lavit_trainkit.parallel import (
    copy_on_meta_device,
    is_sharded,
    load_whole,
    no_sync_until_last,
    parallelize,
    take_weights,
)
from lavit_trainkit.pixels import Pixels
from lavit_trainkit.schedule import set_rate, warmup_cosine
from lavit_trainkit.session import training_session
from lavit_trainkit.stopping import require_finite
from lavit_trainkit.throughput import Meter
from torch import Tensor

from lavit_detokenizer.condition import Condition
from lavit_detokenizer.config import DetokenizerConfig, TrainDetokenizerConfig
from lavit_detokenizer.folder import NULL_KEY, check_unet, load_unet, load_vae, save_detokenizer
from lavit_detokenizer.network import (
    Denoiser,
    Detokenizer,
    build_scheduler,
    build_unet,
    levels_of,
    noisy_and_target,
    sample_latents,
    sample_shape,
    to_sample,
    training_scheduler,
)
from lavit_detokenizer.pairs import CachedRows, decoded_features, image_paths, latents

SCALE_SAMPLES = 2048
"""Samples behind the standardisation of the condition."""


@across_processes
def train_detokenizer(
    tokens: Path,
    images: Path,
    model: Path,
    out: Path,
    config: TrainDetokenizerConfig,
    *,
    unet: Path | None = None,
    vae: Path | None = None,
    null_embedding: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> dict[str, Any]:
    """Train on the codes of `tokens` and the images of `images`, export `out/model/detokenizer`, return the summary.

    `model` holds the tokenizer that made the codes; `unet` and `vae` are local diffusers folders to start from.
    Raises InputError for unusable input, UsageError for settings that do not fit, Interrupted when stopped.
    """
    reader = open_tokens(tokens)
    check_tokenizer(reader, model)
    check_arguments(config, vae, null_embedding)
    inputs = {"tokens": file_sha256(tokens / "manifest.json"), "tokenizer": reader.manifest.tokenizer_digest}
    inputs |= {name: part_digest(path) for name, path in (("unet", unet), ("vae", vae)) if path is not None}
    if null_embedding is not None:
        if not null_embedding.is_file():
            raise InputError(f"--null-embedding {null_embedding}: file not found, expected a safetensors file")
        inputs["null_embedding"] = file_sha256(null_embedding)
    opened = open_data(images)
    inputs["images"] = opened.digest
    paths = image_paths(reader, opened, tokens)
    settings = {**config.model_dump(mode="json"), "seed": seed}
    shares = shares_of(config.batch_size, setting="batch_size", passes=config.accumulate_steps)
    num_steps = config.num_steps
    with training_session(
        out, command="train-detokenizer", config=settings, inputs=inputs, num_steps=num_steps
    ) as session:
        if session.finished:
            return session.finished
        accelerator, sharded = make_accelerator(device=device, precision=config.precision), is_sharded(config.parallel)
        place = accelerator.device
        tokenizer = load_tokenizer(model, device=str(place), precision=config.precision)
        frozen_vae = None if vae is None else load_vae(vae).to(place)
        seed_init(seed, "detokenizer")
        shape = (tokenizer.config.decoder_width, tokenizer.config.grid)
        # Before codes and latents of all images are made: what does not fit is said at once.
        detokenizer = build(config, shape, unet=unet, vae=frozen_vae, null_embedding=null_embedding).to(place)
        denoiser = detokenizer.denoiser
        features = decoded_features(reader, tokenizer, cache_bytes=config.cache_bytes, quiet=quiet)
        pixels = Pixels(paths, config.image_px, cache_bytes=config.cache_bytes)
        moments = None
        if frozen_vae is not None:
            moments = latents(frozen_vae, pixels, cache_bytes=config.cache_bytes, quiet=quiet)
        if config.condition.standardise:
            denoiser.condition.fit_scale(features.batch(np.arange(min(len(reader), SCALE_SAMPLES))).float().to(place))
        exported = copy_on_meta_device(denoiser) if sharded else denoiser
        if config.gradient_checkpointing:
            denoiser.unet.enable_gradient_checkpointing()
        computed = parallelize(
            denoiser,
            lambda net, *inputs: net(*inputs),
            parallel=config.parallel,
            device=place,
            blocks=levels_of(denoiser.unet),
        )
        scheduler = training_scheduler(detokenizer.scheduler)
        parts = {"denoiser": Part(module=denoiser, lr=config.lr)}
        optimizers = build_optimizers(parts, betas=config.betas, weight_decay=config.weight_decay)
        ema, losses = Ema(denoiser, config.ema_decay), []
        if checkpoint := session.resume():
            losses = list(checkpoint.state["losses"])
            load_whole(denoiser, checkpoint.tensors["denoiser"])
            restore_optimizers(optimizers, checkpoint.tensors)
            ema.restore(checkpoint.tensors["ema"])
        meter = Meter()
        with Progress("train-detokenizer", num_steps, start=session.start, quiet=quiet) as progress:
            for step in range(session.start, num_steps):
                indices = shuffled_batch(len(reader), config.batch_size, step, seed)
                # Drawn for the whole step, whoever computes which part of it.
                noise = torch.randn((len(indices), *detokenizer.sample_shape), generator=generator(seed, "noise", step))
                levels = (config.noise.num_train_timesteps, (len(indices),))
                timesteps = torch.randint(0, *levels, generator=generator(seed, "timesteps", step))
                dropped = draw_dropped(len(indices), config.condition_drop, seed=seed, step=step)
                step_loss = torch.zeros((), device=place)
                for rows in shares:
                    clean = _clean(detokenizer, pixels, moments, indices, rows, seed=seed, step=step).to(place)
                    noisy, target = noisy_and_target(scheduler, clean, noise[rows].to(place), timesteps[rows].to(place))
                    condition = features.batch(indices[rows]).float().to(place)
                    with no_sync_until_last(computed, last=rows is shares[-1]):
                        with accelerator.autocast():
                            predicted = computed(noisy, timesteps[rows].to(place), condition, dropped[rows].to(place))
                        loss = F.mse_loss(predicted, target) * (len(clean) / len(indices))
                        accelerator.backward(loss)
                    step_loss += loss.detach()
                losses.append(all_reduce_sum(step_loss).item())
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
                    session.log(done, "detokenizer", {**row, **meter.speed()})
                    findings = diagnose_loss(
                        session.rows, "loss", num_steps=num_steps, warmup_steps=config.warmup_steps, lower="lr"
                    )
                    session.warn(done, "detokenizer", findings)
                if session.should_save(done, every=config.checkpoint_every, at_end=False):
                    tensors = {"denoiser": denoiser.state_dict(), "ema": ema.shadow, **stored_optimizers(optimizers)}
                    session.save(done, tensors, {"losses": losses})
        ema.copy_to(denoiser)
        exported = take_weights(exported, denoiser, keep=session.writes) if sharded else exported
        if session.writes:
            metadata = {"command": "train-detokenizer", **training_metadata(reader.manifest)}
            with export_part(session.model, "detokenizer", carry_from=model, metadata=metadata) as folder:
                save_detokenizer(dataclasses.replace(detokenizer, denoiser=exported), folder)
        summary = {
            "steps": num_steps,
            "images": len(reader),
            "parameters": sum(parameter.numel() for parameter in denoiser.parameters()),
            "loss": session.rows[-1]["loss"],  # logged before, where a run was stopped at its very last step
            **meter.summary(),
            "model": str(session.model),
        }
        return session.finish(summary)


def check_arguments(config: TrainDetokenizerConfig, vae: Path | None, null_embedding: Path | None) -> None:
    """Refuse settings that ask for files that were not given, and the other way round. Raises UsageError."""
    if (config.space == "latent") != (vae is not None):
        found = "none" if vae is None else str(vae)
        raise UsageError(f"--vae: found {found}, expected a diffusers AutoencoderKL folder with space latent only")
    if (config.condition.null_condition == "stored") != (null_embedding is not None):
        found = "none" if null_embedding is None else str(null_embedding)
        raise UsageError(f"--null-embedding: found {found}, expected a safetensors file for null_condition stored")


def build(
    config: TrainDetokenizerConfig,
    features: tuple[int, tuple[int, int]],
    *,
    unet: Path | None = None,
    vae: AutoencoderKL | None = None,
    null_embedding: Path | None = None,
) -> Detokenizer:
    """Return the detokenizer before training for features of a (width, grid); the global generator must be seeded.

    Raises InputError for a UNet or a null embedding that does not fit, UsageError for a shape that is none.
    """
    feature_dim, grid = features
    shape = DetokenizerConfig(
        space=config.space,
        image_px=config.image_px,
        unshuffle=config.unshuffle,
        condition=config.condition,
        feature_dim=feature_dim,
        grid=grid,
    )
    if unet is None:
        network = build_unet(shape, config.unet, sample_shape(shape, vae))
    else:
        network = load_unet(unet)
        check_unet(network, unet, shape, vae)
    null = None
    if null_embedding is not None:
        null = read_tensors(null_embedding).get(NULL_KEY)
        width = sum(config.condition.cross_dims)
        if null is None or null.ndim != 2 or null.shape[1] != width:
            found = "absent" if null is None else tuple(null.shape)
            raise UsageError(f"--null-embedding {null_embedding}: {NULL_KEY} is {found}, expected [rows, {width}]")
    condition = Condition(shape, null_shape=None if null is None else (null.shape[0], null.shape[1]))
    if null is not None:
        condition.null_embedding.copy_(null)
    denoiser = Denoiser(network, condition)
    return Detokenizer(config=shape, denoiser=denoiser, scheduler=build_scheduler(config.noise), vae=vae)


def draw_dropped(count: int, probability: float, *, seed: int, step: int) -> Tensor:
    """Return which images of a step lose their condition, bool [B]."""
    return torch.rand(count, generator=generator(seed, "drop", step)) < probability


def _clean(
    detokenizer: Detokenizer,
    pixels: Pixels,
    moments: CachedRows | None,
    indices: np.ndarray,
    rows: slice,
    *,
    seed: int,
    step: int,
) -> Tensor:
    """Return the images of the step's given rows, as diffusion sees them."""
    if moments is None or detokenizer.vae is None:
        return to_sample(pixels.batch(indices[rows]), detokenizer.config.unshuffle)
    noise = torch.randn((len(indices), *detokenizer.sample_shape), generator=generator(seed, "latents", step))
    return sample_latents(detokenizer.vae, moments.batch(indices[rows]), noise[rows])
