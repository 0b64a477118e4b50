"""What every board top has inside: accelerator, host link, one port of expert memory, LEDs."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..top import Accelerator
from .block_ram import BlockRam
from .link import HostLink
from .memory_port import HeldStream, MemorySignature
from .sdram.controller import SdramController, sdram_pins
from .sdram.part import SdramPart
from .share import MemoryShare

__all__ = ["BoardCore", "MemoryBoard", "block_ram_board", "board_pins", "sdram_board"]

SHOWN = 20  # a pulse is shown on an LED for this part of a second


def board_pins() -> dict[str, wiring.Member]:
    """Pins of a core, all of one clock domain but ``rx``, which may come at any time."""
    return {"rx": In(1, init=1), "tx": Out(1, init=1), "heartbeat": Out(1), "busy": Out(1),
            "error": Out(1), "active": Out(1)}


class BoardCore(wiring.Component):
    """The accelerator and the host link, which drives all its ports, on one memory port.

    RESET over the link resets the accelerator and, through ``reset``, the memory's controller; the
    link goes on. Contracts of throughput and back-pressure: :class:`~stmoe.boards.link.HostLink`,
    :class:`~stmoe.boards.share.MemoryShare`. Reset: all of it.

    Parameters
    ----------
    geometry: Geometry. memory_bytes: of expert memory. clock_hz, baud: rates.

    Members
    -------
    rx, tx: UART. heartbeat: changes every half second. busy: the link was active in the last
        50 ms. error: the interrupt line, or a bad frame, in the last 50 ms.
    active: at this moment a request waits or is executed, or a reply is on its way.
    memory: :class:`MemorySignature`, manager side. reset: for the memory's controller.
    """

    def __init__(self, geometry: Geometry, *, memory_bytes: int, clock_hz: int, baud: int):
        c = geometry.config
        self.geometry, self.clock_hz, self.memory_bytes = geometry, clock_hz, memory_bytes
        inner = MemorySignature(addr_bits=c.axi_addr_bits, data_bits=c.axi_data_bits,
                                id_bits=geometry.id_bits)
        self.link = HostLink(geometry, inner, memory_bytes=memory_bytes, clock_hz=clock_hz,
                             baud=baud)
        self.share = MemoryShare(inner)
        super().__init__({**board_pins(), "memory": Out(self.share.outer), "reset": Out(1)})

    def elaborate(self, platform):
        m = Module()
        link = m.submodules.link = self.link
        resettable = ResetInserter(link.reset)
        accelerator = Accelerator(self.geometry)
        m.submodules.accelerator = resettable(accelerator)
        m.submodules.share = resettable(self.share)
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx), self.reset.eq(link.reset),
                     self.active.eq(link.active)]

        for name, member in link.axil.signature.members.items():
            inner, outer = getattr(link.axil, name), getattr(accelerator, f"s_axil_{name}")
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        for name, source in (("cmd", link.cmd), ("act", link.act)):
            m.d.comb += [
                getattr(accelerator, f"s_axis_{name}_tdata").eq(source.payload),
                getattr(accelerator, f"s_axis_{name}_tvalid").eq(source.valid),
                source.ready.eq(getattr(accelerator, f"s_axis_{name}_tready"))]
        m.d.comb += [
            link.result.payload.data.eq(accelerator.m_axis_res_tdata),
            link.result.payload.last.eq(accelerator.m_axis_res_tlast),
            link.result.payload.error.eq(accelerator.m_axis_res_tuser),
            link.result.valid.eq(accelerator.m_axis_res_tvalid),
            accelerator.m_axis_res_tready.eq(link.result.ready)]

        first = self.share.first
        ar = HeldStream(first.ar.payload.shape())
        m.submodules.ar = resettable(ar)
        wiring.connect(m, ar.taken, first.ar)
        channels = ("ar", "r", "aw", "w", "b") if self.geometry.streams_rows else ("ar", "r")
        for name in channels:
            channel = ar.given if name == "ar" else getattr(first, name)
            for field in channel.payload.shape().members:
                port = getattr(accelerator, f"m_axi_{name}{field}")
                inner = channel.payload[field]
                m.d.comb += inner.eq(port) if name in ("ar", "aw", "w") else port.eq(inner)
            valid, ready = (getattr(accelerator, f"m_axi_{name}{end}") for end in
                            ("valid", "ready"))
            if name in ("ar", "aw", "w"):
                m.d.comb += [channel.valid.eq(valid), ready.eq(channel.ready)]
            else:
                m.d.comb += [valid.eq(channel.valid), channel.ready.eq(ready)]
        wiring.connect(m, link.axi, self.share.second)
        wiring.connect(m, wiring.flipped(self.memory), self.share.axi)

        half, beats = self.clock_hz // 2, Signal(range(max(2, self.clock_hz // 2)))
        m.d.sync += beats.eq(beats + 1)
        with m.If(beats == half - 1):
            m.d.sync += [beats.eq(0), self.heartbeat.eq(~self.heartbeat)]
        for pin, cause in ((self.busy, link.active), (self.error, accelerator.irq | link.bad)):
            left = Signal(range(self.clock_hz // SHOWN + 1), name=f"{pin.name}_left")
            m.d.comb += pin.eq(left != 0)
            with m.If(cause):
                m.d.sync += left.eq(self.clock_hz // SHOWN)
            with m.Elif(left != 0):
                m.d.sync += left.eq(left - 1)
        return m


class MemoryBoard(wiring.Component):
    """A core and the memory on its port, up to the pins: what every board top has inside.

    Contracts: :class:`BoardCore`, and the memory's. Reset: all but the memory's contents.

    Parameters
    ----------
    core: BoardCore. memory: a component with ``axi``, of ``core.share.outer``. pins: the memory's
        other members, passed on.

    Members
    -------
    rx, tx, heartbeat, busy, error, active: of :class:`BoardCore`. Those of ``pins``.
    """

    def __init__(self, core: BoardCore, memory: wiring.Component,
                 pins: dict[str, wiring.Member] | None = None):
        self.core, self.memory, self.pins = core, memory, pins or {}
        super().__init__({**board_pins(), **self.pins})

    def attach(self, m: Module) -> None:
        """Connect core and memory."""
        wiring.connect(m, self.core.memory, self.memory.axi)

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = self.core
        m.submodules.memory = ResetInserter(self.core.reset)(self.memory)
        for part, members in ((self.core, board_pins()), (self.memory, self.pins)):
            for name, member in members.items():
                inner, outer = getattr(part, name), getattr(self, name)
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        self.attach(m)
        return m


def block_ram_board(geometry: Geometry, *, memory_bytes: int, clock_hz: int,
                    baud: int) -> MemoryBoard:
    """A board whose expert memory is block RAM; ``memory_bytes`` a multiple of a beat."""
    core = BoardCore(geometry, memory_bytes=memory_bytes, clock_hz=clock_hz, baud=baud)
    return MemoryBoard(core, BlockRam(memory_bytes, core.share.outer))


def sdram_board(geometry: Geometry, part: SdramPart, *, clock_hz: int, baud: int) -> MemoryBoard:
    """A board whose expert memory is ``part``, all of it that the configuration can address.

    Its pins are those of :func:`~stmoe.boards.sdram.controller.sdram_pins`, with a register between
    each and the pin of the package.
    """
    size = min(part.size, 1 << geometry.config.axi_addr_bits)
    core = BoardCore(geometry, memory_bytes=size, clock_hz=clock_hz, baud=baud)
    return MemoryBoard(core, SdramController(part, core.share.outer, clock_hz), sdram_pins(part))
