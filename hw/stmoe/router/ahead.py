"""Looking ahead: the order to the router, and the logits that it puts out."""

from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from ..compute.pipeline import delay
from ..compute.requantise import Requantiser
from ..config import Geometry

__all__ = ["AheadLogits", "ahead_logit", "route_order"]

DEPTH = 8  # logits under way or waiting, at most


def route_order(g: Geometry) -> data.StructLayout:
    """What to do with the activations received: ``route`` them by the weights of ``layer``, look
    ``ahead`` with those of ``layer`` + 1. Then they are forgotten."""
    return data.StructLayout({"layer": unsigned(g.layer_bits), "route": unsigned(1),
                              "ahead": unsigned(1)})


def ahead_logit(g: Geometry) -> data.StructLayout:
    """Logit of an expert of the next layer, in steps of 1/64, saturated to 16 bits."""
    return data.StructLayout({"expert": unsigned(g.expert_bits), "logit": signed(16),
                              "last": unsigned(1)})


class AheadLogits(wiring.Component):
    """Requantises accumulators, one a cycle, and holds those that are not taken yet.

    Latency: valid five cycles after ``valid``. Back-pressure on ``ahead`` is honoured, by way of
    ``room``. Reset: empty.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    begin, mult, shift: pulse, the requantiser from the next cycle on.
    valid, last: an accumulator comes; only with ``room``.
    expert, value: it, one cycle after its ``valid``.
    room: one may come. empty: none is under way or waits.
    ahead: the output stream.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        super().__init__({
            "begin": In(1), "mult": In(16), "shift": In(6), "valid": In(1), "last": In(1),
            "expert": In(geometry.expert_bits), "value": In(signed(32)), "room": Out(1),
            "empty": Out(1), "ahead": Out(stream.Signature(ahead_logit(geometry)))})

    def elaborate(self, platform):
        m = Module()
        out, beat = self.ahead, Signal(ahead_logit(self.geometry))
        m.submodules.scale = scale = Requantiser(16)
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=len(beat.as_value()), depth=DEPTH)
        with m.If(self.begin):
            m.d.sync += [scale.mult.eq(self.mult), scale.shift.eq(self.shift)]
        at = Requantiser.LATENCY
        pending = Signal(range(DEPTH + 1))
        m.d.sync += pending.eq(pending + self.valid - (out.valid & out.ready))
        m.d.comb += [
            self.room.eq(pending != DEPTH), self.empty.eq(pending == 0),
            scale.acc.eq(self.value), beat.logit.eq(scale.result),
            beat.expert.eq(delay(m, self.expert, at, "expert")),
            beat.last.eq(delay(m, self.last, at + 1, "last")),
            queue.w_en.eq(delay(m, self.valid, at + 1, "valid")), queue.w_data.eq(beat),
            out.valid.eq(queue.r_rdy), out.payload.eq(queue.r_data), queue.r_en.eq(out.ready)]
        return m
