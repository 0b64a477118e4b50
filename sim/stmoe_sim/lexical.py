"""Rows of weights as bits, and those in expert memory, by token identity or layer, as bytes."""

import numpy as np

from stmoe.config import ConfigError, Geometry
from stmoe.config.lexical_layout import LexicalLayout
from stmoe.config.weight_layout import WeightLayout
from stmoe_golden.predict.linear import Linear

__all__ = ["identity_rows", "layer_rows", "pack_blocks", "pack_memory", "pack_rows",
           "pack_weights", "unpack_blocks", "unpack_memory", "unpack_rows"]


def identity_rows(predictor: Linear) -> np.ndarray:
    """int32 [identity, layer, expert], the tables by token identity, one behind the other."""
    return np.concatenate([predictor.lexical, predictor.pair, predictor.previous])


def layer_rows(predictor: Linear) -> np.ndarray:
    """int32 [layer, row, expert], the rows of each layer: bias, then by feature and expert, then by
    leader and expert."""
    layers, experts = predictor.bias.shape
    lags = [rows.transpose(1, 0, 2, 3).reshape(layers, -1, experts)
            for rows in (predictor.weight, predictor.leader)]
    return np.concatenate([predictor.bias[:, None], *lags], axis=1)


def pack_weights(rows: np.ndarray, bits: int) -> np.ndarray:
    """Weights int [.., expert] as two's complement of ``bits`` bits, lowest first, without gaps:
    uint8 [.., byte]."""
    weights = rows.astype(np.int64)[..., None] >> np.arange(bits) & 1
    digits = weights.reshape(*rows.shape[:-1], rows.shape[-1] * bits)  # there may be no rows
    return np.packbits(digits.astype(np.uint8), axis=-1, bitorder="little")


def unpack_weights(memory: np.ndarray, experts: int, bits: int) -> np.ndarray:
    """int16 [.., expert], the inverse of :func:`pack_weights`; further bytes are not looked at."""
    digits = np.unpackbits(memory, axis=-1, bitorder="little")[..., :experts * bits]
    values = digits.reshape(*memory.shape[:-1], experts, bits) @ (1 << np.arange(bits))
    return (values - (values >> bits - 1 << bits)).astype(np.int16)


def _check_weights(rows: np.ndarray, limit: int, name: str) -> None:
    if rows.size and not -limit <= rows.min() <= rows.max() <= limit:
        raise ConfigError(name, (int(rows.min()), int(rows.max())), f"from {-limit} to {limit}")


def pack_rows(rows: np.ndarray, layout: LexicalLayout) -> bytes:
    """The memory from the base address on that holds ``rows``, int [number, layer, expert].

    :class:`ConfigError` if the shape is not the layout's or a weight does not fit.
    """
    model, options = layout.geometry.config.model, layout.options
    want = (layout.rows, model.layers, model.experts)
    if rows.shape != want:
        raise ConfigError("lexical rows", rows.shape, f"of shape {want}")
    _check_weights(rows, options.row_limit, "lexical rows")
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
    return unpack_weights(content[:, :model.layers, :layout.row_bytes], model.experts,
                          options.bits)


def _places(layout: WeightLayout) -> np.ndarray:
    """Byte addresses of rows, int [layer, row], from the first block's."""
    layers = layout.geometry.config.model.layers
    return np.array([[layout.address(-layout.offset, layer, row) for row in range(layout.rows)]
                     for layer in range(layers)])


def pack_blocks(rows: np.ndarray, layout: WeightLayout) -> bytes:
    """The memory from the first block on that holds ``rows``, int [layer, row, expert].

    :class:`ConfigError` if the shape is not the layout's or a weight does not fit.
    """
    model, options = layout.geometry.config.model, layout.options
    want = (model.layers, layout.rows, model.experts)
    if rows.shape != want:
        raise ConfigError("rows of layers", rows.shape, f"of shape {want}")
    _check_weights(rows, options.row_limit, "rows of layers")
    packed = pack_weights(rows, options.bits)
    memory = np.zeros(layout.memory_bytes, np.uint8)
    memory[_places(layout)[..., None] + np.arange(packed.shape[-1])] = packed
    return memory.tobytes()


def unpack_blocks(memory: bytes, layout: WeightLayout) -> np.ndarray:
    """int16 [layer, row, expert], the inverse of :func:`pack_blocks`.

    :class:`ConfigError` if ``memory`` is not of the layout's size.
    """
    model, options = layout.geometry.config.model, layout.options
    if len(memory) != layout.memory_bytes:
        raise ConfigError("memory of layers", len(memory), f"{layout.memory_bytes} bytes long")
    width = -(-model.experts * options.bits // 8)
    content = np.frombuffer(memory, np.uint8)[_places(layout)[..., None] + np.arange(width)]
    return unpack_weights(content, model.experts, options.bits)


def pack_memory(geometry: Geometry, predictor: Linear | None) -> bytes:
    """The memory from ``lexical_base`` on with the rows that ``geometry`` has there; None: zeros.
    """
    if predictor is None:
        return bytes(geometry.row_bytes)
    memory = bytearray(geometry.row_bytes)
    if geometry.streams_identities:
        part = pack_rows(identity_rows(predictor), geometry.lexical_layout)
        memory[:len(part)] = part
    if geometry.streams_weights:
        memory[geometry.weight_layout.offset:] = pack_blocks(
            layer_rows(predictor), geometry.weight_layout)
    return bytes(memory)


def unpack_memory(memory: bytes, geometry: Geometry) -> dict[str, np.ndarray]:
    """The inverse of :func:`pack_memory`: rows by their kind, int16 ["token identity"] [identity,
    layer, expert], ["layer"] [layer, row, expert].

    :class:`ConfigError` if ``memory`` is not of the geometry's size.
    """
    if len(memory) != geometry.row_bytes:
        raise ConfigError("memory of rows", len(memory), f"{geometry.row_bytes} bytes long")
    found = {}
    if geometry.streams_identities:
        layout = geometry.lexical_layout
        found["token identity"] = unpack_rows(memory[:layout.memory_bytes], layout)
    if geometry.streams_weights:
        blocks = geometry.weight_layout
        found["layer"] = unpack_blocks(memory[blocks.offset:], blocks)
    return found
