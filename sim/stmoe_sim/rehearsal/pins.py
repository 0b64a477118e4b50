"""The registers at the pins of an SDRAM, which on a board are those of the pads."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from stmoe.boards.sdram.controller import SdramController, sdram_pins

__all__ = ["RegisteredPins"]


class RegisteredPins(wiring.Component):
    """A controller with a register, without reset, between each of its pins and the members here.

    Parameters
    ----------
    controller: SdramController.

    Members
    -------
    axi: of the controller. Others: see :func:`~stmoe.boards.sdram.controller.sdram_pins`.
    """

    def __init__(self, controller: SdramController):
        self.controller = controller
        super().__init__({"axi": In(controller.port), **sdram_pins(controller.part)})

    def elaborate(self, platform):
        m = Module()
        controller = m.submodules.controller = self.controller
        wiring.connect(m, wiring.flipped(self.axi), controller.axi)
        for name, member in sdram_pins(controller.part).items():
            inside, outside = getattr(controller, name), getattr(self, name)
            source, sink = (inside, outside) if member.flow == Out else (outside, inside)
            held = Signal(len(source), name=f"{name}_held", reset_less=True)
            m.d.sync += held.eq(source)
            m.d.comb += sink.eq(held)
        return m
