"""Puts the predicted experts out in falling score."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..one_of import one_of
from .linear_shape import LinearShape

__all__ = ["ScoreOrder"]

GROUP = 16  # experts that are compared at once


class ScoreOrder(wiring.Component):
    """The best expert of every group of 16 is known; the best of those goes out, and its group is
    looked through again.

    Shared units go first, with the largest score there is; they do not count for ``limit``. Then
    experts in falling score, the lower id first among equals, until ``limit`` are out or none left
    reaches ``threshold``; then, with ``close``, the ``end`` beat. With G = experts / 16 groups,
    rounded up, the first expert is valid G + 4 cycles after ``start``, later by one for each shared
    unit, and each further beat four cycles after the one before, if that was taken by then. The
    first shared unit, and the ``end`` beat without ``predict``, is valid two cycles after
    ``start``. Back-pressure is honoured: the payload holds while stalled. Reset: idle.

    Parameters
    ----------
    shape: LinearShape

    Members
    -------
    start, predict, layer, close: pulse, begins with the candidates of ``layer``, and whether the
        ``end`` beat follows; without ``predict`` there is no other beat. Only while not
        ``active``.
    cut: no further beat is formed while it is set, and what was started ends within 4 cycles,
        without an ``end`` beat.
    scores: stable while ``active``, from the cycle after ``start`` on.
    threshold, limit, experts: least score that is put out, most candidates, and experts in use;
        stable from the cycle before ``start`` on while ``active``.
    candidates: the output stream.
    active: beats are still to be formed; one already formed may wait in ``candidates``.
    """

    def __init__(self, shape: LinearShape):
        self.shape = shape
        super().__init__({
            "start": In(1), "predict": In(1), "layer": In(shape.geometry.layer_bits),
            "close": In(1), "cut": In(1),
            "scores": In(shape.scores), "threshold": In(signed(shape.score_bits)),
            "limit": In(range(shape.experts + 1)), "experts": In(10),
            "candidates": Out(stream.Signature(shape.candidate)), "active": Out(1)})

    def elaborate(self, platform):
        m = Module()
        shape, out = self.shape, self.candidates
        shared = shape.geometry.config.model.shared_units
        groups = -(-shape.experts // GROUP)
        none = -(1 << shape.score_bits - 1)  # no score is that low
        group_bits = (groups - 1).bit_length()
        best = data.StructLayout({"score": signed(shape.score_bits),
                                  "at": unsigned(shape.id_bits)})

        left = Signal(groups * GROUP)  # experts that are not out yet
        bests = [Signal(best, name=f"best{g}") for g in range(groups)]

        # Looking through a group: fetch, two levels of the tree, two more, then it is in ``bests``.
        fetch, fetching = Signal(range(max(2, groups))), Signal()
        ages = Signal(2)
        of = [Signal.like(fetch, name=f"of{stage}") for stage in range(2)]
        lanes = [Signal(best, name=f"lane{i}") for i in range(GROUP)]
        quarter = [Signal(best, name=f"quarter{i}") for i in range(4)]
        m.d.sync += [ages.eq(Cat(fetching, ages)), Cat(*of).eq(Cat(fetch, *of))]
        for i, lane in enumerate(lanes):
            each = range(i, groups * GROUP, GROUP)
            score = Array(self.scores[e] if e < shape.experts else none for e in each)[fetch]
            m.d.sync += [
                lane.score.eq(Mux(Array(left[e] for e in each)[fetch], score, none)),
                lane.at.eq(Cat(Const(i, 4), fetch))]
        m.d.sync += [quarter[i].eq(self._best(m, lanes[4 * i:4 * i + 4], f"quarter{i}"))
                     for i in range(4)]
        half = self._best(m, quarter, "whole")
        for g, kept in enumerate(bests):
            with m.If(ages[1] & (of[1] == g)):
                m.d.sync += kept.eq(half)

        fit = data.StructLayout({**best.members, "fits": 1})  # whether it may go out
        threshold = Signal.like(self.threshold)
        m.d.sync += threshold.eq(self.threshold)
        finalists = [Signal(fit, name=f"finalist{g}") for g in range(groups)]
        for finalist, kept in zip(finalists, bests, strict=True):
            m.d.comb += [finalist.score.eq(kept.score), finalist.at.eq(kept.at), finalist.fits.eq(
                (kept.score != none) & (kept.score >= threshold))]
        winner = self._best(m, finalists, "winner")
        layer, count, close = Signal.like(self.layer), Signal.like(self.limit), Signal()
        wait = Signal()
        unit = Signal(range(max(2, shared)))
        room, more = Signal(), Signal()
        m.d.comb += [
            room.eq(~out.valid | out.ready),
            more.eq((count != self.limit) & winner.fits)]
        with m.If(out.ready):
            m.d.sync += out.valid.eq(0)
        with m.If(room):
            m.d.sync += [out.payload.layer.eq(layer), out.payload.expert.eq(winner.at),
                         out.payload.score.eq(winner.score), out.payload.end.eq(0)]

        def done():
            m.d.sync += self.active.eq(0)
            m.next = "IDLE"

        def end():
            m.d.sync += [out.valid.eq(1), out.payload.expert.eq(0), out.payload.score.eq(0),
                         out.payload.end.eq(1)]
            done()

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    fetch.eq(0), count.eq(0), unit.eq(0), layer.eq(self.layer),
                    close.eq(self.close),
                    left.eq(Cat(self.experts > e for e in range(shape.experts)))]
                with m.If(self.start & (self.predict | self.close)):
                    m.d.sync += self.active.eq(1)
                    m.next = "END"
                    with m.If(self.predict):
                        m.next = "SHARED" if shared else "FILL"
            if shared:
                with m.State("SHARED"):
                    with m.If(self.cut):
                        done()
                    with m.Elif(room):
                        m.d.sync += [out.valid.eq(1), out.payload.expert.eq(shape.experts + unit),
                                     out.payload.score.eq(-none - 1), unit.eq(unit + 1)]
                        with m.If(unit == shared - 1):
                            m.next = "FILL"
            with m.State("FILL"):
                m.d.comb += fetching.eq(1)
                m.d.sync += [fetch.eq(fetch + 1), wait.eq(1)]
                with m.If(self.cut):
                    done()
                with m.Elif(fetch == groups - 1):
                    m.next = "WAIT"
            with m.State("AGAIN"):
                m.d.comb += fetching.eq(1)
                m.d.sync += wait.eq(1)
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += wait.eq(0)
                with m.If(wait == 0):
                    m.next = "PICK"
            with m.State("PICK"):
                with m.If(self.cut):
                    done()
                with m.Elif(room & more):
                    m.d.sync += [out.valid.eq(1), count.eq(count + 1),
                                 left.bit_select(winner.at, 1).eq(0),
                                 fetch.eq(winner.at[4:] if group_bits else 0)]
                    m.next = "AGAIN"
                with m.Elif(room & close):
                    end()
                with m.Elif(room):
                    done()
            with m.State("END"), m.If(room):
                end()
        return m

    @staticmethod
    def _best(m, entries, name):
        """The highest score of ``entries``, the earlier among equals, as a named signal: of four at
        a time, of which each pair is compared at once."""
        level = 0
        while len(entries) > 1:
            above = []
            for at in range(0, len(entries), 4):
                four = entries[at:at + 4]
                better = {(i, j): Signal(name=f"{name}_{level}_{at + i}_{at + j}")
                          for j in range(len(four)) for i in range(j)}
                for (i, j), signal in better.items():
                    m.d.comb += signal.eq(four[i].score >= four[j].score)
                best = Signal(four[0].shape(), name=f"{name}_{level}_{at}")
                m.d.comb += best.eq(one_of(
                    [Cat(better[i, j] if i < j else ~better[j, i]
                         for j in range(len(four)) if j != i).all() for i in range(len(four))],
                    [entry.as_value() for entry in four]))
                above.append(best)
            entries, level = above, level + 1
        return entries[0]
