"""Options of the linear predictor's rows, and the addresses of those named by token identity."""

from collections.abc import Sequence

import numpy as np

from .predictor import PredictorError, Stretch, check_option

__all__ = ["PAIR_FACTOR", "Pairs", "check_pairs", "check_table", "hashed_rows"]

Pairs = tuple[tuple[int, int], ...]
"""Token lag and layer lag of each feature."""

MAX_FEATURES, MAX_TOKEN_LAG, MAX_LAYER_LAG, MAX_TABLE = 8, 7, 63, 1 << 16
PAIR_FACTOR = 33


def check_pairs(owner: str, option: str, pairs: Pairs) -> Pairs:
    """``pairs`` if they are legal, else :class:`PredictorError`."""
    if not isinstance(pairs, tuple) or len(pairs) > MAX_FEATURES or len(set(pairs)) != len(pairs):
        raise PredictorError(f"{owner}:{option} must be at most {MAX_FEATURES} distinct "
                             f"pairs TOKEN.LAYER, not {pairs!r}")
    for token, layer in pairs:
        least = 1 if token == 0 else 0
        if not 0 <= token <= MAX_TOKEN_LAG or not least <= layer <= MAX_LAYER_LAG:
            raise PredictorError(
                f"{owner}:{option} must be pairs of a token lag 0 to {MAX_TOKEN_LAG} and a "
                f"layer lag {least} to {MAX_LAYER_LAG}, not {token}.{layer}")
    return pairs


def check_table(owner: str, option: str, rows: int) -> int:
    """``rows`` if it is 0 or a power of two up to 65536, else :class:`PredictorError`."""
    check_option(owner, option, rows, 0, MAX_TABLE)
    if rows & (rows - 1):
        raise PredictorError(f"{owner}:{option} must be 0 or a power of two, not {rows}")
    return rows


def hashed_rows(stretch: Stretch, token: int, position: int, base: np.ndarray,
                tables: Sequence[np.ndarray]) -> np.ndarray:
    """int64 [token, 4], addresses of layer 0's bias, lexical, pair and previous row, -1 = none.

    ``token``, ``position``: of the last token before the stretch. ``base``: first row of each of
    ``tables`` [row, layer, expert], the lexical one, that of pairs and that of previous tokens.
    """
    now, last = stretch.token, np.concatenate([[token], stretch.token[:-1]])
    begins = stretch.first.copy()
    begins[0] |= position < 0
    last = np.where(begins, -1, last)
    both = np.where((now >= 0) & (last >= 0), now + PAIR_FACTOR * last, -1)
    found = [np.zeros(len(now), np.int64)]
    for start, table, index in zip(base, tables, (now, both, last), strict=True):
        rows = start + index % max(1, len(table)) * table.shape[1]
        found.append(np.where((index >= 0) & (len(table) > 0), rows, -1))
    return np.stack(found, axis=1)
