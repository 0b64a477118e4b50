"""Control and status registers behind AXI4-Lite, built from ``stmoe.rdl``."""

from collections.abc import Callable

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..one_of import one_of
from .axil import AxiLiteFront, axil_members
from .counter_bank import CounterBank
from .counters import counter_widths
from .registers import Field, Register, register_map, registers

__all__ = ["CsrBlock", "register_map"]


class CsrBlock(wiring.Component):
    """Every register of ``stmoe.rdl``.

    Accesses take what :class:`AxiLiteFront` says; back-pressure is honoured on every channel.
    Reads of addresses without a register, and writes to those or to registers without a writable
    field, answer SLVERR and change nothing. Byte strobes are honoured; reserved bits read 0.
    Counters are those of :class:`CounterBank`: an increment counts two cycles after it is given.
    Reading a low word waits for the counter's visit, and shows the count of four cycles before
    ``rvalid``, at the earliest of the cycle after the address is taken; the access leaves the
    high word of that cycle in a copy, which every high word reads. The first error sets the error
    registers, which then hold until ``error.code`` is cleared; an error in the very cycle of the
    clear is kept. Reset: the reset values of the description.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    awaddr .. rready: AXI4-Lite, subordinate side.
    REGISTER_FIELD: per field that software writes, its value; REGISTER alone where it is the only
        field; per field that hardware drives (``status_*``), an input.
    error_valid: latches ``error_code``, ``error_layer``, ``error_expert``, ``error_detail``.
    error: the code held, 0 = none.
    inc_COUNTER: unsigned increments, widths from :func:`counter_widths`.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        members = {**axil_members(), "error_valid": In(1)}
        for register in registers(geometry):
            for field in register.fields:
                name = register.member(field)
                if field.kind in ("control", "pulse"):
                    members[name] = Out(field.width, init=field.reset)
                elif field.kind == "status":
                    members[name] = In(field.width)
                elif field.kind == "record":
                    if field.writable:
                        members[name] = Out(field.width)
                        name = f"{register.name}_{field.name}"
                    members[name] = In(field.width)
        members |= {f"inc_{name}": In(width) for name, width in counter_widths(geometry).items()}
        self.bank = CounterBank(counter_widths(geometry))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.front = front = AxiLiteFront()
        self._take_error = Signal(name="take_error")
        for name, member in axil_members().items():
            inner = getattr(front, name)
            outer = getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)

        # Reads: which word it is stands in a flip-flop each; then it takes AND and OR alone.
        reads: list[tuple[Value, Value]] = []

        def chosen(where: Value, name: str) -> Signal:
            select = Signal(name=f"read_{name}")
            m.d.sync += select.eq(where)
            return select

        writable = []
        for register in registers(self.geometry):
            word = register.address // 4
            if register.width == 64:
                continue
            write = Signal(name=f"write_{register.name}")
            if any(field.writable for field in register.fields):
                writable.append(word)
                m.d.comb += write.eq(front.write & (front.write_word == word))
            value: Value = C(0, 0)
            for field in register.fields:
                held = self._field(m, front, register, field, write)
                value = Cat(value, C(0, field.lsb - len(value)), held)
            reads.append((chosen(front.read_word == word, str(word)), value))
        reads += self._counters(m, front, chosen)

        m.d.comb += [
            front.write_bad.eq(1), front.read_data.eq(one_of(*zip(*reads, strict=True))),
            front.read_bad.eq(~Cat(select for select, _ in reads).any())]
        with m.Switch(front.write_word):
            with m.Case(*writable):
                m.d.comb += front.write_bad.eq(0)
        return m

    def _field(self, m: Module, front: AxiLiteFront, register: Register, field: Field,
               write: Value) -> Value:
        """Hardware of a field; returns what a read sees."""
        if field.kind == "constant":
            return C(field.reset, field.width)
        name = register.member(field)
        if field.kind == "status":
            return getattr(self, name)
        span = slice(field.lsb, field.lsb + field.width)
        data, mask = front.write_data[span], front.write_mask[span]
        if field.kind == "pulse":
            pulse = getattr(self, name)
            m.d.sync += pulse.eq(Mux(write, data & mask, 0))
            return C(0, field.width)
        if field.kind == "control":
            held = getattr(self, name)
            for byte in range(field.lsb // 8, (span.stop + 7) // 8):  # an enable each, no logic
                low, high = max(8 * byte, field.lsb), min(8 * byte + 8, span.stop)
                with m.If(write & front.write_mask[8 * byte]):
                    m.d.sync += held[low - field.lsb:high - field.lsb].eq(
                        front.write_data[low:high])
            return held
        if field.writable:  # error.code, whose being zero lets the next error in
            held, kept, cleared = getattr(self, name), Signal(field.width), Signal(field.width)
            m.d.sync += cleared.eq(Mux(write, data & mask, 0))
            m.d.comb += kept.eq(held & ~cleared)
            m.d.comb += self._take_error.eq(self.error_valid & (kept == 0))
            m.d.sync += held.eq(kept)
            source = getattr(self, f"{register.name}_{field.name}")
        else:
            held = Signal(field.width, name=f"held_{name}")
            source = getattr(self, name)
        with m.If(self._take_error):
            m.d.sync += held.eq(source)
        return held

    def _counters(self, m: Module, front: AxiLiteFront,
                  chosen: Callable[[Value, str], Signal]) -> list[tuple[Value, Value]]:
        """The bank, and what reads see of it."""
        m.submodules.bank = bank = self.bank
        words = [register.address // 4 for register in registers(self.geometry)
                 if register.width == 64]
        first, end = words[0], words[0] + 2 * len(words)
        if first % 2 or words != list(range(first, end, 2)):
            raise ValueError("counters of the register description leave addresses out")
        m.d.comb += [
            bank.clear.eq(self.counter_ctrl_clear), bank.freeze.eq(self.counter_ctrl_freeze),
            *(getattr(bank, f"inc_{name}").eq(getattr(self, f"inc_{name}"))
              for name in bank.counts)]
        word = front.read_word
        here = (word >= first) & (word < end)
        low, high = chosen(here & ~word[0], "low"), chosen(here & word[0], "high")
        m.d.comb += [bank.ask.eq(front.reading & low), bank.number.eq((word - first)[1:]),
                     front.read_wait.eq(low & ~bank.done)]
        shadow, copied = Signal(bank.width), Signal()
        m.d.sync += copied.eq(bank.done)
        with m.If(copied):
            m.d.sync += shadow.eq(bank.word)
        return [(low, bank.word), (high, shadow)]
