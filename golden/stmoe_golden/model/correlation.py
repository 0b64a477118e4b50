"""Statistics of routing: balance, correlation across layers, overlap of consecutive tokens.

Routing is ``ids`` [sequence, token, layer, rank] throughout; sequences are independent of one
another, tokens of a sequence are consecutive.
"""

from dataclasses import dataclass

import numpy as np

from .chi_squared import ChiSquared, independence

__all__ = ["LayerPair", "Overlap", "coactivation", "divergence", "layer_pair", "load", "overlap"]


def _used(ids: np.ndarray, experts: int) -> np.ndarray:
    """float64 [..., expert], 1 where an expert is among the last axis of ``ids``."""
    used = np.zeros((*ids.shape[:-1], experts))
    np.put_along_axis(used, ids, 1.0, -1)
    return used


def load(ids: np.ndarray, experts: int) -> np.ndarray:
    """Use of each expert relative to the mean, [layer, expert]; 1 everywhere is perfect balance."""
    share = _used(ids, experts).mean((0, 1))
    return share * experts / ids.shape[-1]


def divergence(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Total variation distance per layer, 0 (alike) to 1 (disjoint), of two :func:`load` s."""
    return np.abs(first - second).mean(-1) / 2


def coactivation(ids: np.ndarray, layer: int, experts: int) -> np.ndarray:
    """Pairs (expert of ``layer``, expert of the next) that one token used, [expert, expert]."""
    now, after = (_used(ids[:, :, at], experts).reshape(-1, experts) for at in (layer, layer + 1))
    return now.T @ after


@dataclass(frozen=True, eq=False)
class LayerPair:
    """Correlation of the experts of two adjacent layers.

    Parameters
    ----------
    test: chi-squared test of the ``top_k``**2 pairs of every token.
    shuffled: mean statistic after the tokens of the next layer were shuffled: what it would be if
        layers were independent, the pairs of a token being no independent draws.
    lift: observed over expected pairs [expert, expert], 1 where never expected.
    shuffled_lift: that of one of the shuffles.
    """

    test: ChiSquared
    shuffled: float
    lift: np.ndarray
    shuffled_lift: np.ndarray


def _lift(counts: np.ndarray) -> np.ndarray:
    expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    return np.divide(counts, expected, out=np.ones_like(counts), where=expected > 0)


def layer_pair(ids: np.ndarray, layer: int, experts: int, shuffles: int = 10) -> LayerPair:
    """Layers ``layer`` and ``layer + 1``; shuffles are seeded."""
    rng = np.random.default_rng((layer, 0xC0))
    counts = coactivation(ids, layer, experts)
    pair = ids[:, :, layer:layer + 2].reshape(1, -1, 2, ids.shape[-1]).copy()
    control = []
    for _ in range(shuffles):
        pair[0, :, 1] = rng.permutation(pair[0, :, 1])
        control.append(coactivation(pair, 0, experts))
    return LayerPair(independence(counts),
                     float(np.mean([independence(table).statistic for table in control])),
                     _lift(counts), _lift(control[-1]))


@dataclass(frozen=True, eq=False)
class Overlap:
    """Experts that a token shares with the token ``lag`` before it.

    Parameters
    ----------
    mean: [lag - 1, layer], average number of shared experts.
    uniform: what random routing would share, top_k**2 / experts.
    popular: [layer], the same if experts were drawn independently with their real frequencies.
    """

    mean: np.ndarray
    uniform: float
    popular: np.ndarray


def overlap(ids: np.ndarray, experts: int, lags: int = 8) -> Overlap:
    """Overlap at lags 1 to ``lags``, within sequences."""
    used = _used(ids, experts)
    mean = [(used[:, lag:] * used[:, :-lag]).sum(-1).mean((0, 1)) for lag in range(1, lags + 1)]
    frequency = used.mean((0, 1))
    return Overlap(np.array(mean), ids.shape[-1] ** 2 / experts, (frequency**2).sum(-1))
