"""What each expert's weights move by, from the score it was given and whether it was routed."""

import math

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .linear_score import sigmoid_index
from .linear_shape import ERROR_ONE, INDEX_BITS, LinearShape

__all__ = ["SIGMOID", "ErrorSteps"]

SIGMOID = [min(ERROR_ONE - 1, max(1, round(ERROR_ONE / (1 + math.exp(-(i - 127.5) / 16)))))
           for i in range(1 << INDEX_BITS)]


class ErrorSteps(wiring.Component):
    """Steps of the layer that was routed; beside it, keeps the scores of the layer predicted next.

    A pass of G = experts / lanes cycles, rounded up, per stage: group by group of ``lanes``
    experts, the kept score goes through the sigmoid to a step, and the present score takes its
    place, clipped to the 8 bits that the sigmoid looks at. ``active`` from the cycle after
    ``start`` for stages * G + 2 cycles, after which the steps are final. No back-pressure.
    Reset: idle.

    Parameters
    ----------
    shape: LinearShape
    lanes: experts per cycle; a sigmoid table (256 x 10 bits) each.

    Members
    -------
    start: pulse, begins a pass. Not while ``active``.
    routed: a bit per expert, looked at with ``start``.
    keep, scores, early: whether the scores are kept, and they, of the last stage, of the others as
        sigmoid indices; stable while ``active``.
    steps: by stage, its error, shifted by the rate and rounded; hold until the next ``start``.
    lexical_steps, previous_steps: first stage's, by the rates of rows by identity, of either kind;
        0 where there are none.
    error_next, error_group, errors: a group of the last stage comes in the next cycle, which, and
        in that next cycle the errors of its experts.
    """

    def __init__(self, shape: LinearShape, lanes: int = 4):
        self.shape, self.lanes = shape, lanes
        super().__init__({
            "start": In(1), "routed": In(shape.experts), "keep": In(1), "scores": In(shape.scores),
            "early": In(shape.early),
            "steps": Out(data.ArrayLayout(shape.steps(shape.shift), shape.stages)),
            "lexical_steps": Out(shape.steps(shape.lexical_shift)),
            "previous_steps": Out(shape.steps(shape.previous_shift)), "active": Out(1),
            "error_next": Out(1), "error_group": Out(range(max(2, -(-shape.experts // lanes)))),
            "errors": Out(data.ArrayLayout(signed(11), lanes))})

    def elaborate(self, platform):
        m = Module()
        shape, lanes = self.shape, self.lanes
        groups = -(-shape.experts // lanes)
        group_bits = max(1, (groups - 1).bit_length())
        m.submodules.kept = kept = Memory(shape=lanes * INDEX_BITS,
                                          depth=shape.stages << group_bits, init=[])
        read, write = kept.read_port(), kept.write_port()

        group, reading, looking, last = Signal(group_bits), Signal(), Signal(), Signal()
        stage, looked_stage, last_stage = (
            Signal(range(shape.stages), name=name) for name in ("stage", "looked_of", "last_of"))
        m.d.sync += [looking.eq(reading), last.eq(looking),
                     Cat(looked_stage, last_stage).eq(Cat(stage, looked_stage))]
        m.d.comb += [self.active.eq(reading | looking | last), read.addr.eq(Cat(group, stage)),
                     read.en.eq(reading)]
        with m.If(reading):
            m.d.sync += group.eq(group + 1)
            with m.If(group == groups - 1):
                m.d.sync += [group.eq(0), stage.eq(stage + 1)]
                with m.If(stage == shape.stages - 1):
                    m.d.sync += reading.eq(0)
        with m.If(self.start):
            m.d.sync += [reading.eq(1), group.eq(0), stage.eq(0)]

        # The kept score was read two cycles before it is replaced: one to choose the present ones
        # of the group, one to clip them.
        chosen = [self._chosen(m, lane, groups, group, stage) for lane in range(lanes)]
        looked_addr, present = Signal.like(read.addr), Signal(lanes * INDEX_BITS)
        m.d.sync += [Cat(looked_addr, write.addr).eq(Cat(read.addr, looked_addr)),
                     present.eq(Cat(chosen))]
        m.d.comb += [write.en.eq(last & self.keep), write.data.eq(present),
                     self.error_next.eq(looking & (looked_stage == shape.stages - 1)),
                     self.error_group.eq(looked_addr[:group_bits])]

        routed = Signal(groups * lanes)
        with m.If(self.start):
            m.d.sync += routed.eq(self.routed)
        with m.Elif(last):
            m.d.sync += routed.eq(routed.rotate_right(lanes))
        outputs = [(shape.shift, self.steps[0])]
        if {"lexical", "pair"} & set(shape.tables):
            outputs.append((shape.lexical_shift, self.lexical_steps))
        if "previous" in shape.tables:
            outputs.append((shape.previous_shift, self.previous_steps))
        found: list[list[Signal]] = [[] for _ in outputs]
        for lane in range(lanes):
            m.submodules[f"sigmoid{lane}"] = table = Memory(
                shape=unsigned(10), depth=1 << INDEX_BITS, init=SIGMOID)
            port = table.read_port()
            error = Signal(signed(11), name=f"error{lane}")
            m.d.comb += [port.en.eq(looking), port.addr.eq(read.data.word_select(lane, INDEX_BITS)),
                         error.eq(Mux(routed[lane], ERROR_ONE, 0) - port.data),
                         self.errors[lane].eq(error)]
            for at, (shift, steps) in enumerate(outputs):
                step = Signal(len(steps.as_value()) // shape.experts, name=f"step{at}_{lane}")
                m.d.comb += step.eq((error + (1 << shift >> 1)) >> shift)
                found[at].append(step)

        # Groups come in from above; after the last, the first has reached the lowest place.
        lines = [(0, new, steps) for new, (_, steps) in zip(found, outputs, strict=True)]
        lines += [(later, found[0], self.steps[later]) for later in range(1, shape.stages)]
        for of, new, steps in lines:
            line = Signal(groups * lanes * len(new[0]), name="line")
            m.d.comb += steps.eq(line)
            with m.If(last & (last_stage == of)):
                m.d.sync += line.eq(Cat(line, *new)[lanes * len(new[0]):])
        return m

    def _chosen(self, m, lane, groups, group, stage):
        """The sigmoid's index, a cycle later, of the sum up to ``stage`` of the lane's expert in
        ``group``."""
        shape = self.shape

        def of_group(values):
            return Array(values[e] if e < shape.experts else 0
                         for e in range(lane, groups * self.lanes, self.lanes))[group]
        score = Signal(shape.scores.elem_shape, name=f"score{lane}")
        m.d.sync += score.eq(of_group(self.scores))
        if shape.stages == 1:
            return sigmoid_index(shape, score)
        early, is_early = Signal(INDEX_BITS, name=f"early{lane}"), Signal(name=f"is_early{lane}")
        m.d.sync += [
            early.eq(Array(of_group(values) for values in self.early)[stage]),
            is_early.eq(stage != shape.stages - 1)]
        return Mux(is_early, early, sigmoid_index(shape, score))
