"""The published table predictor: cross-layer correlation table (CCT) and history table (HT)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

__all__ = ["SHARED_SCORE", "Counters", "TablePredictor", "most_correlated"]

PREFERRED = 2  # confidence of a fresh CCT entry, and of every HT entry
STRONGEST = 3
SHARED_SCORE = 63  # of shared units, which every token uses


@dataclass
class Counters:
    """Table traffic since the start. The hardware counts the same.

    row_reads: CCT rows read, one per observed expert to predict, one per expert to learn.
    row_writes: CCT rows written by learning, changed or not; loading counts nothing.
    score_adds: table entries added to a score, whatever their confidence; ``top_k`` per CCT row
        and as many as experts were observed per HT row.
    predicted: experts emitted, shared units included.
    ht_reads, ht_writes: HT rows that contributed to a prediction, HT rows stored.
    """

    row_reads: int = 0
    row_writes: int = 0
    score_adds: int = 0
    predicted: int = 0
    ht_reads: int = 0
    ht_writes: int = 0


def most_correlated(counts: np.ndarray, top_k: int) -> np.ndarray:
    """Ids of the ``top_k`` largest along the last axis, equal counts in order of id."""
    return np.argsort(-counts, axis=-1, kind="stable")[..., :top_k]


class TablePredictor:
    """Predicts layer l+1 once layer l is routed; learns from what was routed.

    The score of an expert is the sum of its confidences in the CCT rows of the experts just
    observed, plus 2 if the previous token used it at layer l+1. Every expert whose score reaches
    ``threshold`` is predicted. The first token of a sequence takes nothing from HT.

    Learning of the pair (l-1, l) happens at the observation of layer l, after the prediction, if
    the observation before was layer l-1 and carried the same ``first_token``. For every entry of
    every row that was used, in order: expert routed, confidence + 1 (at most 3); else, confidence
    above 0, minus 1; else the entry becomes the highest-ranked routed expert that the row does not
    hold by then, at confidence 2, if there is one.

    ``use_cct`` off: the CCT is neither read nor learned. ``use_ht`` off: HT is neither read nor
    kept. ``enable`` off: nothing is predicted or learned and the observation is forgotten.

    Parameters
    ----------
    layers, experts, top_k: shape; at most ``top_k`` distinct experts are observed at a time.
    threshold: least score that is predicted, 0 to 63.
    shared_units: further experts ``experts ..``, predicted first, in order, with score 63.
    """

    def __init__(self, layers: int, experts: int, top_k: int, *, threshold: int = 2,
                 use_cct: bool = True, use_ht: bool = True, shared_units: int = 0):
        if not 0 <= threshold <= SHARED_SCORE:
            raise ValueError(f"threshold must be 0 to {SHARED_SCORE}, not {threshold}")
        self.layers, self.experts, self.top_k = layers, experts, top_k
        self.threshold, self.use_cct, self.use_ht = threshold, use_cct, use_ht
        self.shared_units, self.enable = shared_units, True
        self.ids = np.zeros((layers - 1, experts, top_k), np.int64) + np.arange(top_k)
        self.conf = np.full(self.ids.shape, PREFERRED, np.int64)
        self.counters = Counters()
        self.new_sequence()

    def new_sequence(self) -> None:
        """Forget HT and the previous observation (the hardware's ``clear``); keep the CCT."""
        self.history: list[list[int] | None] = [None] * self.layers
        self.previous: tuple[int, list[int], bool] | None = None

    def profile(self, experts: np.ndarray, offsets: np.ndarray) -> None:
        """Fill the CCT from recorded routing [token, layer, rank] of tokens up to ``offsets[-1]``.

        Pairs are counted within a token, where both layers were recorded. Every row gets the
        ``top_k`` experts of the next layer that it was seen with most often, lower id first among
        equals, all at confidence 2.
        """
        part = np.asarray(experts)[int(offsets[0]):int(offsets[-1])].astype(np.int64)
        for layer in range(self.layers - 1):
            known = part[part[:, layer + 1, 0] >= 0]
            now, after = known[:, layer, :, None], known[:, layer + 1, None, :]
            counts = np.bincount((now * self.experts + after).ravel(),
                                 minlength=self.experts ** 2)
            self.ids[layer] = most_correlated(counts.reshape(self.experts, -1), self.top_k)
        self.conf[:] = PREFERRED

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the CCT: ids and confidences, [layer pair, expert, entry]."""
        return self.ids.copy(), self.conf.copy()

    def load_rows(self, ids: np.ndarray, conf: np.ndarray) -> None:
        """Replace the CCT by what :meth:`rows` gave; a row's ids must be distinct."""
        ids, conf = np.array(ids, np.int64), np.array(conf, np.int64)
        if ids.shape != self.ids.shape or conf.shape != self.ids.shape:
            raise ValueError(f"rows must have shape {self.ids.shape}, not {ids.shape}")
        if ids.size and (ids.min() < 0 or ids.max() >= self.experts):
            raise ValueError(f"ids must be 0 to {self.experts - 1}")
        if conf.size and (conf.min() < 0 or conf.max() > STRONGEST):
            raise ValueError(f"confidences must be 0 to {STRONGEST}")
        if (np.diff(np.sort(ids, axis=-1), axis=-1) == 0).any():
            raise ValueError("ids of a row must be distinct")
        self.ids, self.conf = ids, conf

    def scores(self, layer: int, experts: Sequence[int], first_token: bool) -> np.ndarray:
        """Scores of the experts of ``layer + 1``; counts the accesses."""
        score = np.zeros(self.experts, np.int64)
        if self.use_cct:
            for e in experts:
                score[self.ids[layer, e]] += self.conf[layer, e]
            self.counters.row_reads += len(experts)
            self.counters.score_adds += len(experts) * self.top_k
        recent = self.history[layer + 1]
        if self.use_ht and not first_token and recent is not None:
            score[recent] += PREFERRED
            self.counters.ht_reads += 1
            self.counters.score_adds += len(recent)
        return score

    def observe(self, layer: int, experts: Sequence[int],
                first_token: bool) -> list[tuple[int, int]]:
        """Take the routing of ``layer`` in rank order; returns (expert, score) of ``layer + 1``.

        Shared units first, then falling score, lower id first; empty after the last layer.
        """
        experts, first_token = [int(e) for e in experts], bool(first_token)
        if not 1 <= len(experts) <= self.top_k or len(set(experts)) != len(experts):
            raise ValueError(f"experts must be 1 to {self.top_k} distinct ids, not {experts}")
        if not self.enable:
            self.previous, self.history[layer] = None, None
            return []
        found: list[tuple[int, int]] = []
        if layer + 1 < self.layers:
            score = self.scores(layer, experts, first_token).tolist()
            order = sorted(range(self.experts), key=lambda e: (-score[e], e))
            found = [(self.experts + u, SHARED_SCORE) for u in range(self.shared_units)]
            found += [(e, score[e]) for e in order if score[e] >= self.threshold]
            self.counters.predicted += len(found)
        if self.use_cct and self.previous is not None:
            before, used, first = self.previous
            if before == layer - 1 and first == first_token:
                self.learn(before, used, experts)
        self.previous = layer, experts, first_token
        self.history[layer] = experts if self.use_ht else None
        self.counters.ht_writes += self.use_ht
        return found

    def learn(self, layer: int, used: Sequence[int], routed: Sequence[int]) -> None:
        """Update the rows ``used`` at ``layer``, now that ``layer + 1`` was ``routed``."""
        for e in used:
            ids, conf = self.ids[layer, e], self.conf[layer, e]
            for way in range(self.top_k):
                if ids[way] in routed:
                    conf[way] = min(STRONGEST, conf[way] + 1)
                elif conf[way] > 0:
                    conf[way] -= 1
                else:
                    new = [f for f in routed if f not in ids]
                    if new:
                        ids[way], conf[way] = new[0], PREFERRED
            self.counters.row_reads += 1
            self.counters.row_writes += 1

    def counts(self) -> dict[str, int]:
        """The counters by name."""
        return asdict(self.counters)
