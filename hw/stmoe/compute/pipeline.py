"""Delays along a pipeline."""

from amaranth.hdl import Module, Signal, Value

__all__ = ["delay"]


def delay(m: Module, value: Value, cycles: int, name: str) -> Value:
    """``value`` as it was ``cycles`` clock cycles ago; zero before reset's end."""
    for index in range(cycles):
        stage = Signal(value.shape(), name=f"{name}_{index + 1}")
        m.d.sync += stage.eq(value)
        value = stage
    return value
