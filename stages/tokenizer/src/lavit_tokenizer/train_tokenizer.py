"""`lavit train-tokenizer`: selector, merger, codebook and feature decoder on a frozen encoder, in phases."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from lavit_core.data import open_data
from lavit_core.errors import UsageError
from lavit_core.interrupt import stop_signals
from lavit_core.modeldir import export_part, find_part, part_digest
from lavit_core.progress import Progress
from lavit_core.seeds import derive_seed, shuffled_batch
from lavit_trainkit.checkpoint import load_newest, save_checkpoint
from lavit_trainkit.device import generator, make_accelerator, seed_init
from lavit_trainkit.distributed import (
    across_processes,
    all_gather,
    all_reduce_sum,
    any_process,
    broadcast_from_main,
    from_main,
    open_shared_run,
    shares_of,
)
from lavit_trainkit.optimizers import Part, build_optimizers, restore_optimizers, step_all, stored_optimizers
from lavit_trainkit.parallel import gather_back, no_sync_until_last, parallelize, refuse_sharded_muon
from lavit_trainkit.pixels import Pixels
from lavit_trainkit.schedule import clip_gradients, set_rate, warmup_cosine
from lavit_trainkit.stopping import require_finite, stopped
from torch import Tensor, nn

from lavit_tokenizer.config import Phase, TrainTokenizerConfig
from lavit_tokenizer.diagnose import diagnose_tokenizer
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.encoder_folder import load_encoder
from lavit_tokenizer.features import FeatureSource, fit_statistics
from lavit_tokenizer.layers import sincos_table
from lavit_tokenizer.measure import Meter, split_validation
from lavit_tokenizer.objective import (
    Pass,
    code_vectors,
    decided,
    forward_phase,
    keep_moments,
    kept_figures,
    losses,
    mean_direction,
    phase_seed,
    weighed_energy,
    without_gradients,
)
from lavit_tokenizer.tokenizer import VisualTokenizer, shape_for, trained_state
from lavit_tokenizer.tokenizer_folder import write_tokenizer
from lavit_tokenizer.watch import CodeWatch, evaluate

START_BATCH = 64
"""Pictures a forward pass while the codebook is started."""


@across_processes
def train_tokenizer(
    data: Path,
    out: Path,
    config: TrainTokenizerConfig,
    *,
    model: Path | None = None,
    encoder: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> dict[str, Any]:
    """Train on the pictures of `data` (captions unused), export `out/model/tokenizer`, return the run's summary.

    `model` holds encoder/, or `encoder` is a folder of a transformers vision model.
    Raises UsageError when neither or both are given, InputError for unusable input, Interrupted when stopped.
    """
    if (model is None) == (encoder is None):
        raise UsageError(
            "expected either --model (a directory with encoder/) or --encoder (a transformers vision folder)"
        )
    encoder_folder = encoder if encoder is not None else find_part(Path(str(model)), "encoder")
    refuse_sharded_muon(config.parallel, config.optimizer)
    opened = open_data(data)
    accelerator = make_accelerator(device=device, precision=config.precision)
    network = load_encoder(encoder_folder).to(accelerator.device)
    settings = {**config.model_dump(mode="json"), "seed": seed}
    inputs = {"data": opened.digest, "encoder": part_digest(encoder_folder)}
    num_steps = sum(phase.num_steps for phase in config.phases)
    shares = {phase.name: _shares(phase, config) for phase in config.phases}
    with (
        open_shared_run(out, command="train-tokenizer", config=settings, inputs=inputs) as run,
        stop_signals() as asked,
    ):
        if run.done:
            return run.done
        stop = any_process(asked)
        seed_init(seed, "tokenizer")
        tokenizer = new_tokenizer(config, network).to(accelerator.device)
        tokenizer.merger.recompute = tokenizer.decoder.recompute = config.gradient_checkpointing
        pixels = Pixels([record.path for record in opened.records], tokenizer.config.preprocessing.image_px)
        train, held = split_validation(len(pixels), config.num_validation, seed)
        start, watch, meter = 0, CodeWatch(config), Meter()
        checkpoint = load_newest(run.checkpoints)
        if checkpoint:
            start = checkpoint.step
            tokenizer.load_state_dict(checkpoint.tensors["tokenizer"] | _encoder_state(tokenizer))
            watch.restore(checkpoint.tensors["watch"], checkpoint.state)
        else:
            fit_statistics(tokenizer, pixels, train[: config.statistics_images], config.precision)
            broadcast_from_main((tokenizer.feature_mean, tokenizer.feature_whitening))
        run.rewind(start)
        source = FeatureSource(
            tokenizer, pixels, cache_bytes=config.cache_bytes, precision=config.precision, quiet=quiet
        )
        images, first = 0, 0
        for phase in config.phases:
            last = first + phase.num_steps
            if last <= start:
                first = last
                continue
            draws = phase_seed(seed, phase)
            if phase.selection == "fixed" and config.calibrate_threshold:
                calibrate_threshold(tokenizer, source, train[: config.statistics_images])
            if start <= first and phase.quantise and not watch.codebook_started:
                start_codebook(tokenizer, source, train, config, phase, seed=draws)
                watch.codebook_started = True
            parts = _trained_parts(tokenizer, phase, muon=config.optimizer == "muon")
            computed = _parallelize(tokenizer, phase, config, accelerator, seed=draws)
            optimizers = build_optimizers(parts, betas=config.betas, weight_decay=config.weight_decay)
            if checkpoint and start > first:
                restore_optimizers(optimizers, checkpoint.tensors)
            with Progress(
                f"train-tokenizer {phase.name}", last - first, start=max(start, first) - first, quiet=quiet
            ) as progress:
                for step in range(max(start, first), last):
                    local = step - first
                    batch = train[shuffled_batch(len(train), phase.batch_size, local, draws)]
                    own = shares[phase.name]
                    targets = [source.batch(batch[rows]) for rows in own]
                    energy = all_reduce_sum(sum((weighed_energy(x_BPD, config) for x_BPD in targets), torch.zeros(())))
                    factor = warmup_cosine(
                        local, phase.num_steps, warmup_steps=phase.warmup_steps, floor=phase.lr_floor
                    )
                    set_rate(optimizers, factor)
                    done_passes = []
                    for rows, x_BPD in zip(own, targets, strict=True):
                        with no_sync_until_last(computed, last=rows is own[-1]):
                            terms, passed = computed(x_BPD, local, rows, energy)
                            accelerator.backward(terms["loss"])
                        done_passes.append((terms, passed))
                    figures = _figures([terms for terms, _ in done_passes])
                    require_finite(figures["loss"], name="loss", step=step, run=out)
                    for modules in _clip_groups(parts):
                        clip_gradients((p for module in modules for p in module.parameters()), config.max_grad_norm)
                    step_all(optimizers)
                    if phase.quantise:
                        codes = torch.cat([all_gather(passed.codes) for _, passed in done_passes])
                        restarted = tokenizer.quantizer.update(
                            torch.cat([all_gather(passed.z.detach()) for _, passed in done_passes]), codes,
                            decay=config.ema_decay, restart_below=config.restart_below,
                            stream=generator(draws, "restart", local),
                        )  # fmt: skip
                        broadcast_from_main(tokenizer.quantizer.buffers())
                        watch.count(codes, restarted)
                    done, images = step + 1, images + phase.batch_size
                    run.warn(watch.close_window(local + 1, phase), step=done, phase=phase.name)
                    if done % config.log_every == 0 or done == last:
                        row = {**figures, **_seen(targets, [passed for _, passed in done_passes], phase.batch_size)}
                        run.log({"step": done, "phase": phase.name, **row, **watch.figures, **meter.speed(images)})
                        found = diagnose_tokenizer(run.rows, config, tokenizer.config.num_patches)
                        run.warn(found, step=done, phase=phase.name)
                        shown = ("mean_predictor", "kept_mean", "kept_std", "decided")
                        progress.advance(0, **{name: row[name] for name in shown}, **watch.figures)
                    progress.advance(1, cos_loss=figures["cos_loss"])
                    stopping = stop()
                    if (done % config.checkpoint_every == 0 and done < num_steps) or stopping:
                        tensors = {"tokenizer": trained_state(tokenizer), "watch": watch.tensors()}
                        tensors |= stored_optimizers(optimizers)
                        save_checkpoint(run.checkpoints, done, tensors, watch.state())
                        if stopping:
                            raise stopped(run.path, done, num_steps)
            gather_back(tokenizer)
            first = last
        if config.calibrate_threshold:
            calibrate_threshold(tokenizer, source, train[: config.statistics_images])
        figures = evaluate(tokenizer, source, held, quantised=watch.codebook_started)
        about = {"command": "train-tokenizer", "encoder_digest": inputs["encoder"], **figures}
        if run.writes:
            with export_part(run.path / "model", "tokenizer", carry_from=model, about=about) as folder:
                write_tokenizer(tokenizer.eval(), folder)
        summary = {"steps": num_steps, **meter.summary(images), **figures}
        run.finish(summary)
        return summary


def new_tokenizer(config: TrainTokenizerConfig, encoder: Encoder) -> VisualTokenizer:
    """Return an untrained tokenizer shaped for an encoder; the global generator must be seeded.

    Raises UsageError when the heads do not divide the encoder's width.
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


