"""The prediction unit as the hardware has it: rounds of candidates, and what they cost."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from stmoe.config import AcceleratorConfig, Geometry, LinearOptions

from .combined import Combined
from .linear import Linear
from .linear_rows import PAIR_FACTOR
from .predictor import Shape, Stretch
from .table import TablePredictor

__all__ = ["Candidate", "LearnedUnit", "PredictionUnit", "TableUnit", "learned", "shape_of"]

Candidate = tuple[int, int, int]
"""Layer, expert, score."""


def shape_of(config: AcceleratorConfig) -> Shape:
    """What a predictor needs to know of the model."""
    model = config.model
    return Shape(model.layers, model.experts, model.top_k)


def learned(config: AcceleratorConfig, *, lookahead: bool, depth: int = 1) -> Linear:
    """The learned predictor with the configuration's options; ``depth`` as of :class:`Linear`."""
    known = {"features", "leaders", "lexical", "pair", "previous", "stages", "bits", "fraction",
             "rate", "lexical_rate"}
    if lookahead:
        known |= {"gain", "gain_shift"}
    options = {field.name: getattr(config.linear, field.name) for field in fields(LinearOptions)
               if field.name in known}
    return (Combined if lookahead else Linear)(shape_of(config), depth=depth, **options)


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
    depth, token_depth: layers that a round predicts, at a routed layer and at a token.
    guess: layers of the next token that the round of the last layer predicts.
        With weights in expert memory, none of the three is more than their window less one.
        The hardware may cut what goes beyond the next layer short, guesses included, which
        :meth:`counts` does not know.
    """

    def __init__(self, config: AcceleratorConfig, *, threshold: int, limit: int,
                 lookahead: bool = False, depth: int = 1, token_depth: int = 1,
                 guess: int = 0):
        self.config, self.threshold, self.limit = config, threshold, limit
        self.depth, self.token_depth, self.guess = (
            config.linear.reach(each) for each in (depth, token_depth, guess))
        self.predictor = learned(config, lookahead=lookahead)
        self._counts = dict.fromkeys(("predicted", "weight_reads", "weight_writes", "rows_added",
                                      "row_beats_read", "row_beats_written"), 0)
        self._held: dict[str, int] = {}  # the row of each table
        self._changed: dict[str, set[int]] = {}  # its layers that learned
        self._window = 0  # layers on chip whose weights are in expert memory

    def profile(self, stretch: Stretch) -> None:
        predictor = self.predictor
        if not isinstance(predictor, Combined):
            predictor.profile(stretch)
            return
        start = predictor.gain.copy()
        (predictor.run_rows if stretch.ahead is None else predictor.run)(stretch)
        predictor.gain[:] = start  # rows can be loaded into hardware, gains cannot

    def token(self, identity: int, first: bool) -> list[Candidate]:
        scores = self.predictor.begin_token(identity, first)
        geometry = Geometry(self.config)
        if geometry.streams_identities:
            self._stream()
        if geometry.streams_weights and not self._window:
            self._window = min(self.config.linear.window, self.config.model.layers)
            self._add(row_beats_read=self._window * geometry.weight_layout.block_beats)
        return self._round(0, scores, self.token_depth)

    def _chosen(self) -> dict[str, int]:
        """Which row of each table is the present token's, where it has one."""
        token, last = self.predictor.token, self.predictor.last
        both = token + PAIR_FACTOR * last if min(token, last) >= 0 else -1
        index = {"lexical": token, "pair": both, "previous": last}
        return {name: index[name] % rows for name, rows in self.config.linear.tables.items()
                if index[name] >= 0}

    def _stream(self) -> None:
        """Rows in expert memory: other ones are read, and what was learnt of the old is written."""
        beats = Geometry(self.config).lexical_layout.row_beats
        for name, row in self._chosen().items():
            if row != self._held.get(name):
                self._add(row_beats_read=self.config.model.layers * beats,
                          row_beats_written=len(self._changed.get(name, ())) * beats)
                self._held[name], self._changed[name] = row, set()

    def _advance(self, rows: int) -> None:
        """``rows`` of a layer were learned: they are written, and another layer takes its place."""
        layout = Geometry(self.config).weight_layout
        self._add(row_beats_written=rows * layout.row_beats)
        if self.config.model.layers > 1:
            self._add(row_beats_read=layout.block_beats)

    def observe(self, layer: int, experts: Sequence[int], first: bool,
                ahead: np.ndarray | None = None) -> list[Candidate]:
        rows = len(self.predictor.rows(layer))
        self._add(weight_reads=rows, weight_writes=rows)
        if Geometry(self.config).streams_weights:
            self._advance(rows - len(self._chosen()))
        for name in self._chosen():
            self._changed.setdefault(name, set()).add(layer)
        scores = self.predictor.observe(layer, np.asarray(experts), ahead)
        if scores is not None:
            return self._round(layer + 1, scores, self.depth)
        found: list[Candidate] = []
        for later in range(min(self.guess, self.config.model.layers)):
            found += self._candidates(later, self.predictor.guess_scores(later),
                                      len(self.predictor.guess_rows(later)))
        return found

    def _add(self, **counts: int) -> None:
        for name, value in counts.items():
            self._counts[name] += value

    def _round(self, layer: int, scores: np.ndarray, depth: int) -> list[Candidate]:
        rows = self.predictor.rows
        found = self._candidates(layer, scores, len(rows(layer)))
        for deep in range(layer + 1, min(layer + depth, self.config.model.layers)):
            found += self._candidates(deep, self.predictor.ahead_scores(deep), len(rows(deep)))
        return found

    def _candidates(self, layer: int, scores: np.ndarray, rows: int) -> list[Candidate]:
        model = self.config.model
        order = np.argsort(-scores, kind="stable")
        chosen = order[scores[order] >= self.threshold][:self.limit]
        largest = (1 << self.config.linear.score_bits(model) - 1) - 1
        found = [(layer, model.experts + unit, largest) for unit in range(model.shared_units)]
        found += [(layer, int(e), int(scores[e])) for e in chosen]
        self._add(weight_reads=rows, rows_added=rows, predicted=len(found))
        return found

    def counts(self) -> dict[str, int]:
        return dict(self._counts)
