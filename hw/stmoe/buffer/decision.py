"""What a decision of the expert manager reads and changes."""

from enum import IntEnum

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, fifo, memory, wiring

from .. import interfaces
from ..config import Geometry
from ..one_of import one_of
from .residency import ResidencyMap
from .retention import Retention
from .slack import LinkSlack
from .slot_list import ListOp, SlotList
from .worth import CandidateWorth

__all__ = ["Decision", "SlotState"]


class SlotState(IntEnum):
    """What a slot holds."""

    FREE = 0
    FILLING = 1
    READY = 2


class Decision:
    """State of the expert manager, and what its states do with it; no component of its own.

    A method says what happens in the cycle of the state and conditions under which it is called.

    Parameters
    ----------
    m: module of the manager, to which everything is added. ports: the manager. geometry.

    Attributes
    ----------
    resident, order, retention, queue: residency map, list of evictable slots, due times, work.
    worth, slack: judge of candidates, and what it measures of the link.
    record, found: slot whose record is read, by default ``subject``, and the record a cycle later.
        mapped: that of the slot which the residency map has for an expert, if any, goes before.
    layer, gates, experts, rank: the layer in work, its experts in rank order, the next rank.
    missed, next_missed: ranks to be ordered, and the lowest. demanding, late: experts awaited.
    about: layer that comes next; guessing: of the token to come. rounds, stopped: rounds that are
        open, the last one given up.
    promises, index, kept, settle_all: promises in all, settled, that stay; none stays.
    wanted, wanted_valid: first slot touched in this round.
    many, streaming: whether a command may have many tokens; whether this one is of a prompt, so
        that not the candidates are wanted but all experts of the layer that comes next. sweep,
        sweeping, next_swept, swept: how many have been decided on, whether some are left, the next
        one, and whether ``tag`` is one of them.
    subject: slot that the methods below are about: by the state alone, for what is done to it is
        known late.
    slot, chosen: that is given out next, and whether it is known. tag: expert that gets it.
    visit_due: due times of the layer in work are still to be updated.
    matrix: the blobs in work are parts of a matrix of dense weights.
    report, unused, landed, landing: what STATUS and the settling are about.
    """

    def __init__(self, m: Module, ports: wiring.Component, geometry: Geometry):
        g, active = geometry, geometry.config.most_experts
        round_size = g.config.prefetch_round
        self.config, self.shape = g.config, ports.shape
        self.m, self.ports, self.many = m, ports, bool(g.token_bits)
        self.layout = data.StructLayout({
            "state": 2, "pinned": 1, "promised": 1, "first": 1, "bad": 1, "demanded": 1,
            "rank": range(active + 1), **interfaces.expert_tag(g)})
        m.submodules.map = self.resident = ResidencyMap(g)
        m.submodules.list = self.order = SlotList(g.banks)
        m.submodules.retention = self.retention = Retention(g)
        m.submodules.worth = self.worth = CandidateWorth(g)
        m.submodules.slack = self.slack = LinkSlack(
            g.prefetch_bursts * g.config.burst_beats)
        m.submodules.work = self.queue = fifo.SyncFIFOBuffered(
            width=interfaces.work(g).size, depth=max(4, active))
        m.submodules.records = records = memory.Memory(shape=self.layout, depth=g.banks, init=[])
        m.submodules.promised = promised = memory.Memory(
            shape=unsigned(g.slot_bits), depth=max(2, round_size), init=[])
        self.record_write = records.write_port()
        self.record, self.mapped, self.found = Signal(g.slot_bits), Signal(), Signal(self.layout)
        by_number, by_map = (records.read_port(domain="comb") for _ in range(2))
        mapped = self.mapped & self.resident.found
        m.d.comb += [by_number.addr.eq(self.record), by_map.addr.eq(self.resident.slot)]
        # No Mux: yosys would make one port with a late address of the two.
        m.d.sync += self.found.eq(one_of([mapped, ~mapped], [by_map.data, by_number.data]))
        self.promise, self.promise_write = promised.read_port(), promised.write_port()

        # The layer in work: what was routed, and which of it is still to be ordered.
        self.gates = Signal(data.ArrayLayout(16, active))
        self.experts = Signal(data.ArrayLayout(g.expert_bits, active))
        self.layer, self.rank = Signal(g.layer_bits), Signal(range(active + 1))
        self.missed, self.next_missed = Signal(active), Signal(range(max(2, active)))
        self.demanding, self.late = Signal(range(active + 1)), Signal(range(active + 1))
        self.visit_due = Signal()
        self.matrix = Signal()
        for i in reversed(range(active)):
            with m.If(self.missed[i]):
                m.d.comb += self.next_missed.eq(i)

        # The round of candidates: only those of the last token or layer routed count.
        self.rounds, self.stopped = Signal(4), Signal()
        self.about = Signal(range(g.config.model.layers + 1))
        self.promises, self.index, self.kept = (
            Signal(range(round_size + 1), name=name) for name in ("promises", "index", "kept"))
        self.settle_all = Signal()
        self.wanted, self.wanted_valid = Signal(g.slot_bits), Signal()
        self.candidate, self.routed = ports.candidates.payload, ports.routed.payload
        self.deep, self.tag_deep, self.guessing = Signal(), Signal(), Signal()
        self.stale = (self.rounds != 1) | self.stopped | ~ports.prefetch_enable
        if self.many:
            experts, units = g.config.model.experts, g.config.model.shared_units
            self.streaming, self.sweeping, self.swept = Signal(), Signal(), Signal()
            self.sweep, self.next_swept = Signal(range(experts + units + 1)), Signal(g.expert_bits)
            self.stale |= self.streaming
            m.d.comb += [
                self.sweeping.eq(self.streaming & ~self.stopped & ports.prefetch_enable
                                 & (self.sweep != ports.shape.experts + units)),
                self.next_swept.eq(Mux(self.sweep < units, experts + self.sweep,
                                       self.sweep - units) if units else self.sweep)]
        m.d.comb += [  # right in every cycle in which an answer is used
            self.resident.at.layer.eq(self.candidate.layer),
            self.resident.at.expert.eq(self.candidate.expert)]
        if self.many:
            with m.If(~ports.candidates.valid):
                m.d.comb += [self.resident.at.layer.eq(self.about),
                             self.resident.at.expert.eq(self.next_swept)]
        with m.If(ports.routed.valid):
            m.d.comb += [self.resident.at.layer.eq(self.routed.layer),
                         self.resident.at.expert.eq(self.routed.expert)]
        m.d.comb += self.deep.eq(self.guessing | (self.candidate.layer != self.about))

        # Event and work of this decision.
        self.made, self.made_of = Signal(interfaces.event(g)), Signal(len(interfaces.Event))
        self.shared = Signal()
        self.push = Signal(interfaces.work(g))
        m.d.comb += self.queue.w_data.eq(self.push)

        # Slots.
        self.list_ready = self.order.op.ready
        self.report = Signal(interfaces.status(g))
        self.unused, self.landing = Signal(g.slot_bits), Signal()
        self.landed = Signal(g.landed_bits)
        self.tag = Signal(data.StructLayout(interfaces.expert_tag(g)))
        self.slot, self.chosen, self.evictable = Signal(g.slot_bits), Signal(), Signal()
        self.subject = subject = Signal(g.slot_bits)
        resident, retention, found = self.resident, self.retention, self.found
        m.d.comb += [
            self.record.eq(subject), self.record_write.addr.eq(subject),
            self.order.op.payload.slot.eq(subject), resident.to_slot.eq(subject),
            retention.state.slot.eq(subject),
            retention.predicted.slot.eq(subject),
            self.evictable.eq(
                (found.state == SlotState.READY) & ~found.pinned & ~found.promised),
            self.slot.eq(Mux(ports.retention, retention.victim, self.order.front)),
            self.chosen.eq(self.list_ready & self.order.front_valid
                           & (retention.ready | ~ports.retention)),
            retention.enable.eq(ports.retention), retention.layers.eq(ports.shape.layers),
            retention.layer.eq(self.layer), retention.of_layer.eq(self.tag.layer),
            retention.about.eq(self.about),
            resident.also_ask.eq(retention.ask), resident.also_at.eq(retention.at),
            retention.found.eq(resident.also_found), retention.slot.eq(resident.also_slot)]
        worth, slack = self.worth, self.slack
        m.d.comb += [
            slack.beat.eq(ports.link_beat), slack.active.eq(~ports.link_idle),
            slack.quiet.eq(~ports.link_demanded & ~self.missed.any()),
            worth.slack.eq(slack.slack), worth.score.eq(self.candidate.score),
            worth.expert.eq(self.candidate.expert), worth.near.eq(~self.tag_deep),
            worth.counted.eq(ports.counted), worth.floor.eq(ports.worth_floor),
            worth.of.eq(self.routed.expert), worth.rows_slack.eq(ports.rows_slack)]
        self.pays, self.keep = Signal(), Signal()  # of the cycle before
        m.d.sync += [self.pays.eq(worth.pays), self.keep.eq(retention.keep)]

    def log(self, kind, tag=None, slot=0, arg=0):
        """The event of this cycle."""
        made = self.made
        self.m.d.comb += [self.made_of[kind].eq(1), made.kind.eq(kind), made.slot.eq(slot),
                          made.arg.eq(arg)]
        if tag is not None:
            self.m.d.comb += [made.layer.eq(tag.layer), made.expert.eq(tag.expert)]

    def write_record(self, **fields):
        """The slot's record becomes ``fields``, all others 0."""
        write = self.record_write
        self.m.d.comb += [write.en.eq(1),
                          *(write.data[name].eq(value) for name, value in fields.items())]

    def update_record(self, **fields):
        """``fields`` of the slot's record change; it has been read."""
        self.write_record(**({name: self.found[name] for name, _ in self.layout} | fields))

    def set_resident(self, tag, value=1):
        """An expert is in the slot, or no longer in one."""
        to = self.resident.to
        self.m.d.comb += [self.resident.write.eq(1), to.layer.eq(tag.layer),
                          to.expert.eq(tag.expert),
                          self.resident.resident.eq(value)]

    def list_op(self, kind, free=0):
        """The slot becomes evictable, possibly ``free``, or is no longer, or changes its place."""
        op = self.order.op
        self.m.d.comb += [op.valid.eq(1), op.payload.kind.eq(kind)]
        if kind != ListOp.MOVE_BACK:
            self.set_state(evictable=kind != ListOp.REMOVE, free=free)

    def set_state(self, **fields):
        """State of the slot as the search for victims sees it."""
        state = self.retention.state
        self.m.d.comb += [state.valid.eq(1),
                          *(state[name].eq(value) for name, value in fields.items())]

    def predicted(self):
        """The slot's expert, that of ``tag``, is expected when its layer is visited next."""
        self.m.d.comb += self.retention.predicted.valid.eq(1)

    def free(self):
        """The slot, whose record has been read, is freed."""
        self.write_record()
        self.set_resident(self.found, 0)
        self.list_op(ListOp.PUSH_FRONT, free=1)

    def hand_out(self, slot, rank):
        """Work for the PEs."""
        self.m.d.comb += [self.queue.w_en.eq(1), self.push.slot.eq(slot),
                          self.push.gate.eq(self.gates[rank])]
        if self.config.dense_blobs:
            self.m.d.comb += self.push.matrix.eq(self.matrix)

    def dense(self, tag):
        """Whether a blob is of dense weights, of which nothing is kept."""
        return tag.expert >= self.config.model.expert_ids

    def begin_round(self, layer, guessing=0):
        """A round of candidates about ``layer``; settling begins from the first promise."""
        self.m.d.sync += [self.about.eq(layer), self.guessing.eq(guessing), self.index.eq(0),
                          self.rounds.eq(self.rounds + 1), self.stopped.eq(0),
                          self.wanted_valid.eq(0), self.kept.eq(0)]

    def decided(self, judged=True):
        """``tag`` is done with: a candidate, ``judged`` by its worth, or the next of a sweep."""
        m = self.m

        def candidate():
            m.d.comb += [self.ports.candidates.ready.eq(1), self.worth.decided.eq(judged)]

        if not self.many:
            return candidate()
        with m.If(self.swept):
            m.d.sync += self.sweep.eq(self.sweep + 1)
        with m.Else():
            candidate()

    def keep_promise(self, number, slot):
        """Promise ``number`` is of ``slot``."""
        write = self.promise_write
        self.m.d.comb += [write.en.eq(1), write.addr.eq(number), write.data.eq(slot)]

    def visit(self):
        """The layer's frequencies and due times are updated, beside what follows."""
        self.m.d.comb += self.retention.visit.eq(1)
        self.m.d.sync += self.visit_due.eq(0)
