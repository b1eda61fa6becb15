"""`lavit pretrain`: one loop, readable top to bottom. Source: arXiv 2309.04669, section 3.2, stage 2."""

import copy
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from lavit_core.data import Data, open_data
from lavit_core.errors import InputError, UsageError
from lavit_core.files import file_sha256
from lavit_core.interrupt import stop_signals
from lavit_core.modeldir import export_part, find_part, part_digest
from lavit_core.processes import num_processes
from lavit_core.progress import Progress, phase
from lavit_core.tokens import TokenReader, about_trained, check_tokenizer, open_tokens
from lavit_trainkit.checkpoint import load_newest, save_checkpoint
from lavit_trainkit.device import make_accelerator, seed_init
from lavit_trainkit.distributed import across_processes, any_process, open_shared_run
from lavit_trainkit.memory import peak_memory_bytes
from lavit_trainkit.optimizers import Part, build_optimizers, restore_optimizers, step_all, stored_optimizers
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
from lavit_trainkit.schedule import clip_gradients, set_rate, warmup_cosine
from lavit_trainkit.stopping import require_finite, stopped
from torch import Tensor, nn

from lavit_pretrain.attention import disable_dropout, use_packed
from lavit_pretrain.code_embedding_init import start_at_features
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.corpus import all_texts, leave_out_long, open_corpus
from lavit_pretrain.diagnose import diagnose_pretrain
from lavit_pretrain.document_isolation import require_isolation
from lavit_pretrain.documents import Corpus, DocumentSource
from lavit_pretrain.image_ablation import is_check, measure_loss_increases
from lavit_pretrain.language_model import LanguageModel, VisualAbout, build_llm, has_codes
from lavit_pretrain.live import LiveImages
from lavit_pretrain.loss import chunked_cross_entropy
from lavit_pretrain.packing import PackedBatch, Packer, all_of_step, share_step
from lavit_pretrain.text_tokenizer import TextCodec
from lavit_pretrain.visual_input import continue_visual


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
    pictures = _pictures(config, reader, data)
    inputs = _input_digests(tokens, model, questions, text, llm)
    inputs |= {} if pictures is None else {"data": pictures.digest}
    record = {**config.model_dump(mode="json"), "seed": seed}
    refuse_sharded_muon(config.parallel, config.optimizer)
    with open_shared_run(out, command="pretrain", config=record, inputs=inputs) as run, stop_signals() as asked:
        if run.done:
            return run.done
        stop, sharded = any_process(asked), is_sharded(config.parallel)
        accelerator = make_accelerator(device=device, precision=config.precision)
        with phase("reading text and building the model", quiet=quiet):
            corpus = open_corpus(reader, questions=questions, text=text)
            live = None if pictures is None else LiveImages(reader, model, pictures, accelerator.device)
            network = _build(config, reader, corpus, llm, live, seed).train()
            exported = copy_on_meta_device(network) if sharded else network
            # Sharding moves block after block to the device: the whole may not fit there.
            network = network if sharded else network.to(accelerator.device)
            # bf16 as in Megatron: a working copy computes, the fp32 weights take the updates. Shards need none.
            low = config.precision == "bf16"
            working = copy.deepcopy(network).to(torch.bfloat16) if low and not sharded else network
            if config.gradient_checkpointing:
                working.llm.gradient_checkpointing_enable()
            computed = parallelize(
                working,
                lambda net, batch: shared_loss(net, batch, live),
                parallel=config.parallel,
                device=accelerator.device,
                blocks=layers_of(working.decoder),
                dtype=torch.bfloat16 if low else None,
            )
        codec = TextCodec(network.text, config.max_text_tokens)
        corpus = leave_out_long(corpus, codec)
        source = DocumentSource(corpus, network.layout, codec, config, seed)
        if sum(source.quotas.values()) == 0:
            raise UsageError(
                "setting mix: no kind of document has both a share above 0 and input; raise a share or give --questions"
            )
        optimizers = build_optimizers(
            _parts(network, config), betas=config.betas, weight_decay=config.weight_decay, eps=config.eps
        )
        parameters: dict[str, Tensor] = dict(network.named_parameters())

        checkpoint = load_newest(run.checkpoints)
        start = checkpoint.step if checkpoint else 0
        if checkpoint:
            _restore(parameters, checkpoint.tensors["model"])
            restore_optimizers(optimizers, checkpoint.tensors)
            _hand_back_weights(network, working)
        run.rewind(start)
        packer = Packer(source.document, config.tokens_per_step, checkpoint.state if checkpoint else None)
        scored_kinds = ("image_loss", "text_loss")
        began, began_cpu, trained_tokens = time.monotonic(), time.process_time(), 0
        with Progress("pretrain", config.num_steps, start=start, quiet=quiet) as progress:
            for step in range(start, config.num_steps):
                batches = [packer.next_batch() for _ in range(config.accumulate_steps)]
                weight = sum(float(batch.weights_S.sum()) for batch in batches)
                if weight == 0:
                    raise UsageError("the loss switches leave nothing to score in a whole step; turn one on (--set)")
                each = []
                own = share_step(batches)
                for batch in own:
                    with no_sync_until_last(computed, last=batch is own[-1]):
                        loss, each_S = computed(batch.to(accelerator.device))
                        # Divided by the step's whole weight: the gradient does not depend on how a step is cut in
                        # passes and shares.
                        accelerator.backward(loss / weight)
                    each.append(each_S)
                if not any(len(batch.image_rows_F) for batch in batches):
                    _forget_gradients(working.visual_parts().values())
                figures = _figures(all_of_step(each, len(batches)), batches, network.layout.img)
                require_finite(figures["loss"], name="loss", step=step, run=run.path)
                _hand_over_gradients(working, network)
                norm = clip_gradients(network.parameters(), config.max_grad_norm)
                factor = warmup_cosine(step, config.num_steps, warmup_steps=config.warmup_steps, floor=config.lr_floor)
                set_rate(optimizers, factor)
                step_all(optimizers)
                _hand_back_weights(network, working)

                done = step + 1
                here = sum(len(batch.ids_T) for batch in batches)
                trained_tokens += here
                seconds = time.monotonic() - began
                shown = {name: figures[name] for name in scored_kinds if name in figures}
                progress.advance(1, **shown, tokens_per_second=trained_tokens / seconds)
                if done % config.log_every == 0 or done == config.num_steps:
                    row = {
                        "step": done,
                        "phase": "pretrain",
                        **figures,
                        "grad_norm": norm,
                        "lr": config.llm_lr * factor,
                    }
                    row |= {"tokens": here, "documents": sum(len(batch.bounds_B1) - 1 for batch in batches)}
                    row["fill"] = here / (config.tokens_per_step * config.accumulate_steps)
                    gains = {}
                    if is_check(done, config.log_every):
                        gains = measure_loss_increases(working, batches[0], lambda _, share: computed(share)[1])
                    run.log({**row, **gains, "seconds": seconds, "per_second": trained_tokens / seconds})
                    run.warn(diagnose_pretrain(run.rows, config), step=done, phase="pretrain")
                stopping = stop()  # asked once: a signal between two answers would end the run without a checkpoint
                if done % config.checkpoint_every == 0 or stopping:
                    groups = {"model": parameters}
                    groups |= stored_optimizers(optimizers)
                    save_checkpoint(run.checkpoints, done, groups, packer.state)
                if stopping:
                    raise stopped(run.path, done, config.num_steps)

        about = {**about_trained(reader.manifest), "image_input": config.image_input}
        exported = take_weights(exported, network, keep=run.writes) if sharded else exported
        if run.writes:
            with export_part(run.path / "model", "llm", carry_from=model, about=about) as folder:
                exported.save(folder)
        seconds = time.monotonic() - began
        summary = {
            "steps": config.num_steps,
            "images": len(reader),
            "parameters": sum(parameter.numel() for parameter in parameters.values()),
            # Logged before, where a run was stopped or killed after its very last step.
            **{name: value for name, value in run.rows[-1].items() if name.endswith("loss")},
            "tokens_per_step": config.tokens_per_step * config.accumulate_steps,
            "per_second": trained_tokens / seconds,
            "seconds": seconds,
            "cpu_seconds": time.process_time() - began_cpu,
            "peak_memory_bytes": peak_memory_bytes(),
            "model": str(run.path / "model"),
        }
        run.finish(summary)
        return summary


