"""Gate and up values to hidden activations, and the buffer that holds them."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import BufferReadSignature
from ..sharing import share
from .pipeline import delay
from .requantise import Requantiser
from .silu import SILU_BITS, SiluTable

__all__ = ["HiddenUnit"]


class HiddenUnit(wiring.Component):
    """``h = requant(silu(gate) * up)`` for a row group per cycle, stored for the down projection.

    Streams without back-pressure; a group is stored seven cycles after its ``valid``. It counts in
    ``hidden`` as early as a weight word may be issued that meets it, whose ``index`` comes so much
    later.
    Reset: nothing stored.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    valid, values, group: requantised accumulators of a gate/up group, row 2i gate, 2i+1 up.
    place, whole: of which of the expert's tokens they are, and whether it is the last; only where
        there may be many.
    mult, shift: the hidden requantiser, stable from three cycles after a group's ``valid`` on.
    clear: a new expert: nothing is computed. Only when no group is on its way.
    hidden: values computed since ``clear``, as seen by what is issued now.
    index, word: ``lanes`` values of hidden word ``index``, of token ``index_place`` if there may be
        many, one cycle later.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        super().__init__({
            "valid": In(1), "values": In(16 * g.config.rows), "group": In(16),
            "mult": In(16), "shift": In(6), "clear": In(1), "hidden": Out(16),
            "index": In(16), "word": Out(8 * g.config.lanes)} | ({} if not g.token_bits else {
                "place": In(g.token_bits), "whole": In(1), "index_place": In(g.token_bits)}))

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        pairs, lanes = g.config.rows // 2, g.config.lanes
        results = []
        for i in range(pairs):
            gate = self.values[32 * i:32 * i + SILU_BITS].as_signed()
            up = self.values[32 * i + 16:32 * i + 32].as_signed()
            silu = share(m, f"silu_{i}", platform, SiluTable)
            requant = share(m, f"requant_{i}", platform, Requantiser, 8)
            product = Signal(signed(32), name=f"product_{i}")
            m.d.comb += silu.g.eq(gate)
            m.d.sync += product.eq(silu.result * delay(m, up, SiluTable.LATENCY, f"up_{i}"))
            m.d.comb += [requant.acc.eq(product), requant.mult.eq(self.mult),
                         requant.shift.eq(self.shift)]
            results.append(requant.result)
        latency = SiluTable.LATENCY + 1 + Requantiser.LATENCY
        # A word issued reads the store READ - 1 cycles later, that after ``done`` at the earliest.
        early = BufferReadSignature.LATENCY - 1
        counted = arrived = delay(m, self.valid, latency - early, "counted")
        done = delay(m, counted, early, "done")
        group = delay(m, self.group, latency, "group")

        # A memory word holds whole hidden words and whole groups.
        width = max(lanes, pairs)
        depth = max(2, -(-g.max_d_ff // width)) << g.token_bits  # no address has no bits
        place, index_place = Const(0, 0), Const(0, 0)
        if g.token_bits:
            place, index_place = delay(m, self.place, latency, "place"), self.index_place
            arrived = counted & delay(m, self.whole, latency - early, "whole")
        m.submodules.store = store = memory.Memory(shape=8 * width, depth=depth, init=[])
        write, read = store.write_port(granularity=8 * pairs), store.read_port()
        per_write, per_read = width // pairs, width // lanes
        results_word = Cat(*results)
        part = group[:per_write.bit_length() - 1]
        m.d.comb += [
            write.addr.eq(Cat(place, group >> (per_write.bit_length() - 1))),
            write.data.eq(Cat(*([results_word] * per_write))),
            write.en.eq(Mux(done, 1 << part if per_write > 1 else 1, 0)),
            read.addr.eq(Cat(index_place, self.index >> (per_read.bit_length() - 1))),
            read.en.eq(1)]
        if per_read > 1:
            chosen = delay(m, self.index[:per_read.bit_length() - 1], 1, "chosen")
            m.d.comb += self.word.eq(read.data.word_select(chosen, 8 * lanes))
        else:
            m.d.comb += self.word.eq(read.data)
        with m.If(self.clear):
            m.d.sync += self.hidden.eq(0)
        with m.Elif(arrived):
            m.d.sync += self.hidden.eq(self.hidden + pairs)
        return m
