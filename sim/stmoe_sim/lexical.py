"""Rows of weights as bits, and rows by token identity as bytes of expert memory."""

import numpy as np

from stmoe.config import ConfigError
from stmoe.config.lexical_layout import LexicalLayout
from stmoe_golden.predict.linear import Linear

__all__ = ["identity_rows", "pack_rows", "pack_weights", "unpack_rows"]


def identity_rows(predictor: Linear) -> np.ndarray:
    """int32 [identity, layer, expert], the tables by token identity, one behind the other."""
    return np.concatenate([predictor.lexical, predictor.pair, predictor.previous])


def pack_weights(rows: np.ndarray, bits: int) -> np.ndarray:
    """Weights int [.., expert] as two's complement of ``bits`` bits, lowest first, without gaps:
    uint8 [.., byte]."""
    weights = rows.astype(np.int64)[..., None] >> np.arange(bits) & 1
    return np.packbits(weights.reshape(*rows.shape[:-1], -1).astype(np.uint8), axis=-1,
                       bitorder="little")


def pack_rows(rows: np.ndarray, layout: LexicalLayout) -> bytes:
    """The memory from the base address on that holds ``rows``, int [number, layer, expert].

    :class:`ConfigError` if the shape is not the layout's or a weight does not fit.
    """
    model, options = layout.geometry.config.model, layout.options
    want = (layout.rows, model.layers, model.experts)
    if rows.shape != want:
        raise ConfigError("lexical rows", rows.shape, f"of shape {want}")
    limit = options.row_limit
    if rows.size and not -limit <= rows.min() <= rows.max() <= limit:
        raise ConfigError("lexical rows", (int(rows.min()), int(rows.max())),
                          f"from {-limit} to {limit}")
    packed = pack_weights(rows, options.bits)
    layers = layout.token_stride // layout.row_stride
    memory = np.zeros((layout.rows, layers, layout.row_stride), np.uint8)
    memory[:, :model.layers, :packed.shape[-1]] = packed
    return memory.tobytes()


def unpack_rows(memory: bytes, layout: LexicalLayout) -> np.ndarray:
    """int16 [identity, layer, expert], the inverse of :func:`pack_rows`.

    :class:`ConfigError` if ``memory`` is not of the layout's size.
    """
    model, options = layout.geometry.config.model, layout.options
    if len(memory) != layout.memory_bytes:
        raise ConfigError("lexical memory", len(memory), f"{layout.memory_bytes} bytes long")
    content = np.frombuffer(memory, np.uint8).reshape(layout.rows, -1, layout.row_stride)
    content = content[:, :model.layers, :layout.row_bytes]
    bits = np.unpackbits(content, axis=-1, bitorder="little")[..., :model.experts * options.bits]
    values = bits.reshape(*bits.shape[:2], model.experts, options.bits) @ (
        1 << np.arange(options.bits))
    return (values - (values >> options.bits - 1 << options.bits)).astype(np.int16)
