"""Default length of the attention phase between two MoE layers."""

import math

from stmoe.config import AcceleratorConfig

__all__ = ["KV_GROUPS", "attention_cycles"]

KV_GROUPS = 8


def attention_cycles(config: AcceleratorConfig, memory_bytes_per_cycle: float,
                     context: int | None = None) -> int:
    """Cycles per layer that attention takes when it is bound by memory, rounded up.

    Bytes read: the Q, K, V and O projections, 4 * d_model**2 of int8, and the KV cache,
    2 * context * d_model / 8 of int8 (grouped-query attention, 8 query heads per KV head, as
    released models have); divided by ``memory_bytes_per_cycle``. The attention engine reads them
    from a memory like the experts', but its own: the expert link stays free for prefetch meanwhile.

    Parameters
    ----------
    context: tokens in the KV cache; default d_model, so that a scaled-down model keeps the ratio of
        cache to projections that d_model = 2048 has at a context of 2,048 tokens.
    """
    if not (math.isfinite(memory_bytes_per_cycle) and memory_bytes_per_cycle > 0):
        raise ValueError(f"memory_bytes_per_cycle must be positive, not {memory_bytes_per_cycle}")
    width = config.model.d_model
    context = width if context is None else context
    if context < 0:
        raise ValueError(f"context must be 0 or more, not {context}")
    total = 4 * width**2 + 2 * context * width / KV_GROUPS
    return math.ceil(total / memory_bytes_per_cycle)
