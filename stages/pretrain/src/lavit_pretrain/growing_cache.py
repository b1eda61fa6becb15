"""A cache of keys and values that takes room ahead: transformers' own copies all of it for every token.

Letters: R rows, H heads, L tokens so far, E head width.
"""

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from lavit_pretrain.shared_attention import SHARED


class GrowingLayer(DynamicLayer):
    """DynamicLayer whose keys and values [R, H, L, E] are the first rows of tensors with room for more."""

    _key_room: Tensor | None = None
    _value_room: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values, and return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        self.keys, self._key_room = _append(self.keys, self._key_room, key_states)
        self.values, self._value_room = _append(self.values, self._value_room, value_states)
        return self.keys, self.values


def growing_cache(config: PreTrainedConfig) -> DynamicCache:
    """Return an empty cache for a model.

    Layers that do more than grow (sliding windows) stay transformers' own, and so do all where attention is written
    out: some families take its keys to be contiguous.
    """
    cache = DynamicCache(config=config)
    if config.get_text_config()._attn_implementation not in ("sdpa", SHARED):
        return cache
    grows: Any = GrowingLayer
    cache.layers = [grows() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def only_grows(cache: DynamicCache) -> bool:
    """Return whether every layer keeps all tokens and sees them through the attention mask alone."""
    return bool(cache.layers) and all(isinstance(layer, GrowingLayer) for layer in cache.layers)


def _append(held: Tensor, room: Tensor | None, new: Tensor) -> tuple[Tensor, Tensor]:
    """Return `held` (empty at first) and `new` as one view of a room, and the room."""
    used = held.shape[-2] if held.numel() else 0
    length = used + new.shape[-2]
    # Rows that were selected or repeated since are tensors of their own.
    inside = room is not None and room.data_ptr() == held.data_ptr() and len(room) == len(held)
    if room is None or not inside or length > room.shape[-2]:
        room = new.new_empty(*new.shape[:-2], length + length // 4 + 16, new.shape[-1])
        if used:
            room[..., :used, :] = held
    room[..., used:length, :] = new
    return room[..., :length, :], room
