"""The prediction unit as the hardware has it: rounds of candidates, and what they cost."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from stmoe.config import AcceleratorConfig, Geometry, LinearOptions

from .combined import Combined
from .linear import Linear
from .predictor import Shape, Stretch
from .table import TablePredictor

__all__ = ["Candidate", "LearnedUnit", "PredictionUnit", "TableUnit", "learned", "shape_of"]

Candidate = tuple[int, int, int]
"""Layer, expert, score."""


def shape_of(config: AcceleratorConfig) -> Shape:
    """What a predictor needs to know of the model."""
    model = config.model
    return Shape(model.layers, model.experts, model.top_k)


def learned(config: AcceleratorConfig, *, lookahead: bool) -> Linear:
    """The learned predictor with the configuration's options."""
    known = {"features", "leaders", "lexical", "pair", "previous", "stages", "bits", "fraction",
             "rate", "lexical_rate"}
    if lookahead:
        known |= {"gain", "gain_shift"}
    options = {field.name: getattr(config.linear, field.name) for field in fields(LinearOptions)
               if field.name in known}
    return (Combined if lookahead else Linear)(shape_of(config), **options)


class PredictionUnit(ABC):
    """Answers every token and every routed layer with a round, as the hardware does.

    Candidates are in falling score, equal scores in order of id, shared units first.
    """

    @abstractmethod
    def profile(self, stretch: Stretch) -> None:
        """Learn from tokens before the run; history is forgotten by the run's first token."""

    @abstractmethod
    def token(self, identity: int, first: bool) -> list[Candidate]:
        """A token begins, identity -1 = unknown; candidates of layer 0."""

    @abstractmethod
    def observe(self, layer: int, experts: Sequence[int], first: bool,
                ahead: np.ndarray | None = None) -> list[Candidate]:
        """``layer`` of a token, ``first`` of its sequence or not, was routed; of the next layer.
        ``ahead`` int [expert], look-ahead logits, None = the router did not look ahead."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Hardware counters by name, since the start."""


class TableUnit(PredictionUnit):
    """CCT + HT as published."""

    def __init__(self, config: AcceleratorConfig, *, threshold: int, use_cct: bool, use_ht: bool):
        model = config.model
        self.table = TablePredictor(
            model.layers, model.experts, model.top_k, threshold=threshold, use_cct=use_cct,
            use_ht=use_ht, shared_units=model.shared_units)

    def profile(self, stretch: Stretch) -> None:
        self.table.profile(stretch.experts, np.array([0, len(stretch)]))

    def token(self, identity: int, first: bool) -> list[Candidate]:
        return []

    def observe(self, layer: int, experts: Sequence[int], first: bool,
                ahead: np.ndarray | None = None) -> list[Candidate]:
        return [(layer + 1, *found) for found in self.table.observe(layer, experts, first)]

    def counts(self) -> dict[str, int]:
        counters = self.table.counters
        return {"predicted": counters.predicted, "table_reads": counters.row_reads,
                "table_writes": counters.row_writes, "score_adds": counters.score_adds}


class LearnedUnit(PredictionUnit):
    """The learned predictor, with or without the look-ahead term.

    Parameters
    ----------
    threshold: least score; limit: most candidates of a layer, shared units not counted.
    depth, token_depth: layers that a round predicts, at a routed layer and at a token. The hardware
        may cut the part beyond the first layer short, which :meth:`counts` does not know.
    """

    def __init__(self, config: AcceleratorConfig, *, threshold: int, limit: int,
                 lookahead: bool = False, depth: int = 1, token_depth: int = 1):
        self.config, self.threshold, self.limit = config, threshold, limit
        self.depth, self.token_depth = depth, token_depth
        self.predictor = learned(config, lookahead=lookahead)
        self._counts = dict.fromkeys(("predicted", "weight_reads", "weight_writes", "rows_added",
                                      "row_beats_read", "row_beats_written"), 0)
        self._held, self._changed = -1, set[int]()  # lexical row, its layers that learned

    def profile(self, stretch: Stretch) -> None:
        if isinstance(self.predictor, Combined):
            self.predictor.run_rows(stretch)  # gains cannot be loaded
        else:
            self.predictor.profile(stretch)

    def token(self, identity: int, first: bool) -> list[Candidate]:
        self._stream(identity)
        return self._round(0, self.predictor.begin_token(identity, first), self.token_depth)

    def _stream(self, identity: int) -> None:
        """Rows in expert memory: another token's are read, and what was learnt is written."""
        geometry = Geometry(self.config)
        if not geometry.streams_rows or identity < 0:
            return
        row = identity % self.config.linear.lexical
        if row != self._held:
            beats = geometry.lexical_layout.row_beats
            self._add(row_beats_read=self.config.model.layers * beats,
                      row_beats_written=len(self._changed) * beats)
            self._held, self._changed = row, set()

    def observe(self, layer: int, experts: Sequence[int], first: bool,
                ahead: np.ndarray | None = None) -> list[Candidate]:
        rows = len(self.predictor.rows(layer))
        self._add(weight_reads=rows, weight_writes=rows)
        if self.predictor.token >= 0:
            self._changed.add(layer)
        scores = self.predictor.observe(layer, np.asarray(experts), ahead)
        return [] if scores is None else self._round(layer + 1, scores, self.depth)

    def _add(self, **counts: int) -> None:
        for name, value in counts.items():
            self._counts[name] += value

    def _round(self, layer: int, scores: np.ndarray, depth: int) -> list[Candidate]:
        found = self._candidates(layer, scores)
        for deep in range(layer + 1, min(layer + depth, self.config.model.layers)):
            found += self._candidates(deep, self.predictor.ahead_scores(deep))
        return found

    def _candidates(self, layer: int, scores: np.ndarray) -> list[Candidate]:
        rows, model = len(self.predictor.rows(layer)), self.config.model
        order = np.argsort(-scores, kind="stable")
        chosen = order[scores[order] >= self.threshold][:self.limit]
        largest = (1 << self.config.linear.score_bits(model) - 1) - 1
        found = [(layer, model.experts + unit, largest) for unit in range(model.shared_units)]
        found += [(layer, int(e), int(scores[e])) for e in chosen]
        self._add(weight_reads=rows, rows_added=rows, predicted=len(found))
        return found

    def counts(self) -> dict[str, int]:
        return dict(self._counts)