def _shares(phase: Phase, config: TrainTokenizerConfig) -> list[slice]:
    """Return the rows of the phase's batch that this process takes in each pass."""
    setting = f"phases.{phase.name}.batch_size"
    return shares_of(phase.batch_size, setting=setting, passes=config.accumulate_steps)


def _parallelize(
    tokenizer: VisualTokenizer,
    phase: Phase,
    config: TrainTokenizerConfig,
    accelerator: Accelerator,
    *,
    seed: int,
) -> nn.Module:
    """Return the phase's loss as all processes compute it: (features, step, their rows, energy) -> terms and pass."""

    def compute(
        net: VisualTokenizer, x_BPD: Tensor, step: int, rows: slice, energy: Tensor
    ) -> tuple[dict[str, Tensor], Pass]:
        share = x_BPD.shape[0] / phase.batch_size
        with accelerator.autocast():
            passed = forward_phase(net, x_BPD, phase, step=step, seed=seed, rows=rows)
        vectors = None if passed.codes is None else net.quantizer.codebook[passed.codes]
        terms = losses(passed, x_BPD, config, vectors, cos_weight=phase.cos_weight, share=share, energy=energy)
        return terms, without_gradients(passed)

    # The masked formulation calls a method of blocks, not blocks: shards are gathered for all of them together.
    unmerged = phase.merger != "on" or ("selector" in phase.train and phase.selection != "gumbel")
    return parallelize(
        tokenizer,
        compute,
        parallel=config.parallel,
        device=accelerator.device,
        ignored=[tokenizer.encoder],
        some_unused=unmerged,
    )


