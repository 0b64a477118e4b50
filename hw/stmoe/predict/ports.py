"""The interface that every prediction unit has."""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import announcement, candidate, observation
from ..router.ahead import ahead_logit

__all__ = ["COUNTERS", "TABLE_SCORE_BITS", "PredictionSignature", "settings", "table_row",
           "weight_word"]

TABLE_SCORE_BITS = 6  # of the correlation table's scores, unsigned
COUNTERS = ("table_reads", "table_writes", "score_adds", "weight_reads", "weight_writes",
            "rows_added", "predicted")
"""Members that are increments for the hardware counters of the same names."""


def table_row(g: Geometry) -> data.StructLayout:
    """A row to load: experts correlated with ``expert`` of ``layer``, 16 bits per entry.

    Entry: id (an expert of layer + 1) in bits 13:0, confidence in bits 15:14; ids distinct.
    """
    return data.StructLayout({
        "layer": unsigned(g.layer_bits), "expert": unsigned(g.expert_bits),
        "entries": data.ArrayLayout(16, g.config.model.top_k)})


def weight_word() -> data.StructLayout:
    """A part of a row of weights to load: its number, 64 bits, lowest first, and the last part."""
    return data.StructLayout({"row": unsigned(24), "data": unsigned(64), "last": unsigned(1)})


def settings(g: Geometry) -> data.StructLayout:
    """Run-time settings of all units, from registers.

    enable: learn and predict. threshold, use_cct, use_ht: of the table. linear_threshold,
    deep_threshold: least score of the learned predictor, for the next layer and those beyond it;
    limit: most candidates per layer. depth, token_depth: layers that a round predicts, at a routed
    layer and at a token; guess: of the next token, after the last layer. lookahead: the score has
    the next router's logits. layers, experts: of the model in use.
    """
    return data.StructLayout({
        "enable": unsigned(1), "use_cct": unsigned(1), "use_ht": unsigned(1),
        "threshold": unsigned(TABLE_SCORE_BITS),
        "linear_threshold": signed(g.score_bits), "deep_threshold": signed(g.score_bits),
        "limit": unsigned(10), "depth": unsigned(9), "token_depth": unsigned(9),
        "guess": unsigned(4), "lookahead": unsigned(1), "layers": unsigned(9),
        "experts": unsigned(10)})


class PredictionSignature(wiring.Signature):
    """Members of a prediction unit, seen from the unit.

    token: a token begins; offered once the last observation of the one before was taken.
    observe: routed experts, in rank order, closed by ``last``; layer and ``first_token`` are the
        same on all beats; 1 to ``top_k`` distinct experts.
    ahead, ahead_due: only where the configuration looks ahead. The logits of layer + 1, one per
        expert in use in order of id, come for an observation if ``ahead_due`` is set on its beats,
        and are taken behind its last one; a unit without use takes and forgets them.
    candidates: a round for every token and every observation: predicted experts of the layer that
        comes next in falling score, shared units first, perhaps of layers beyond it, then an
        ``end`` beat.
    load, weights: rows for the correlation table, words of weight rows; a unit without takes and
        forgets them.
    settings: stable while ``busy`` or a beat waits.
    clear: pulse, forgets history and previous observation, once the present one is finished.
    table_reads, table_writes, score_adds, weight_reads, weight_writes, rows_added, predicted:
        increments of this cycle for the counters; a unit leaves those of others 0.
    busy: a token or an observation is in work or a candidate waits.
    """

    def __init__(self, g: Geometry):
        super().__init__(({} if not g.looks_ahead else {
            "ahead": In(stream.Signature(ahead_logit(g))), "ahead_due": In(1)}) | {
            "token": In(stream.Signature(announcement())),
            "observe": In(stream.Signature(observation(g))),
            "candidates": Out(stream.Signature(candidate(g))),
            "load": In(stream.Signature(table_row(g))),
            "weights": In(stream.Signature(weight_word())),
            "settings": In(settings(g)), "clear": In(1),
            "table_reads": Out(1), "table_writes": Out(1),
            "score_adds": Out(range(g.config.model.top_k + 1)),
            "weight_reads": Out(1), "weight_writes": Out(1), "rows_added": Out(1),
            "predicted": Out(1), "busy": Out(1)})
