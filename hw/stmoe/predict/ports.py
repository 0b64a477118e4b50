"""The interface that every prediction unit has."""

from amaranth.hdl import unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import candidate, observation

__all__ = ["PredictionSignature", "table_row"]


def table_row(g: Geometry) -> data.StructLayout:
    """A row to load: experts correlated with ``expert`` of ``layer``, 16 bits per entry.

    Entry: id (an expert of layer + 1) in bits 13:0, confidence in bits 15:14; ids distinct.
    """
    return data.StructLayout({
        "layer": unsigned(g.layer_bits), "expert": unsigned(g.expert_bits),
        "entries": data.ArrayLayout(16, g.config.model.top_k)})


class PredictionSignature(wiring.Signature):
    """Members of a prediction unit, seen from the unit.

    observe: routed experts, in rank order, closed by ``last``; layer and ``first_token`` are the
        same on all beats; 1 to ``top_k`` distinct experts.
    candidates: predicted experts of the next layer, then an ``end`` beat, for every observation.
    load: rows for the correlation table.
    enable, use_cct, use_ht, threshold, layers: settings, stable while ``busy`` or a beat waits.
    clear: pulse, forgets history and previous observation, once the present one is finished.
    row_reads, row_writes, score_adds, predicted: increments of this cycle for the counters.
    busy: an observation is in work or a candidate waits.
    """

    def __init__(self, g: Geometry):
        super().__init__({
            "observe": In(stream.Signature(observation(g))),
            "candidates": Out(stream.Signature(candidate(g))),
            "load": In(stream.Signature(table_row(g))),
            "enable": In(1), "use_cct": In(1), "use_ht": In(1), "threshold": In(g.score_bits),
            "layers": In(9), "clear": In(1),
            "row_reads": Out(1), "row_writes": Out(1),
            "score_adds": Out(range(g.config.model.top_k + 1)), "predicted": Out(1),
            "busy": Out(1)})
