"""Components that occur many times in a netlist, emitted as one module each."""

from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Value
from amaranth.lib.wiring import Component, In

__all__ = ["Emission", "share"]


class Emission:
    """Platform of an emission: collects the components that :func:`share` was asked for.

    Attributes
    ----------
    units: module name and component, by class and arguments, in the order of their first use.
    """

    def __init__(self, name: str):
        self.name = name
        self.units: dict[tuple[type, tuple], tuple[str, Component]] = {}

    def module(self, kind: type, args: tuple) -> tuple[str, Component]:
        """The module of ``kind(*args)``: its name and the component that describes it."""
        if (kind, args) not in self.units:
            same = sum(other is kind for other, _ in self.units)
            name = f"{self.name}.{kind.__name__}" + (f"_{same}" if same else "")
            self.units[kind, args] = name, kind(*args)
        return self.units[kind, args]


def share(m: Module, name: str, platform: Any, kind: type, *args: Any) -> Any:
    """Add ``kind(*args)`` to ``m`` as submodule ``name``; its interface.

    The component must have clocked logic, and ``args`` must be hashable and say all that it depends
    on. In an :class:`Emission` there is one module of all equal ones; elsewhere, as in simulation,
    each is a submodule of its own.
    """
    if not isinstance(platform, Emission):
        unit = kind(*args)
        m.submodules[name] = unit
        return unit
    module, prototype = platform.module(kind, args)
    interface = prototype.signature.create(path=(name,))
    ports = {}
    for path, member, value in prototype.signature.flatten(interface):
        direction = "i" if member.flow == In else "o"
        ports[f"{direction}_{'__'.join(map(str, path))}"] = Value.cast(value)
    m.submodules[name] = Instance(module, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
    return interface
