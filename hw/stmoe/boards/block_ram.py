"""Expert memory in block RAM, for boards without DRAM and for rehearsals."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from ..config import ConfigError
from .memory_port import MemorySignature

__all__ = ["BlockRam"]

DECERR = 3


class BlockRam(wiring.Component):
    """An AXI4 subordinate of ``size`` bytes from address 0; INCR bursts of whole beats.

    One read and one write burst at a time, in order. Data come a cycle after their address was
    taken, a beat per cycle; between bursts is one idle cycle. A write is answered in the cycle
    after its last beat, and is then read. Byte strobes are honoured. A beat beyond the end answers
    DECERR and changes nothing. Back-pressure is honoured. Reset: no burst; contents stay.

    Parameters
    ----------
    size: bytes, a multiple of a beat. signature: of the port.

    Members
    -------
    axi: :class:`MemorySignature`, subordinate side.
    """

    def __init__(self, size: int, signature: MemorySignature):
        beat = signature.data_bits // 8
        if size < 2 * beat or size % beat or size > 1 << signature.addr_bits:
            raise ConfigError("memory_bytes", size, f"a multiple of {beat} bytes, a beat, from two "
                                                    f"of them to {1 << signature.addr_bits}")
        self.size, self.port = size, signature
        super().__init__({"axi": In(signature)})

    def elaborate(self, platform):
        m = Module()
        axi, beat = self.axi, self.port.data_bits // 8
        depth, low = self.size // beat, beat.bit_length() - 1
        m.submodules.ram = ram = memory.Memory(shape=self.port.data_bits, depth=depth, init=[])
        read, write = ram.read_port(), ram.write_port(granularity=8)

        # Read: the memory's output register is R.
        reading, at, left = Signal(), Signal(self.port.addr_bits - low), Signal(8)
        step = Signal()
        m.d.comb += [
            axi.ar.ready.eq(~reading), step.eq(reading & (~axi.r.valid | axi.r.ready)),
            read.addr.eq(at), read.en.eq(step), axi.r.payload.data.eq(read.data)]
        with m.If(axi.ar.valid & axi.ar.ready):
            m.d.sync += [reading.eq(1), at.eq(axi.ar.payload.addr >> low),
                         left.eq(axi.ar.payload.len)]
        number = Signal(self.port.id_bits)
        with m.If(axi.ar.valid & axi.ar.ready):
            m.d.sync += number.eq(axi.ar.payload.id)
        with m.If(step):
            m.d.sync += [
                axi.r.valid.eq(1), axi.r.payload.id.eq(number), axi.r.payload.last.eq(left == 0),
                axi.r.payload.resp.eq((at >= depth).replicate(2)),
                at.eq(at + 1), left.eq(left - 1), reading.eq(left != 0)]
        with m.Elif(axi.r.ready):
            m.d.sync += axi.r.valid.eq(0)

        # Write.
        writing, to = Signal(), Signal(self.port.addr_bits - low)
        taken, outside = Signal(), Signal()
        m.d.comb += [
            axi.aw.ready.eq(~writing & ~axi.b.valid), axi.w.ready.eq(writing),
            taken.eq(axi.w.valid & axi.w.ready), outside.eq(to >= depth), write.addr.eq(to),
            write.data.eq(axi.w.payload.data)]
        with m.If(taken & ~outside):
            m.d.comb += write.en.eq(axi.w.payload.strb)
        with m.If(axi.aw.valid & axi.aw.ready):
            m.d.sync += [writing.eq(1), to.eq(axi.aw.payload.addr >> low),
                         axi.b.payload.id.eq(axi.aw.payload.id), axi.b.payload.resp.eq(0)]
        with m.If(taken):
            m.d.sync += to.eq(to + 1)
            with m.If(outside):
                m.d.sync += axi.b.payload.resp.eq(DECERR)
            with m.If(axi.w.payload.last):
                m.d.sync += [writing.eq(0), axi.b.valid.eq(1)]
        with m.If(axi.b.valid & axi.b.ready):
            m.d.sync += axi.b.valid.eq(0)
        return m
