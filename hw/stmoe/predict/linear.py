"""The learned predictor: online logistic regression over recent layers and tokens."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import announcement, observation
from ..router.ahead import ahead_logit
from .linear_error import ErrorSteps
from .linear_margin import AheadMargin
from .linear_order import ScoreOrder
from .linear_rows import WeightRows
from .linear_score import RowSum
from .linear_shape import LinearOptions, LinearShape
from .linear_stream import LexicalStream
from .linear_walk import RowWalk

__all__ = ["LinearPredictor"]


class LinearPredictor(wiring.Component):
    """Predicts layer 0 of a token when it is announced, and layer + 1 of every observation; then,
    while nothing else waits, layers beyond, from what is known of the token so far.

    The definition and formats are those of ``stmoe_golden.predict.linear``, with the same scores,
    order and weights. Golden learns layer l, then scores l + 1; here l + 1 is scored first, so that
    learning never delays a candidate. It is the same: a row belongs to one layer. With a single
    layer, the next score is the next token's, which waits for learning.

    *Deep* layers follow in the same round, in rising order, once the routed layer is learned and
    the candidates before are out. Their scores are those of ``Linear.ahead_scores``; nothing is
    learned from them. A token or an observation that waits cuts the deep part short: the round ends
    behind the candidate that is valid.

    Latency: a score of n rows (bias, one per table of identities, top_k per feature and one per
    leader that applies) is final n + 5 cycles, with three stages n + 7, after the token or the last
    beat of ``observe`` was taken, the first candidate valid experts / 16 + 4 cycles later and each
    further beat 4 later. With 128 experts, top-8, four features, to the first candidate: 51 cycles
    with lexical rows, 54 with pair rows and three stages too, 75 with six features, four leaders
    and all tables. Learning takes stages * experts / lanes + n + 9 cycles more, with three stages 2
    more yet, beside the candidates: 163 of the largest, less than an expert's computation. A deep
    layer of n rows has its first candidate n + experts / 16 + 13 cycles, with three stages 2 more,
    after the last one of the layer before was taken, at the earliest; cutting takes 6 at most.
    Throughput: a beat of ``observe`` per cycle.
    Back-pressure: ``token`` and ``observe`` wait while scores are in work, a layer is learned or
    candidates other than deep ones are to be formed; ``candidates`` holds while stalled.
    Reset: history empty; the next token begins a sequence. Weights are not reset: see
    :class:`WeightRows`.
    Range: the layers of a token in order, from 0, each with 1 to ``top_k`` distinct experts below
    the configured ``experts``; a layer out of order is not learned. A token is offered once the
    last observation of the one before was taken, and its layer 0 once the token was taken.

    ``enable`` off at a token or a last beat: nothing is predicted or learned from there to the next
    token, which then begins a sequence; weights stay.

    Parameters
    ----------
    geometry: Geometry. options: LinearOptions. lanes: see :class:`ErrorSteps`.

    Members
    -------
    token: announcement of a token.
    ahead, ahead_due, use_ahead: only with look-ahead in the options. The logits of layer + 1, one
        per expert in use, come for an observation if ``ahead_due`` is set at its last beat, and are
        taken behind it; the round waits for them. ``use_ahead``, a setting: they are a term of the
        score. Without logits the score is that of ``Linear``.
    observe: routed experts as in ``PredictionSignature``; ``first_token`` is not looked at.
    candidates: predicted experts of the next layer, of deep ones, then an ``end`` beat, for every
        token and every observation. After the last layer, guesses for the next token; when off, the
        ``end`` beat only.
    load: a row by its number: layer by layer the bias, then by feature and expert, then by
        leader and expert; then, if they are on chip, those by identity, table by table, by identity
        and layer. Taken while nothing else is to be done.
    enable, threshold, threshold_deep, limit, layers, experts, depth, token_depth: settings, stable
        while ``busy`` or a beat waits. Candidates have a score of at least ``threshold``, deep ones
        ``threshold_deep`` (units of 2**-fraction), and are ``limit`` at most of a layer, shared
        units, which come first, not counted. ``layers`` and ``experts`` in use are at most the
        configured; the prior stays that of the configured shape. ``depth`` layers are scored at an
        observation, ``token_depth`` at a token; 0 and 1 both mean the next only. ``guess`` layers
        of the next token are scored, and held to be deep, after the last.
    row_reads, row_writes, rows_added, predicted: increments of this cycle for the counters:
        rows read and written, lexical ones included, rows added to the scores, candidates taken.
    busy: a token or an observation is in work, a round is open or a candidate waits.
    port: only with lexical rows in expert memory, see ``LexicalPort``.
    ``weights`` has the memories' contents, for simulation.
    """

    def __init__(self, geometry: Geometry, options: LinearOptions, *, lanes: int = 4):
        self.geometry, self.options, self.lanes = geometry, options, lanes
        shape = self.shape = LinearShape(geometry, options)
        store = None
        if options.tables and options.lexical_store == "memory":
            store = LexicalStream(shape, first_id=geometry.config.outstanding)
        self.weights = WeightRows(shape, store)
        self.margin = AheadMargin(shape, lanes) if options.lookahead else None
        super().__init__({
            **({"ahead": In(stream.Signature(ahead_logit(geometry))), "ahead_due": In(1),
                "use_ahead": In(1)} if options.lookahead else {}),
            **({"port": self.weights.signature.members["port"]} if store else {}),
            "token": In(stream.Signature(announcement())),
            "observe": In(stream.Signature(observation(geometry))),
            "candidates": Out(stream.Signature(shape.candidate)),
            "load": In(stream.Signature(shape.loaded)),
            "enable": In(1), "threshold": In(signed(shape.score_bits)),
            "threshold_deep": In(signed(shape.score_bits)),
            "limit": In(range(shape.experts + 1)), "layers": In(9), "experts": In(10),
            "depth": In(9), "token_depth": In(9), "guess": In(4),
            "row_reads": Out(1), "row_writes": Out(1), "rows_added": Out(1), "predicted": Out(1),
            "busy": Out(1)})

    def elaborate(self, platform):
        m = Module()
        shape, token, observe = self.shape, self.token, self.observe
        m.submodules.walk = walk = RowWalk(shape)
        m.submodules.weights = rows = self.weights
        m.submodules.sum = total = RowSum(shape, self.lanes)
        m.submodules.order = order = ScoreOrder(shape)
        m.submodules.error = error = ErrorSteps(shape, self.lanes)
        wiring.connect(m, order.candidates, wiring.flipped(self.candidates))
        if "port" in self.signature.members:
            wiring.connect(m, rows.port, wiring.flipped(self.port))

        now, routed = Signal(shape.past), Signal(shape.experts)
        observed, following, due = Signal(shape.geometry.layer_bits), Signal(9), Signal(9)
        predicting, learning = Signal(), Signal()
        tables, known = Signal.like(walk.tables), Signal.like(walk.tables)  # with rows, of token
        last = Signal(data.StructLayout({"identity": shape.identity_bits, "known": 1}))
        scored = Signal()  # layer ``due`` is, and waits to be learned
        off = Signal(init=1)  # until the next token, which begins a sequence
        left, seen = Signal(9), Signal(9)  # layers still to be scored; those of the token observed
        deep, deeper, waiting = Signal(), Signal(), Signal()
        guessing, guess = Signal(), Signal()  # the round is about the next token; a score too
        collecting, moving, heard = Signal(), Signal(), Signal()
        looking, looked, tuning = Signal(), Signal(), Signal()  # has logits; had; learns the gain
        start_terms, terms_active, awaited = Signal(), Signal(), Signal()
        m.d.comb += [
            heard.eq(observe.valid & observe.ready & observe.payload.last),
            collecting.eq(now.count != 0), moving.eq(walk.active | rows.active),
            waiting.eq(token.valid | observe.valid),
            deeper.eq((predicting | guessing) & (left > 1)
                      & ((following + 1)[:9] < self.layers)),
            guess.eq(deep & guessing), walk.guess.eq(guess), walk.seen.eq(Mux(guess, 0, seen)),
            walk.first.eq(token.payload.first | off | ~self.enable),
            walk.store_layer.eq(observe.payload.layer), walk.store_past.eq(now),
            walk.store_past.count.eq(now.count + 1), walk.tables.eq(Mux(guess, 0, known)),
            walk.layer.eq(following),
            rows.identity.eq(token.payload.identity), rows.last.eq(last.identity),
            rows.ready_layer.eq(following), rows.valid.eq(walk.valid),
            rows.address.eq(walk.address), rows.lexical.eq(walk.lexical),
            rows.table.eq(walk.table), rows.stage.eq(walk.stage), rows.mark.eq(walk.mark),
            rows.layer.eq(walk.walked), rows.steps.eq(error.steps),
            rows.lexical_steps.eq(error.lexical_steps),
            rows.previous_steps.eq(error.previous_steps),
            total.mark.eq(rows.marked & ~rows.learn), total.stage.eq(rows.row_stage),
            total.damp.eq((seen != 0) & ~guess), error.early.eq(total.early),
            total.valid.eq(rows.row_valid & ~rows.learn), total.row.eq(rows.row),
            order.scores.eq(total.scores), order.layer.eq(following),
            order.predict.eq(predicting | guess), order.close.eq(~deep & ~deeper),
            order.threshold.eq(Mux(deep, self.threshold_deep, self.threshold)),
            order.limit.eq(self.limit), order.experts.eq(self.experts),
            error.scores.eq(total.scores), error.keep.eq(predicting), error.routed.eq(routed),
            self.row_reads.eq(walk.valid), self.row_writes.eq(rows.written),
            self.rows_added.eq(total.valid),
            self.predicted.eq(self.candidates.valid & self.candidates.ready
                              & ~self.candidates.payload.end)]
        now_known = token.payload.known
        both = {"lexical": now_known, "pair": now_known & last.known & ~walk.first,
                "previous": last.known & ~walk.first}
        m.d.comb += tables.eq(Cat(both[name] for name in shape.tables))
        for rank in range(shape.top_k):
            with m.If(now.count == rank):
                m.d.comb += walk.store_past.ids[rank].eq(observe.payload.expert)

        margin = self.margin
        if margin:
            m.submodules.margin = margin
            wiring.connect(m, wiring.flipped(self.ahead), margin.ahead)
            m.d.comb += [
                margin.begin.eq(heard), margin.due.eq(self.ahead_due),
                margin.experts.eq(self.experts), margin.start.eq(start_terms),
                margin.layer.eq(following), terms_active.eq(margin.active),
                awaited.eq(margin.waiting), total.term.eq(margin.term),
                margin.learn_layer.eq(observed), margin.error_next.eq(error.error_next),
                margin.error_group.eq(error.error_group), margin.errors.eq(error.errors)]
            with m.If(heard):
                m.d.sync += looking.eq(self.ahead_due & self.use_ahead)

        def ordered():
            m.d.comb += [order.start.eq(1), error.start.eq(predicting | learning)]
            m.next = "STEPS"

        with m.FSM() as fsm:
            if margin:
                m.d.comb += [
                    margin.learn.eq(tuning & (fsm.ongoing("STEPS") | fsm.ongoing("LEARN"))),
                    margin.error_done.eq(fsm.ongoing("STEPS") & ~error.active)]
            m.d.comb += [
                rows.learn.eq(fsm.ongoing("LEARN")),
                self.busy.eq(~fsm.ongoing("IDLE") | collecting | order.active
                             | self.candidates.valid),
                rows.load.eq(self.load.valid & self.load.ready),
                rows.load_address.eq(self.load.payload.address),
                rows.load_row.eq(self.load.payload.row)]
            with m.State("IDLE"), m.If(~order.active):
                m.d.sync += deep.eq(0)
                m.d.comb += self.load.ready.eq(~collecting & ~token.valid & ~observe.valid)
                m.d.comb += [token.ready.eq(~collecting),
                             observe.ready.eq(collecting | ~token.valid)]
                with m.If(token.valid & token.ready):
                    m.d.comb += [walk.advance.eq(1),
                                 rows.begin.eq(Mux(self.enable, tables, 0))]
                    m.d.sync += [
                        known.eq(tables), last.identity.eq(token.payload.identity),
                        last.known.eq(token.payload.known),
                        following.eq(0), predicting.eq(self.enable), learning.eq(0),
                        off.eq(~self.enable), left.eq(self.token_depth), seen.eq(0),
                        looking.eq(0), tuning.eq(0), guessing.eq(0)]
                    m.next = "BEGIN"
                with m.Elif(observe.valid):
                    m.d.sync += [
                        now.eq(walk.store_past),
                        routed.eq(Mux(collecting, routed, 0) | 1 << observe.payload.expert)]
                    with m.If(observe.payload.last):
                        m.d.comb += walk.store.eq(1)
                        m.d.sync += [
                            now.count.eq(0), observed.eq(observe.payload.layer),
                            following.eq(observe.payload.layer + 1),
                            predicting.eq(self.enable & ~off
                                          & (observe.payload.layer + 1 < self.layers)),
                            learning.eq(self.enable & ~off & scored
                                        & (due == observe.payload.layer)),
                            tuning.eq(self.enable & ~off & scored & looked
                                      & (due == observe.payload.layer)),
                            off.eq(off | ~self.enable), left.eq(self.depth),
                            seen.eq(observe.payload.layer + 1), guessing.eq(0)]
                        with m.If((observe.payload.layer + 1 == self.layers) & (self.guess != 0)
                                  & self.enable & ~off):
                            m.d.sync += [guessing.eq(1), left.eq(self.guess + 1),
                                         following.eq(-1)]
                        m.next = "BEGIN"
            with m.State("BEGIN"), m.If(~predicting | ~known.any() | rows.ready):
                m.d.sync += [due.eq(following), scored.eq(predicting), looked.eq(looking)]
                m.d.comb += [walk.start.eq(predicting), total.clear.eq(predicting)]
                m.next = "SCORE"
            with m.State("SCORE"), m.If(~moving & ~awaited):
                ordered()
                if margin:
                    with m.If(predicting & looking):
                        m.d.comb += [start_terms.eq(1), order.start.eq(0), error.start.eq(0)]
                        m.next = "TERMS"
            if margin:
                with m.State("TERMS"), m.If(~terms_active):
                    ordered()
            with m.State("STEPS"), m.If(~error.active):
                m.d.comb += [walk.start.eq(learning), walk.layer.eq(observed)]
                m.next = "IDLE"
                with m.If(learning):
                    m.next = "LEARN"
                with m.Elif(deeper):
                    m.next = "DEEPER"
            with m.State("LEARN"), m.If(~moving):
                m.next = "IDLE"
                with m.If(deeper):
                    m.next = "DEEPER"
            with m.State("DEEPER"):
                m.d.comb += order.cut.eq(deep & waiting)
                with m.If(~order.active & ~moving & deeper & ~waiting):
                    m.d.sync += [following.eq(following + 1), left.eq(left - 1), deep.eq(1)]
                    m.next = "DEEP-BEGIN"
                with m.Elif(~order.active & ~moving):
                    m.d.comb += [order.start.eq(1), order.predict.eq(0), order.close.eq(1)]
                    m.next = "IDLE"
            with m.State("DEEP-BEGIN"):
                with m.If(waiting):
                    m.next = "DEEPER"
                with m.Elif(~known.any() | rows.ready | guess):
                    m.d.comb += [walk.start.eq(1), total.clear.eq(1)]
                    m.next = "DEEP-SCORE"
            with m.State("DEEP-SCORE"):
                m.d.comb += walk.stop.eq(waiting)
                with m.If(waiting):
                    m.next = "DEEPER"
                with m.Elif(~moving):
                    m.d.comb += order.start.eq(1)
                    m.next = "DEEPER"
        return m
