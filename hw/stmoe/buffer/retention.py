"""Retention ``ewma``: use frequencies, due times of what the buffer holds, and the next victim."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import expert_tag
from .frequency import LEADERS, UseFrequency
from .victim import CLOCK_BITS, VictimScan, slot_state

__all__ = ["Retention"]

VISIT = 4  # of the clock, which counts quarters of layer visits
LATENCY = 7  # of UseFrequency


class Retention(wiring.Component):
    """Formats and policy: golden's ``stmoe_golden/buffer/retention.py``, bit for bit.

    A ``visit`` takes an expert per cycle, ``busy`` for as many cycles as the model has experts, and
    8 more; a ``refresh`` is busy for 9 cycles. Then a scan looks for the victim. Neither is given
    while ``busy``, nor may residency change but by slots that become free. Reset: nothing under
    way; frequencies and due times as they were, which a flush must follow.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    enable: otherwise nothing is kept up to date; stands from one flush to the next.
    route, layer: a layer is routed, in work until the next. used: one of its experts, by rank.
    visit: its experts' frequencies and due times are to be updated.
    refresh: an expert of it came to the buffer after the visit and needs a due time.
    ask, at, found, slot: lookup in the residency map, answered in the next cycle.
    state: of a slot, to :class:`VictimScan`. predicted: slot whose expert is predicted for
        ``of_layer``, not before ``about``, the layer that comes next.
    victim, ready: slot that goes next, and whether that is up to date. keep: it is not free, and
        expected to be used no later than ``of_layer`` is visited. due: a slot's new due time.
    clear, position: the expert at this place of the residency map is forgotten, the clock is 0.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        tag = data.StructLayout(expert_tag(g))
        on_expert = data.StructLayout({"valid": 1, "expert": g.expert_bits})
        super().__init__({
            "enable": In(1), "layers": In(9), "route": In(1), "layer": In(g.layer_bits),
            "used": In(on_expert), "visit": In(1), "refresh": In(on_expert), "busy": Out(1),
            "ask": Out(1), "at": Out(tag), "found": In(1), "slot": In(g.slot_bits),
            "state": In(slot_state(g.slot_bits)),
            "predicted": In(data.StructLayout({"valid": 1, "slot": g.slot_bits})),
            "of_layer": In(g.layer_bits), "about": In(range(g.config.model.layers + 1)),
            "victim": Out(g.slot_bits), "ready": Out(1), "keep": Out(1),
            "due": Out(data.StructLayout({"valid": 1, "slot": g.slot_bits, "time": CLOCK_BITS})),
            "clear": In(1), "position": In(g.layer_bits + g.expert_bits)})

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        m.submodules.scan = scan = VictimScan(g.banks)
        m.submodules.frequency = frequency = UseFrequency(g)
        ids = g.config.model.expert_ids
        clock = Signal(CLOCK_BITS)
        mask = Signal(1 << g.expert_bits)
        leader, led = Signal(range(LEADERS)), Signal()
        m.submodules.leaders = leaders = memory.Memory(
            shape=range(LEADERS), depth=max(2, g.config.model.layers), init=[])
        former, write_leader = leaders.read_port(), leaders.write_port()
        with m.If(self.clear):
            m.d.sync += clock.eq(0)
        with m.Elif(self.route):
            m.d.sync += [clock.eq(clock + VISIT), mask.eq(0), leader.eq(0), led.eq(0)]
        with m.If(self.used.valid):
            m.d.sync += [mask.bit_select(self.used.expert, 1).eq(1), led.eq(1)]
            with m.If(~led):
                m.d.sync += leader.eq(self.used.expert)

        # A visit or a refresh: experts one after the other.
        running, update = Signal(), Signal()
        expert, last = Signal(g.expert_bits), Signal(g.expert_bits)
        with m.If(self.visit & self.enable):
            m.d.sync += [running.eq(1), update.eq(1), expert.eq(0), last.eq(ids - 1)]
        with m.Elif(self.refresh.valid & self.enable):
            m.d.sync += [running.eq(1), update.eq(0), expert.eq(self.refresh.expert),
                         last.eq(self.refresh.expert)]
        with m.Elif(running):
            m.d.sync += [expert.eq(expert + 1), running.eq(expert != last)]
        ask = frequency.ask
        m.d.comb += [
            ask.valid.eq(running), ask.update.eq(update), ask.used.eq(mask.bit_select(expert, 1)),
            ask.leader.eq(leader), ask.former.eq(former.data), former.addr.eq(self.layer),
            write_leader.en.eq(self.clear | (running & update & (expert == last))),
            write_leader.addr.eq(Mux(self.clear, self.position >> g.expert_bits, self.layer)),
            write_leader.data.eq(Mux(self.clear, 0, leader)),
            ask.layer.eq(self.layer), ask.expert.eq(expert), frequency.layers.eq(self.layers),
            frequency.clear.eq(self.clear), frequency.at.eq(self.position),
            self.ask.eq(running), self.at.layer.eq(self.layer), self.at.expert.eq(expert)]

        # Where it is, if it is: known after one cycle, its due time after ``LATENCY``.
        place = data.StructLayout({"found": 1, "slot": g.slot_bits})
        places = [Signal(place, name=f"place_{i}") for i in range(1, LATENCY)]
        answer = Signal(place)
        m.d.comb += [answer.found.eq(self.found), answer.slot.eq(self.slot)]
        for earlier, later in zip([answer, *places], places, strict=False):
            m.d.sync += later.eq(earlier)
        at = places[-1]
        flying = Signal(LATENCY)
        m.d.sync += flying.eq(Cat(running, flying))
        m.d.comb += self.busy.eq(running | flying.any())

        visits = Signal(range(-g.config.model.layers, g.config.model.layers + 2))
        m.d.comb += [
            visits.eq(self.of_layer - self.about + 1), scan.state.eq(self.state),
            scan.hold.eq(self.busy | ~self.enable), scan.clock.eq(clock),
            self.victim.eq(scan.victim), self.ready.eq(scan.ready & ~self.busy),
            self.keep.eq(~scan.victim_free & (
                (scan.victim_due - clock)[:CLOCK_BITS].as_signed() <= VISIT * visits))]
        m.d.comb += scan.due.eq(self.due)
        with m.If(self.predicted.valid):
            m.d.comb += [self.due.valid.eq(1), self.due.slot.eq(self.predicted.slot),
                         self.due.time.eq(clock + VISIT * visits)]
        with m.Else():
            m.d.comb += [self.due.valid.eq(frequency.wait.valid & at.found),
                         self.due.slot.eq(at.slot), self.due.time.eq(clock + frequency.wait.time)]
        return m
