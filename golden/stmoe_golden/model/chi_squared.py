"""Chi-squared test of independence, with p-values far below the smallest float."""

import math
from dataclasses import dataclass

import numpy as np

from .error import require

__all__ = ["ChiSquared", "independence", "log10_tail"]

ROUNDS = 100_000
TINY = 1e-300


def log10_tail(statistic: float, freedom: int) -> float:
    """log10 of the probability that chi-squared of ``freedom`` degrees is ``statistic`` or more.

    The regularised upper incomplete gamma function Q(freedom / 2, statistic / 2): a power series of
    its complement below the mean, a continued fraction (Lentz's method) above.
    """
    require(freedom > 0 and statistic >= 0, "chi-squared",
            f"needs freedom above 0 and a statistic of at least 0, not {freedom}, {statistic}")
    a, x = freedom / 2, statistic / 2
    if x == 0:
        return 0.0
    front = a * math.log(x) - x - math.lgamma(a)
    if x < a + 1:
        term = total = 1 / a
        for n in range(1, ROUNDS):
            term *= x / (a + n)
            total += term
            if term < total * 1e-16:
                break
        return math.log1p(-min(math.exp(front) * total, 1 - 1e-16)) / math.log(10)
    b = x + 1 - a
    c, d = 1 / TINY, 1 / b
    fraction = d
    for n in range(1, ROUNDS):
        b += 2
        d = 1 / (-n * (n - a) * d + b or TINY)
        c = b - n * (n - a) / c or TINY
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return (front + math.log(fraction)) / math.log(10)


@dataclass(frozen=True)
class ChiSquared:
    """``statistic`` on ``freedom`` degrees, log10 of its p-value, and Cramer's V (0 to 1)."""

    statistic: float
    freedom: int
    log10_p: float
    cramers_v: float


def independence(counts: np.ndarray) -> ChiSquared:
    """Test of independence of the rows and columns of a table of ``counts``; empty ones dropped."""
    table = np.asarray(counts, np.float64)
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    require(min(table.shape) > 1, "chi-squared",
            f"needs at least two rows and columns with entries, not {list(table.shape)}")
    total = table.sum()
    expected = np.outer(table.sum(1), table.sum(0)) / total
    statistic = float(((table - expected) ** 2 / expected).sum())
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return ChiSquared(statistic, freedom, log10_tail(statistic, freedom),
                      math.sqrt(statistic / (total * (min(table.shape) - 1))))