def shared_loss(network: LanguageModel, batch: PackedBatch, live: LiveImages | None) -> tuple[Tensor, Tensor]:
    """Return `packed_loss`, in several processes with a gradient, if only zeros, for every parameter: shards are summed
    together, whether or not this process's documents show an image."""
    loss, each_S = packed_loss(network, batch, live)
    if num_processes() > 1 and torch.is_grad_enabled():
        unused = [parameter.sum() for part in network.visual_parts().values() for parameter in part.parameters()]
        loss = loss + 0 * sum(unused)
    return loss, each_S


def packed_loss(network: LanguageModel, batch: PackedBatch, live: LiveImages | None = None) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of cross-entropies of a packed batch, and each scored position's own [S]."""
    features_FD = batch.features_FD
    if live is not None and batch.samples:
        assert network.merger is not None
        features_BPD, keep_BP = live.select(batch.samples)
        features_FD = network.merger(features_BPD.to(network.head_VD.dtype), keep_BP)
    inputs_TH = network.embed(batch.ids_T, batch.image_rows_F, features_FD)
    hidden_TH = network.decoder(
        inputs_embeds=inputs_TH[None],
        position_ids=batch.positions_T[None],
        cu_seq_lens_q=batch.bounds_B1,
        use_cache=False,
    ).last_hidden_state[0]
    return chunked_cross_entropy(hidden_TH[batch.rows_S], network.head_VD, batch.targets_S, batch.weights_S)


