"""Patch features from any vision network of transformers: which block's output is read, and which tokens are patches.

Letters: B images, P patches, N tokens of the network (patches, class and register tokens), D width, S patch side.
"""

import dataclasses
import inspect
from typing import Any

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchReader:
    """Calls a network on normalised pixels and takes the output of one block."""

    patch_px: int
    layer: int = -1
    """Index of the block, from the end if negative."""
    norm: bool = False
    """Take the last hidden state, after the network's last norm, instead of a block's output."""
    interpolate: bool = False
    """Ask the network to fit its position table to the image."""

    def tokens(self, network: nn.Module, pixels_B3HW: Tensor) -> Tensor:
        """Return all tokens [B, N, D] after the block."""
        found: dict[str, Tensor] = {}

        def keep(module: nn.Module, given: Any, output: Any) -> None:
            found["tokens"] = output[0] if isinstance(output, tuple) else output

        handle = blocks_of(network)[self.layer].register_forward_hook(keep)
        try:
            output = network(**self._arguments(network, pixels_B3HW))
        finally:
            handle.remove()
        last: Tensor = output.last_hidden_state
        return last if self.norm else found["tokens"]

    def first_input(self, network: nn.Module, pixels_B3HW: Tensor) -> Tensor:
        """Return the tokens [B, N, D] before the first block; nothing after it is computed."""

        def stop(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            raise _FirstInput(next(value for value in (*given, *named.values()) if isinstance(value, Tensor)))

        handle = blocks_of(network)[0].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            network(**self._arguments(network, pixels_B3HW))
        except _FirstInput as reached:
            return reached.tokens
        finally:
            handle.remove()
        raise ValueError("its first block is never called")

    def _arguments(self, network: nn.Module, pixels_B3HW: Tensor) -> dict[str, Any]:
        if "spatial_shapes" not in inspect.signature(network.forward).parameters:
            return {"pixel_values": pixels_B3HW, **({"interpolate_pos_encoding": True} if self.interpolate else {})}
        # SigLIP 2's form: patches as rows, each with its pixels row by row and the channels innermost.
        images, side = len(pixels_B3HW), self.patch_px
        grid = tuple(length // side for length in pixels_B3HW.shape[2:])
        cut = pixels_B3HW[:, :, : grid[0] * side, : grid[1] * side]
        rows_BPR = cut.unflatten(3, (grid[1], side)).unflatten(2, (grid[0], side)).permute(0, 2, 4, 3, 5, 1)
        rows_BPR = rows_BPR.reshape(images, grid[0] * grid[1], -1)
        return {
            "pixel_values": rows_BPR,
            "pixel_attention_mask": None,  # every patch is one of the image
            "spatial_shapes": torch.tensor([grid] * images, device="cpu"),  # they are read as numbers
        }


class _FirstInput(Exception):
    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = tokens


def blocks_of(network: nn.Module) -> nn.ModuleList:
    """Return a network's transformer blocks: its longest list of modules. Raises ValueError if it has none."""
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError("it has no list of blocks")
    return max(lists, key=len)


def square_side(value: Any) -> int:
    """Return the side of a size in a configuration: a number, or two equal ones. Raises ValueError."""
    sides = set(value) if isinstance(value, list | tuple) else {value}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise ValueError(f"size {value}, expected a square")
    return side


SHARE = 0.02
"""Change of a token, as a share of the largest one's, below which it is rounding."""


@torch.no_grad()
def find_patches(reader: PatchReader, network: nn.Module, grid: tuple[int, int], image_px: int) -> int:
    """Return how many tokens come before the first patch, as measured: a patch whose pixels change changes one token
    before the first block. Raises ValueError if the patches are not tokens in raster order.
    """
    rows, columns = grid
    side, changed = reader.patch_px, [0, 1, columns, rows * columns - 1]
    noise = torch.randn(2, 3, image_px, image_px, generator=torch.Generator().manual_seed(0))
    pixels = noise[:1].repeat(1 + len(changed), 1, 1, 1)
    for number, patch in enumerate(changed, 1):
        top, left = (place * side for place in divmod(patch, columns))
        here = slice(top, top + side), slice(left, left + side)
        pixels[number, :, *here] = noise[1, :, *here]
    tokens_BND = reader.first_input(network, pixels.to(next(network.parameters()))).float()
    if tokens_BND.ndim != 3 or len(tokens_BND) != len(pixels):
        shape = list(tokens_BND.shape)
        raise ValueError(f"its tokens have shape {shape} for {len(pixels)} images, expected [images, tokens, width]")
    changes_BN = (tokens_BND[1:] - tokens_BND[:1]).abs().amax(-1)
    moved = [(change_N > SHARE * change_N.max()).nonzero()[:, 0].tolist() for change_N in changes_BN]
    first = moved[0][0] if moved[0] else -1
    if first < 0 or moved != [[first + patch] for patch in changed]:
        raise ValueError(
            f"new pixels in patch {', '.join(map(str, changed))} of {rows} x {columns} change tokens "
            f"{', '.join(map(str, moved))}, expected one each, in raster order"
        )
    return int(first)


def has_norm(reader: PatchReader, network: nn.Module, image_px: int) -> bool:
    """Return whether the network's last hidden state is more than the last block's output (CLIP's is not)."""
    noise = torch.randn(1, 3, image_px, image_px, generator=torch.Generator().manual_seed(0))
    pixels = noise.to(next(network.parameters()))
    with torch.no_grad():
        normed, plain = (reader.tokens(network, pixels) for reader in (reader, dataclasses.replace(reader, norm=False)))
    return not torch.equal(normed, plain)
