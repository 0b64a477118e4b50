"""What every board top has inside: accelerator, host link, one port of expert memory, LEDs."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..top import Accelerator
from .block_ram import BlockRam
from .link import HostLink
from .memory_port import MemorySignature
from .share import MemoryShare

__all__ = ["BlockRamBoard", "BoardCore", "board_pins"]

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
        self.geometry, self.clock_hz = geometry, clock_hz
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
        channels = ("ar", "r", "aw", "w", "b") if self.geometry.streams_rows else ("ar", "r")
        for name in channels:
            channel = getattr(first, name)
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


class BlockRamBoard(wiring.Component):
    """A core whose expert memory is block RAM: for boards without DRAM, and for rehearsals.

    Contracts: :class:`BoardCore`, :class:`~stmoe.boards.block_ram.BlockRam`. Reset: all but the
    memory's contents.

    Parameters
    ----------
    geometry: Geometry. memory_bytes, clock_hz, baud: of :class:`BoardCore`; memory_bytes a multiple
        of a beat.

    Members
    -------
    rx, tx, heartbeat, busy, error, active: of :class:`BoardCore`.
    """

    def __init__(self, geometry: Geometry, *, memory_bytes: int, clock_hz: int, baud: int,
                 extra: dict[str, wiring.Member] | None = None):
        self.core = BoardCore(geometry, memory_bytes=memory_bytes, clock_hz=clock_hz, baud=baud)
        self.ram = BlockRam(memory_bytes, self.core.share.outer)
        super().__init__({**board_pins(), **(extra or {})})

    def attach(self, m: Module) -> None:
        """Connect core and memory."""
        wiring.connect(m, self.core.memory, self.ram.axi)

    def elaborate(self, platform):
        m = Module()
        core = m.submodules.core = self.core
        m.submodules.ram = ResetInserter(core.reset)(self.ram)
        for name, member in board_pins().items():
            inner, outer = getattr(core, name), getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        self.attach(m)
        return m