def _build(
    config: PretrainConfig, reader: TokenReader, corpus: Corpus, source: Path | None, live: LiveImages | None, seed: int
) -> LanguageModel:
    """Return the network before training, its weights a function of the seed."""
    manifest = reader.manifest
    seed_init(seed, "pretrain")
    texts = all_texts(corpus) if source is None else []
    llm, text, layout = build_llm(config.llm, source, texts, manifest.codebook_size)
    about = VisualAbout(
        image_input=config.image_input,
        text_vocab=layout.text_vocab,
        codebook_size=manifest.codebook_size,
        feature_dim=live.feature_dim if live is not None else manifest.feature_dim or 0,
        grid=manifest.grid,
        preprocessing=dict(manifest.preprocessing),
        tokenizer_digest=manifest.tokenizer_digest,
        code_range=(int(reader.counts.min()), int(reader.counts.max())),
    )
    merger = copy.deepcopy(live.tokenizer.merger).requires_grad_(True) if live is not None else None
    if source is not None:
        require_isolation(llm, source)
    use_packed(llm)
    disable_dropout(llm)
    network = LanguageModel(llm, text, about, merger)
    if source is not None:
        continue_visual(network, source)
    starts = config.code_rows == "features" and config.image_input != "none"
    if starts and (source is None or not has_codes(source, layout)):
        start_at_features(network, reader)
    return network


def _parts(network: LanguageModel, config: PretrainConfig) -> dict[str, Part]:
    """Return what is trained, with its rates: Muon holds matrices of the language model's own layers only."""
    muon_lr = config.muon_lr if config.optimizer == "muon" else None
    parts = {"llm": Part(module=network.llm, lr=config.llm_lr, muon_lr=muon_lr)}
    return parts | {name: Part(module=part, lr=config.visual_lr) for name, part in network.visual_parts().items()}


def _figures(each_S: Tensor, batches: Sequence[PackedBatch], img: int) -> dict[str, float]:
    """Return the step's weighted loss, and the plain means over codes and over text."""
    weights_S = torch.cat([batch.weights_S for batch in batches]).to(each_S.device)
    is_code_S = torch.cat([batch.targets_S > img for batch in batches]).to(each_S.device)
    figures = {"loss": float((each_S * weights_S).sum() / weights_S.sum())}
    for name, chosen in (("image_loss", is_code_S), ("text_loss", ~is_code_S)):
        if bool(chosen.any()):
            figures[name] = float(each_S[chosen].mean())
    return figures


def _forget_gradients(parts: Iterable[nn.Module]) -> None:
    """Drop the zeros of `shared_loss` where no process's documents show an image: AdamW passes over such parts."""
    for part in parts:
        for parameter in part.parameters():
            parameter.grad = None


def _hand_over_gradients(working: LanguageModel, network: LanguageModel) -> None:
    if working is not network:
        for copied, parameter in zip(working.parameters(), network.parameters(), strict=True):
            parameter.grad = None if copied.grad is None else copied.grad.float()
            copied.grad = None


@torch.no_grad()
def _hand_back_weights(network: LanguageModel, working: LanguageModel) -> None:
    if working is not network:
        torch._foreach_copy_(list(working.parameters()), list(network.parameters()))


@torch.no_grad()
def _restore(parameters: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    if parameters.keys() != saved.keys():
        raise InputError("checkpoint: its weights have other names than this model's; give another --out")
    for name, parameter in parameters.items():
        parameter.copy_(sharded_like(saved[name], parameter))


def _pictures(config: PretrainConfig, reader: TokenReader, data: Path | None) -> Data | None:
    """Return the images of live input, None for the other kinds.

    Raises UsageError for an image input that is not there: before the run directory records the settings.
    """
    if config.image_input == "features" and reader.manifest.feature_dim is None:
        raise UsageError(
            "setting image_input: features, but these tokens hold none; "
            "run lavit tokenize-images with --features, or choose codes or live"
        )
    if config.image_input != "live":
        return None
    if data is None:
        raise UsageError(
            "setting image_input: live, but no images were given; add --data DIR, or choose codes or features"
        )
    return open_data(data)


def _input_digests(
    tokens: Sequence[Path], model: Path, questions: Sequence[Path], text: Sequence[Path], llm: Path | None
) -> dict[str, str]:
    digests = {"tokenizer": part_digest(find_part(model, "tokenizer"))}
    digests |= {f"tokens {place}": file_sha256(folder / "manifest.json") for place, folder in enumerate(tokens)}
    for name, files in (("questions", questions), ("text", text)):
        for place, file in enumerate(files):
            if not file.is_file():
                raise InputError(f"{file}: file not found, expected a file for --{name}")
            digests[f"{name} {place}"] = file_sha256(file)
    if llm is not None:
        if not (llm / "config.json").is_file():
            raise InputError(f"{llm}: no config.json here, expected a transformers directory for --llm")
        digests["llm"] = part_digest(llm)
    return digests
