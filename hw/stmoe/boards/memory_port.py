"""AXI4 of expert memory on a board, and the host's bursts on it."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["BurstPort", "HeldStream", "MemorySignature"]

BURST = 16  # beats; so aligned, none crosses 4 KiB


class MemorySignature(wiring.Signature):
    """AXI4, read and write, as streams; from a manager."""

    def __init__(self, *, addr_bits: int, data_bits: int, id_bits: int):
        self.addr_bits, self.data_bits, self.id_bits = addr_bits, data_bits, id_bits
        request = data.StructLayout(
            {"addr": addr_bits, "id": id_bits, "len": 8, "size": 3, "burst": 2})
        super().__init__({
            "ar": Out(stream.Signature(request)), "aw": Out(stream.Signature(request)),
            "w": Out(stream.Signature(data.StructLayout(
                {"data": data_bits, "strb": data_bits // 8, "last": 1}))),
            "r": In(stream.Signature(data.StructLayout(
                {"data": data_bits, "id": id_bits, "resp": 2, "last": 1}))),
            "b": In(stream.Signature(data.StructLayout({"id": id_bits, "resp": 2})))})


class HeldStream(wiring.Component):
    """A register in a stream: no combinational path goes through it, nor back by ``ready``.

    A payload per two cycles at most, one cycle late; back-pressure is honoured. Reset: empty.

    Parameters
    ----------
    shape: of the payload.

    Members
    -------
    given, taken: streams of ``shape``.
    """

    def __init__(self, shape: data.StructLayout):
        super().__init__({"given": In(stream.Signature(shape)),
                          "taken": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        held = self.taken.valid
        m.d.comb += self.given.ready.eq(~held)
        with m.If(~held):
            m.d.sync += [self.taken.payload.eq(self.given.payload), held.eq(self.given.valid)]
        with m.Elif(self.taken.ready):
            m.d.sync += held.eq(0)
        return m


class BurstPort(wiring.Component):
    """Whole beats to or from memory, in INCR bursts of up to 16 beats, one in flight, id 0.

    ``start`` begins the transfer of ``beats`` beats at ``address``; ``done`` is 1 from its last
    response on, when ``failed`` tells whether any was an error, until the next ``start``. A failed
    transfer goes on to its end. AW is offered a cycle before its first beat, neither waits for the
    other. Back-pressure on every channel and on both streams is honoured; a beat per cycle within a
    burst. Reset: idle.

    Parameters
    ----------
    signature: of the port; data of 32 to 512 bits.

    Members
    -------
    start, writes, address, beats: an order. ``address`` is that of a beat.
    write, read: streams of beats. done, failed: see above.
    axi: :class:`MemorySignature`.
    """

    def __init__(self, signature: MemorySignature):
        self.port = signature
        super().__init__({
            "start": In(1), "writes": In(1), "address": In(signature.addr_bits), "beats": In(12),
            "write": In(stream.Signature(signature.data_bits)),
            "read": Out(stream.Signature(signature.data_bits)),
            "done": Out(1, init=1), "failed": Out(1), "axi": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        axi, port = self.axi, self.port
        size = (port.data_bits // 8).bit_length() - 1
        at, left = Signal(port.addr_bits - size), Signal(12)  # in beats
        room, burst, togo = Signal(5), Signal(5), Signal(5)
        asked = Signal()  # AW was taken
        m.d.comb += [room.eq(BURST - at[:4]), burst.eq(Mux(left < room, left, room))]
        for channel in (axi.ar, axi.aw):
            m.d.comb += [
                channel.payload.addr.eq(at << size), channel.payload.len.eq(burst - 1),
                channel.payload.size.eq(size), channel.payload.burst.eq(1)]
        held = Signal()  # a beat to write, on offer
        m.d.comb += [axi.w.valid.eq(held), axi.w.payload.strb.eq(~0),
                     self.read.payload.eq(axi.r.payload.data)]
        with m.If(axi.w.ready):
            m.d.sync += held.eq(0)

        def behind():
            m.d.sync += [at.eq(at + burst), left.eq(left - burst)]
            m.next = "NEXT"

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [at.eq(self.address >> size), left.eq(self.beats),
                                 self.done.eq(0), self.failed.eq(0)]
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += [togo.eq(burst), asked.eq(0)]
                with m.If(left == 0):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
                with m.Elif(~self.writes):
                    m.next = "ASK"
                with m.Elif(self.write.valid):
                    m.next = "WRITE"
            with m.State("ASK"):
                m.d.comb += axi.ar.valid.eq(1)
                with m.If(axi.ar.ready):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += [self.read.valid.eq(axi.r.valid), axi.r.ready.eq(self.read.ready)]
                with m.If(axi.r.valid & axi.r.ready):
                    m.d.sync += self.failed.eq(self.failed | (axi.r.payload.resp != 0))
                    with m.If(axi.r.payload.last):
                        behind()
            with m.State("WRITE"):
                m.d.comb += [axi.aw.valid.eq(~asked),
                             self.write.ready.eq((~held | axi.w.ready) & (togo != 0))]
                with m.If(axi.aw.ready):
                    m.d.sync += asked.eq(1)
                with m.If(self.write.valid & self.write.ready):
                    m.d.sync += [held.eq(1), togo.eq(togo - 1), axi.w.payload.last.eq(togo == 1),
                                 axi.w.payload.data.eq(self.write.payload)]
                with m.If((asked | axi.aw.ready) & (togo == 0)):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += axi.b.ready.eq(1)
                with m.If(axi.b.valid):
                    m.d.sync += self.failed.eq(self.failed | (axi.b.payload.resp != 0))
                    behind()
        return m
