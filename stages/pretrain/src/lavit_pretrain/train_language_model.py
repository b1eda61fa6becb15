"""`lavit pretrain`: one loop, readable top to bottom. Source: arXiv 2309.04669, section 3.2, stage 2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lavit_core.data import Source
from lavit_core.follow import UNFOLLOWED, FollowOptions
from lavit_core.modeldir import export_part
from lavit_core.progress import Progress, timed
from lavit_core.tokens import training_metadata
from lavit_trainkit.clipping import clip_gradients
from lavit_trainkit.device import check_training_device, make_accelerator
from lavit_trainkit.distributed import across_processes
from lavit_trainkit.eight_bit import check_moment_bits
from lavit_trainkit.master_weights import copy_weights, move_gradients
from lavit_trainkit.muon import THREE_QUINTICS
from lavit_trainkit.optimizers import build_optimizers, restore_optimizers, step_all, stored_optimizers
from lavit_trainkit.parallel import (
    copy_for_export,
    load_parameters,
    no_sync_until_last,
    refuse_sharded_muon,
    take_weights,
)
from lavit_trainkit.precision import with_precision
from lavit_trainkit.samples import check_samples, unchanged
from lavit_trainkit.schedule import set_rate, warmup_cosine
from lavit_trainkit.session import training_session
from lavit_trainkit.stopping import require_finite
from lavit_trainkit.throughput import Meter

from lavit_pretrain.build_network import build_network, prepare, trained_parts
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.corpus import open_corpus, open_documents
from lavit_pretrain.diagnose import diagnose_pretrain
from lavit_pretrain.image_ablation import is_check, measure_loss_increases
from lavit_pretrain.language_model import learned_positions
from lavit_pretrain.live_images import LiveImages
from lavit_pretrain.lora import check_lora, merge_lora, trained_parameters
from lavit_pretrain.packed_loss import drop_unused_gradients, scored_weight, step_losses
from lavit_pretrain.packing import Packer, all_of_step, packing_metrics, share_step
from lavit_pretrain.quantised_base import check_bits, count_parameters, restore_base
from lavit_pretrain.sample_sheets import SampleSheets
from lavit_pretrain.training_inputs import open_inputs


@across_processes
def train_language_model(
    tokens: Sequence[Path],
    model: Path,
    out: Path,
    config: PretrainConfig,
    *,
    questions: Sequence[Path | Source] = (),
    text: Sequence[Path] = (),
    llm: Path | None = None,
    data: Path | Source | None = None,
    seed: int = 0,
    device: str = "auto",
    follow: FollowOptions = UNFOLLOWED,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a language model on token files and export it to `out/model/llm`; return the run's summary.

    Raises InputError for tokens of another tokenizer, unfit questions or a missing model, UsageError for settings that
    contradict the input, LavitError for a non-finite loss, Interrupted if a signal stops it (state saved).
    """
    check_training_device(device)
    config = with_precision(config, device, out=out)
    check_samples(follow, config.parallel)
    opened = open_inputs(config, tokens, model, questions=questions, text=text, llm=llm, data=data)
    settings, num_steps, reader = {**config.model_dump(mode="json"), "seed": seed}, config.num_steps, opened.reader
    refuse_sharded_muon(config.parallel, config.optimizer)
    check_lora(config, llm)
    check_bits(config)
    check_moment_bits(config.moment_bits, config.parallel)
    with training_session(
        out,
        command="pretrain",
        config=settings,
        inputs=opened.digests,
        num_steps=num_steps,
        settings=type(config),
        follow=follow,
        quiet=quiet,
    ) as session:
        if session.finished:
            return session.finished
        accelerator = make_accelerator(device=device, precision=config.precision)
        with timed("reading text and building the model", quiet=quiet):
            corpus = open_corpus(reader, questions=questions, text=text)
            live = None if opened.images is None else LiveImages(reader, model, opened.images, accelerator.device)
            network = build_network(config, reader, corpus, llm, live, seed).train()
            exported = copy_for_export(network, config.parallel)
            working, computed = prepare(network, config, live, accelerator.device)
        source = open_documents(corpus, network.vocabulary, network.text, config, seed)
        optimizers = build_optimizers(
            trained_parts(network, config),
            betas=config.betas,
            weight_decay=config.weight_decay,
            eps=config.eps,
            moment_bits=config.moment_bits,
            # As good as five here (docs/log.md), and two fifths less time for Muon.
            quintics=THREE_QUINTICS,
        )
        parameters = trained_parameters(network)
        num_parameters = count_parameters(network)
        if checkpoint := session.resume():
            load_parameters(parameters, checkpoint.tensors["model"])
            restore_optimizers(optimizers, checkpoint.tensors)
            copy_weights(network, working)
        packer = Packer(
            source.document,
            config.tokens_per_step,
            checkpoint.state if checkpoint else None,
            num_positions=learned_positions(network.llm),
        )
        meter, sheets = Meter(), SampleSheets(session.path, model, reader, working, seed=seed)
        with Progress("pretrain", num_steps, start=session.start, quiet=quiet) as progress:
            for step in range(session.start, num_steps):
                batches = [packer.next_batch() for _ in range(config.accumulate_steps)]
                weight, own, each = scored_weight(batches), share_step(batches), []
                for batch in own:
                    with no_sync_until_last(computed, last=batch is own[-1]):
                        loss, each_S = computed(batch.to(accelerator.device))
                        # Divided by the step's whole weight: the gradient does not depend on how a step is cut in
                        # passes and shares.
                        accelerator.backward(loss / weight)
                    each.append(each_S)
                drop_unused_gradients(working, batches)
                metrics = step_losses(all_of_step(each, len(batches)), batches, network.vocabulary.img)
                require_finite(metrics["loss"], name="loss", step=step, run=session.path)
                move_gradients(working, network)
                norm = clip_gradients(network.parameters(), config.max_grad_norm)
                factor = warmup_cosine(step, num_steps, warmup_steps=config.warmup_steps, floor=config.lr_floor)
                set_rate(optimizers, factor)
                step_all(optimizers)
                copy_weights(network, working)
                done, packed = step + 1, packing_metrics(batches, config.tokens_per_step)
                meter.count(int(packed["tokens"]))
                shown = {name: metrics[name] for name in ("image_loss", "text_loss") if name in metrics}
                progress.advance(1, **shown, tokens_per_second=meter.per_second)
                if done % config.log_every == 0 or done == num_steps:
                    row = {**metrics, "grad_norm": norm, "lr": config.llm_lr * factor, **packed}
                    if is_check(done, config.log_every):
                        row |= measure_loss_increases(working, batches[0], lambda _, share: computed(share)[1])
                    session.log(done, "pretrain", {**row, **meter.speed()})
                    session.warn(done, "pretrain", diagnose_pretrain(session.rows, config))
                if session.should_show(done) and config.image_input != "none":
                    with unchanged(working):
                        session.show(done, sheets.draw())
                if session.should_save(done, every=config.checkpoint_every):
                    session.save(done, {"model": parameters, **stored_optimizers(optimizers)}, packer.state)
        exported = take_weights(exported, network, keep=session.writes)
        if session.writes:
            metadata = {**training_metadata(*reader.manifests), "image_input": config.image_input}
            if config.lora.bits is not None:
                restore_base(exported.llm)
            if config.lora.rank:
                merge_lora(exported.llm)
            with export_part(session.model, "llm", carry_from=model, metadata=metadata) as folder:
                exported.save(folder)
        summary = {
            "steps": num_steps,
            "images": len(reader),
            "parameters": num_parameters,
            "trained_parameters": sum(parameter.numel() for parameter in parameters.values()),
            # Logged before, where a run was stopped or killed after its very last step.
            **{name: value for name, value in session.rows[-1].items() if name.endswith("loss")},
            "tokens_per_step": config.tokens_per_step * config.accumulate_steps,
            **meter.summary(),
            "model": str(session.model),
        }
        return session.finish(summary)
