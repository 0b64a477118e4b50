"""UART, 8 data bits, no parity, one stop bit, for bit times that are no multiple of the clock's."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from ..config import ConfigError

__all__ = ["FRACTION", "LEAST_CYCLES", "UartReceiver", "UartTransmitter", "bit_step", "received"]

FRACTION = 20  # bits of a position within a bit time
LEAST_CYCLES = 8  # clock cycles per bit


def bit_step(clock_hz: int, baud: int) -> int:
    """The part of a bit time that passes per clock cycle, in 2^-20; rates are within 1e-5.

    :class:`ConfigError` unless a bit has at least eight cycles.
    """
    if not 0 < baud * LEAST_CYCLES <= clock_hz:
        raise ConfigError("baud", baud, f"1 to {clock_hz // LEAST_CYCLES}, an eighth of the clock "
                                        f"of {clock_hz} Hz")
    return round(baud * (1 << FRACTION) / clock_hz)


def received() -> data.StructLayout:
    """A byte, or with ``broken`` that one was lost, in the cycle of ``valid``."""
    return data.StructLayout({"valid": 1, "broken": 1, "data": 8})


class UartReceiver(wiring.Component):
    """Bytes from a line; each bit is the majority of three samples at 3/8, 4/8 and 5/8 of it.

    A stop bit is low only if it is at 3/8 and at 4/8. A byte comes there, in the middle of the
    stop bit, 2 to 4 cycles behind the line, and the next start bit may follow at once: a sender may
    be 2 % fast or slow, at eight cycles per bit, too. A pulse shorter than an eighth of a bit
    changes no bit; on an idle line, one shorter than three eighths is no start bit, though one that
    follows within half a bit is missed. A low stop bit is reported as ``broken``; then the line
    must be high before the next start bit. No back-pressure.
    Reset: waits for a start bit.

    Parameters
    ----------
    clock_hz, baud: rates, see :func:`bit_step`.

    Members
    -------
    rx: the line, asynchronous, high while idle.
    byte: :func:`received`, for a cycle.
    """

    def __init__(self, clock_hz: int, baud: int):
        self.step = bit_step(clock_hz, baud)
        super().__init__({"rx": In(1, init=1), "byte": Out(received())})

    def elaborate(self, platform):
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronise = FFSynchronizer(self.rx, line, init=1)
        phase, after = Signal(FRACTION), Signal(FRACTION + 1)
        bits, votes, shift = Signal(range(10)), Signal(2), Signal(8)
        eighth, tick, one = Signal(3), Signal(), Signal()
        m.d.comb += [
            after.eq(phase + self.step), eighth.eq(after[FRACTION - 3:FRACTION]),
            tick.eq(eighth != phase[-3:]), one.eq(votes + line >= 2)]
        m.d.sync += [self.byte.valid.eq(0), self.byte.broken.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(~line):
                    m.d.sync += [phase.eq(self.step // 2), bits.eq(0), votes.eq(0)]
                    m.next = "BITS"
            with m.State("BITS"):
                m.d.sync += phase.eq(after)
                with m.If(after[FRACTION]):
                    m.d.sync += [bits.eq(bits + 1), votes.eq(0)]
                with m.If(tick & ((eighth == 3) | (eighth == 4))):
                    m.d.sync += votes.eq(votes + line)
                with m.If(tick & (eighth == 5)):
                    m.d.sync += shift.eq(Cat(shift[1:], one))
                    with m.If((bits == 0) & one):
                        m.next = "IDLE"
                with m.If(tick & (eighth == 4) & (bits == 9)):  # early: the next may come early
                    stop = (votes != 0) | line
                    m.d.sync += [self.byte.valid.eq(stop), self.byte.broken.eq(~stop),
                                 self.byte.data.eq(shift)]
                    with m.If(line):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "HIGH"
            with m.State("HIGH"):
                with m.If(line):
                    m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Bytes onto a line, without a gap while ``byte`` is valid.

    The start bit begins a cycle after a byte is taken. ``byte.ready`` is 1 while idle and in the
    last cycle of a stop bit. Edges are within a cycle of their place, over any number of bytes.
    Reset: idle, the line high.

    Parameters
    ----------
    clock_hz, baud: rates, see :func:`bit_step`.

    Members
    -------
    byte: stream of bytes. tx: the line. active: a byte is on its way.
    """

    def __init__(self, clock_hz: int, baud: int):
        self.step = bit_step(clock_hz, baud)
        super().__init__({"byte": In(stream.Signature(8)), "tx": Out(1, init=1),
                          "active": Out(1)})

    def elaborate(self, platform):
        m = Module()
        phase, after = Signal(FRACTION), Signal(FRACTION + 1)
        shift, bits = Signal(9), Signal(range(11))
        m.d.comb += [
            after.eq(phase + self.step), self.active.eq(bits != 0),
            self.byte.ready.eq((bits == 0) | ((bits == 1) & after[FRACTION]))]
        with m.If(self.active):
            m.d.sync += phase.eq(after)
            with m.If(after[FRACTION]):
                m.d.sync += [Cat(self.tx, shift).eq(Cat(shift, 1)), bits.eq(bits - 1)]
        with m.If(self.byte.valid & self.byte.ready):
            m.d.sync += [self.tx.eq(0), shift.eq(Cat(self.byte.payload, 1)), bits.eq(10)]
            with m.If(bits == 0):
                m.d.sync += phase.eq(0)
        return m
