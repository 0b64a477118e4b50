"""The top of a board: its pins, a PLL, and a module that has all the rest inside."""

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import Component, In

from .board import Board, Pin
from .pll import PllSettings, pll_settings

__all__ = ["INSIDE", "BoardTop"]

INSIDE = "board"  # name of the module inside


class BoardTop(Component):
    """Elaborates on the platform of ``board``, around an instance of the module ``INSIDE``.

    The PLL's second output, a quarter of a cycle behind, is the clock of an SDRAM: it sees commands
    within the cycle in which they are on the pins, and its words are there before the next edge.
    Reset: until the PLL has locked, and while the board's reset is held.

    Parameters
    ----------
    board: Board. inside: the component that ``INSIDE`` is made of. clock_hz: of it.
    """

    def __init__(self, board: Board, inside: Component, clock_hz: int):
        self.board, self.inside, self.clock_hz = board, inside, clock_hz
        super().__init__({})

    def _pin(self, platform: Any, pin: Pin) -> Any:
        name, number, *inside = pin
        key = name, number
        if key not in self.requested:
            resource = platform.lookup(*key)
            directions: Any = "-"
            if hasattr(resource.ios[0], "ios"):  # a group
                directions = {sub.name: "-" for sub in resource.ios}
            self.requested[key] = platform.request(*key, dir=directions)
        found = self.requested[key]
        for part in inside:
            found = getattr(found, part)
        return found

    def _clock(self, m: Module, platform: Any) -> None:
        pad = platform.request(platform.default_clk, dir="-")
        hz = int(platform.default_clk_frequency)
        pll: PllSettings = pll_settings(hz, self.clock_hz)
        m.submodules.clock_pad = clock_pad = io.Buffer("i", pad)
        locked, clocks = Signal(), Signal(2)
        first = pll.output // 2
        m.submodules.pll = Instance(
            "EHXPLLL", a_FREQUENCY_PIN_CLKI=str(hz / 1e6),
            a_FREQUENCY_PIN_CLKOP=str(self.clock_hz / 1e6),
            a_FREQUENCY_PIN_CLKOS=str(self.clock_hz / 1e6), a_ICP_CURRENT="12", a_LPF_RESISTOR="8",
            p_FEEDBK_PATH="CLKOP", p_CLKI_DIV=pll.input, p_CLKFB_DIV=pll.feedback,
            p_CLKOP_ENABLE="ENABLED", p_CLKOP_DIV=pll.output, p_CLKOP_CPHASE=first,
            p_CLKOP_FPHASE=0, p_CLKOS_ENABLE="ENABLED", p_CLKOS_DIV=pll.output,
            p_CLKOS_CPHASE=first + pll.output // 4, p_CLKOS_FPHASE=0,
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED", p_OUTDIVIDER_MUXA="DIVA", p_OUTDIVIDER_MUXB="DIVB",
            i_CLKI=clock_pad.i, i_CLKFB=clocks[0], i_RST=Const(0), i_STDBY=Const(0),
            i_PHASESEL0=Const(0), i_PHASESEL1=Const(0), i_PHASEDIR=Const(1), i_PHASESTEP=Const(1),
            i_PHASELOADREG=Const(1), i_PLLWAKESYNC=Const(0), i_ENCLKOP=Const(0),
            o_CLKOP=clocks[0], o_CLKOS=clocks[1], o_LOCK=locked)
        m.domains.sync = ClockDomain()
        m.domains.part = ClockDomain(reset_less=True)
        m.d.comb += [ClockSignal("sync").eq(clocks[0]), ClockSignal("part").eq(clocks[1])]
        held = ~locked
        if platform.default_rst is not None:
            m.submodules.reset_pad = reset_pad = io.Buffer(
                "i", platform.request(platform.default_rst, dir="-"))
            held |= reset_pad.i
        m.submodules.reset = ResetSynchronizer(held)

    def elaborate(self, platform: Any) -> Module:
        m, board = Module(), self.board
        self.requested: dict[tuple[str, int], Any] = {}
        self._clock(m, platform)
        ports, connections = {}, {}
        for (name,), member, value in self.inside.signature.flatten(self.inside):
            ports[name] = Signal(len(value), name=name)
            connections[("i_" if member.flow == In else "o_") + name] = ports[name]
        m.submodules.inside = Instance(INSIDE, i_clk=ClockSignal(), i_rst=ResetSignal(),
                                       **connections)

        def out(pin: Pin, value: Any) -> None:
            m.submodules["_".join(map(str, pin))] = pad = io.Buffer("o", self._pin(platform, pin))
            m.d.comb += pad.o.eq(value)
        m.submodules.rx = rx = io.Buffer("i", self._pin(platform, (*board.uart[:2], "rx")))
        m.d.comb += ports["rx"].eq(rx.i)
        out((*board.uart[:2], "tx"), ports["tx"])
        for name in ("heartbeat", "busy", "error"):
            out(getattr(board, name), ports[name])
        for pin in board.high:
            out(pin, 1)
        if board.sdram is not None:
            pins = self._pin(platform, board.sdram_pins)
            for name in ("clk_en", "cs", "ras", "cas", "we", "ba", "a", "dqm"):
                m.submodules[f"pin_{name}"] = pad = io.FFBuffer("o", getattr(pins, name))
                m.d.comb += pad.o.eq(ports[name])
            m.submodules.pin_dq = dq = io.FFBuffer("io", pins.dq)
            m.submodules.pin_clk = clk = io.DDRBuffer("o", pins.clk, o_domain="part")
            m.d.comb += [dq.o.eq(ports["dq_o"]), dq.oe.eq(ports["dq_oe"]), ports["dq_i"].eq(dq.i),
                         clk.o[0].eq(1), clk.o[1].eq(0)]
        return m
