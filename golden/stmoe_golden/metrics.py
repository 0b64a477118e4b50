"""The record of a policy in a report: from counters, predictions and decisions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stmoe.config import Geometry

from .energy import Counters, Technology, energy

__all__ = ["CAUSES", "KINDS", "Accuracy", "accuracy", "coverage_by_layer", "policy_record",
           "usage"]

CAUSES = ("attention", "receive", "route", "verify", "compute", "stall_demand", "stall_late",
          "merge", "output")
KINDS = ("resident", "prefetched_in_time", "prefetched_late", "missed")
HITS = ("hit_resident", "hit_prefetched", "hit_late", "missed")  # in the order of KINDS
ROUTE, HIT_RESIDENT, MISS = 1, 2, 5  # event kinds 2 .. 5 are in the order of KINDS


class Accuracy(NamedTuple):
    """``set_size`` in multiples of top-k; None where nothing was predicted."""

    recall: float | None
    precision: float | None
    set_size: float | None


def accuracy(routing: np.ndarray, first: np.ndarray,
             predicted: Sequence[Sequence[tuple[int, int]]], experts: int) -> Accuracy:
    """Accuracy of the next layer's prediction, over all tokens but the first, all layers but 0.

    Parameters
    ----------
    routing: [token, layer, rank]. first: bool [token], first of its sequence.
    predicted: (expert, score) pairs per token * layers + layer, of layer + 1.
    experts: ids from here on are shared experts, which do not count.
    """
    tokens, layers, top_k = routing.shape
    if len(predicted) != tokens * layers:
        raise ValueError(f"predictions must be {tokens} tokens x {layers} layers, "
                         f"not {len(predicted)}")
    hits = size = pairs = 0
    for token in range(tokens):
        if first[token]:
            continue
        for layer in range(1, layers):
            found = {e for e, _ in predicted[token * layers + layer - 1] if e < experts}
            hits += len(found.intersection(routing[token, layer].tolist()))
            size += len(found)
            pairs += 1
    if not size:
        return Accuracy(None, None, None)
    return Accuracy(hits / (pairs * top_k), hits / size, size / (pairs * top_k))


def coverage_by_layer(events: Sequence[Sequence[int]], layers: int, experts: int,
                      routes: int) -> np.ndarray:
    """Routed experts by layer and kind of :data:`KINDS`, of the last ``routes`` layers routed.

    ``events``: [cycle, kind, layer, expert, slot, arg] in order; classifications follow a ROUTE.
    """
    counts = np.zeros((layers, len(KINDS)), np.int64)
    total = sum(event[1] == ROUTE for event in events)
    if total < routes:
        raise ValueError(f"{routes} routed layers must be in the events, not {total}")
    seen = 0
    for _, kind, layer, expert, *_ in events:
        seen += kind == ROUTE
        if seen > total - routes and HIT_RESIDENT <= kind <= MISS and expert < experts:
            counts[layer, kind - HIT_RESIDENT] += 1
    return counts


def usage(geometry: Geometry, counters: Counters, tokens: int, technology: Technology,
          memory: str) -> dict[str, Any]:
    """What ``tokens`` tokens cost, from the counters' increments over them.

    Cycles and energy per token, coverage and its kinds (shares of the routed experts), traffic
    (bytes read, and rows of weights read and written, against what on-demand loading reads without
    reuse).
    """
    if tokens < 1:
        raise ValueError(f"tokens must be at least 1, not {tokens}")
    routed = counters["routed"]
    shared = sum(counters[f"shared_{kind}"] for kind in ("hit", "late", "missed"))
    share = dict(zip(KINDS, (counters[kind] / max(1, routed) for kind in HITS), strict=True))
    joules = {component: pj / tokens
              for component, pj in energy(counters, geometry, technology, memory).items()}
    on_demand_bytes = (routed + shared) * geometry.blob_bytes
    cycles = counters["cycles_total"]
    beats = sum(counters[name] for name in ("beats_link", "row_beats_read", "row_beats_written"))
    return {
        "tokens": tokens, "cycles": cycles, "cycles_per_token": cycles / tokens,
        "coverage": sum(share[kind] for kind in KINDS[:3]), **share,
        "traffic": beats * geometry.axi_bytes / max(1, on_demand_bytes),
        "energy_pj_per_token": sum(joules.values()), "energy": joules,
        "energy_technology": technology.name}


def policy_record(*, name: str, geometry: Geometry, counters: dict[str, int], tokens: int,
                  on_demand_cycles: int | None, technology: Technology, memory: str,
                  mismatches: int, routing: np.ndarray, first: np.ndarray,
                  predicted: Sequence[Sequence[tuple[int, int]]],
                  events: Sequence[Sequence[int]]) -> dict[str, Any]:
    """One policy's entry of the report, measured tokens only; definitions in docs/energy.md and
    docs/results.md.

    Parameters
    ----------
    counters: increments over the measured tokens. events: of the whole run, warm-up included.
    on_demand_cycles: cycles of on-demand loading over the same tokens, None = not simulated.
    routing, first, predicted: as for :func:`accuracy`, of the measured tokens, or, of steps of many
        tokens, of the last of each.
    """
    g, model = geometry, geometry.config.model
    cost = usage(g, counters, tokens, technology, memory)
    quality = accuracy(routing, first, predicted, model.experts)
    split = coverage_by_layer(events, model.layers, model.experts, len(routing) * model.layers)
    by_layer = split / np.maximum(1, split.sum(1, keepdims=True))
    speedup = None if on_demand_cycles is None else on_demand_cycles / max(1, cost["cycles"])
    return {
        "name": name, **cost, "speedup": speedup, "recall": quality.recall,
        "precision": quality.precision, "set_size": quality.set_size,
        "stalls": {cause: counters[f"cycles_{cause}"] for cause in CAUSES},
        "mismatches": mismatches,
        "mac_utilisation": counters["mac_words"] / g.config.pes / max(1, cost["cycles"]),
        "coverage_by_layer": by_layer[:, :3].sum(1).tolist(),
        "split_by_layer": {kind: by_layer[:, i].tolist() for i, kind in enumerate(KINDS)},
        "counters": {key: int(value) for key, value in counters.items()}}
