"""Forward and backward passes of language model training: packed documents beside transformers' padded rows.

The baseline is what a user writes: rows padded on the right, a mask, labels of -100 where nothing is scored, and the
model's loss. Both arms have the same weights and documents, whose lengths have the paper's mean and a deviation that is
a guess: about 85 codes and 20 tokens of a caption. Optimisers are left out: their share depends on the size of a step.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
import torch
from lavit_core.seeds import derive_seed
from lavit_pretrain.api import (
    Document,
    PackedBatch,
    Packer,
    image_span,
    packed_loss,
    packing_metrics,
    text_continuation,
    text_to_image,
    use_packed,
)
from lavit_trainkit.master_weights import copy_weights, move_gradients, working_copy
from torch import Tensor

from lavit_cli.bench.comparison import Arm, BenchSettings, Comparison, Unequal, equal_losses, equal_within
from lavit_cli.bench.machine import DTYPES
from lavit_cli.bench.workloads.goals import goal_here
from lavit_cli.bench.workloads.language_models import FULL, SMALL, ModelSize, as_language_model, random_llama

GRADIENT_LIMITS = {"fp32": 1e-4, "bf16": 5e-2}
"""Relative differences that sums of another order, or bf16, may make."""
CODES, TEXT = NormalDist(85, 30), NormalDist(20, 10)
"""An image's codes (a third of 256 patches) and a caption's tokens."""
FIXED = 512
FILL_TOKENS, FILL_STEPS, LEAST_FILL = 2048, 50, 0.99
"""Steps over which packing is to be so full."""
Learned = tuple[float, Tensor]
"""The loss of a step, and the gradient of one matrix."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is trained on."""

    model: ModelSize
    tokens: int
    """Room of a step beside rows padded to the longest: enough documents that one is long, as in a user's batch."""
    fixed_tokens: int
    """The same, beside rows padded to a fixed length."""
    read_tokens: int
    """The same, where half of the images are read."""
    curve: tuple[int, ...]


SIZES = Sizes(model=SMALL, tokens=1740, fixed_tokens=512, read_tokens=512, curve=(272, 384, 512))
FULL_SIZES = Sizes(model=FULL, tokens=16_384, fixed_tokens=4096, read_tokens=16_384, curve=(2048, 4096, 8192))


def compare(settings: BenchSettings) -> Iterator[Comparison]:
    """Yield passes against rows padded to the longest document and to a fixed length, and over the step's size."""
    sizes = FULL_SIZES if settings.full else SIZES
    drawn = next_batch(sizes.model, sizes.tokens, settings.seed)
    for dtype in settings.dtypes:
        goal = goal_here(3.5, settings) if dtype == "bf16" else 1.6
        yield step(settings, sizes.model, drawn, dtype, "fp32", goal=goal)
    short = next_batch(sizes.model, sizes.fixed_tokens, settings.seed)
    for dtype in settings.dtypes:
        yield step(settings, sizes.model, short, dtype, "fp32", fixed=FIXED, goal=8.0)
    reading = next_batch(sizes.model, sizes.read_tokens, settings.seed, reads=True)
    last = settings.dtypes[-1]
    yield step(settings, sizes.model, reading, last, last, name="forward and backward, half of the images read")
    for tokens in sizes.curve:
        batch = next_batch(sizes.model, tokens, settings.seed)
        yield step(settings, sizes.model, batch, last, last, curve=f"packed tokens, both {last}", at=tokens)


def draw_document(size: ModelSize, number: int, seed: int, *, reads: bool = False) -> Document:
    """Return document `number`: a caption and its image, every token scored; where `reads`, of every second one the
    image comes first and the caption alone is scored."""
    random = np.random.default_rng(derive_seed(seed, "bench", "document", number))
    codes = random.integers(0, size.codes, int(np.clip(CODES.inv_cdf(spread(number, 2)), 20, 200)))
    text = random.integers(0, size.text_vocab, int(np.clip(TEXT.inv_cdf(spread(number, 3)), 3, 60)))
    if reads and number % 2:
        span, tail = image_span(size.vocabulary, codes), text_continuation(text, 1)
        ids, first = np.concatenate([span, tail]), len(span)
    else:
        ids, first = text_to_image(size.vocabulary, text, codes), 1
    return Document(ids=ids, weights=(np.arange(len(ids)) >= first).astype(np.float32))


def spread(number: int, base: int) -> float:
    """Return term `number` of van der Corput's sequence, in (0, 1): a few neighbours are spread as all are, so the
    share of padding is not a matter of luck."""
    number, value, part = number + 1, 0.0, 1.0
    while number:
        part /= base
        number, digit = divmod(number, base)
        value += digit * part
    return value


def next_batch(size: ModelSize, tokens: int, seed: int, *, reads: bool = False) -> PackedBatch:
    """Return a step's documents, packed as training packs them."""
    return Packer(lambda number: draw_document(size, number, seed, reads=reads), tokens).next_batch()


