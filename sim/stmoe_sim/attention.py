"""Length of the attention phase between two MoE layers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from stmoe.config import AcceleratorConfig

__all__ = ["KV_GROUPS", "Kind", "attention_cycles", "cache_cycles"]

KV_GROUPS = 8


class Kind(NamedTuple):
    """``layers`` of a period: width of all query heads, of all heads of K, or of V; tokens
    that they look back, 0 = all."""

    layers: int
    query: int
    kv: int
    window: int = 0

    def read(self, d_model: int, context: int) -> int:
        """Bytes per token: projections Q, K, V, O and the KV cache, int8, each byte once."""
        seen = min(context, self.window) if self.window else context
        return 2 * d_model * (self.query + self.kv) + 2 * seen * self.kv


def attention_cycles(config: AcceleratorConfig, memory_bytes_per_cycle: float,
                     context: int | None = None, kinds: Sequence[Kind] = ()) -> int:
    """Cycles per layer that attention takes when it is bound by memory, rounded up.

    Bytes read / ``memory_bytes_per_cycle``. Without ``kinds`` the projections take 4 * d_model**2
    bytes of int8 and the KV cache 2 * context * d_model / 8 (grouped-query attention, 8 query heads
    per KV head). The attention engine reads them from a memory like the experts', but its own: the
    expert link stays free for prefetch meanwhile, unless a regime shares it.

    Parameters
    ----------
    context: tokens in the KV cache; default d_model, so that a scaled-down model keeps the ratio of
        cache to projections that d_model = 2048 has at a context of 2,048 tokens.
    kinds: the model's kinds of layers, of which the mean counts.
    """
    if not (math.isfinite(memory_bytes_per_cycle) and memory_bytes_per_cycle > 0):
        raise ValueError(f"memory_bytes_per_cycle must be positive, not {memory_bytes_per_cycle}")
    width = config.model.d_model
    context = width if context is None else context
    if context < 0:
        raise ValueError(f"context must be 0 or more, not {context}")
    if kinds:
        total = (sum(kind.layers * kind.read(width, context) for kind in kinds)
                 / sum(kind.layers for kind in kinds))
    else:
        total = 4 * width**2 + 2 * context * width / KV_GROUPS
    return math.ceil(total / memory_bytes_per_cycle)


def cache_cycles(config: AcceleratorConfig, memory_bytes_per_cycle: float, context: int) -> int:
    """Of :func:`attention_cycles` those of the KV cache, where the projections are commands."""
    return math.ceil(2 * context * config.model.d_model / KV_GROUPS / memory_bytes_per_cycle)
