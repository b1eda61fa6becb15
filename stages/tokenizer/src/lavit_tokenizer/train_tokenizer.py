"""`lavit train-tokenizer`: selector, merger, codebook and feature decoder on a frozen encoder, in phases."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lavit_core.data import Source, open_data
from lavit_core.errors import UsageError
from lavit_core.follow import UNFOLLOWED, FollowOptions
from lavit_core.modeldir import export_part, find_part, recorded_digest
from lavit_core.progress import Progress
from lavit_core.seeds import repeat_items, shuffled_batch
from lavit_trainkit.device import check_training_device, generator, make_accelerator, seed_init
from lavit_trainkit.distributed import across_processes, broadcast_from_main
from lavit_trainkit.optimizers import build_optimizers, restore_optimizers, step_all, stored_optimizers
from lavit_trainkit.parallel import gather_back, refuse_sharded_muon
from lavit_trainkit.pixels import Pixels
from lavit_trainkit.precision import with_precision
from lavit_trainkit.samples import check_samples, unchanged
from lavit_trainkit.schedule import set_rate, warmup_cosine
from lavit_trainkit.session import training_session
from lavit_trainkit.stopping import require_finite
from lavit_trainkit.throughput import Meter

from lavit_tokenizer.codebook_stats import CodebookStats
from lavit_tokenizer.config import TrainTokenizerConfig
from lavit_tokenizer.diagnose import diagnose_tokenizer
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.encoder_folder import load_encoder
from lavit_tokenizer.evidence import OwnRows
from lavit_tokenizer.features import FeatureSource, fit_statistics
from lavit_tokenizer.layers import sincos_table
from lavit_tokenizer.objective import phase_seed
from lavit_tokenizer.phase import Phase
from lavit_tokenizer.phase_start import calibrate_threshold, start_phase
from lavit_tokenizer.phase_step import (
    clip_phase,
    forward_backward,
    keep_metrics,
    parallelize_phase,
    read_passes,
    shares_of_phase,
    trained_parts,
    update_codebook,
)
from lavit_tokenizer.samples import tokenizer_sheets
from lavit_tokenizer.token_findings import diagnose_tokens
from lavit_tokenizer.tokenizer import VisualTokenizer, shape_for, trained_state
from lavit_tokenizer.tokenizer_folder import write_tokenizer
from lavit_tokenizer.validation import evaluate, split_validation, token_facts

SHOWN = ("mean_predictor", "kept_mean", "kept_std", "decided")
"""Metrics of a logged row that the progress line shows."""


@across_processes
def train_tokenizer(
    data: Path | Source,
    out: Path,
    config: TrainTokenizerConfig,
    *,
    model: Path | None = None,
    encoder: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    follow: FollowOptions = UNFOLLOWED,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train on the images of `data` (captions unused), export `out/model/tokenizer`, return the run's summary.

    `model` holds encoder/, or `encoder` is a folder of a transformers vision model.
    Raises UsageError if neither or both are given, InputError for unusable input, Interrupted if a signal stops it.
    """
    encoder_folder = find_encoder(model, encoder)
    refuse_sharded_muon(config.parallel, config.optimizer)
    check_samples(follow, config.parallel)
    opened = open_data(data)
    check_training_device(device)
    config = with_precision(config, device, out=out)
    accelerator = make_accelerator(device=device, precision=config.precision)
    network = load_encoder(encoder_folder, config.encoder).to(accelerator.device)
    settings = {**config.model_dump(mode="json"), "seed": seed}
    inputs = {"data": opened.digest, "encoder": recorded_digest(encoder_folder.parent, encoder_folder.name)}
    num_steps = sum(phase.num_steps for phase in config.phases)
    shares = {phase.name: shares_of_phase(phase, config) for phase in config.phases}
    with training_session(
        out,
        command="train-tokenizer",
        config=settings,
        inputs=inputs,
        num_steps=num_steps,
        settings=type(config),
        follow=follow,
        quiet=quiet,
    ) as session:
        if session.finished:
            return session.finished
        seed_init(seed, "tokenizer")
        tokenizer = new_tokenizer(config, network).to(accelerator.device)
        tokenizer.merger.recompute = tokenizer.decoder.recompute = config.gradient_checkpointing
        pixels = Pixels([record.image for record in opened.records], tokenizer.config.preprocessing.image_px)
        train, held = split_validation(len(pixels), config.num_validation, seed)
        drawn = repeat_items(train, [record.weight for record in opened.records])
        stats, meter = CodebookStats(config), Meter()
        checkpoint = session.resume()
        if checkpoint:
            tokenizer.load_state_dict(checkpoint.tensors["tokenizer"] | _encoder_state(tokenizer))
            stats.restore(checkpoint.tensors["watch"], checkpoint.state)
        else:
            fit_statistics(tokenizer, pixels, train[: config.statistics_images], config.precision)
            broadcast_from_main((tokenizer.feature_mean, tokenizer.feature_whitening))
        source = FeatureSource(
            tokenizer, pixels, cache_bytes=config.cache_bytes, precision=config.precision, quiet=quiet
        )
        own_rows = None
        if any(phase.evidence == "own" for phase, _ in phases_from(config.phases, session.start)):
            own_rows = OwnRows(tokenizer, pixels, train[: config.statistics_images], config.precision)
        for phase, first in phases_from(config.phases, session.start):
            start, draws = max(session.start - first, 0), phase_seed(seed, phase)
            start_phase(tokenizer, source, train, config, phase, stats, is_resumed=start > 0, seed=draws)
            parts = trained_parts(tokenizer, phase, muon=config.optimizer == "muon")
            computed = parallelize_phase(tokenizer, phase, config, accelerator, seed=draws)
            optimizers = build_optimizers(parts, betas=config.betas, weight_decay=config.weight_decay)
            if checkpoint and start > 0:
                restore_optimizers(optimizers, checkpoint.tensors)
            with Progress(f"train-tokenizer {phase.name}", phase.num_steps, start=start, quiet=quiet) as progress:
                for step in range(start, phase.num_steps):
                    batch = drawn[shuffled_batch(len(drawn), phase.batch_size, step, draws)]
                    own = own_rows if phase.evidence == "own" else None
                    passes = read_passes(batch, shares[phase.name], source, own, config)
                    metrics, outputs = forward_backward(computed, accelerator, passes, step=step)
                    require_finite(metrics["loss"], name="loss", step=first + step, run=out)
                    clip_phase(parts, config.max_grad_norm)
                    factor = warmup_cosine(step, phase.num_steps, warmup_steps=phase.warmup_steps, floor=phase.lr_floor)
                    set_rate(optimizers, factor)
                    step_all(optimizers)
                    if phase.quantise:
                        stats.count(*update_codebook(tokenizer, outputs, config, generator(draws, "restart", step)))
                    done = first + step + 1
                    meter.count(phase.batch_size)
                    session.warn(done, phase.name, stats.close_window(step + 1, phase))
                    if done % config.log_every == 0 or step + 1 == phase.num_steps:
                        metrics |= keep_metrics(passes, outputs, phase.batch_size)
                        session.log(done, phase.name, {**metrics, **stats.metrics, **meter.speed()})
                        findings = diagnose_tokenizer(session.rows, config, tokenizer.config.num_patches)
                        session.warn(done, phase.name, findings)
                        progress.advance(0, **{name: metrics[name] for name in SHOWN}, **stats.metrics)
                    progress.advance(1, cos_loss=metrics["cos_loss"])
                    if session.should_show(done):
                        with unchanged(tokenizer):
                            session.show(done, tokenizer_sheets(tokenizer, pixels, held, stats.codebook_started))
                    if session.should_save(done, every=config.checkpoint_every, at_end=False):
                        groups = {"tokenizer": trained_state(tokenizer), "watch": stats.tensors()}
                        session.save(done, groups | stored_optimizers(optimizers), stats.state())
            gather_back(tokenizer)
        if config.calibrate_threshold:
            calibrate_threshold(tokenizer, source, train[: config.statistics_images])
        metrics = evaluate(tokenizer, source, held, quantised=stats.codebook_started)
        facts = token_facts(metrics, tokenizer.config, quantised=stats.codebook_started)
        session.warn(num_steps, config.phases[-1].name, diagnose_tokens(facts))
        if session.writes:
            metadata = {"command": "train-tokenizer", "encoder_digest": inputs["encoder"], **metrics}
            with export_part(session.model, "tokenizer", carry_from=model, metadata=metadata) as folder:
                write_tokenizer(tokenizer.eval(), folder)
        return session.finish({"steps": num_steps, **meter.summary(), **metrics})


