"""Replies: kept for as long as the host may ask for them again, and sent."""

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .cobs import CobsEncoder
from .protocol import READ_BYTES, REPLY, START, WINDOW, Opcode, crc_step

__all__ = ["ReplySender"]


class ReplySender(wiring.Component):
    """Holds the replies to the last ``WINDOW`` requests; sends each once, and again when asked.

    A reply is written into the slot of its number modulo ``WINDOW`` between ``begin`` and
    ``finish``; ``free`` tells whether that slot may be overwritten. Sent are, in this order, the
    answer to a HELLO, a NAK, replies slot after slot. A byte of a frame every two cycles, into the
    encoder. Back-pressure of ``byte`` is honoured; a HELLO or NAK asked for while one
    waits is the same one. Reset: no replies.

    Parameters
    ----------
    identity: bytes of the answer to a HELLO, values of 8 bits.

    Members
    -------
    sequence, opcode: of the request that is executed. begin, finish: pulses around it.
    put, status: a byte of the reply, and what ``finish`` makes its third byte.
    free: see above, of ``sequence``.
    duplicate: pulse and number: send that reply again, if it is there; else it will come.
    hello, nak: pulses. expected: number that goes with both.
    greet: an answer to a HELLO begins; from the next cycle to its end, ``identity`` must hold.
    byte: stream for the line. active: something is to be sent.
    """

    def __init__(self, identity: Sequence[Value]):
        self.identity = list(identity)
        super().__init__({
            "sequence": In(8), "opcode": In(8), "begin": In(1), "finish": In(1), "status": In(8),
            "put": In(data.StructLayout({"valid": 1, "data": 8})), "free": Out(1),
            "duplicate": In(data.StructLayout({"valid": 1, "sequence": 8})),
            "hello": In(1), "nak": In(1), "expected": In(8),
            "greet": Out(1), "byte": Out(stream.Signature(8)), "active": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = memory.Memory(shape=8, depth=WINDOW * READ_BYTES, init=[])
        m.submodules.encoder = encoder = CobsEncoder()
        write, read = store.write_port(), store.read_port()
        wiring.connect(m, wiring.flipped(self.byte), encoder.byte)
        slot_bits = (WINDOW - 1).bit_length()
        length = range(READ_BYTES + 1)

        slot = self.sequence[:slot_bits]
        kept = Array(Signal(data.StructLayout(
            {"there": 1, "sequence": 8, "opcode": 8, "status": 8,
             "length": length[-1].bit_length()}), name=f"kept_{i}") for i in range(WINDOW))
        pending, written = Signal(WINDOW), Signal(length)
        sending, current = Signal(), Signal(slot_bits)
        m.d.comb += [
            write.addr.eq(Cat(written[:(READ_BYTES - 1).bit_length()], slot)),
            write.data.eq(self.put.data), write.en.eq(self.put.valid),
            self.free.eq(~pending.bit_select(slot, 1) & ~(sending & (current == slot)))]
        with m.If(self.put.valid):
            m.d.sync += written.eq(written + 1)
        with m.If(self.begin):
            m.d.sync += [kept[slot].there.eq(0), written.eq(0)]
        with m.If(self.finish):
            m.d.sync += [
                kept[slot].there.eq(1), kept[slot].sequence.eq(self.sequence),
                kept[slot].opcode.eq(self.opcode), kept[slot].status.eq(self.status),
                kept[slot].length.eq(written + self.put.valid),
                pending.bit_select(slot, 1).eq(1)]
        asked = self.duplicate.sequence[:slot_bits]
        with m.If(self.duplicate.valid & kept[asked].there
                  & (kept[asked].sequence == self.duplicate.sequence)
                  & ~(self.begin & (asked == slot))):
            m.d.sync += pending.bit_select(asked, 1).eq(1)

        # Frame: number, opcode, status, data, CRC.
        hello, nak, greets, naks, working = (Signal() for _ in range(5))
        index, total = Signal(range(READ_BYTES + 8)), Signal(range(READ_BYTES + 8))
        number, crc, value = Signal(8), Signal(32, init=START), Signal(8)
        chosen = kept[current]
        body = Mux(greets, Array(self.identity)[(index - 3)[:8]], read.data)
        m.d.comb += [
            self.active.eq(hello | nak | pending.any() | working | encoder.active),
            read.addr.eq(Cat((index - 3)[:(READ_BYTES - 1).bit_length()], current)),
            value.eq(body), encoder.frame.payload.data.eq(value)]
        with m.Switch(index):
            with m.Case(0):
                m.d.comb += value.eq(number)
            with m.Case(1):
                m.d.comb += value.eq(REPLY | Mux(greets, Opcode.HELLO.value,
                                                 Mux(naks, Opcode.NAK.value, chosen.opcode)))
            with m.Case(2):
                m.d.comb += value.eq(Mux(greets | naks, 0, chosen.status))
        check = index >= total
        with m.If(check):
            m.d.comb += [encoder.frame.payload.data.eq(~crc[:8]),
                         encoder.frame.payload.last.eq(index == total + 3)]
        with m.FSM():
            with m.State("CHOOSE"):
                m.d.sync += [index.eq(0), crc.eq(START), greets.eq(hello), naks.eq(~hello & nak),
                             sending.eq(0)]
                with m.If(hello):
                    m.d.comb += self.greet.eq(1)
                    m.d.sync += [number.eq(self.expected), total.eq(3 + len(self.identity)),
                                 hello.eq(0)]
                    m.next = "FETCH"
                with m.Elif(nak):
                    m.d.sync += [number.eq(self.expected), total.eq(3), nak.eq(0)]
                    m.next = "FETCH"
                with m.Elif(pending.bit_select(current, 1)):
                    m.d.sync += [number.eq(chosen.sequence), total.eq(3 + chosen.length),
                                 pending.bit_select(current, 1).eq(0), sending.eq(1)]
                    m.next = "FETCH"
                with m.Else():
                    m.d.sync += current.eq(current + 1)
            with m.State("FETCH"):
                m.d.comb += working.eq(1)
                m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += [encoder.frame.valid.eq(1), working.eq(1)]
                with m.If(encoder.frame.ready):
                    m.d.sync += [index.eq(index + 1),
                                 crc.eq(Mux(check, crc >> 8, crc_step(crc, value)))]
                    with m.If(encoder.frame.payload.last):
                        m.next = "CHOOSE"
                    with m.Else():
                        m.next = "FETCH"
        with m.If(self.hello):
            m.d.sync += hello.eq(1)
        with m.If(self.nak):
            m.d.sync += nak.eq(1)
        return m
