"""What is proved of a component: free inputs, assumptions, rules."""

from collections.abc import Iterator
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import (
    Assert,
    Assume,
    ClockDomain,
    Elaboratable,
    Module,
    Shape,
    Signal,
    Value,
)
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Bench", "streams"]


class Rule(Elaboratable):
    """Module of its own, so that the solver names the rule that fails."""

    def __init__(self):
        self.holds = Signal()
        self.asserted = True

    def elaborate(self, platform):
        m = Module()
        if self.asserted:
            m.d.comb += Assert(self.holds)
        return m


def streams(interface: Any, path: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Every stream port below an interface: its name, itself, and whether the interface gives."""
    for name, member in interface.signature.members.items():
        if not member.is_signature:
            continue
        found = getattr(interface, name)
        for index in range(len(found)) if member.dimensions else (None,):
            one = found if index is None else found[index]
            label = f"{path}{name}" + ("" if index is None else f"_{index}")
            if isinstance(member.signature, stream.Signature):
                yield label, one, member.flow is Out
            else:  # an interface that is taken comes with its members' directions reversed
                yield from streams(one, f"{label}_")


class Bench:
    """A design under proof. Inputs of what is added are free unless something drives them.

    The first step is the state after reset; an induction's is any that keeps the assumptions.

    Attributes
    ----------
    m: top module. ports: signals that the solver chooses.
    """

    def __init__(self) -> None:
        self.m = Module()
        self.m.domains.sync = self.clock = ClockDomain(reset_less=True)
        self.ports: list[Signal] = []
        self.rules: dict[str, Rule] = {}
        self.started = Signal()  # not the first step
        self.m.d.sync += self.started.eq(1)

    def free(self, shape: Any, name: str) -> Signal:
        """A value that the solver chooses in each step."""
        signal = Signal(shape, name=name)
        self.ports.append(signal.as_value() if not isinstance(signal, Value) else signal)
        return signal

    def constant(self, shape: Any, name: str) -> Signal:
        """A value that the solver chooses once."""
        signal = self.free(shape, name)
        self.still(signal)
        return signal

    def add(self, component: wiring.Component, name: str = "dut", module: Any = None) -> Any:
        """Put a component (or the ``module`` that it was elaborated to) under proof."""
        self.m.submodules[name] = component if module is None else module
        for _, member, value in component.signature.flatten(component):
            if member.flow == In:
                self.ports.append(Value.cast(value))
        return component

    def past(self, value: Any, init: int = 0) -> Signal:
        """The value one step before; ``init`` in the first step."""
        value = Value.cast(value)
        before = Signal(Shape(len(value)), init=init, name=f"past_{len(self.rules)}")
        self.m.d.sync += before.eq(value)
        return before

    def assume(self, condition: Any) -> None:
        """Holds in every step."""
        self.m.d.comb += Assume(condition)

    def still(self, *values: Any) -> None:
        """Assume that values never change."""
        for value in values:
            value = Value.cast(value)
            self.assume(~self.started | (self.past(value) == value))

    def rule(self, name: str, condition: Any) -> None:
        """To be proved of every step."""
        self.m.submodules[f"rule_{name}"] = rule = Rule()
        self.m.d.comb += rule.holds.eq(Value.cast(condition).any())
        self.rules[name] = rule

    def only(self, name: str) -> "Bench":
        """Assert one rule; the others, which may break in the same step, say nothing."""
        if name not in self.rules:
            raise ValueError(f"no rule {name!r}, only {', '.join(self.rules)}")
        for other, rule in self.rules.items():
            rule.asserted = other == name
        return self

    def stable(self, port: Any) -> Value:
        """A stream's offer stands until it is taken."""
        offer = Value.cast(port.payload)
        stalled = self.past(port.valid & ~port.ready)
        return ~stalled | (port.valid & (self.past(offer) == offer))

    def rtlil(self) -> str:
        """The design for yosys, top module ``top``."""
        return rtlil.convert(self.m, ports=[self.clock.clk, *self.ports], emit_src=False)
