"""CRC-32 of tiles that come beat by beat, bursts of several ids interleaved."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CRC_BYTES", "TileCheck", "feed", "residue"]

POLYNOMIAL = 0xEDB88320  # IEEE 802.3, lowest bit first
START = 0xFFFFFFFF
CRC_BYTES = 4


def feed(state: int, bits: int, width: int) -> int:
    """The register behind ``width`` more bits, the lowest of ``bits`` first."""
    for position in range(width):
        odd = (state ^ (bits >> position)) & 1
        state = (state >> 1) ^ (POLYNOMIAL if odd else 0)
    return state


def residue(width: int) -> int:
    """The register behind every good tile, whose last beat is its CRC and then zeros.

    Data, CRC (register inverted, low byte first) and padding leave the same value whatever the data
    are, since the first two of them leave the register as a CRC of 0 does behind no data.
    """
    return feed(START, 0, width)


class TileCheck(wiring.Component):
    """Whether a tile is good, two cycles after its last beat; a beat per cycle, of any burst.

    Per beat, the sums over its bits are taken in one cycle and joined with the burst's register in
    the next. Never stalls. Reset: nothing on its way; what a register held is of no account, as it
    starts again with a ``first`` beat.

    Parameters
    ----------
    width: bits of a beat, 32 to 512. bursts: that may be in flight, by number.

    Members
    -------
    beat: valid, burst, ``first`` and ``last`` of its tile, data.
    verdict: valid, burst, good.
    """

    LATENCY = 2

    def __init__(self, width: int, bursts: int):
        self.width, self.bursts = width, bursts
        number = unsigned(max(1, (bursts - 1).bit_length()))
        super().__init__({
            "beat": In(data.StructLayout(
                {"valid": 1, "burst": number, "first": 1, "last": 1, "data": width})),
            "verdict": Out(data.StructLayout({"valid": 1, "burst": number, "good": 1}))})

    def elaborate(self, platform):
        m = Module()
        beat, width = self.beat, self.width
        # A register's bits enter as the first 32 data bits do.
        columns = [feed(0, 1 << position, width) for position in range(width)]
        rows = [sum((column >> bit & 1) << position for position, column in enumerate(columns))
                for bit in range(32)]

        sums, burst = Signal(32), Signal.like(beat.burst)
        valid, first, last = Signal(), Signal(), Signal()
        m.d.sync += [
            sums.eq(Cat((beat.data & Const(row, width)).xor() for row in rows)),
            valid.eq(beat.valid), burst.eq(beat.burst), first.eq(beat.first), last.eq(beat.last)]

        m.submodules.registers = registers = memory.Memory(
            shape=32, depth=max(2, self.bursts), init=[])
        write, read = registers.write_port(), registers.read_port(domain="comb")
        before, after = Signal(32), Signal(32)
        m.d.comb += [
            read.addr.eq(burst), before.eq(Mux(first, START, read.data)),
            after.eq(sums ^ Cat((before & (row & START)).xor() for row in rows)),
            write.addr.eq(burst), write.data.eq(after), write.en.eq(valid)]

        final = Signal(32)
        m.d.sync += [final.eq(after), self.verdict.valid.eq(valid & last),
                     self.verdict.burst.eq(burst)]
        m.d.comb += self.verdict.good.eq(final == residue(width))
        return m
