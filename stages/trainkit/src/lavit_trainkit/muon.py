"""Muon with the matrices of one shape turned together: torch's arithmetic in a few batched products.

A small network has dozens of small matrices; one after another they leave threads idle and wait on every call.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lavit_trainkit.precision import computes_bf16

Quintic = tuple[float, float, float]
"""Factors of x, x^3 and x^5."""

FIVE_QUINTICS: tuple[Quintic, ...] = ((3.4445, -4.775, 2.0315),) * 5
"""torch's: singular values from 0.01 of a matrix's norm on are turned to 0.68 to 1.13."""

THREE_QUINTICS: tuple[Quintic, ...] = (
    (8.0933685, -23.6204303, 17.4461517),
    (3.6365856, -2.7219267, 0.5365463),
    (2.6613000, -1.9771545, 0.4526166),
)
"""To 0.73 to 1.27: the best polynomial of each step for the range that the one before leaves (Amsel et al. 2025, arXiv
2505.16932)."""

STACK_ELEMENTS = 1 << 24
"""Elements turned together at most, two bytes each: large matrices gain nothing from company, and it costs memory."""


class StackedMuon(torch.optim.Muon):
    """torch.optim.Muon, its updates scaled like AdamW's and turned by `quintics`; either reads the other's state.

    Source: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/); scale: Liu et al. 2025 (arXiv 2502.16982).
    """

    def __init__(
        self,
        groups: Iterable[Mapping[str, Any]],
        *,
        weight_decay: float,
        quintics: Sequence[Quintic] = FIVE_QUINTICS,
    ) -> None:
        self._quintics = tuple(quintics)
        super().__init__([dict(group) for group in groups], weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take a step; matrices without a gradient stay as they are. Returns what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for stack in _stacks([parameter for parameter in group["params"] if parameter.grad is not None]):
                directions = _orthogonal(
                    torch.stack([self._direction(parameter, group) for parameter in stack]),
                    self._quintics,
                    eps=group["eps"],
                )
                # Then the elements of an update have a root mean square of about 0.2 times the rate, as AdamW's have.
                rate = group["lr"] * 0.2 * max(stack[0].shape) ** 0.5
                for parameter, direction in zip(stack, directions, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(direction, alpha=-rate)
        return loss

    def _direction(self, parameter: Tensor, group: Mapping[str, Any]) -> Tensor:
        """Return a matrix's gradient [R, C] with its (Nesterov) momentum, and keep the momentum.

        In bfloat16 (torch's way) where the device computes it, else in fp32.
        """
        grad, state = parameter.grad, self.state[parameter]
        assert grad is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        momentum = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
        direction = grad.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        return direction.to(torch.bfloat16 if computes_bf16(direction.device.type) else torch.float32)


def _stacks(parameters: list[Tensor]) -> list[list[Tensor]]:
    """Return the matrices in groups of one shape, none larger than STACK_ELEMENTS unless it is a single one."""
    of_shape: dict[tuple[torch.Size, torch.device], list[Tensor]] = {}
    for parameter in parameters:
        of_shape.setdefault((parameter.shape, parameter.device), []).append(parameter)
    stacks = []
    for same in of_shape.values():
        fit = max(1, STACK_ELEMENTS // same[0].numel())
        stacks += [same[start : start + fit] for start in range(0, len(same), fit)]
    return stacks


def _orthogonal(x_NRC: Tensor, quintics: Sequence[Quintic], *, eps: float) -> Tensor:
    """Return matrices [N, R, C] with their singular values brought near 1, one Newton-Schulz step a quintic."""
    tall = x_NRC.shape[1] > x_NRC.shape[2]
    x = x_NRC.transpose(1, 2) if tall else x_NRC
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(eps)
    for a, b, c in quintics:
        gram = torch.bmm(x, x.transpose(1, 2))
        update = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, update, x, beta=a)
    return x.transpose(1, 2) if tall else x
