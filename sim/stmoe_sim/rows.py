"""Commands that bring the hardware's predictors to the state of golden's."""

import numpy as np

from stmoe.config import Geometry
from stmoe_golden.predict.linear import Linear
from stmoe_golden.predict.table import TablePredictor

from .lexical import identity_rows

__all__ = ["packed_rows", "table_commands", "weight_commands"]

LOAD_TABLE, LOAD_WEIGHTS = 4, 6  # opcodes



def table_commands(table: TablePredictor) -> np.ndarray:
    """LOAD_TABLE commands, uint64 [row, word]: header, then words of four 16-bit entries."""
    ids, confidence = table.rows()
    pairs, experts, k = ids.shape
    words = -(-k // 4)
    entries = np.zeros((pairs, experts, words * 4), np.uint64)
    entries[..., :k] = ids.astype(np.uint64) | confidence.astype(np.uint64) << np.uint64(14)
    shifts = np.arange(4, dtype=np.uint64) * np.uint64(16)
    packed = (entries.reshape(pairs, experts, words, 4) << shifts).sum(-1, dtype=np.uint64)
    pair, expert = np.indices((pairs, experts)).astype(np.uint64)
    header = np.uint64(LOAD_TABLE) | pair << np.uint64(16) | expert << np.uint64(32)
    return np.concatenate([header[..., None], packed], axis=-1).reshape(-1, 1 + words)


def packed_rows(rows: np.ndarray, bits: int, words: int) -> np.ndarray:
    """Weights [row, expert] as two's complement of ``bits`` bits without gaps, uint64 [row, word].
    """
    split = (rows[..., None] >> np.arange(bits)) & 1
    flat = split.reshape(len(rows), -1).astype(np.uint8)
    padded = np.zeros((len(rows), 64 * words), np.uint8)
    padded[:, :flat.shape[1]] = flat
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64)


def weight_commands(geometry: Geometry, predictor: Linear) -> np.ndarray:
    """LOAD_WEIGHTS commands, uint64 [row, word], of the rows on chip that are not zero."""
    options, model = geometry.config.linear, geometry.config.model
    layers, experts = model.layers, model.experts
    lags = [rows.transpose(1, 0, 2, 3).reshape(layers, -1, experts)
            for rows in (predictor.weight, predictor.leader)]
    rows = np.concatenate([predictor.bias[:, None], *lags], axis=1).reshape(-1, experts)
    if options.lexical_store == "chip":
        rows = np.concatenate([rows, identity_rows(predictor).reshape(-1, experts)])
    number = np.flatnonzero(rows.any(1)).astype(np.uint64)
    header = np.uint64(LOAD_WEIGHTS) | number << np.uint64(32)
    packed = packed_rows(rows[number.astype(np.int64)], options.bits, options.row_words(model))
    return np.concatenate([header[:, None], packed], axis=1)
