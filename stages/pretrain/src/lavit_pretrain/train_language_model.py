"""`lavit pretrain`: one loop, readable top to bottom. Source: arXiv 2309.04669, section 3.2, stage 2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lavit_core.errors import InputError, UsageError
from lavit_core.modeldir import export_part
from lavit_core.progress import Progress, timed
from lavit_core.tokens import check_tokenizer, open_tokens, training_metadata
from lavit_trainkit.clipping import clip_gradients
from lavit_trainkit.device import make_accelerator
from lavit_trainkit.distributed import across_processes
from lavit_trainkit.master_weights import copy_weights, drop_gradients, move_gradients, working_copy
from lavit_trainkit.optimizers import build_optimizers, restore_optimizers, step_all, stored_optimizers
from lavit_trainkit.parallel import (
    copy_on_meta_device,
    is_sharded,
    layers_of,
    no_sync_until_last,
    parallelize,
    refuse_sharded_muon,
    sharded_like,
    take_weights,
)
from lavit_trainkit.precision import dtype_of
from lavit_trainkit.schedule import set_rate, warmup_cosine
from lavit_trainkit.session import training_session
from lavit_trainkit.stopping import require_finite
from lavit_trainkit.throughput import Meter
from torch import Tensor

from lavit_pretrain.build_network import build_network, trained_parts
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.corpus import leave_out_long, open_corpus
from lavit_pretrain.diagnose import diagnose_pretrain
from lavit_pretrain.documents import DocumentSource
from lavit_pretrain.image_ablation import is_check, measure_loss_increases
from lavit_pretrain.live import LiveImages
from lavit_pretrain.packed_loss import shared_loss, step_losses
from lavit_pretrain.packing import Packer, all_of_step, share_step
from lavit_pretrain.text_tokenizer import TextCodec
from lavit_pretrain.training_inputs import input_digests, live_data


@across_processes
def train_language_model(
    tokens: Sequence[Path],
    model: Path,
    out: Path,
    config: PretrainConfig,
    *,
    questions: Sequence[Path] = (),
    text: Sequence[Path] = (),
    llm: Path | None = None,
    data: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a language model on token files and export it to `out/model/llm`; return the run's summary.

    Raises InputError for tokens of another tokenizer, unfit questions or a missing model, UsageError for settings that
    contradict the input, LavitError when a loss is not finite, Interrupted when asked to stop (state saved).
    """
    reader = open_tokens(*tokens)
    check_tokenizer(reader, model)
    images = live_data(config, reader, data)
    inputs = input_digests(tokens, model, questions, text, llm)
    inputs |= {} if images is None else {"data": images.digest}
    settings, num_steps = {**config.model_dump(mode="json"), "seed": seed}, config.num_steps
    refuse_sharded_muon(config.parallel, config.optimizer)
    with training_session(out, command="pretrain", config=settings, inputs=inputs, num_steps=num_steps) as session:
        if session.finished:
            return session.finished
        accelerator, sharded = make_accelerator(device=device, precision=config.precision), is_sharded(config.parallel)
        dtype = dtype_of(config.precision)
        with timed("reading text and building the model", quiet=quiet):
            corpus = open_corpus(reader, questions=questions, text=text)
            live = None if images is None else LiveImages(reader, model, images, accelerator.device)
            network = build_network(config, reader, corpus, llm, live, seed).train()
            exported = copy_on_meta_device(network) if sharded else network
            # Sharding moves block after block to the device: the whole may not fit there.
            network = network if sharded else network.to(accelerator.device)
            working = network if sharded else working_copy(network, dtype)
            if config.gradient_checkpointing:
                working.llm.gradient_checkpointing_enable()
            computed = parallelize(
                working,
                lambda net, batch: shared_loss(net, batch, live),
                parallel=config.parallel,
                device=accelerator.device,
                blocks=layers_of(working.decoder),
                dtype=None if dtype == torch.float32 else dtype,
            )
        codec = TextCodec(network.text, config.max_text_tokens)
        source = DocumentSource(leave_out_long(corpus, codec), network.vocabulary, codec, config, seed)
        if sum(source.quotas.values()) == 0:
            raise UsageError(
                "setting mix: no kind of document has both a share above 0 and input; raise a share or give --questions"
            )
        optimizers = build_optimizers(
            trained_parts(network, config), betas=config.betas, weight_decay=config.weight_decay, eps=config.eps
        )
        parameters: dict[str, Tensor] = dict(network.named_parameters())
        checkpoint = session.resume()
        if checkpoint:
            _restore(parameters, checkpoint.tensors["model"])
            restore_optimizers(optimizers, checkpoint.tensors)
            copy_weights(network, working)
        packer = Packer(source.document, config.tokens_per_step, checkpoint.state if checkpoint else None)
        meter = Meter()
        with Progress("pretrain", num_steps, start=session.start, quiet=quiet) as progress:
            for step in range(session.start, num_steps):
                batches = [packer.next_batch() for _ in range(config.accumulate_steps)]
                weight = sum(float(batch.weights_S.sum()) for batch in batches)
                if weight == 0:
                    raise UsageError("the loss switches leave nothing to score in a whole step; turn one on (--set)")
                each, own = [], share_step(batches)
                for batch in own:
                    with no_sync_until_last(computed, last=batch is own[-1]):
                        loss, each_S = computed(batch.to(accelerator.device))
                        # Divided by the step's whole weight: the gradient does not depend on how a step is cut in
                        # passes and shares.
                        accelerator.backward(loss / weight)
                    each.append(each_S)
                if not any(len(batch.image_rows_F) for batch in batches):
                    for part in working.visual_parts().values():  # the zeros of `shared_loss`
                        drop_gradients(part)
                metrics = step_losses(all_of_step(each, len(batches)), batches, network.vocabulary.img)
                require_finite(metrics["loss"], name="loss", step=step, run=session.path)
                move_gradients(working, network)
                norm = clip_gradients(network.parameters(), config.max_grad_norm)
                factor = warmup_cosine(step, num_steps, warmup_steps=config.warmup_steps, floor=config.lr_floor)
                set_rate(optimizers, factor)
                step_all(optimizers)
                copy_weights(network, working)
                done, num_tokens = step + 1, sum(len(batch.ids_T) for batch in batches)
                meter.count(num_tokens)
                shown = {name: metrics[name] for name in ("image_loss", "text_loss") if name in metrics}
                progress.advance(1, **shown, tokens_per_second=meter.per_second)
                if done % config.log_every == 0 or done == num_steps:
                    row = {**metrics, "grad_norm": norm, "lr": config.llm_lr * factor, "tokens": num_tokens}
                    row["documents"] = sum(len(batch.bounds_B1) - 1 for batch in batches)
                    row["fill"] = num_tokens / (config.tokens_per_step * config.accumulate_steps)
                    if is_check(done, config.log_every):
                        row |= measure_loss_increases(working, batches[0], lambda _, share: computed(share)[1])
                    session.log(done, "pretrain", {**row, **meter.speed()})
                    session.warn(done, "pretrain", diagnose_pretrain(session.rows, config))
                if session.should_save(done, every=config.checkpoint_every):
                    session.save(done, {"model": parameters, **stored_optimizers(optimizers)}, packer.state)
        exported = take_weights(exported, network, keep=session.writes) if sharded else exported
        if session.writes:
            metadata = {**training_metadata(reader.manifest), "image_input": config.image_input}
            with export_part(session.model, "llm", carry_from=model, metadata=metadata) as folder:
                exported.save(folder)
        summary = {
            "steps": num_steps,
            "images": len(reader),
            "parameters": sum(parameter.numel() for parameter in parameters.values()),
            # Logged before, where a run was stopped or killed after its very last step.
            **{name: value for name, value in session.rows[-1].items() if name.endswith("loss")},
            "tokens_per_step": config.tokens_per_step * config.accumulate_steps,
            **meter.summary(),
            "model": str(session.model),
        }
        return session.finish(summary)


@torch.no_grad()
def _restore(parameters: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    if parameters.keys() != saved.keys():
        raise InputError("checkpoint: its weights have other names than this model's; give another --out")
    for name, parameter in parameters.items():
        parameter.copy_(sharded_like(saved[name], parameter))
