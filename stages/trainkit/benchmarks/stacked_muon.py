"""Muon over stacks of matrices, and torch's, one matrix after another, in turns on the same matrices in one run.

`python stages/trainkit/benchmarks/stacked_muon.py`. Shapes: those of the tiny preset's merger and feature decoder, then
of its language model.
"""

import time
from collections.abc import Sequence

import torch
from lavit_trainkit.muon import FIVE_QUINTICS, THREE_QUINTICS, Quintic, StackedMuon
from torch import nn

TOKENIZER = [(128, 128)] * 20 + [(384, 128)] * 4 + [(512, 128)] * 4 + [(128, 512)] * 4
LANGUAGE_MODEL = [(192, 192)] * 16 + [(512, 192)] * 8 + [(192, 512)] * 4
ROUNDS, STEPS = 10, 5


def main() -> None:
    """Print milliseconds a step."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name, shapes in (("tokenizer", TOKENIZER), ("language model", LANGUAGE_MODEL)):
        optimizers = {
            "one by one": make(shapes, None),
            "stacked": make(shapes, FIVE_QUINTICS),
            "stacked, three steps": make(shapes, THREE_QUINTICS),
        }
        wall, cpu = dict.fromkeys(optimizers, 0.0), dict.fromkeys(optimizers, 0.0)
        for round_ in range(ROUNDS + 1):
            for way, optimizer in optimizers.items():
                began, began_cpu = time.perf_counter(), time.process_time()
                for _ in range(STEPS):
                    optimizer.step()
                if round_:  # the first round warms up
                    wall[way] += time.perf_counter() - began
                    cpu[way] += time.process_time() - began_cpu
        for way in optimizers:
            each = 1e3 / (ROUNDS * STEPS)
            print(f"{name}, {way}: {wall[way] * each:.1f} ms, {cpu[way] * each:.1f} CPU-ms a step")


def make(shapes: list[tuple[int, int]], quintics: Sequence[Quintic] | None) -> torch.optim.Optimizer:
    """Return an optimiser over matrices that have a gradient: stacked with `quintics`, torch's with None."""
    stream = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=stream)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=stream)
    groups = [{"params": parameters, "lr": 1e-3}]
    if quintics:
        return StackedMuon(groups, weight_decay=0.05, quintics=quintics)
    return torch.optim.Muon(groups, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")


if __name__ == "__main__":
    main()
