"""Requests: checked, put in order, and kept until they are executed."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .cobs import CobsDecoder
from .protocol import BUFFER_BYTES, GOOD_CRC, START, WINDOW, Opcode, crc_step
from .uart import received

__all__ = ["RequestReceiver", "header"]

LENGTH = range(BUFFER_BYTES + 1)
CRC_BYTES = 4


def header() -> data.StructLayout:
    """A request to execute; ``length``: bytes of its payload."""
    return data.StructLayout({"sequence": 8, "opcode": 8, "length": LENGTH[-1].bit_length()})


class RequestReceiver(wiring.Component):
    """Bytes of a line in; requests out, each once, in order of their sequence numbers.

    A frame whose CRC is right and whose number is the expected one waits for its execution. One of
    the ``WINDOW`` numbers before is a duplicate: told, not executed. Another number, and any until
    a HELLO has opened a session, is answered by a NAK, once per gap; so is every frame that is bad
    or finds no room. HELLO has no number and does not wait. Verdicts come two cycles after the
    delimiter. A byte per cycle from the line, no back-pressure there; a byte every two cycles to
    ``body``, with back-pressure.
    Reset: nothing waits, number 0 is expected, session 0.

    Members
    -------
    byte: :func:`~stmoe.boards.uart.received`.
    request: the oldest request that waits, held until ``done``, which drops what is left of it.
    body: its payload, from the first byte on.
    expected: the next request's number. session: of the last HELLO that brought one.
    hello, nak, bad: pulses: a HELLO to answer, a NAK to send, a frame was bad.
    duplicate: a pulse and the number.
    """

    def __init__(self):
        super().__init__({
            "byte": In(received()),
            "request": Out(data.StructLayout({"valid": 1, "header": header()})), "done": In(1),
            "body": Out(stream.Signature(8)), "expected": Out(8), "session": Out(32),
            "hello": Out(1), "nak": Out(1), "bad": Out(1),
            "duplicate": Out(data.StructLayout({"valid": 1, "sequence": 8}))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.decoder = decoder = CobsDecoder()
        m.submodules.ring = ring = memory.Memory(shape=8, depth=BUFFER_BYTES, init=[])
        m.submodules.waiting = waiting = fifo.SyncFIFO(width=header().size, depth=WINDOW)
        write, read = ring.write_port(), ring.read_port()
        m.d.comb += decoder.byte.eq(self.byte)
        frame = decoder.frame

        # The frame that arrives lies behind those that wait, its CRC included.
        tail, head = Signal(LENGTH), Signal(LENGTH)
        count, crc = Signal(LENGTH), Signal(32, init=START)
        sequence, opcode, nonce = Signal(8), Signal(8), Signal(32)
        overflow, used = Signal(), Signal(LENGTH)
        m.d.comb += [
            used.eq(tail - head + count - 2), write.data.eq(frame.data),
            write.addr.eq(tail + count - 2)]
        with m.If(frame.valid & ~frame.end):
            m.d.sync += [count.eq(count + 1), crc.eq(crc_step(crc, frame.data))]
            with m.If(count == 0):
                m.d.sync += sequence.eq(frame.data)
            with m.Elif(count == 1):
                m.d.sync += opcode.eq(frame.data)
            with m.Elif((used >= BUFFER_BYTES) | overflow):
                m.d.sync += [overflow.eq(1), count.eq(count)]
            with m.Else():
                m.d.comb += write.en.eq(1)
            with m.If(count < 6):
                m.d.sync += nonce.eq(Cat(nonce[8:], frame.data))

        good, ahead, again, opened = Signal(), Signal(8), Signal(), Signal()
        said = Signal()  # a NAK of this gap
        entry = Signal(header())
        m.d.comb += [
            opened.eq(self.session != 0),
            good.eq(frame.good & (crc == GOOD_CRC) & (count >= 2 + CRC_BYTES) & ~overflow),
            ahead.eq(sequence - self.expected), again.eq(ahead >= 256 - WINDOW),
            entry.sequence.eq(sequence), entry.opcode.eq(opcode),
            entry.length.eq(count - 2 - CRC_BYTES), waiting.w_data.eq(entry)]
        m.d.sync += [self.hello.eq(0), self.nak.eq(0), self.bad.eq(0), self.duplicate.valid.eq(0)]
        with m.If(frame.valid & frame.end):
            m.d.sync += [count.eq(0), crc.eq(START), overflow.eq(0),
                         self.duplicate.sequence.eq(sequence)]
            with m.If(~good):
                m.d.sync += [self.bad.eq(1), self.nak.eq(1), said.eq(1)]
            with m.Elif(opcode == Opcode.HELLO):
                m.d.sync += self.hello.eq(1)
                with m.If((count == 10) & (nonce != 0)):
                    m.d.sync += self.session.eq(nonce)
            with m.Elif(again & opened):
                m.d.sync += self.duplicate.valid.eq(1)
            with m.Elif((ahead == 0) & opened & waiting.w_rdy):
                m.d.comb += waiting.w_en.eq(1)
                m.d.sync += [tail.eq(tail + entry.length), said.eq(0),
                             self.expected.eq(self.expected + 1)]
            with m.Else():
                m.d.sync += [self.nak.eq(~said), said.eq(1)]

        index, fetched = Signal(LENGTH), Signal()
        current = self.request.header
        m.d.comb += [
            current.eq(waiting.r_data), self.request.valid.eq(waiting.r_rdy),
            waiting.r_en.eq(self.done), read.en.eq(0),
            read.addr.eq(head + index), self.body.payload.eq(read.data),
            self.body.valid.eq(fetched)]
        with m.If(self.done):
            m.d.sync += [head.eq(head + current.length), index.eq(0), fetched.eq(0)]
        with m.Elif(fetched):
            m.d.sync += fetched.eq(~self.body.ready)
        with m.Elif(waiting.r_rdy & (index != current.length)):
            m.d.comb += read.en.eq(1)
            m.d.sync += [fetched.eq(1), index.eq(index + 1)]
        return m
