"""Executes the host's requests: registers, memory, the accelerator's streams."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.axil import axil_members
from ..config import Geometry
from .memory_port import BurstPort, MemorySignature
from .protocol import READ_BYTES, WRITE_BYTES, Opcode, Status
from .receive import header

__all__ = ["RequestExecutor"]

ARGUMENTS = {  # bytes of the payload before any data
    Opcode.REG_READ: 2, Opcode.REG_WRITE: 6, Opcode.MEM_READ: 10, Opcode.MEM_WRITE: 8,
    Opcode.COMMAND: 0, Opcode.ACTIVATIONS: 0, Opcode.RESULT: 2, Opcode.RESET: 0}
RESET_CYCLES = 16
TICK = 8  # log2 of the cycles that RESULT counts in


class RequestExecutor(wiring.Component):
    """One request after the other; each ends, unless AXI does not answer.

    Commands, activations and results pass through queues: words are taken if all of a request find
    room, else none is (BUSY), so that an accelerator that does not listen cannot stop the link. A
    payload byte per two cycles, a reply byte per cycle; 4 to 6 cycles beside. Back-pressure
    is honoured on every channel. RESET empties the queues and holds ``reset`` for 16 cycles. Reset:
    idle, queues empty.

    Parameters
    ----------
    geometry: Geometry. signature: of the memory port.

    Members
    -------
    request, body, done: of :class:`~stmoe.boards.receive.RequestReceiver`.
    sequence, opcode, begin, finish, status, put, free: of
        :class:`~stmoe.boards.respond.ReplySender`.
    axil: AXI4-Lite, manager side. axi: of expert memory.
    cmd, act, result: the accelerator's streams.
    reset: for all but the link.
    """

    def __init__(self, geometry: Geometry, signature: MemorySignature):
        c = geometry.config
        self.geometry, self.port = geometry, signature
        self.result_bits = 16 * c.rows
        self.reply_beats = READ_BYTES // (2 * c.rows)  # most of a result in a reply
        super().__init__({
            "request": In(data.StructLayout({"valid": 1, "header": header()})),
            "body": In(stream.Signature(8)), "done": Out(1),
            "sequence": Out(8), "opcode": Out(8), "begin": Out(1), "finish": Out(1),
            "status": Out(8), "put": Out(data.StructLayout({"valid": 1, "data": 8})),
            "free": In(1),
            "axil": In(wiring.Signature(axil_members())), "axi": Out(signature),
            "cmd": Out(stream.Signature(64)), "act": Out(stream.Signature(8 * c.lanes)),
            "result": In(stream.Signature(data.StructLayout(
                {"data": self.result_bits, "last": 1, "error": 1}))),
            "reset": Out(1)})

    def elaborate(self, platform):
        m = Module()
        c = self.geometry.config
        axi_bytes = self.port.data_bits // 8
        queues = ResetInserter(self.reset)
        cmd_queue = fifo.SyncFIFOBuffered(width=64, depth=WRITE_BYTES // 8)
        act_queue = fifo.SyncFIFOBuffered(width=8 * c.lanes, depth=WRITE_BYTES // c.lanes)
        res_queue = fifo.SyncFIFOBuffered(
            width=self.result_bits + 2, depth=max(self.reply_beats, self.geometry.out_groups))
        m.submodules.cmd_queue, m.submodules.act_queue = queues(cmd_queue), queues(act_queue)
        m.submodules.res_queue = queues(res_queue)
        m.submodules.burst = burst = queues(BurstPort(self.port))
        wiring.connect(m, wiring.flipped(self.axi), burst.axi)
        for queue, port in ((cmd_queue, self.cmd), (act_queue, self.act)):
            m.d.comb += [port.payload.eq(queue.r_data), port.valid.eq(queue.r_rdy),
                         queue.r_en.eq(port.ready)]
        result, axil = self.result, self.axil
        beat = Signal(result.payload.shape())
        packets = Signal(range(res_queue.depth + 2))  # whole ones in the queue
        m.d.comb += [res_queue.w_data.eq(result.payload), res_queue.w_en.eq(result.valid),
                     result.ready.eq(res_queue.w_rdy), beat.eq(res_queue.r_data)]
        m.d.sync += packets.eq(Mux(
            self.reset, 0, packets + (result.valid & result.ready & result.payload.last)
            - (res_queue.r_en & res_queue.r_rdy & beat.last)))

        head = self.request.header
        carriers = {Opcode.MEM_WRITE: axi_bytes, Opcode.COMMAND: 8,
                    Opcode.ACTIVATIONS: c.lanes}  # requests with data: bytes of a word
        opcode, status = Signal.like(head.opcode), self.status  # of the request that was begun
        argument, taken = Signal(80), Signal(4)
        bytes_, need = Signal(4), Signal(4)  # of arguments, of what waits and what was begun
        unit, width = Signal(8), Signal(8)  # bytes of a word of data, likewise
        left = Signal(11)  # data bytes of the payload
        word, filled = Signal(max(self.port.data_bits, 64, 8 * c.lanes)), Signal(8)
        out, out_left = Signal(max(self.port.data_bits, self.result_bits, 32)), Signal(8)
        count, timer = Signal(range(self.reply_beats + 1)), Signal(16 + TICK)
        address, size = argument[:64], argument[64:]
        aw_sent, w_sent = Signal(), Signal()

        m.d.comb += [self.sequence.eq(head.sequence), self.opcode.eq(head.opcode), unit.eq(1)]
        with m.Switch(head.opcode):
            for code, number in ARGUMENTS.items():
                with m.Case(code):
                    m.d.comb += bytes_.eq(number)
                    if code in carriers:
                        m.d.comb += unit.eq(carriers[code])
        carries = Cat(head.opcode == code for code in carriers).any()
        known = (head.opcode >= Opcode.REG_READ) & (head.opcode <= Opcode.RESET)
        data_bytes = head.length - bytes_
        fits = Mux(carries, (head.length > bytes_) & (data_bytes <= WRITE_BYTES)
                   & ((data_bytes[:7] & (unit - 1)) == 0), head.length == bytes_)
        in_range = ((address[self.port.addr_bits:] == 0)
                    & (address[:axi_bytes.bit_length() - 1] == 0))
        readable = ((size != 0) & (size <= READ_BYTES) & (size[:axi_bytes.bit_length() - 1] == 0))

        m.d.comb += [
            axil.awaddr.eq(address[:12]), axil.araddr.eq(address[:12]), axil.wstrb.eq(0xF),
            axil.wdata.eq(argument[16:48]),
            burst.address.eq(address[:self.port.addr_bits]),
            burst.writes.eq(opcode == Opcode.MEM_WRITE),
            burst.beats.eq(
                Mux(opcode == Opcode.MEM_WRITE, left, size) >> axi_bytes.bit_length() - 1),
            burst.write.payload.eq(word), cmd_queue.w_data.eq(word), act_queue.w_data.eq(word),
            self.put.data.eq(out[:8])]

        def end(code):
            m.d.sync += status.eq(code)
            m.next = "FINISH"

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [taken.eq(0), filled.eq(0), aw_sent.eq(0), w_sent.eq(0), count.eq(0),
                             opcode.eq(head.opcode), need.eq(bytes_), width.eq(unit)]
                with m.If(self.request.valid & self.free):
                    m.d.comb += self.begin.eq(1)
                    m.d.sync += left.eq(data_bytes)
                    m.next = "ARGUMENTS"
                    with m.If(~(known & fits)):
                        end(Status.MALFORMED)
            with m.State("ARGUMENTS"):
                m.d.sync += timer.eq(argument[:16] << TICK)
                with m.If(taken == need):
                    with m.Switch(opcode):
                        for code, state in (
                                (Opcode.REG_READ, "READ-ADDRESS"), (Opcode.REG_WRITE, "WRITE"),
                                (Opcode.RESULT, "AWAIT"), (Opcode.RESET, "RESET")):
                            with m.Case(code):
                                m.next = state
                        with m.Case(Opcode.MEM_READ, Opcode.MEM_WRITE):
                            with m.If(in_range & (readable | (opcode == Opcode.MEM_WRITE))):
                                m.d.comb += burst.start.eq(1)
                                m.next = "BEAT"
                                with m.If(opcode == Opcode.MEM_WRITE):
                                    m.next = "FILL"
                            with m.Else():
                                end(Status.MALFORMED)
                        for code, queue in ((Opcode.COMMAND, cmd_queue),
                                            (Opcode.ACTIVATIONS, act_queue)):
                            with m.Case(code):
                                m.next = "FILL"
                                words = left >> (queue.width // 8).bit_length() - 1
                                with m.If(queue.w_level + words > queue.depth):
                                    end(Status.BUSY)
                with m.Else():
                    m.d.comb += self.body.ready.eq(1)
                    with m.If(self.body.valid):
                        m.d.sync += [argument.word_select(taken, 8).eq(self.body.payload),
                                     taken.eq(taken + 1)]

            # Registers.
            with m.State("READ-ADDRESS"):
                m.d.comb += axil.arvalid.eq(1)
                with m.If(axil.arready):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += axil.rready.eq(1)
                with m.If(axil.rvalid):
                    m.d.sync += [out.eq(axil.rdata), out_left.eq(4),
                                 status.eq(Mux(axil.rresp != 0, Status.BUS, Status.OK))]
                    m.next = "PUT"
            with m.State("WRITE"):
                m.d.comb += [axil.awvalid.eq(~aw_sent), axil.wvalid.eq(~w_sent),
                             axil.bready.eq(1)]
                m.d.sync += [aw_sent.eq(aw_sent | axil.awready), w_sent.eq(w_sent | axil.wready)]
                with m.If(axil.bvalid):
                    end(Mux(axil.bresp != 0, Status.BUS, Status.OK))

            # Words of the payload.
            with m.State("FILL"):
                m.d.comb += self.body.ready.eq(1)
                with m.If(self.body.valid):
                    for code, width_bytes in carriers.items():
                        with m.If(opcode == code):
                            m.d.sync += word.eq(Cat(word[8:8 * width_bytes], self.body.payload))
                    m.d.sync += [filled.eq(filled + 1), left.eq(left - 1)]
                    with m.If(filled == width - 1):
                        m.next = "PUSH"
            with m.State("PUSH"):
                m.d.comb += [burst.write.valid.eq(opcode == Opcode.MEM_WRITE),
                             cmd_queue.w_en.eq(opcode == Opcode.COMMAND),
                             act_queue.w_en.eq(opcode == Opcode.ACTIVATIONS)]
                m.d.sync += filled.eq(0)
                with m.If((opcode != Opcode.MEM_WRITE) | burst.write.ready):
                    m.next = "FILL"
                    with m.If(left == 0):
                        m.next = "WRITTEN"
            with m.State("WRITTEN"):
                with m.If(opcode != Opcode.MEM_WRITE):
                    end(Status.OK)
                with m.Elif(burst.done):
                    end(Mux(burst.failed, Status.BUS, Status.OK))

            # Bytes of the reply.
            with m.State("BEAT"):
                m.d.comb += burst.read.ready.eq(1)
                with m.If(burst.read.valid):
                    m.d.sync += [out.eq(burst.read.payload), out_left.eq(axi_bytes)]
                    m.next = "PUT"
                with m.Elif(burst.done):
                    end(Mux(burst.failed, Status.BUS, Status.OK))
            with m.State("PUT"):
                m.d.comb += self.put.valid.eq(1)
                m.d.sync += [out.eq(out >> 8), out_left.eq(out_left - 1)]
                with m.If(out_left == 1):
                    m.next = "FINISH"
                    with m.If(opcode == Opcode.MEM_READ):
                        m.next = "BEAT"
                    with m.If((opcode == Opcode.RESULT) & (status == Status.MORE)
                              & (count != self.reply_beats)):
                        m.next = "POP"
            with m.State("AWAIT"):
                m.d.sync += timer.eq(timer - 1)
                with m.If((packets != 0) | (res_queue.w_level >= self.reply_beats)):
                    m.next = "POP"
                with m.Elif(timer == 0):
                    end(Status.NOT_YET)
            with m.State("POP"):
                m.d.comb += res_queue.r_en.eq(1)
                with m.If(res_queue.r_rdy):
                    m.d.sync += [
                        out.eq(beat.data), out_left.eq(2 * c.rows), count.eq(count + 1),
                        status.eq(Mux(beat.last, Mux(beat.error, Status.FAILED, Status.OK),
                                      Status.MORE))]
                    m.next = "PUT"
            with m.State("RESET"):
                m.d.comb += self.reset.eq(1)
                m.d.sync += taken.eq(taken + 1)
                with m.If(taken == RESET_CYCLES - 1):
                    end(Status.OK)
            with m.State("FINISH"):
                m.d.comb += [self.finish.eq(1), self.done.eq(1)]
                m.next = "IDLE"
        return m
