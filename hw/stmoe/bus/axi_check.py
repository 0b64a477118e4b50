"""Protocol rules of AXI4, checked of a port that is only looked at."""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import AxiReadSignature

__all__ = ["AddressRules", "AxiReadCheck", "AxiRule", "first_broken", "standing"]

PAGE_BYTES = 4096
INCR, WRAP = 1, 2
EXOKAY = 1


class AxiRule(IntEnum):
    """What is broken; section numbers are those of Arm IHI 0022H, AMBA AXI and ACE."""

    NONE = 0
    RESET = 1  # valid in the first cycle after reset (A3.1.2)
    STABLE = 2  # an offer changed or was withdrawn before it was taken (A3.2.1)
    BURST = 3  # a reserved burst type, or a length that this type cannot have (A3.4.1)
    PAGE = 4  # a burst crosses 4 KiB (A3.4.1)
    SIZE = 5  # beats wider than the bus (A3.4.1), or, for writes, narrower: not checked further
    ALIGNED = 6  # a wrapping burst that does not begin at a beat (A3.4.1)
    REUSED = 7  # an id with a burst in flight: AXI has no such rule, this project's ports have
    UNASKED = 8  # an answer to nothing, or before the request was complete (A3.3.1)
    LAST = 9  # the last beat is not marked, or another is (A3.4.1)
    RESPONSE = 10  # exclusive access was not asked for (A3.4.4)
    STROBE = 11  # a strobe below the address of an unaligned burst (A3.4.3)


def standing(m: Module, channel: Value, name: str) -> tuple[Value, Value]:
    """Whether a channel, a stream, breaks RESET, and STABLE, in this cycle."""
    fresh = Signal(init=1, name=f"{name}_fresh")
    stalled = Signal(name=f"{name}_stalled")
    payload = Value.cast(channel.payload)
    held = Signal(len(payload), name=f"{name}_held")
    m.d.sync += [fresh.eq(0), stalled.eq(channel.valid & ~channel.ready), held.eq(payload)]
    return fresh & channel.valid, stalled & (~channel.valid | (held != payload))


def first_broken(rules: dict[AxiRule, Value]) -> Value:
    """Code of the first rule that is broken; a mapping's value says that it is."""
    code: Value = Value.cast(int(AxiRule.NONE))
    for rule, broken in reversed(rules.items()):
        code = Mux(broken, int(rule), code)
    return code


class AddressRules(wiring.Component):
    """Rules of an AW or AR payload, combinational.

    Parameters
    ----------
    geometry: Geometry. narrow: whether beats narrower than the bus are allowed.

    Members
    -------
    payload: the request. broken: the rule that it breaks, an :class:`AxiRule`. beats: its length.
    """

    def __init__(self, geometry: Geometry, *, narrow: bool = True):
        self.geometry, self.narrow = geometry, narrow
        address = AxiReadSignature(geometry).members["ar"].signature.members["payload"].shape
        super().__init__({"payload": In(address), "broken": Out(4), "beats": Out(9)})

    def elaborate(self, platform):
        m = Module()
        request, widest = self.payload, self.geometry.axi_bytes.bit_length() - 1
        offset, low = Signal(12), Signal(12)
        last = Signal(17)  # offset behind the last byte of an incrementing burst
        m.d.comb += [
            self.beats.eq(request.len + 1), offset.eq(request.addr),
            low.eq((1 << request.size) - 1),  # offset within a beat
            last.eq((offset & ~low) + (self.beats << request.size))]
        fits = Cat(self.beats == beats for beats in (2, 4, 8, 16)).any()
        size_broken = request.size > widest if self.narrow else request.size != widest
        m.d.comb += self.broken.eq(first_broken({
            AxiRule.BURST: (request.burst == 3) | ((request.burst == 0) & (self.beats > 16))
            | ((request.burst == WRAP) & ~fits),
            AxiRule.SIZE: size_broken,
            AxiRule.ALIGNED: (request.burst == WRAP) & (offset & low).any(),
            AxiRule.PAGE: (request.burst == INCR) & (last > PAGE_BYTES)}))
        return m


class AxiReadCheck(wiring.Component):
    """Looks at the read channels and names the rule that a side breaks in this cycle.

    Combinational from the channels, so that a proof may assume one side and assert the other. Once
    a rule was broken, later codes mean nothing. Answers of different ids come in any order and may
    be interleaved; a burst's beats are counted. Checks what holds for every port of AXI4, and that
    an id has one burst in flight, as this project's readers have it. Not checked: that anything is
    ever answered, and that no valid waits for its ready, which no trace shows.
    Reset: nothing in flight.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    ar, r: valid, ready and payload of the channels, see :func:`watch`.
    manager, subordinate: the rule that this side breaks, an :class:`AxiRule`.
    left: per id, beats of a burst that was asked for which are still to come, 0: none in flight.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        members = AxiReadSignature(geometry).members
        super().__init__({
            **{name: In(data.StructLayout({
                "valid": 1, "ready": 1,
                "payload": members[name].signature.members["payload"].shape}))
               for name in ("ar", "r")},
            "manager": Out(4), "subordinate": Out(4),
            "left": Out(data.ArrayLayout(9, 1 << geometry.id_bits))})

    def watch(self, m: Module, axi: wiring.PureInterface) -> None:
        """Connect to the channels of ``axi``."""
        for name in ("ar", "r"):
            seen, channel = getattr(self, name), getattr(axi, name)
            m.d.comb += [seen.valid.eq(channel.valid), seen.ready.eq(channel.ready),
                         seen.payload.eq(channel.payload)]

    def elaborate(self, platform):
        m = Module()
        ar, r, left = self.ar, self.r, self.left
        m.submodules.request = request = AddressRules(self.geometry)
        m.d.comb += request.payload.eq(ar.payload)
        with m.If(r.valid & r.ready & (left[r.payload.id] != 0)):
            m.d.sync += left[r.payload.id].eq(left[r.payload.id] - 1)
        with m.If(ar.valid & ar.ready):
            m.d.sync += left[ar.payload.id].eq(request.beats)

        early, changed = standing(m, ar, "ar")
        with m.If(ar.valid):
            m.d.comb += self.manager.eq(request.broken)
        for rule, broken in (
                (AxiRule.REUSED, ar.valid & (left[ar.payload.id] != 0)),
                (AxiRule.STABLE, changed), (AxiRule.RESET, early)):
            with m.If(broken):
                m.d.comb += self.manager.eq(rule)
        early, changed = standing(m, r, "r")
        m.d.comb += self.subordinate.eq(first_broken({
            AxiRule.RESET: early, AxiRule.STABLE: changed,
            AxiRule.UNASKED: r.valid & (left[r.payload.id] == 0),
            AxiRule.LAST: r.valid & (r.payload.last != (left[r.payload.id] == 1)),
            AxiRule.RESPONSE: r.valid & (r.payload.resp == EXOKAY)}))
        return m
