"""The host link: from the pins of a UART to the accelerator's ports. docs/host-link.md."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.axil import axil_members
from ..config import Geometry
from .execute import RequestExecutor
from .memory_port import MemorySignature
from .protocol import BUFFER_BYTES, PROTOCOL, READ_BYTES, WINDOW, WRITE_BYTES
from .receive import RequestReceiver
from .respond import ReplySender
from .uart import UartReceiver, UartTransmitter, received

__all__ = ["HostLink", "LinkEngine"]

SENT = 16  # bytes that wait for the line while a block is encoded


class LinkEngine(wiring.Component):
    """Requests of a byte-wide line executed, replies given to one: the link without its UART.

    The line gives a byte per cycle at most and is not stalled; ``line`` honours back-pressure. What
    happens to a request: :class:`~stmoe.boards.receive.RequestReceiver`,
    :class:`~stmoe.boards.execute.RequestExecutor`, :class:`~stmoe.boards.respond.ReplySender`.
    Reset: no session, number 0.

    Parameters
    ----------
    geometry: Geometry. signature: of the memory port.
    memory_bytes, clock_hz, baud: what HELLO tells.

    Members
    -------
    byte: from the line. line: for it.
    active: a request waits or is executed, or a reply is on its way. bad: pulse, a bad frame.
    axil, axi, cmd, act, result, reset: of the executor.
    """

    def __init__(self, geometry: Geometry, signature: MemorySignature, *, memory_bytes: int,
                 clock_hz: int, baud: int):
        c = geometry.config
        self.geometry, self.port = geometry, signature
        self.constants = [
            (c.hash, 8), (WRITE_BYTES, 2), (READ_BYTES, 2), (WINDOW, 1), (BUFFER_BYTES, 2),
            (signature.data_bits // 8, 1), (c.lanes, 1), (c.rows, 1), (clock_hz, 4), (baud, 4),
            (memory_bytes, 8)]
        super().__init__({
            "byte": In(received()), "line": Out(stream.Signature(8)),
            "active": Out(1), "bad": Out(1),
            "axil": In(wiring.Signature(axil_members())), "axi": Out(signature),
            "cmd": Out(stream.Signature(64)), "act": Out(stream.Signature(8 * c.lanes)),
            "result": In(stream.Signature(data.StructLayout(
                {"data": 16 * c.rows, "last": 1, "error": 1}))),
            "reset": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = RequestReceiver()
        m.submodules.executor = executor = RequestExecutor(self.geometry, self.port)
        now = Cat(receiver.request.valid, receiver.expected, receiver.session)
        busy, told = Signal(), Signal(40)
        identity = Cat(
            Const(PROTOCOL, 8), told, *(Const(value, 8 * size) for value, size in self.constants),
            busy, Const(0, 7))
        m.submodules.sender = sender = ReplySender(
            [identity[at:at + 8] for at in range(0, len(identity), 8)])
        with m.If(sender.greet):
            m.d.sync += Cat(busy, told).eq(now)
        m.d.comb += [
            receiver.byte.eq(self.byte), executor.request.eq(receiver.request),
            receiver.done.eq(executor.done), executor.free.eq(sender.free),
            *(getattr(sender, name).eq(getattr(executor, name))
              for name in ("sequence", "opcode", "begin", "finish", "status", "put")),
            *(getattr(sender, name).eq(getattr(receiver, name))
              for name in ("duplicate", "hello", "nak", "expected")),
            self.reset.eq(executor.reset), self.bad.eq(receiver.bad),
            self.active.eq(receiver.request.valid | sender.active)]
        wiring.connect(m, receiver.body, executor.body)
        for name in ("axil", "axi", "cmd", "act", "result"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(executor, name))
        wiring.connect(m, wiring.flipped(self.line), sender.byte)
        return m


class HostLink(wiring.Component):
    """A :class:`LinkEngine` behind a UART, whose contracts hold.

    Parameters
    ----------
    geometry, signature, memory_bytes: of the engine. clock_hz, baud: of the UART, too.

    Members
    -------
    rx, tx: the pins, high while idle. The others are the engine's.
    """

    def __init__(self, geometry: Geometry, signature: MemorySignature, *, memory_bytes: int,
                 clock_hz: int, baud: int):
        self.engine = LinkEngine(geometry, signature, memory_bytes=memory_bytes,
                                 clock_hz=clock_hz, baud=baud)
        self.clock_hz, self.baud = clock_hz, baud
        passed = dict(self.engine.signature.members.items())
        del passed["byte"], passed["line"]
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), **passed})

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine = engine = self.engine
        m.submodules.receiver = receiver = UartReceiver(self.clock_hz, self.baud)
        m.submodules.transmitter = transmitter = UartTransmitter(self.clock_hz, self.baud)
        m.submodules.sent = sent = fifo.SyncFIFOBuffered(width=8, depth=SENT)
        m.d.comb += [
            receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx), engine.byte.eq(receiver.byte),
            sent.w_data.eq(engine.line.payload), sent.w_en.eq(engine.line.valid),
            engine.line.ready.eq(sent.w_rdy), transmitter.byte.payload.eq(sent.r_data),
            transmitter.byte.valid.eq(sent.r_rdy), sent.r_en.eq(transmitter.byte.ready),
            self.active.eq(engine.active | sent.r_rdy | transmitter.active),
            self.bad.eq(engine.bad), self.reset.eq(engine.reset)]
        for name in ("axil", "axi", "cmd", "act", "result"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(engine, name))
        return m