def step(
    settings: BenchSettings, size: ModelSize, batch: PackedBatch, dtype: str, theirs: str, *, fixed: int | None = None,
    name: str = "forward and backward", goal: float | None = None, curve: str | None = None, at: float | None = None,
) -> Comparison:  # fmt: skip
    """Return passes in `dtype` against padded rows in `theirs`; `fixed` is their length, else the longest's."""
    longest = max(map(len, batch.documents))
    rows = f"padded to {fixed or 'the longest'}, {theirs}"
    tokens, room = len(batch.ids_T), len(batch.documents) * (fixed or longest)
    # Made when they are first run, so that the models of all comparisons are not held together.
    padded = functools.cache(lambda: padded_arm(settings, size, batch, fixed or longest, theirs))
    packed = functools.cache(lambda: packed_arm(settings, size, batch, dtype))
    return Comparison(
        name=name,
        size=f"{size.words}, {len(batch.documents)} documents of {tokens:,} tokens, {len(batch.rows_S):,} scored, "
        f"{tokens / room:.0%} of the padded rows",
        dtype=dtype,
        baseline=Arm(name=f"transformers, {rows}", run=lambda: padded()()),
        ours=Arm(name=f"packed, {dtype}", run=lambda: packed()()),
        equal=same_step("bf16" if "bf16" in (dtype, theirs) else "fp32"),
        unit="tokens",
        amount=tokens,
        flops=step_flops(size, batch),
        goal=goal,
        curve=curve,
        at=at,
        pairs=3 if curve or fixed else None,
    )


def padded_arm(
    settings: BenchSettings, size: ModelSize, batch: PackedBatch, length: int, dtype: str
) -> Callable[[], Learned]:
    """Return the passes as transformers' users write them."""
    llm = random_llama(size, settings).train()
    shape = len(batch.documents), length
    ids, mask, labels = torch.zeros(shape).long(), torch.zeros(shape).long(), torch.full(shape, -100)
    for row, document in enumerate(batch.documents):
        tokens = torch.from_numpy(document.ids)
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        labels[row, : len(tokens)] = tokens.where(torch.from_numpy(document.weights) > 0, -100)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    inputs = {key: value.to(settings.device) for key, value in inputs.items()}
    device = torch.device(settings.device).type

    def run() -> Learned:
        llm.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bf16"):
            loss = llm(**inputs).loss
        loss.backward()
        return loss.item(), watched(llm)

    return run


def packed_arm(settings: BenchSettings, size: ModelSize, batch: PackedBatch, dtype: str) -> Callable[[], Learned]:
    """Return the passes of `lavit pretrain`, in bf16 with the copies from and to its fp32 weights."""
    network = as_language_model(random_llama(size, settings), size).train()
    use_packed(network.llm)
    working = working_copy(network, DTYPES[dtype])
    moved = batch.to(torch.device(settings.device))
    weight = float(batch.weights_S.sum())

    def run() -> Learned:
        network.zero_grad()
        copy_weights(network, working)
        total, _ = packed_loss(working, moved)
        loss = total / weight
        loss.backward()
        move_gradients(working, network)
        return loss.item(), watched(network.llm)

    return run


def watched(llm: torch.nn.Module) -> Tensor:
    """Return the gradient of the first layer's keys, which all other layers' gradients reach."""
    gradient = llm.get_parameter("model.layers.0.self_attn.k_proj.weight").grad
    assert gradient is not None
    return gradient


def step_flops(size: ModelSize, batch: PackedBatch) -> float:
    """Return the operations of a step's forward and backward pass: layers, scored rows of the head, attention."""
    lengths = batch.bounds_B1.diff().double()
    attention = 2 * size.layers * size.width * float(lengths.square().sum())
    return 3 * (size.layer_flops(len(batch.ids_T)) + size.head_flops(len(batch.rows_S)) + attention)


def same_step(dtype: str) -> Callable[[Learned, Learned], str]:
    """Return a check of loss and gradient, and of the packing."""

    def check(theirs: Learned, ours: Learned) -> str:
        losses = equal_losses(dtype)(theirs[0], ours[0])
        gradients = equal_within(GRADIENT_LIMITS[dtype])(theirs[1], ours[1])
        return f"{losses}, a gradient: {gradients}; {fill_of():.1%} full"

    return check


@functools.cache
def fill_of() -> float:
    """Return the share of the room of some steps that documents take. Raises Unequal if it is too small."""
    packer = Packer(lambda number: draw_document(SMALL, number, 0), FILL_TOKENS)
    fill = packing_metrics([packer.next_batch() for _ in range(FILL_STEPS)], FILL_TOKENS)["fill"]
    if fill < LEAST_FILL:
        raise Unequal(
            f"packing {FILL_STEPS} steps of {FILL_TOKENS} tokens is {fill:.2%} full, expected {LEAST_FILL:.0%}"
        )
    return fill