def _figures(parts: list[dict[str, Tensor]]) -> dict[str, float]:
    """Return the step's terms from those of its passes in all processes."""
    names = list(parts[0])
    summed = torch.stack([torch.stack([terms[name].detach() for name in names]) for terms in parts]).sum(0)
    return dict(zip(names, all_reduce_sum(summed).tolist(), strict=True))


def _seen(targets: list[Tensor], passes: list[Pass], batch_size: int) -> dict[str, Any]:
    """Return what a row says of the step's features and masks, in all passes of all processes."""
    shares = [x_BPD.shape[0] / batch_size for x_BPD in targets]
    direction = sum(mean_direction(x_BPD) * share for x_BPD, share in zip(targets, shares, strict=True))
    keep = sum(keep_moments(passed.log_keep) * share for passed, share in zip(passes, shares, strict=True))
    kept = torch.cat([all_gather((passed.mask > 0.5).sum(dim=1)) for passed in passes])
    figures = {
        "mean_predictor": 1 - float(all_reduce_sum(torch.as_tensor(direction)).norm()),
        "decided": decided(all_reduce_sum(torch.as_tensor(keep))),
    }
    return {**figures, **kept_figures(kept, passes[0].mask.shape[1])}


def _encoder_state(tokenizer: VisualTokenizer) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tokenizer.state_dict().items() if name.startswith("encoder.")}


def _trained_parts(tokenizer: VisualTokenizer, phase: Phase, *, muon: bool) -> dict[str, Part]:
    """Return the phase's modules with their learning rates; the selector, a small MLP, stays with AdamW."""
    muon_lr = phase.muon_lr if muon else None
    owners = {
        "selector": ("selector", phase.selector_lr, None),
        "merger": ("merger", phase.lr, muon_lr),
        "encode_task_layer": ("decoder", phase.lr, None),
        "decoder": ("decoder", phase.lr, muon_lr),
    }
    parts = {}
    for name, (owner, rate, muon_rate) in owners.items():
        module = getattr(tokenizer, name).requires_grad_(owner in phase.train)
        if owner in phase.train:
            parts[name] = Part(module=module, lr=rate, muon_lr=muon_rate)
    return parts


def _clip_groups(parts: dict[str, Part]) -> list[list[nn.Module]]:
    """Return the modules whose gradients are clipped together: the selector's are far larger and clipped apart."""
    selector = [part.module for name, part in parts.items() if name == "selector"]
    others = [part.module for name, part in parts.items() if name != "selector"]
    return [group for group in (selector, others) if group]


@torch.no_grad()
def calibrate_threshold(tokenizer: VisualTokenizer, source: FeatureSource, indices: np.ndarray) -> None:
    """Set the keep threshold so that `keep_ratio` of the given pictures' patches are kept (a frozen selector's again).

    The loss holds the mean of sampled masks at the ratio; a selector that is still undecided about many patches keeps
    another share once it only takes the likelier class.
    """
    parts = [indices[start : start + 128] for start in range(0, len(indices), 128)]
    scores = torch.cat([tokenizer.selector(source.batch(part))[..., 0].exp().flatten() for part in parts])
    kept = max(1, round(tokenizer.config.keep_ratio * len(scores)))
    threshold = from_main(float(scores.sort(descending=True).values[kept - 1]))
    tokenizer.set_keep_threshold(threshold)


@torch.no_grad()
def start_codebook(
    tokenizer: VisualTokenizer,
    source: FeatureSource,
    train: np.ndarray,
    config: TrainTokenizerConfig,
    phase: Phase,
    *,
    seed: int,
) -> None:
    """Start the codebook by k-means over vectors of random training pictures: those the phase is about to quantise."""
    order = np.random.default_rng(derive_seed(seed, "kmeans")).permutation(train)
    found, parts = 0, []
    for step, start in enumerate(range(0, len(order), START_BATCH)):
        x_BPD = source.batch(order[start : start + START_BATCH])
        parts.append(code_vectors(tokenizer, x_BPD, phase, step=step, seed=seed))
        found += len(parts[-1])
        if found >= config.kmeans_samples:
            break
    vectors = torch.cat(parts)[: config.kmeans_samples]
    stream = generator(seed, "kmeans")
    tokenizer.quantizer.start_from(vectors, iterations=config.kmeans_iterations, stream=stream)
    broadcast_from_main(tokenizer.quantizer.buffers())
