"""Which transfers may go on where experts stream through the buffer."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry

__all__ = ["RingGuard"]


class RingGuard(wiring.Component):
    """Lets a burst be asked for once every word has been read in whose place it goes.

    A slot is a ring of ``ring_beats``. ``room`` is right from the second cycle after ``begin`` and
    ``sent`` on; what a PE has passed it knows two cycles later, and never too early. A burst counts
    as a whole tile, so that its length need not be known. Reset: nothing under way.

    Parameters
    ----------
    geometry: Geometry, with ``has_ring``.
    channels: transfers in hand.

    Members
    -------
    shape: run-time shape. passed: how far each PE has read its expert.
    begin: per channel, a transfer begins, to slot ``into``. slots: of the channels' transfers.
    sent: per channel, a burst of ``len`` + 1 beats is asked for; each is a tile, if it has a CRC.
    room: per channel, its next burst may be asked for; always without ``shape.ring``.

    Attributes
    ----------
    asked: content beats asked for of each channel. limits: of each slot, with how many of them
        another tile may be. For proofs.
    """

    def __init__(self, geometry: Geometry, channels: int):
        g = self.geometry = geometry
        self.channels = channels
        super().__init__({
            "shape": In(interfaces.shape_layout(g)),
            "passed": In(interfaces.passed(g)).array(g.config.pes),
            "begin": In(channels), "into": In(g.slot_bits),
            "slots": In(data.ArrayLayout(unsigned(g.slot_bits), channels)),
            "sent": In(channels), "len": In(8), "room": Out(channels)})
        self.asked = [Signal(g.beat_bits, name=f"asked_{c}") for c in range(channels)]
        self.limits = [Signal(g.beat_bits + 1, name=f"limit_{s}") for s in range(g.ring_slots)]

    def elaborate(self, platform):
        m = Module()
        g, shape = self.geometry, self.shape
        word_beats, side_beats = g.word_bytes // g.axi_bytes, g.side_bytes // g.axi_bytes
        spare = g.ring_beats - word_beats - (g.tile_beats - g.config.integrity)
        for slot, limit in enumerate(self.limits):
            for passed in self.passed:
                with m.If(passed.valid & (passed.slot == slot)):
                    m.d.sync += limit.eq(passed.beats + spare)
            with m.If(self.begin.any() & (self.into == slot)):
                m.d.sync += limit.eq(shape.side_words * side_beats + word_beats + spare)
        for channel, asked in enumerate(self.asked):
            limit = self.limits[0]
            for slot in range(1, g.ring_slots):
                limit = Mux(self.slots[channel] == slot, self.limits[slot], limit)
            with m.If(self.begin[channel]):
                m.d.sync += asked.eq(0)
            with m.Elif(self.sent[channel]):
                m.d.sync += asked.eq(asked + self.len + (1 - g.config.integrity))
            m.d.sync += self.room[channel].eq(~shape.ring | (asked <= limit))
        return m
