"""The published predictor: correlation table across layers and history of the previous token."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory

from ..config import Geometry
from ..ram_style import fast_read
from .emit import CandidateEmitter
from .learn import RowLearner, stored_row
from .ports import PredictionSignature
from .score import ScorePlanes

__all__ = ["TablePredictor"]


class TablePredictor(wiring.Component):
    """Predicts layer + 1 of an observation, then learns the pair (layer - 1, layer) from it.

    The definition, tie rules and counters are those of ``stmoe_golden.predict.table``; a pair is
    learned if the observation before was layer - 1 with the same ``first_token``.

    Latency: scores are final four cycles after the last beat of ``observe``; then the scan takes
    a cycle per score level from 3 * top_k + 2 down to ``threshold`` and one per candidate. Learning
    runs beside it, top_k + 5 cycles. Throughput: a beat of ``observe`` per cycle.
    A token gives an empty round: history is told apart by ``first_token`` of what is observed.
    Back-pressure: ``token`` and ``observe`` wait while candidates are formed or a pair is learned;
    ``load`` also while either has a beat. ``candidates`` holds while stalled.
    Reset: history empty, no previous observation. The table is not reset: before the first load
    its rows hold experts 0 .. top_k - 1 at confidence 2 where the technology initialises memory.
    Range: ``layers`` at most the configured; expert ids below the configured ``experts``.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    See :class:`PredictionSignature`.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        super().__init__(PredictionSignature(geometry))

    def elaborate(self, platform):
        m = Module()
        given = self.settings
        m.d.comb += self.weights.ready.eq(1)
        if self.geometry.looks_ahead:
            m.d.comb += self.ahead.ready.eq(1)
        g, model = self.geometry, self.geometry.config.model
        k, row_layout = model.top_k, stored_row(self.geometry)
        id_shape = row_layout.elem_shape["id"].shape
        id_bits = id_shape if isinstance(id_shape, int) else id_shape.width
        observe = self.observe

        depth = max(1, model.layers - 1) << id_bits
        fresh = sum((way | 2 << id_bits) << way * (id_bits + 2) for way in range(k))
        m.submodules.table = table = Memory(
            shape=row_layout.size, depth=depth, init=[fresh] * depth, attrs=fast_read(depth))
        table_read, table_write = table.read_port(), table.write_port()
        past_layout = data.StructLayout(
            {"ids": data.ArrayLayout(id_bits, k), "count": range(k + 1)})
        m.submodules.history = history = Memory(
            shape=past_layout, depth=max(2, model.layers), init=[])
        history_read, history_write = history.read_port(), history.write_port()
        m.submodules.score = score = ScorePlanes(g)
        m.submodules.emit = emit = CandidateEmitter(g)
        m.submodules.learn = learn = RowLearner(g, len(table_read.addr))

        def address(layer, expert):
            return Cat(expert[:id_bits], layer)

        now, past = Signal(past_layout), Signal(past_layout)
        layer, first_token = Signal(g.layer_bits), Signal()
        past_valid, past_layer, past_first = Signal(), Signal(g.layer_bits), Signal()
        kept = Signal(model.layers)  # layers whose history holds
        following = Signal(9)  # the layer that is predicted
        predicting = Signal()
        clearing, forget = Signal(), Signal()
        m.d.comb += [following.eq(observe.payload.layer + 1),
                     predicting.eq(given.enable & (following < given.layers)),
                     history_read.addr.eq(following), forget.eq(self.clear | clearing)]

        to_score, to_learn, recent = Signal(), Signal(), Signal()
        recent_used = Signal()
        learn_left = Signal(range(k + 1))
        learn_at = Signal(range(max(2, k)))
        m.d.sync += [to_score.eq(0), to_learn.eq(0), recent.eq(0), clearing.eq(forget)]

        # Candidates and their end, in falling score, once the last row has been added.
        age = Signal(range(4))
        m.d.comb += [
            emit.threshold.eq(given.threshold), emit.predict.eq(predicting),
            emit.layer.eq(following), emit.final.eq(age == 3), emit.match.eq(score.match),
            score.level.eq(emit.level)]
        wiring.connect(m, emit.candidates, wiring.flipped(self.candidates))

        # One row per cycle to the scores: table rows, then the history row.
        row = data.View(row_layout, table_read.data)
        m.d.comb += score.valid.eq(to_score | recent)
        for way in range(k):
            m.d.comb += [
                score.ids[way].eq(Mux(recent, history_read.data.ids[way], row[way].id)),
                score.confidence[way].eq(Mux(
                    recent, Mux(history_read.data.count > way, 2, 0), row[way].conf))]
        m.d.comb += [
            learn.valid.eq(to_learn), learn.row.eq(row), learn.routed.eq(now.ids),
            learn.count.eq(now.count)]
        m.d.sync += learn.address.eq(table_read.addr)

        m.d.comb += [
            self.table_reads.eq(table_read.en), self.table_writes.eq(learn.out_valid),
            self.score_adds.eq(Mux(to_score, k, Mux(recent, history_read.data.count, 0))),
            self.predicted.eq(self.candidates.valid & self.candidates.ready
                              & ~self.candidates.payload.end)]

        # The write port belongs to learning, else to loading.
        loading = Signal()
        m.d.comb += [
            loading.eq(self.load.valid & self.load.ready),
            table_write.en.eq(learn.out_valid | loading),
            table_write.addr.eq(Mux(learn.out_valid, learn.out_address, address(
                self.load.payload.layer, self.load.payload.expert))),
            table_write.data.eq(Mux(learn.out_valid, learn.out_row.as_value(), Cat(
                Cat(entry[:id_bits], entry[14:16]) for entry in
                (self.load.payload.entries[way] for way in range(k)))))]

        m.d.comb += [history_write.addr.eq(layer), history_write.data.eq(now),
                     table_read.en.eq(0), history_read.en.eq(0)]
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("OBSERVE") | (now.count != 0)
                                     | self.candidates.valid | forget)
            with m.State("OBSERVE"):
                idle = now.count == 0
                m.d.comb += [
                    observe.ready.eq(~(idle & (forget | self.token.valid))),
                    self.token.ready.eq(idle & ~forget),
                    self.load.ready.eq(idle & ~observe.valid & ~self.token.valid),
                    table_read.addr.eq(address(observe.payload.layer, observe.payload.expert))]
                m.d.sync += age.eq(0)
                with m.If(idle & forget):
                    m.d.sync += [kept.eq(0), past_valid.eq(0), clearing.eq(0)]
                with m.If(self.token.valid & self.token.ready):
                    m.d.comb += [emit.start.eq(1), emit.predict.eq(0), emit.layer.eq(0)]
                    m.next = "TOKEN"
                with m.Elif(observe.valid & observe.ready):
                    m.d.comb += table_read.en.eq(predicting & given.use_cct)
                    m.d.sync += [to_score.eq(predicting & given.use_cct),
                                 now.count.eq(now.count + 1)]
                    for rank in range(k):
                        with m.If(now.count == rank):
                            m.d.sync += now.ids[rank].eq(observe.payload.expert)
                    with m.If(observe.payload.last):
                        m.d.comb += [emit.start.eq(1), history_read.en.eq(1)]
                        m.d.sync += [
                            layer.eq(observe.payload.layer),
                            first_token.eq(observe.payload.first_token),
                            recent_used.eq(predicting & given.use_ht & kept.bit_select(following, 1)
                                           & ~observe.payload.first_token),
                            learn_at.eq(0), learn_left.eq(0)]
                        with m.If(given.enable & given.use_cct & past_valid
                                  & (past_first == observe.payload.first_token)
                                  & (past_layer + 1 == observe.payload.layer)):
                            m.d.sync += learn_left.eq(past.count)
                        m.next = "WORK"
            with m.State("TOKEN"), m.If(~emit.active):
                m.next = "OBSERVE"
            with m.State("WORK"):
                with m.If(age != 3):
                    m.d.sync += age.eq(age + 1)
                with m.If(age == 0):
                    m.d.sync += recent.eq(recent_used)
                m.d.comb += [table_read.addr.eq(address(past_layer, past.ids[learn_at])),
                             table_read.en.eq(learn_left != 0)]
                m.d.sync += to_learn.eq(learn_left != 0)
                with m.If(learn_left != 0):
                    m.d.sync += [learn_left.eq(learn_left - 1), learn_at.eq(learn_at + 1)]
                with m.Elif(~learn.active & ~emit.active & (age == 3)):
                    m.d.comb += [score.clear.eq(1),
                                 history_write.en.eq(given.enable & given.use_ht)]
                    m.d.sync += [
                        past.eq(now), past_layer.eq(layer), past_first.eq(first_token),
                        past_valid.eq(given.enable), now.count.eq(0),
                        kept.bit_select(layer, 1).eq(given.enable & given.use_ht)]
                    m.next = "OBSERVE"
        return m
