"""Protocol rules of AXI4's write channels, checked of a port that is only looked at."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import AxiWriteSignature
from .axi_check import EXOKAY, AddressRules, AxiRule, first_broken, standing

__all__ = ["AxiWriteCheck"]


class AxiWriteCheck(wiring.Component):
    """Looks at the write channels and names the rule that a side breaks in this cycle.

    Combinational from the channels; once a rule was broken, later codes mean nothing. Data may
    come before, with or after their address. Data of one burst may be complete ahead of its
    address, not of more: else ``full``, and the check says nothing from there on. All bursts have
    to have one id, as those of this project's writers, so that responses come in order; the id of
    a response is not looked at. Beats have to be as wide as the bus. Reset: nothing in flight.

    Parameters
    ----------
    geometry: Geometry
    bursts: most bursts whose data or response is due, at least 1.

    Members
    -------
    aw, w, b: valid, ready and payload of the channels, see :func:`watch`.
    manager, subordinate: the rule that this side breaks, an :class:`AxiRule`.
    full: more bursts than can be followed.
    """

    def __init__(self, geometry: Geometry, bursts: int):
        self.geometry, self.bursts = geometry, bursts
        members = AxiWriteSignature(geometry).members
        super().__init__({
            **{name: In(data.StructLayout({
                "valid": 1, "ready": 1,
                "payload": members[name].signature.members["payload"].shape}))
               for name in ("aw", "w", "b")},
            "manager": Out(4), "subordinate": Out(4), "full": Out(1)})

    def watch(self, m: Module, axi: wiring.PureInterface) -> None:
        """Connect to the channels of ``axi``."""
        for name in ("aw", "w", "b"):
            seen, channel = getattr(self, name), getattr(axi, name)
            m.d.comb += [seen.valid.eq(channel.valid), seen.ready.eq(channel.ready),
                         seen.payload.eq(channel.payload)]

    def elaborate(self, platform):
        m = Module()
        aw, w, b = self.aw, self.w, self.b
        m.submodules.request = request = AddressRules(self.geometry, narrow=False)
        m.d.comb += request.payload.eq(aw.payload)
        asked, sent, beat = aw.valid & aw.ready, w.valid & w.ready, Signal(9)
        address = Signal(data.StructLayout({"beats": 9, "offset": range(self.geometry.axi_bytes)}))
        m.d.comb += [address.beats.eq(request.beats), address.offset.eq(aw.payload.addr)]

        # Addresses whose data are due, the oldest first; or data complete ahead of their address.
        queue = [Signal(address.shape(), name=f"due_{i}") for i in range(self.bursts)]
        due = Signal(range(self.bursts + 1))
        early = Signal(data.StructLayout({"valid": 1, "beats": 9, "low": range(
            self.geometry.axi_bytes)}))  # with the lowest strobe that was set at its first beat
        low = Signal(range(self.geometry.axi_bytes))
        lowest = Signal.like(low)  # first beat's, this one's if it is the first
        strobe = Signal.like(low)
        for lane in reversed(range(self.geometry.axi_bytes)):
            with m.If(w.payload.strb[lane]):
                m.d.comb += strobe.eq(lane)
        m.d.comb += lowest.eq(Mux(beat == 0, Mux(w.payload.strb.any(), strobe, ~0), low))
        done = Signal()  # an address and all its data
        matched, front = Signal(), Signal.like(address)
        known = Signal()  # the address of the data on W, this cycle's too
        m.d.comb += [
            known.eq((due != 0) | (aw.valid & ~early.valid)),
            front.eq(Mux(due != 0, queue[0], address)),
            done.eq(Mux(early.valid, asked, sent & w.payload.last & ((due != 0) | asked))),
            matched.eq(asked & (early.valid | ((due == 0) & sent & w.payload.last)))]
        with m.If(sent):
            m.d.sync += [beat.eq(Mux(w.payload.last, 0, beat + 1)), low.eq(lowest)]
        with m.If(early.valid & asked):
            m.d.sync += early.valid.eq(0)
        with m.Elif(sent & w.payload.last & (due == 0) & ~asked):
            m.d.sync += [early.valid.eq(1), early.beats.eq(beat + 1), early.low.eq(lowest)]

        taking, leaving = Signal(), Signal()
        m.d.comb += [taking.eq(asked & ~matched),
                     leaving.eq(sent & w.payload.last & (due != 0))]
        for i in range(self.bursts):
            with m.If(leaving):
                if i + 1 < self.bursts:
                    m.d.sync += queue[i].eq(queue[i + 1])
            with m.If(taking & (due == i + leaving)):
                m.d.sync += queue[i].eq(address)
        m.d.sync += due.eq(due + taking - leaving)
        owed = Signal(range(self.bursts + 1))  # responses
        m.d.sync += owed.eq(owed + done - (b.valid & b.ready))
        m.d.comb += self.full.eq(
            (taking & ~leaving & (due == self.bursts)) | (early.valid & w.valid)
            | (done & ~(b.valid & b.ready) & (owed == self.bursts)))

        aw_early, aw_changed = standing(m, aw, "aw")
        w_early, w_changed = standing(m, w, "w")
        wrong_last = w.valid & known & (w.payload.last != (beat + 1 == front.beats))
        below = w.valid & known & (lowest < front.offset)
        with m.If(aw.valid):
            m.d.comb += self.manager.eq(request.broken)
        for rule, broken in (
                (AxiRule.STROBE, below | (aw.valid & early.valid & (early.low < address.offset))),
                (AxiRule.LAST, wrong_last
                 | (aw.valid & early.valid & (early.beats != address.beats))),
                (AxiRule.STABLE, aw_changed | w_changed), (AxiRule.RESET, aw_early | w_early)):
            with m.If(broken):
                m.d.comb += self.manager.eq(rule)
        b_early, b_changed = standing(m, b, "b")
        m.d.comb += self.subordinate.eq(first_broken({
            AxiRule.RESET: b_early, AxiRule.STABLE: b_changed,
            AxiRule.UNASKED: b.valid & (owed == 0),
            AxiRule.RESPONSE: b.valid & (b.payload.resp == EXOKAY)}))
        return m
