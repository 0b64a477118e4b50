"""Commands that bring the hardware's predictors to the state of golden's."""

import numpy as np

from stmoe.config import Geometry
from stmoe_golden.predict.linear import Linear
from stmoe_golden.predict.table import TablePredictor

from .lexical import identity_rows, pack_weights

__all__ = ["table_commands", "weight_commands"]

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


def weight_commands(geometry: Geometry, predictor: Linear) -> np.ndarray:
    """LOAD_WEIGHTS commands, uint64 [row, word], of the rows on chip that are not zero."""
    options, model = geometry.config.linear, geometry.config.model
    layers, experts = model.layers, model.experts
    lags = [rows.transpose(1, 0, 2, 3).reshape(layers, -1, experts)
            for rows in (predictor.weight, predictor.leader)]
    rows = np.concatenate([predictor.bias[:, None], *lags], axis=1).reshape(-1, experts)
    if options.lexical_store == "chip":
        rows = np.concatenate([rows, identity_rows(predictor).reshape(-1, experts)])
    number = np.flatnonzero(rows.any(1))
    header = np.uint64(LOAD_WEIGHTS) | number.astype(np.uint64) << np.uint64(32)
    packed = pack_weights(rows[number], options.bits)
    words = np.zeros((len(number), 8 * options.row_words(model)), np.uint8)
    words[:, :packed.shape[1]] = packed
    return np.concatenate([header[:, None], words.view(np.uint64)], axis=1)
