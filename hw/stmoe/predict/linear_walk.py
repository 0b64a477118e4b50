"""Names the rows of a layer, from the routing of recent layers and tokens."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .linear_shape import LinearShape

__all__ = ["RowWalk"]


class RowWalk(wiring.Component):
    """Addresses of all rows in the score of a layer, one a cycle.

    Order: bias, by table of identities, then by feature and rank and by leader, stage by stage; of
    those of the present token only those whose layer is among the first ``seen``; with ``guess`` as
    if a next token of the sequence had begun. A walk of n rows has its first address two cycles
    after ``start`` and a further one in each cycle; with three
    stages, a ``mark`` without an address stands between one and the next, rows or not. The same
    walk while neither ``advance`` nor ``store`` of a layer that it refers to comes between:
    learning walks as scoring did. No back-pressure.
    Reset: before the first token. Range: a token's layers in rising order.

    Parameters
    ----------
    shape: LinearShape

    Members
    -------
    advance, first: pulse, a token begins; ``first`` forgets those before. Not while ``active``.
    store, store_layer, store_past: pulse, routing of a layer of the present token; readable by a
        walk that starts in the next cycle.
    start, layer, seen, tables, guess: pulse, begins a walk, with a row from each of ``tables``. Not
        while ``active``; ``guess`` stands until it is over.
    stop: pulse, there are no further addresses from the next cycle on.
    valid, address, lexical, table: a row, by address, which is within the layer if weights are
        streamed, or that of ``walked`` from ``table``.
    stage, mark: of the row; with ``mark``, the stage that is over.
    walked: layer of the walk, until the next.
    active: addresses are still to come, including the present one.
    """

    def __init__(self, shape: LinearShape):
        self.shape = shape
        layer_bits = shape.geometry.layer_bits
        super().__init__({
            "advance": In(1), "first": In(1),
            "store": In(1), "store_layer": In(layer_bits), "store_past": In(shape.past),
            "start": In(1), "layer": In(layer_bits), "seen": In(9),
            "tables": In(max(1, len(shape.tables))), "guess": In(1), "stop": In(1),
            "valid": Out(1), "address": Out(shape.address_bits), "lexical": Out(1),
            "table": Out(shape.table_bits), "stage": Out(shape.stage_bits), "mark": Out(1),
            "walked": Out(layer_bits), "active": Out(1)})

    def elaborate(self, platform):
        m = Module()
        shape = self.shape
        lags = shape.lags
        slot_bits = max(1, shape.token_lag.bit_length())
        layer_bits = shape.geometry.layer_bits

        m.submodules.history = history = Memory(
            shape=shape.past, depth=1 << layer_bits + slot_bits, init=[])
        read, write = history.read_port(), history.write_port()
        slot, position = Signal(slot_bits), Signal(range(max(2, shape.token_lag + 1)))
        with m.If(self.advance):
            m.d.sync += [slot.eq(slot + 1), position.eq(Mux(
                self.first, 0, Mux(position == shape.token_lag, position, position + 1)))]
        m.d.comb += [write.en.eq(self.store), write.addr.eq(Cat(self.store_layer, slot)),
                     write.data.eq(self.store_past)]

        due, left = Signal(max(1, len(lags))), Signal(max(1, len(lags)))
        base, offset = Signal(shape.address_bits), Signal(shape.address_bits)
        tables = Signal.like(self.tables)
        rank = Signal(range(max(2, shape.top_k)))
        for f, lag in enumerate(lags):
            if lag.back < shape.layers:
                recent = (position + self.guess >= lag.token if lag.token
                          else self.layer < self.seen + lag.back)
                m.d.comb += due[f].eq(recent & (self.layer >= lag.back) if lag.back else recent)

        # The history of a lag is fetched while the rows before it are named.
        fetch, fetched, leads = Signal(), Signal(), Signal()
        stage, next_stage, fetched_stage = (Signal(shape.stage_bits, name=name) for name in (
            "stage_now", "stage_next", "stage_fetched"))
        m.d.comb += read.en.eq(fetch & left.any())
        with m.If(fetch):
            m.d.sync += [fetched.eq(left.any()), fetched_stage.eq(next_stage)]
        for f, lag in reversed(list(enumerate(lags))):
            with m.If(left[f]):
                m.d.comb += [read.addr.eq(Cat((self.walked - lag.back)[:layer_bits],
                                              (slot + self.guess - lag.token)[:slot_bits])),
                             next_stage.eq(lag.stage)]
                with m.If(fetch):
                    m.d.sync += [left.eq(left & (left - 1)), offset.eq(base + lag.offset),
                                 leads.eq(lag.leader)]

        def proceed(some, of, now):
            """Rows of the lag ``some``, of stage ``of``, come next, if of stage ``now``."""
            m.next = "IDLE"
            with m.If(some & (of == now)):
                m.next = "LAGS"
            if shape.stages > 1:
                with m.Elif(now != shape.stages - 1):
                    m.next = "MARK"

        def stoppable():
            with m.If(self.stop):
                m.next = "IDLE"

        m.d.sync += [self.valid.eq(0), self.lexical.eq(0), self.mark.eq(0), self.stage.eq(stage)]
        with m.FSM() as fsm:
            m.d.comb += self.active.eq(~fsm.ongoing("IDLE") | self.valid | self.mark)
            with m.State("IDLE"):
                m.d.sync += [tables.eq(self.tables), left.eq(due), stage.eq(0),
                             base.eq(0 if shape.streams_weights else self.layer * shape.stride)]
                with m.If(self.start):
                    m.d.sync += self.walked.eq(self.layer)
                    m.next = "BIAS"
            with m.State("BIAS"):
                m.d.comb += fetch.eq(1)
                m.d.sync += [self.valid.eq(1), self.address.eq(base), rank.eq(0)]
                proceed(left.any(), next_stage, stage)
                with m.If(tables.any()):
                    m.next = "TABLES"
                stoppable()
            with m.State("TABLES"):
                m.d.sync += [self.valid.eq(1), self.lexical.eq(1),
                             tables.eq(tables & (tables - 1))]
                for table in reversed(range(len(shape.tables))):
                    with m.If(tables[table]):
                        m.d.sync += self.table.eq(table)
                with m.If(~(tables & (tables - 1)).any()):
                    proceed(fetched, fetched_stage, stage)
                stoppable()
            with m.State("LAGS"):
                m.d.sync += [self.valid.eq(1), rank.eq(rank + 1),
                             self.address.eq(offset + read.data.ids[rank])]
                with m.If(leads | (rank + 1 >= read.data.count)):
                    m.d.comb += fetch.eq(1)
                    m.d.sync += rank.eq(0)
                    proceed(left.any(), next_stage, stage)
                stoppable()
            if shape.stages > 1:
                with m.State("MARK"):
                    m.d.sync += [self.mark.eq(1), stage.eq(stage + 1)]
                    proceed(fetched, fetched_stage, stage + 1)
                    stoppable()
        with m.If(self.stop):
            m.d.sync += [self.valid.eq(0), self.mark.eq(0)]
        return m
