"""A token of a point as a timeline: for the page, and for ui.perfetto.dev."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stmoe_golden.buffer.manager import Kind

from ..explore.evaluate import Bench
from ..explore.sweep import Point
from .timeline import LAYERS, chrome_trace

__all__ = ["LANES", "Token", "chosen_token"]

LANES = {"layer": "layers", "demand load": "loads on demand", "prefetch": "prefetches",
         "in use": "there, in use"}
"""Kinds of spans, and what their rows are called."""


@dataclass(frozen=True)
class Token:
    """``chrome``: Chrome trace of the token. ``spans``: [kind of :data:`LANES` by number, row of
    that kind, begin and length in microseconds from the token's begin, name]. ``microseconds``: of
    the token; ``number``: which of those measured."""

    chrome: dict[str, Any]
    spans: list[list[Any]]
    microseconds: float
    number: int


def _kind(name: str, layers: bool) -> int:
    if layers:
        return 0
    return 3 if "in use" in name else 2 if "prefetch" in name else 1


def _rows(spans: list[list[Any]]) -> None:
    """Give spans that overlap rows of their own, kind by kind."""
    for kind in range(len(LANES)):
        ends: list[float] = []
        for span in sorted((span for span in spans if span[0] == kind), key=lambda one: one[2]):
            row = next((row for row, end in enumerate(ends) if end <= span[2] + 1e-9), len(ends))
            ends[row:row + 1] = [span[2] + span[3]]
            span[1] = row


def chosen_token(point: Point, bench: Bench) -> Token:
    """The measured token of median length, as the point's machine treats it."""
    _, timing, _, case = bench.run(point.values)
    events, clock = timing.events, case.scene.config.clock_mhz
    begins = np.flatnonzero(events[:, 1] == Kind.TOKEN)
    ends = [*events[begins[1:], 0].tolist(), timing.ended + case.scene.attention]
    lengths = np.array(ends) - events[begins, 0]
    warmup = case.window.warmup
    number = int(np.argsort(lengths[warmup:], kind="stable")[(len(lengths) - warmup - 1) // 2])
    at = warmup + number
    first = begins[at]
    last = begins[at + 1] if at + 1 < len(begins) else len(events)
    chosen = events[first:last].tolist()
    chrome = chrome_trace([(f"{point.values['policy.name']}, token {number}", chosen)], clock)
    begin = chosen[0][0] / clock
    spans = [[_kind(span["name"], span["tid"] == LAYERS), 0, round(span["ts"] - begin, 4),
              round(span["dur"], 4), span["name"]]
             for span in chrome["traceEvents"] if span["ph"] == "X"]
    _rows(spans)
    return Token(chrome, spans, float(lengths[at]) / clock, number)
