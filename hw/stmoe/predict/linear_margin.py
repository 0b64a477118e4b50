"""Look-ahead logits as a term of the score, and the gain that weighs them."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory, MemoryData
from amaranth.lib.wiring import In, Out

from ..compute.requantise import saturated
from ..router.ahead import ahead_logit
from ..router.select import TopK
from .linear_shape import LinearShape

__all__ = ["AheadMargin"]

MARGIN_BITS, GAIN_BITS, LOGIT_BITS, PRODUCT_BITS = 10, 12, 16, 22


class AheadMargin(wiring.Component):
    """Margins of the logits, their terms, and learning of the gains, as ``Combined`` defines them.

    Latency: with G = experts / lanes groups, rounded up, terms are put out from the third cycle
    after ``start`` on, a group a cycle; ``active`` for G + 3 cycles. A gain is moved within 5
    cycles after the last errors. Throughput: a logit a cycle. Back-pressure: ``ahead`` waits while
    not ``waiting``. Reset: no logits. Gains start from the options' where the technology
    initialises memory.

    Parameters
    ----------
    shape: LinearShape, with look-ahead. lanes: experts per cycle, a power of two.

    Members
    -------
    begin, due: pulse, a layer's logits come next, if ``due``; those before are for learning then.
    ahead: a logit per expert in use, in any order. waiting: the last one was not taken yet.
    experts: in use, stable meanwhile.
    start, layer: pulse, puts out the terms of ``layer``, which is stable while ``active``.
    term: terms of the experts from ``group`` * lanes on, in units of 2**-fraction.
    learn, learn_layer: the errors are about this layer and the logits before; stable meanwhile,
        and not while terms are put out.
    error_next, error_group: a cycle ahead of ``errors``, one per lane.
    error_done: pulse, with or behind the last errors: the gain may be moved.
    ``gains`` is the memory's contents, for simulation.
    """

    def __init__(self, shape: LinearShape, lanes: int = 4):
        self.shape, self.lanes = shape, lanes
        self.groups = -(-shape.experts // lanes)
        self.gains = MemoryData(shape=GAIN_BITS, depth=max(2, shape.layers),
                                init=[shape.options.gain] * shape.layers)
        layer = shape.geometry.layer_bits
        super().__init__({
            "begin": In(1), "due": In(1), "waiting": Out(1), "experts": In(10),
            "ahead": In(stream.Signature(ahead_logit(shape.geometry))),
            "start": In(1), "layer": In(layer), "active": Out(1), "term": Out(shape.term(lanes)),
            "learn": In(1), "learn_layer": In(layer), "error_next": In(1),
            "error_group": In(range(max(2, self.groups))),
            "errors": In(data.ArrayLayout(signed(11), lanes)), "error_done": In(1)})

    def elaborate(self, platform):
        m = Module()
        shape, lanes, groups = self.shape, self.lanes, self.groups
        group_bits = max(1, (groups - 1).bit_length())
        lane_bits = (lanes - 1).bit_length()

        m.submodules.logits = logits = Memory(
            shape=data.ArrayLayout(signed(LOGIT_BITS), lanes), depth=2 << group_bits, init=[])
        write, read = logits.write_port(granularity=1), logits.read_port()
        m.submodules.top = top = TopK(shape.top_k, 1, LOGIT_BITS)
        least, bank, before = top.best[-1].value, Signal(), Signal(signed(LOGIT_BITS))
        taken, beat = Signal(), self.ahead.payload
        m.d.comb += [
            self.ahead.ready.eq(self.waiting), taken.eq(self.ahead.valid & self.waiting),
            top.clear.eq(self.begin), top.valid.eq(taken), top.value.eq(beat.logit),
            write.en.eq(Mux(taken, 1 << beat.expert[:lane_bits] if lane_bits else 1, 0)),
            write.addr.eq(Cat((beat.expert >> lane_bits)[:group_bits], bank)),
            *(write.data[lane].eq(beat.logit) for lane in range(lanes))]
        with m.If(self.begin):
            m.d.sync += [self.waiting.eq(self.due), bank.eq(~bank), before.eq(least)]
        with m.Elif(taken & beat.last):
            m.d.sync += self.waiting.eq(0)

        # A group goes through: read, margins, products, terms or sum.
        running, group = Signal(), Signal(group_bits)
        with m.If(running):
            m.d.sync += group.eq(group + 1)
            with m.If(group == groups - 1):
                m.d.sync += running.eq(0)
        with m.If(self.start):
            m.d.sync += [running.eq(1), group.eq(0)]
        stages, learns = Signal(3), Signal(3)
        of = [Signal(group_bits, name=f"of{stage}") for stage in range(3)]
        m.d.comb += [read.en.eq(1), read.addr.eq(Mux(self.error_next, Cat(self.error_group, ~bank),
                                                     Cat(group, bank)))]
        m.d.sync += [stages.eq(Cat(running, stages)),
                     learns.eq(Cat(self.error_next & self.learn, learns)),
                     Cat(*of).eq(Cat(read.addr[:group_bits], *of))]
        m.d.comb += [self.active.eq(running | stages.any()), self.term.valid.eq(stages[2]),
                     self.term.group.eq(of[2])]

        m.submodules.gain = gains = Memory(self.gains)
        gain, moved = gains.read_port(), gains.write_port()
        m.d.comb += [gain.en.eq(1), gain.addr.eq(Mux(self.learn, self.learn_layer, self.layer)),
                     moved.addr.eq(self.learn_layer)]
        products = []
        down = GAIN_BITS - shape.options.fraction
        for lane in range(lanes):
            difference = Signal(signed(LOGIT_BITS + 1), name=f"difference{lane}")
            margin = Signal(signed(MARGIN_BITS), name=f"margin{lane}")
            factor = Signal(signed(GAIN_BITS + 1), name=f"factor{lane}")
            product = Signal(signed(PRODUCT_BITS), name=f"product{lane}")
            m.d.comb += difference.eq(read.data[lane] - Mux(learns[0], before, least))
            clipped = saturated(m, difference, MARGIN_BITS, f"clipped{lane}")
            used = (of[0] * lanes + lane) < self.experts
            m.d.sync += [
                margin.eq(Mux(used, clipped, 0)), product.eq(factor * margin),
                factor.eq(Mux(learns[0], self.errors[lane], gain.data))]
            m.d.comb += self.term.values[lane].eq((product + (1 << down >> 1)) >> down)
            products.append(product)
        total = Signal(signed(PRODUCT_BITS + shape.experts.bit_length()))
        with m.If(learns[2]):
            m.d.sync += total.eq(total + sum(products))

        done = Signal(4)
        shift = shape.options.gain_shift
        after = Signal(signed(len(total) + 1))
        m.d.sync += done.eq(Cat(self.error_done & self.learn, done))
        m.d.comb += [
            after.eq(gain.data + ((total + (1 << shift >> 1)) >> shift)),
            moved.data.eq(Mux(after < 0, 0, Mux(after >= 1 << GAIN_BITS, (1 << GAIN_BITS) - 1,
                                                after))),
            moved.en.eq(done[3])]
        with m.If(done[3]):
            m.d.sync += total.eq(0)
        return m