def find_encoder(model: Path | None, encoder: Path | None) -> Path:
    """Return the folder of the encoder: `encoder`, or a model directory's. Raises UsageError, InputError."""
    if encoder is not None and model is None:
        return encoder
    if model is not None and encoder is None:
        return find_part(model, "encoder")
    raise UsageError("expected either --model (a directory with encoder/) or --encoder (a transformers vision folder)")


def phases_from(phases: Sequence[Phase], start: int) -> Iterator[tuple[Phase, int]]:
    """Yield each phase that is not done after `start` steps, and the number of steps before it."""
    first = 0
    for phase in phases:
        if first + phase.num_steps > start:
            yield phase, first
        first += phase.num_steps


def new_tokenizer(config: TrainTokenizerConfig, encoder: Encoder) -> VisualTokenizer:
    """Return an untrained tokenizer shaped for an encoder; the global generator must be seeded.

    Raises UsageError if the heads do not divide the encoder's width.
    """
    shape = shape_for(config.model, encoder)
    tokenizer = VisualTokenizer(shape, encoder)
    tokenizer.selector.start_at(shape.keep_ratio)
    if config.position_init == "sincos":
        table = sincos_table(shape.grid, shape.feature_dim)
        with torch.no_grad():
            tokenizer.decoder.query_embed.copy_(table)
            if tokenizer.merger.pos_embed is not None:
                tokenizer.merger.pos_embed.copy_(table)
    return tokenizer


def _encoder_state(tokenizer: VisualTokenizer) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tokenizer.state_dict().items() if name.startswith("encoder.")}
