"""Protocol rules of AXI4-Lite, checked of a port that is only looked at."""

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .axi_check import EXOKAY, AxiRule, first_broken, standing
from .axil import axil_members

__all__ = ["AxiLiteCheck"]

PAYLOADS = {"aw": ("addr", "prot"), "w": ("data", "strb"), "b": ("resp",), "ar": ("addr", "prot"),
            "r": ("data", "resp")}


class AxiLiteCheck(wiring.Component):
    """Looks at an AXI4-Lite port and names the rule that a side breaks in this cycle.

    Combinational from the port; once a rule was broken, later codes mean nothing. Address and data
    of a write come in any order; each response needs both, taken in cycles before.
    Reset: nothing in flight.

    Parameters
    ----------
    depth: most requests of a channel that are followed without an answer, at least 1.

    Members
    -------
    awaddr .. rready: all of the port, as inputs; see :func:`watch`.
    manager, subordinate: the rule that this side breaks, an :class:`~.axi_check.AxiRule`.
    owed_aw, owed_w, owed_ar: requests taken whose response is due.
    full: more requests than can be followed; the codes say nothing from here on.
    """

    def __init__(self, depth: int = 4):
        self.depth = depth
        super().__init__({
            **{name: In(member.shape) for name, member in axil_members().items()},
            **{f"owed_{name}": Out(range(depth + 1)) for name in ("aw", "w", "ar")},
            "manager": Out(4), "subordinate": Out(4), "full": Out(1)})

    def watch(self, m: Module, port: Any) -> None:
        """Connect to ``port``, which has the members of an AXI4-Lite subordinate."""
        m.d.comb += [getattr(self, name).eq(getattr(port, name)) for name in axil_members()]

    def elaborate(self, platform):
        m = Module()
        early, changed, taken, valid = {}, {}, {}, {}
        for name, fields in PAYLOADS.items():
            parts = {field: Value.cast(getattr(self, name + field)) for field in fields}
            layout = data.StructLayout({
                "valid": 1, "ready": 1, "payload": data.StructLayout(
                    {field: len(value) for field, value in parts.items()})})
            channel = Signal(layout, name=name)
            valid[name] = getattr(self, f"{name}valid")
            m.d.comb += [channel.valid.eq(valid[name]),
                         channel.ready.eq(getattr(self, f"{name}ready")),
                         *(channel.payload[field].eq(value) for field, value in parts.items())]
            early[name], changed[name] = standing(m, channel, name)
            taken[name] = channel.valid & channel.ready
        owed = {}
        for request, answer in (("aw", "b"), ("w", "b"), ("ar", "r")):
            owed[request] = count = getattr(self, f"owed_{request}")
            m.d.sync += count.eq(count + taken[request] - taken[answer])
            with m.If(taken[request] & ~taken[answer] & (count == self.depth)):
                m.d.comb += self.full.eq(1)
        requests, answers = ("aw", "w", "ar"), ("b", "r")
        m.d.comb += [
            self.manager.eq(first_broken({
                AxiRule.RESET: sum(early[name] for name in requests) != 0,
                AxiRule.STABLE: sum(changed[name] for name in requests) != 0})),
            self.subordinate.eq(first_broken({
                AxiRule.RESET: sum(early[name] for name in answers) != 0,
                AxiRule.STABLE: sum(changed[name] for name in answers) != 0,
                AxiRule.UNASKED: (valid["b"] & ((owed["aw"] == 0) | (owed["w"] == 0)))
                | (valid["r"] & (owed["ar"] == 0)),
                AxiRule.RESPONSE: (valid["b"] & (self.bresp == EXOKAY))
                | (valid["r"] & (self.rresp == EXOKAY))}))]
        return m
