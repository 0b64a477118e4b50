"""Control and status registers behind AXI4-Lite, built from ``stmoe.rdl``."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..one_of import one_of
from .axil import AxiLiteFront, axil_members
from .counters import counter_widths
from .registers import Field, Register, register_map, registers

__all__ = ["CsrBlock", "register_map"]


class CsrBlock(wiring.Component):
    """Every register of ``stmoe.rdl``.

    Accesses take what :class:`AxiLiteFront` says; back-pressure is honoured on every channel.
    Reads of addresses without a register, and writes to those or to registers without a writable
    field, answer SLVERR and change nothing. Byte strobes are honoured; reserved bits read 0.
    A counter counts an increment two cycles after it is given; reading the low word of a counter
    copies its high word, and every high word reads that copy. The first error sets the error
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
        members |= {f"inc_{name}": In(width) for name, width in counter_widths().items()}
        self.counts = {name: Signal(64, name=f"count_{name}") for name in counter_widths()}
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
        counts: list[tuple[Value, Value]] = []  # that are read by halves
        shadow = Signal(32)

        def chosen(word: int) -> Signal:
            select = Signal(name=f"read_{word}")
            m.d.sync += select.eq(front.read_word == word)
            return select

        writable = []
        for register in registers(self.geometry):
            word = register.address // 4
            write = Signal(name=f"write_{register.name}")
            if any(field.writable for field in register.fields):
                writable.append(word)
                m.d.comb += write.eq(front.write & (front.write_word == word))
            if register.width == 64:
                count = self._counter(m, register.name)
                select = chosen(word)
                reads += [(select, count[:32]), (chosen(word + 1), shadow)]
                counts.append((select, count[32:]))
                continue
            value: Value = C(0, 0)
            for field in register.fields:
                held = self._field(m, front, register, field, write)
                value = Cat(value, C(0, field.lsb - len(value)), held)
            reads.append((chosen(word), value))

        m.d.comb += [
            front.write_bad.eq(1), front.read_data.eq(one_of(*zip(*reads, strict=True))),
            front.read_bad.eq(~Cat(select for select, _ in reads).any())]
        with m.If(front.read & Cat(select for select, _ in counts).any()):
            m.d.sync += shadow.eq(one_of(*zip(*counts, strict=True)))
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
            with m.If(write):
                m.d.sync += held.eq((held & ~mask) | (data & mask))
            return held
        if field.writable:  # error.code, whose being zero lets the next error in
            held, kept = getattr(self, name), Signal(field.width)
            m.d.comb += kept.eq(held & ~Mux(write, data & mask, 0))
            m.d.comb += self._take_error.eq(self.error_valid & (kept == 0))
            m.d.sync += held.eq(kept)
            source = getattr(self, f"{register.name}_{field.name}")
        else:
            held = Signal(field.width, name=f"held_{name}")
            source = getattr(self, name)
        with m.If(self._take_error):
            m.d.sync += held.eq(source)
        return held

    def _counter(self, m: Module, name: str) -> Value:
        increment = getattr(self, f"inc_{name}")
        pending = Signal.like(increment, name=f"pending_{name}")
        count = self.counts[name]
        m.d.sync += pending.eq(increment)
        with m.If(self.counter_ctrl_clear):
            m.d.sync += count.eq(0)
        with m.Elif(~self.counter_ctrl_freeze):
            m.d.sync += count.eq(count + pending)
        return count
