"""Processing element: the SwiGLU of one expert after the other, on one activation."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry
from ..interfaces import GATE_ONE, BufferReadSignature
from ..sharing import share
from .dot import DotProducts
from .hidden import HiddenUnit
from .issue import IssueUnit
from .pipeline import delay
from .requantise import Requantiser
from .silu import SILU_BITS
from .unpack import FourBitWeights

__all__ = ["ACCUMULATOR_BITS", "ProcessingElement"]

ACCUMULATOR_BITS = 40
READ_LATENCY = BufferReadSignature.LATENCY


class ProcessingElement(wiring.Component):
    """``rows`` x ``lanes`` int8 multipliers around one weight word per cycle.

    A pipeline that never stalls: words enter it when :class:`IssueUnit` says. Gate and up rows are
    interleaved, so that a hidden value is requantised, looked up and multiplied as its rows end;
    the down projection takes the hidden words as they come, its partial sums in a RAM; outputs are
    weighted and summed over experts in another. Arithmetic: docs/number-formats.md.
    Back-pressure on ``release`` is honoured. Reset: idle, sums undefined until ``start``.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    x, x_index, x_valid: an activation word, written as it comes.
    activations: words received of this layer.
    start: pulse, a layer begins: the sums restart from zero. Only when idle and drained.
    work: experts (ready: see IssueUnit). idle: no expert in hand.
    release: slots whose last word has been read.
    read: port into the expert buffer.
    finished: pulse, an expert's last sum has been written.
    sum_index, sum_read, sums: output sums of a row group, one cycle after ``sum_read`` and until
        the next; zeros if no expert ran.
    member, x_token, sum_token: where a layer may have many tokens: the tokens that share an expert,
        written before it is in ``work``, whose ``gate`` is then a ``group_tag``; and the tokens of
        ``x`` and of ``sums``.
    asks, denied: see :class:`IssueUnit`; only where groups are split.
    passed: how far the expert in hand has been read; only where experts stream through.
    issued, side_read: a weight word is multiplied, a parameter row is read in this cycle.
    waiting: the next word has not landed.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        super().__init__({
            "x": In(8 * g.config.lanes), "x_index": In(16), "x_valid": In(1),
            "activations": In(16), "start": In(1),
            "work": In(stream.Signature(interfaces.part(g))), "idle": Out(1),
            "release": Out(stream.Signature(data.StructLayout({"slot": unsigned(g.slot_bits)}))),
            "shape": In(interfaces.shape_layout(g)), "read": Out(BufferReadSignature(g)),
            "finished": Out(1), "sum_index": In(16), "sum_read": In(1),
            "sums": Out(ACCUMULATOR_BITS * g.config.rows),
            "issued": Out(1), "side_read": Out(1), "waiting": Out(1)} | (
            {} if not g.token_bits else {
                "member": In(interfaces.member(g)), "x_token": In(g.token_bits),
                "sum_token": In(g.token_bits)}) | (
            {"asks": Out(1), "denied": In(1)} if g.doublings else {}) | (
            {"passed": Out(interfaces.passed(g))} if g.has_ring else {}))

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        many, dense = bool(g.token_bits), bool(g.config.dense_blobs)
        tokens = 1 << g.token_bits
        none = Const(0, 0)
        rows, lanes = g.config.rows, g.config.lanes
        m.submodules.issue = issue = IssueUnit(g)
        m.submodules.hidden = hidden = HiddenUnit(g)
        m.submodules.dot = dot = DotProducts(rows, lanes, holds=many)
        wiring.connect(m, wiring.flipped(self.work), issue.work)
        m.d.comb += [
            issue.shape.eq(self.shape), issue.activations.eq(self.activations),
            issue.hidden.eq(hidden.hidden), issue.watermark.eq(self.read.watermark),
            issue.watermark_next.eq(self.read.watermark_next),
            self.read.watch.eq(issue.watch), self.read.watch_next.eq(issue.watch_next),
            self.idle.eq(issue.idle), self.waiting.eq(issue.waiting), self.issued.eq(issue.go),
            self.read.en.eq(issue.go & issue.fetch if many else issue.go),
            self.read.slot.eq(issue.slot),
            self.read.word.eq(issue.word)]
        if g.doublings:
            m.d.comb += [self.asks.eq(issue.asks), issue.denied.eq(self.denied)]
        if g.has_ring:
            m.d.comb += [self.passed.valid.eq(~issue.idle), self.passed.slot.eq(issue.slot),
                         self.passed.beats.eq(issue.need)]

        # What goes along with a word, and the stages at which it is needed (cycles after issue).
        step = Signal(data.StructLayout({
            "valid": 1, "down": 1, "first": 1, "last": 1, "begin": 1, "end": 1, "group": 16,
            "gate": 16, "slot": g.slot_bits, "fresh": 1} | ({} if not many else {
                "place": g.token_bits, "fetch": 1, "whole": 1, "final": 1}) | (
                    {"matrix": 1} if dense else {})))
        fresh = Signal()  # the first expert of the layer on this PE
        m.d.comb += [step.valid.eq(issue.go), step.fresh.eq(fresh),
                     *(step[name].eq(getattr(issue, name)) for name in
                       ("down", "first", "last", "begin", "end", "group", "gate", "slot")
                       + ("place", "fetch", "whole", "final") * many + ("matrix",) * dense)]
        with m.If(self.start):
            m.d.sync += fresh.eq(1)
        with m.Elif(issue.go & issue.end):
            m.d.sync += fresh.eq(0)
        landed = READ_LATENCY  # int8 weights are there
        weights = self.read.data
        if g.config.weight_group:
            m.submodules.unpack = unpack = FourBitWeights(rows, lanes)
            m.d.comb += [self.read.group.eq(issue.scales), unpack.codes.eq(self.read.data),
                         unpack.scales.eq(self.read.scales)]
            landed, weights = landed + unpack.LATENCY, unpack.weights
        summed = landed + dot.latency  # dot products out
        total_at = summed + 1  # accumulated
        scaled_at = total_at + Requantiser.LATENCY
        stages = [step]
        for cycle in range(1, scaled_at + 2):
            later = Signal(step.shape(), name=f"step_{cycle}")
            m.d.sync += later.eq(stages[-1])
            stages.append(later)

        def place(at):
            return stages[at].place if many else none

        # Whose turn it is: known a cycle after issue, ``owners[0]``.
        owners = self._owners(m, issue, scaled_at + 1) if many else []

        # Operands.
        m.submodules.x_store = x_store = memory.Memory(
            shape=8 * lanes, depth=g.in_words * tokens, init=[])
        x_write, x_read = x_store.write_port(), x_store.read_port()
        index = x_index = delay(m, issue.index, READ_LATENCY - 1, "index")
        down = stages[READ_LATENCY].down  # the operand is a hidden word
        if dense:
            x_index = delay(m, Mux(issue.matrix, issue.x_index, issue.index), READ_LATENCY - 1,
                            "x_index")
            down = down & ~stages[READ_LATENCY].matrix
        m.d.sync += [  # a word is read three cycles after it came, at the earliest
            x_write.en.eq(self.x_valid), x_write.data.eq(self.x),
            x_write.addr.eq(Cat(self.x_token if many else none, self.x_index))]
        m.d.comb += [
            x_read.addr.eq(Cat(owners[1].token if many else none, x_index)), x_read.en.eq(1),
            hidden.index.eq(index), dot.weights.eq(weights),
            dot.operand.eq(delay(m, Mux(down, hidden.word, x_read.data),
                                 landed - READ_LATENCY, "operand"))]

        if many:
            m.d.comb += [hidden.index_place.eq(place(READ_LATENCY - 1)),
                         dot.fetch.eq(stages[landed].valid & stages[landed].fetch)]

        # Accumulation.
        now = stages[summed]
        m.submodules.partial = partial = memory.Memory(
            shape=32 * rows, depth=g.out_groups * tokens, init=[])
        partial_write, partial_read = partial.write_port(), partial.read_port()
        totals = [Signal(signed(32), name=f"total_{row}") for row in range(rows)]
        m.d.comb += [
            partial_read.addr.eq(Cat(place(summed - 1), stages[summed - 1].group)),
            partial_read.en.eq(1), partial_write.data.eq(Cat(*totals)),
            partial_write.addr.eq(Cat(place(total_at), stages[total_at].group)),
            partial_write.en.eq(stages[total_at].valid & stages[total_at].down)]
        before = totals  # of the present token's gate/up group
        if many:
            m.submodules.running = running = memory.Memory(shape=data.ArrayLayout(
                signed(32), rows), depth=tokens, init=[])
            running_read, running_write = running.read_port(domain="comb"), running.write_port()
            m.d.comb += [running_read.addr.eq(now.place), running_write.addr.eq(now.place),
                         running_write.en.eq(now.valid)]
            before = [running_read.data[row] for row in range(rows)]
        for row, total in enumerate(totals):
            base = Signal(signed(32), name=f"base_{row}")
            part = sum(dot.parts_of(row))
            stored = partial_read.data[32 * row:32 * row + 32].as_signed()
            m.d.comb += base.eq(Mux(now.first, 0, Mux(now.down, stored, before[row])))
            if many:
                m.d.comb += running_write.data[row].eq(base + part)
            with m.If(now.valid):
                m.d.sync += total.eq(base + part)

        # Requantisation, parameters read so that they meet the sums.
        asking, now = stages[total_at - READ_LATENCY], stages[total_at]
        entry = data.StructLayout({"mult": 16, "shift": 6, "_": 10})
        params = Signal(data.ArrayLayout(entry, rows))
        scales = Signal(entry)  # of the hidden values
        m.d.comb += [
            self.read.param_slot.eq(asking.slot),
            self.read.param_en.eq(asking.valid & (asking.last | asking.begin)),
            self.read.row.eq(Mux(asking.begin, 0, asking.group + 1
                                 + Mux(asking.down, self.shape.gu_groups, 0))),
            self.side_read.eq(self.read.param_en), params.eq(self.read.params)]
        with m.If(now.valid & now.begin):
            m.d.sync += scales.eq(params[0])
        values = []
        for row, total in enumerate(totals):
            unit = share(m, f"requant_{row}", platform, Requantiser, 16,
                         0 if row % 2 else SILU_BITS)
            m.d.comb += [unit.acc.eq(total), unit.mult.eq(params[row].mult),
                         unit.shift.eq(params[row].shift), unit.clip.eq(~now.down)]
            values.append(unit.result)
        now = stages[scaled_at]
        m.d.comb += [
            hidden.values.eq(Cat(*values)), hidden.group.eq(now.group),
            hidden.valid.eq(now.valid & now.last & ~now.down),
            hidden.mult.eq(scales.mult), hidden.shift.eq(scales.shift),
            hidden.clear.eq(issue.go & issue.begin)]
        if many:
            m.d.comb += [hidden.place.eq(now.place), hidden.whole.eq(now.whole)]

        # Weighted sum over experts.
        m.submodules.output = output = memory.Memory(
            shape=ACCUMULATOR_BITS * rows, depth=g.out_groups * tokens, init=[])
        write, read = output.write_port(), output.read_port()
        adding = now.valid & now.down & now.last
        m.d.comb += [read.en.eq(adding | self.sum_read), read.addr.eq(Mux(
            adding, Cat(owners[scaled_at - 1].token if many else none, now.group),
            Cat(self.sum_token if many else none, self.sum_index)))]
        now = stages[scaled_at + 1]
        gate, first, ran = stages[scaled_at].gate, now.fresh, Signal()
        if many:  # of each token, whether no expert has come yet
            untouched = Signal(tokens)
            owner, gate = owners[scaled_at], owners[scaled_at - 1].gate
            first = untouched.bit_select(owner.token, 1)
            with m.If(self.start):
                m.d.sync += untouched.eq((1 << tokens) - 1)
            with m.Elif(now.valid & now.final):
                m.d.sync += untouched.bit_select(owner.token, 1).eq(0)
            asked = Signal.like(self.sum_token, name="sum_token_1")
            with m.If(self.sum_read):
                m.d.sync += asked.eq(self.sum_token)
            m.d.comb += ran.eq(~untouched.bit_select(asked, 1))
        sums = []
        for row, value in enumerate(values):
            weighted = Signal(signed(33), name=f"weighted_{row}")
            m.d.sync += weighted.eq(value * gate)
            so_far = read.data.word_select(row, ACCUMULATOR_BITS).as_signed()
            total = Signal(signed(ACCUMULATOR_BITS), name=f"output_{row}")
            m.d.comb += total.eq(Mux(first, 0, so_far) + weighted)
            sums.append(total)
        if not many:
            with m.If(self.start):
                m.d.sync += ran.eq(0)
            with m.Elif(self.finished):
                m.d.sync += ran.eq(1)
        m.d.comb += [
            write.en.eq(now.valid & now.down & now.last),
            write.addr.eq(Cat(owners[scaled_at].token if many else none, now.group)),
            write.data.eq(Cat(*sums)), self.finished.eq(now.valid & now.end),
            self.sums.eq(Mux(ran, read.data, 0))]

        # A slot is released when nothing of it will be read any more.
        leaving = stages[total_at]
        releasing = Signal()  # from the issue of the last word to the hand-over of the slot
        m.d.comb += issue.hold.eq(releasing)
        with m.If(issue.go & issue.end):
            m.d.sync += releasing.eq(1)
        with m.If(leaving.valid & leaving.end):
            m.d.sync += [self.release.valid.eq(1), self.release.payload.slot.eq(leaving.slot)]
        with m.If(self.release.valid & self.release.ready):
            m.d.sync += [self.release.valid.eq(0), releasing.eq(0)]
        return m

    def _owners(self, m, issue, cycles):
        """Token and gate of what was issued 1, 2, ... ``cycles`` cycles ago."""
        g = self.geometry
        layout = data.StructLayout({"token": g.token_bits, "gate": 16})
        m.submodules.members = members = memory.Memory(
            shape=layout, depth=1 << g.expert_bits + g.token_bits, init=[])
        write, read = members.write_port(), members.read_port()
        member = issue.member if g.doublings else issue.place
        place = delay(m, member, 1, "owner_place")
        shared = issue.expert >= g.config.model.experts
        shared = delay(m, shared | issue.matrix if g.config.dense_blobs else shared, 1,
                       "owner_shared")
        owner = Signal(layout)
        m.d.comb += [
            write.en.eq(self.member.valid), write.data.token.eq(self.member.token),
            write.data.gate.eq(self.member.gate),
            write.addr.eq(Cat(self.member.place, self.member.expert)),
            read.en.eq(1), read.addr.eq(Cat(member, issue.expert)),
            owner.token.eq(Mux(shared, place, read.data.token)),
            owner.gate.eq(Mux(shared, GATE_ONE, read.data.gate))]
        owners = [owner]
        for cycle in range(2, cycles + 1):
            later = Signal(layout, name=f"owner_{cycle}")
            m.d.sync += later.eq(owners[-1])
            owners.append(later)
        return owners
