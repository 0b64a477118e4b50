"""Consistent overhead byte stuffing: frames without zeros, between zeros (Cheshire, Baker 1999)."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .uart import received

__all__ = ["BLOCK", "CobsDecoder", "CobsEncoder", "decoded", "framed"]

BLOCK = 254  # most bytes behind one code


def decoded() -> data.StructLayout:
    """A byte of a frame or, with ``end``, its end; ``good`` unless bytes are known to be lost."""
    return data.StructLayout({"valid": 1, "end": 1, "good": 1, "data": 8})


def framed() -> data.StructLayout:
    """A byte of a frame, and whether it is the last."""
    return data.StructLayout({"data": 8, "last": 1})


class CobsDecoder(wiring.Component):
    """Frames out of what a line receives; after any loss the next zero is a beginning again.

    Each byte comes a cycle after the byte that it follows from; a byte per cycle, no
    back-pressure. Empty frames are passed over. Reset: at the beginning of a frame.

    Members
    -------
    byte: :func:`~stmoe.boards.uart.received`. frame: :func:`decoded`, for a cycle.
    """

    def __init__(self):
        super().__init__({"byte": In(received()), "frame": Out(decoded())})

    def elaborate(self, platform):
        m = Module()
        byte, frame = self.byte, self.frame
        left, zero = Signal(8), Signal()  # bytes of the block; a zero follows it
        begun, broken = Signal(), Signal()
        m.d.sync += [frame.valid.eq(0), frame.end.eq(0)]
        with m.If(byte.broken):
            m.d.sync += [broken.eq(1), begun.eq(1)]
        with m.Elif(byte.valid & (byte.data == 0)):
            m.d.sync += [
                frame.valid.eq(begun), frame.end.eq(1), frame.good.eq(~broken & (left == 0)),
                begun.eq(0), broken.eq(0), left.eq(0), zero.eq(0)]
        with m.Elif(byte.valid & (left == 0)):
            m.d.sync += [
                frame.valid.eq(zero), frame.data.eq(0), begun.eq(1), left.eq(byte.data - 1),
                zero.eq(byte.data != 0xFF)]
        with m.Elif(byte.valid):
            m.d.sync += [frame.valid.eq(1), frame.data.eq(byte.data), left.eq(left - 1)]
        return m


class CobsEncoder(wiring.Component):
    """Frames into bytes for a line, a zero behind each.

    A block of up to 254 bytes is taken at a byte per cycle, then given at one; nothing is taken
    meanwhile, so that a block costs twice its length and 2 cycles. Back-pressure on both sides.
    A frame has at least a byte. Reset: nothing held.

    Members
    -------
    frame: stream of :func:`framed`. byte: stream of bytes. active: a block is given.
    """

    def __init__(self):
        super().__init__({"frame": In(stream.Signature(framed())),
                          "byte": Out(stream.Signature(8)), "active": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = block = memory.Memory(shape=8, depth=256, init=[])
        write, read = block.write_port(), block.read_port()
        count, given = Signal(8), Signal(8)
        last, empty = Signal(), Signal()  # the frame ends here; with an empty block
        taken = self.frame.payload
        m.d.comb += [write.addr.eq(count), write.data.eq(taken.data), read.addr.eq(given)]
        sent = self.byte.valid & self.byte.ready
        m.d.comb += self.active.eq(~self.frame.ready)
        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += self.frame.ready.eq(1)
                m.d.sync += given.eq(0)
                with m.If(self.frame.valid):
                    m.d.sync += [last.eq(taken.last), empty.eq(taken.last & (taken.data == 0))]
                    with m.If(taken.data == 0):
                        m.next = "CODE"
                    with m.Else():
                        m.d.comb += write.en.eq(1)
                        m.d.sync += count.eq(count + 1)
                        with m.If(taken.last | (count == BLOCK - 1)):
                            m.next = "CODE"
            with m.State("CODE"):
                m.d.comb += [self.byte.valid.eq(1), self.byte.payload.eq(count + 1)]
                with m.If(sent):
                    m.d.comb += read.addr.eq(0)
                    m.d.sync += given.eq(1)
                    with m.If(count == 0):
                        m.next = "BEHIND"
                    with m.Else():
                        m.next = "BYTES"
            with m.State("BYTES"):
                m.d.comb += [self.byte.valid.eq(1), self.byte.payload.eq(read.data),
                             read.en.eq(self.byte.ready)]
                with m.If(sent):
                    m.d.sync += given.eq(given + 1)
                    with m.If(given == count):
                        m.next = "BEHIND"
            with m.State("BEHIND"):
                m.d.sync += count.eq(0)
                m.d.comb += [self.byte.valid.eq(last), self.byte.payload.eq(empty)]
                with m.If(~last):
                    m.next = "TAKE"
                with m.Elif(sent):
                    m.d.sync += empty.eq(0)
                    with m.If(~empty):
                        m.next = "TAKE"
        return m
