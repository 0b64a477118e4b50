"""Router: gating network, top-k and gate values."""

from amaranth.hdl import Array, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..buffer.bank import BankMemory
from ..compute.dot import DotProducts
from ..compute.pipeline import delay
from ..config import Geometry
from .ahead import AheadLogits, ahead_logit, route_order
from .gate import Divider, GateScale
from .select import TopK

__all__ = ["MAX_ROWS", "Router"]

MAX_ROWS = 8  # experts whose logits are computed side by side, at most


class Router(wiring.Component):
    """Routes one token at a time: logits, the ``top_k`` largest (lower id first among equals),
    gates. Then, if asked, the logits of the next layer's gate on the same activations.

    Takes ``ceil(experts / rows) * in_words`` cycles for logits and about ``3 * top_k + 40`` more,
    ``experts`` more for a softmax over all. Looking ahead begins behind the last gate, or at once
    without ``route``, and takes as many cycles for logits and about ``rows + 12`` more.
    Back-pressure on ``gates`` and ``ahead`` is honoured; ``x`` is taken until a token is complete,
    and again once its last word was used; ``route`` when a token is complete and the one before is
    done. Reset: idle, weights undefined until loaded.

    Parameters
    ----------
    geometry: Geometry
    lookahead: whether it can look ahead; if not, the order to do so is not looked at.

    Members
    -------
    x: activations of a token, ``in_words`` words.
    load_start, load_layer, load: pulse with the layer, then its gate weights, generated
        ``experts * in_words`` words, expert by expert.
    route: see :func:`~.ahead.route_order`; the weights it is about must be loaded.
    gates: chosen experts in rank order, Q1.15.
    ahead: look-ahead logits in order of id, requantised to steps of 1/64, saturating at 16 bits.
    in_words, experts: run-time shape. mode: 0 softmax, 1 sigmoid. renormalise: gates sum to one.
    mult, shift: requantiser of logits to steps of 1/64.
    ahead_mult, ahead_shift: that of the next layer, looked at when ``route`` is taken.
    """

    def __init__(self, geometry: Geometry, *, lookahead: bool = False):
        g = self.geometry = geometry
        self.lookahead = lookahead
        self.rows = min(g.config.rows, MAX_ROWS)
        gate = data.StructLayout({"expert": g.expert_bits, "gate": 16, "last": 1})
        words = stream.Signature(8 * g.config.lanes)
        super().__init__({
            "x": In(words), "load": In(words), "load_start": In(1), "load_layer": In(g.layer_bits),
            "route": In(stream.Signature(route_order(g))), "gates": Out(stream.Signature(gate)),
            "ahead": Out(stream.Signature(ahead_logit(g))),
            "ahead_mult": In(16), "ahead_shift": In(6),
            "in_words": In(16), "experts": In(10), "mode": In(1), "renormalise": In(1),
            "mult": In(16), "shift": In(6)})

    def elaborate(self, platform):
        m = Module()
        g, rows = self.geometry, self.rows
        model, lanes = g.config.model, g.config.lanes
        groups = -(-model.experts // rows)
        block_words = groups * g.in_words
        blocks = g.config.router_layers
        m.submodules.weights = weights = BankMemory(
            8 * rows * lanes, blocks * block_words, 8 * lanes)
        m.submodules.x_store = x_store = memory.Memory(shape=8 * lanes, depth=g.in_words, init=[])
        m.submodules.logits = logits = memory.Memory(
            shape=data.ArrayLayout(signed(32), rows), depth=max(2, groups), init=[])
        m.submodules.top = top = TopK(model.top_k, g.expert_bits)
        bases = Array([block * block_words for block in range(blocks)])

        # Loading: words of an expert follow one another, experts of a group share addresses.
        load_base = Signal(range(blocks * block_words + 1))
        load_word, load_row = Signal(range(g.in_words)), Signal(range(rows))
        m.d.comb += [self.load.ready.eq(1), weights.write_data.eq(self.load.payload),
                     weights.write_addr.eq(load_base + load_word),
                     weights.write_en.eq(Mux(self.load.valid, 1 << load_row, 0))]
        with m.If(self.load_start):
            m.d.sync += [load_base.eq(bases[self.load_layer % blocks]), load_word.eq(0),
                         load_row.eq(0)]
        with m.Elif(self.load.valid):
            m.d.sync += load_word.eq(load_word + 1)
            with m.If(load_word == g.in_words - 1):
                m.d.sync += [load_word.eq(0), load_row.eq(load_row + 1)]
                with m.If(load_row == rows - 1):
                    m.d.sync += [load_row.eq(0), load_base.eq(load_base + g.in_words)]

        # Activations.
        received = Signal(16)
        x_write, x_read = x_store.write_port(), x_store.read_port()
        m.d.comb += [self.x.ready.eq(received != self.in_words), x_write.addr.eq(received),
                     x_write.data.eq(self.x.payload), x_write.en.eq(self.x.valid & self.x.ready)]
        with m.If(x_write.en):
            m.d.sync += received.eq(received + 1)

        # Logits: a word of every row per cycle.
        m.submodules.dot = dot = DotProducts(rows, lanes)
        base, word, group = Signal.like(load_base), Signal(16), Signal(range(groups + 1))
        issuing, last_word = Signal(), Signal()
        m.d.comb += [
            last_word.eq(word == self.in_words - 1),
            weights.read_en.eq(1), weights.read_addr.eq(base + word),
            x_read.addr.eq(word), x_read.en.eq(1),
            dot.weights.eq(weights.read_data), dot.operand.eq(x_read.data)]
        at = dot.latency + 1
        summed = delay(m, issuing, at, "issuing")
        begins = delay(m, word == 0, at, "begins")
        ends = delay(m, issuing & last_word, at + 1, "ends")
        sums = [Signal(signed(32), name=f"sum_{row}") for row in range(rows)]
        written = Signal(range(groups + 1))
        logit_write, logit_read = logits.write_port(), logits.read_port()
        m.d.comb += [logit_write.en.eq(ends), logit_write.addr.eq(written)]
        for row, total in enumerate(sums):
            with m.If(summed):
                m.d.sync += total.eq(Mux(begins, 0, total) + sum(dot.parts_of(row)))
            m.d.comb += logit_write.data[row].eq(total)
        with m.If(ends):
            m.d.sync += written.eq(written + 1)

        # Logits are looked at one by one: to rank them as they come, to sum over all of them.
        seen, row, line = Signal(10), Signal(range(rows)), Signal(range(groups + 1))
        step = Signal()
        read = delay(m, step, 1, "step")
        read_row = delay(m, row, 1, "row")
        read_id = delay(m, seen, 1, "seen")
        logit = logit_read.data[read_row]
        m.d.comb += [logit_read.addr.eq(line), logit_read.en.eq(1)]
        with m.If(step):
            m.d.sync += [seen.eq(seen + 1), row.eq(row + 1)]
            with m.If(row == rows - 1):
                m.d.sync += [row.eq(0), line.eq(line + 1)]
        m.d.comb += [top.value.eq(logit), top.id.eq(read_id)]

        # Scales, their sum, quotients.
        m.submodules.scale = scale = GateScale()
        sum_bits = 16 + (model.experts - 1).bit_length()
        m.submodules.divide = divide = Divider(sum_bits)
        total = Signal(sum_bits)
        rank = Signal(range(model.top_k + 1))
        ranked, summing = Signal(), Signal()  # a value of rank ``rank``, or of all, goes in
        whole = ~self.renormalise & (self.mode == 0)
        looking, ahead_base = Signal(), Signal.like(base)
        if self.lookahead:
            m.submodules.ahead = queue = AheadLogits(g)
            wiring.connect(m, queue.ahead, wiring.flipped(self.ahead))
            m.d.comb += [
                queue.begin.eq(self.route.valid & self.route.ready),
                queue.mult.eq(self.ahead_mult), queue.shift.eq(self.ahead_shift),
                queue.value.eq(logit), queue.expert.eq(read_id),
                queue.last.eq(seen == self.experts - 1)]

        def compute(start):
            m.d.sync += [base.eq(start), word.eq(0), group.eq(0), written.eq(0), seen.eq(0),
                         row.eq(0), line.eq(0)]

        def done():
            m.next = "IDLE"
            with m.If(~looking):
                m.d.sync += received.eq(0)
            if self.lookahead:
                with m.Else():
                    compute(ahead_base)
                    m.next = "AHEAD"

        value = Mux(ranked, Array(entry.value for entry in top.best)[rank], logit)
        m.d.comb += [
            scale.value.eq(Mux(self.mode, value, top.best[0].value - value)),
            scale.sigmoid.eq(self.mode), scale.mult.eq(self.mult), scale.shift.eq(self.shift)]
        out_ranked = delay(m, ranked, GateScale.LATENCY, "ranked")
        out_summing = delay(m, summing, GateScale.LATENCY, "summing")
        out_rank = delay(m, rank, GateScale.LATENCY, "rank")
        scales = Signal(data.ArrayLayout(unsigned(16), model.top_k))
        with m.If(out_summing):
            m.d.sync += total.eq(total + scale.scale)
        with m.If(out_ranked):
            m.d.sync += scales[out_rank].eq(scale.scale)
        dividing = Signal()
        m.d.comb += [divide.part.eq(scales[rank]), divide.whole.eq(total)]
        out_dividing = delay(m, dividing, Divider.LATENCY, "dividing")
        quotient_rank = delay(m, rank, Divider.LATENCY, "quotient_rank")
        with m.If(out_dividing):
            m.d.sync += scales[quotient_rank].eq(divide.quotient)
        flight = Signal(range(max(GateScale.LATENCY, Divider.LATENCY) + 2))
        m.d.sync += flight.eq(Mux(flight == 0, 0, flight - 1))

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.route.ready.eq(received == self.in_words)
                with m.If(self.route.valid & self.route.ready):
                    m.d.comb += top.clear.eq(1)
                    compute(bases[self.route.payload.layer % blocks])
                    m.d.sync += [rank.eq(0), total.eq(0),
                                 looking.eq(self.route.payload.ahead & self.lookahead),
                                 ahead_base.eq(bases[(self.route.payload.layer + 1) % blocks])]
                    m.next = "LOGITS"
                    with m.If(~self.route.payload.route):
                        m.next = "SKIP"
            with m.State("SKIP"):
                done()
            with m.State("LOGITS"):
                m.d.comb += [issuing.eq(group * rows < self.experts),
                             step.eq((line != written) & (seen != self.experts)),
                             top.valid.eq(read)]
                with m.If((seen == self.experts) & ~read):
                    m.d.sync += [seen.eq(0), row.eq(0), line.eq(0)]
                    m.next = "SCALE"
                    with m.If(whole):
                        m.next = "SUM"
            with m.State("SUM"):
                m.d.comb += [step.eq(seen != self.experts), summing.eq(read)]
                with m.If(~step & ~read):
                    m.next = "SCALE"
            with m.State("SCALE"):
                m.d.comb += [ranked.eq(1), summing.eq(~whole)]
                m.d.sync += rank.eq(rank + 1)
                with m.If(rank == model.top_k - 1):
                    m.d.sync += [flight.eq(GateScale.LATENCY + 1), rank.eq(0)]
                    m.next = "SCALED"
            with m.State("SCALED"):
                with m.If(flight == 0):
                    m.next = "DIVIDE"
                    with m.If(self.mode.bool() & ~self.renormalise):
                        m.next = "ANSWER"
            with m.State("DIVIDE"):
                m.d.comb += dividing.eq(1)
                m.d.sync += rank.eq(rank + 1)
                with m.If(rank == model.top_k - 1):
                    m.d.sync += [flight.eq(Divider.LATENCY + 1), rank.eq(0)]
                    m.next = "DIVIDED"
            with m.State("DIVIDED"):
                with m.If(flight == 0):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [
                    self.gates.valid.eq(1), self.gates.payload.gate.eq(scales[rank]),
                    self.gates.payload.expert.eq(Array(entry.id for entry in top.best)[rank]),
                    self.gates.payload.last.eq(rank == model.top_k - 1)]
                with m.If(self.gates.ready):
                    m.d.sync += rank.eq(rank + 1)
                    with m.If(self.gates.payload.last):
                        done()
            if self.lookahead:
                with m.State("AHEAD"):
                    m.d.comb += [
                        issuing.eq(group * rows < self.experts), step.eq(queue.valid),
                        queue.valid.eq((line != written) & (seen != self.experts) & queue.room)]
                    with m.If(issuing & last_word & ((group + 1) * rows >= self.experts)):
                        m.d.sync += received.eq(0)
                    with m.If((seen == self.experts) & queue.empty):
                        m.next = "IDLE"
        with m.If(issuing):
            m.d.sync += word.eq(word + 1)
            with m.If(last_word):
                m.d.sync += [word.eq(0), group.eq(group + 1), base.eq(base + g.in_words)]
        return m
