"""Buffers for nets that drive more than the library allows, as a layout tool adds them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .liberty import Cell
from .library_timing import Gate

__all__ = ["buffered", "strongest_buffer"]


def strongest_buffer(cells: Mapping[str, Cell]) -> Cell | None:
    """The buffer that may drive most for its own input's capacitance."""
    return max((cell for cell in cells.values() if cell.is_buffer and cell.most),
               key=lambda cell: max(cell.most.values()) / sum(cell.inputs.values()), default=None)


def buffered(gates: Sequence[Gate], cells: Mapping[str, Cell], wire_pf: float) -> list[Gate]:
    """``gates`` with trees of the library's strongest buffer on nets whose load, pins and
    ``wire_pf`` for each, is above the ``max_capacitance`` of the pin that drives them.

    Each buffer takes up to half of what it may drive: beyond that its own transition is slow.
    Clocks, ports and what has no limit are left as they are; abc has buffered inside units, so
    these are nets between units and to memories.
    """
    buffer = strongest_buffer(cells)
    if buffer is None:
        return list(gates)
    (into,), (out,) = buffer.inputs, buffer.outputs
    own, share = buffer.inputs[into] + wire_pf, buffer.most[out] / 2
    found: list[tuple[str, str, dict[str, Any]]] = [
        (name, kind, dict(nets)) for name, kind, nets in gates]
    sinks: dict[int, list[tuple[dict[str, Any], str, float]]] = defaultdict(list)
    limits: dict[int, float] = {}
    fresh = 1
    for _, kind, nets in found:
        cell = cells[kind]
        for pin, bit in nets.items():
            if isinstance(bit, int):
                fresh = max(fresh, bit + 1)
                if pin in cell.inputs:
                    sinks[bit].append((nets, pin, cell.inputs[pin] + wire_pf))
                elif pin in cell.most:
                    limits[bit] = cell.most[pin]
    for bit, limit in limits.items():
        level = sinks[bit]
        while sum(load for *_, load in level) > limit and len(level) > 1:
            above: list[tuple[dict[str, Any], str, float]] = []
            taken = share + 1
            for nets, pin, load in level:
                if taken + load > share:
                    made: dict[str, Any] = {into: bit, out: fresh}
                    found.append((f"buffer {fresh}", buffer.name, made))
                    above.append((made, into, own))
                    fresh, taken = fresh + 1, 0.0
                nets[pin], taken = fresh - 1, taken + load
            if len(above) >= len(level):
                break
            level = above
    return [*found]
