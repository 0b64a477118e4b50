"""Some of the bits of all weight words of a single PE's banks."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..compute.pipeline import delay
from ..sharing import share
from .bank import BankMemory

__all__ = ["WordColumn", "chosen"]

DEEP = 1024  # words of a RAM: of an ECP5's block RAM, 16 bits wide


def chosen(values: list, select):
    """``values[select]``, any beyond the last: a tree of multiplexers, a bit of select a level."""
    level = 0
    while len(values) > 1:
        values = [Mux(select[level], *reversed(values[at:at + 2])) if len(values) > at + 1
                  else values[at] for at in range(0, len(values), 2)]
        level += 1
    return values[0]


class WordColumn(wiring.Component):
    """RAMs of up to ``DEEP`` words one behind another, a register each behind them, and a choice.

    Addresses, enables and what is written are registered here: on an FPGA each column has its own
    registers beside its RAMs. ``read_data`` answers ``read_en`` three cycles later, for a cycle. A
    word is there for what is asked for with it or later. A word a cycle, without back-pressure.
    Reset: nothing is written or read; contents stand.

    Parameters
    ----------
    width, words: bits and number of words. part: bits written at a time.
    """

    def __init__(self, width: int, words: int, part: int):
        self.width, self.words, self.part = width, words, part
        super().__init__({
            "read_en": In(1), "read_at": In(range(words)), "read_data": Out(width),
            "write_en": In(width // part), "write_at": In(range(words)), "write_data": In(part)})

    def elaborate(self, platform):
        m = Module()
        low = (DEEP - 1).bit_length()
        read_en, read_at, write_en, write_at, write_data = (
            delay(m, getattr(self, name), 1, name)
            for name in ("read_en", "read_at", "write_en", "write_at", "write_data"))
        outputs = []
        for number, start in enumerate(range(0, self.words, DEEP)):
            ram = share(m, f"ram_{number}", platform, BankMemory, self.width,
                        min(DEEP, self.words - start), self.part)
            m.d.comb += [
                ram.write_addr.eq(write_at), ram.write_data.eq(write_data),
                ram.write_en.eq(Mux(write_at[low:] == number, write_en, 0)),
                ram.read_addr.eq(read_at), ram.read_en.eq(read_en & (read_at[low:] == number))]
            outputs.append(delay(m, ram.read_data, 1, f"word_{number}"))
        m.d.comb += self.read_data.eq(chosen(outputs, delay(m, read_at[low:], 2, "ram_of")))
        return m
