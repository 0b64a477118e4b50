"""Holds one run of the netlist against golden: results, predictions, decisions, counters."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from stmoe.config import Geometry
from stmoe.interfaces import Phase
from stmoe_golden.buffer.manager import ExpertManager, ManagerEvent, Mismatch
from stmoe_golden.buffer.worth import Worth
from stmoe_golden.compute.expert import moe_layer
from stmoe_golden.compute.mapping import group, parts
from stmoe_golden.predict.combined import Combined
from stmoe_golden.predict.unit import Candidate, LearnedUnit, PredictionUnit, TableUnit

from .back_door import gains, table_rows, weight_rows
from .image import Experts
from .lexical import identity_rows, layer_rows
from .policies import Policy
from .steps import DenseStep, Step, one_by_one

__all__ = ["Verdict", "check_counters", "check_first_beats", "check_learned",
           "check_predictions_and_events", "check_results", "read_log"]

ROUTE, HIT_LATE, DEMAND, TOKEN, DENSE = 1, 4, 9, 18, 20
NOTHING_PREDICTED = dict.fromkeys((
    "predicted", "table_reads", "table_writes", "score_adds", "weight_reads", "weight_writes",
    "rows_added", "row_beats_read", "row_beats_written"), 0)
REPEATED = ("beats_link", "bank_writes")


@dataclass
class Verdict:
    """What was compared, and each difference that was found."""

    compared: dict[str, int] = field(default_factory=dict)
    mismatches: list[str] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        """Count comparisons."""
        self.compared[what] = self.compared.get(what, 0) + number

    def differ(self, text: str) -> None:
        """Record a difference."""
        self.mismatches.append(text)


def check_results(verdict: Verdict, experts: Experts, routing: np.ndarray, gates: np.ndarray,
                  x: np.ndarray, results: np.ndarray, errors: np.ndarray) -> None:
    """Every output vector against golden.

    Parameters
    ----------
    routing, gates: [token, layer, rank], expert ids and Q1.15 gate weights.
    x: int8 [token, layer, d_model]. results: int16 of the same shape. errors: bool [token, layer].
    """
    model = experts.config.model
    shared = list(range(model.experts, model.expert_ids))
    for t in range(routing.shape[0]):
        for layer in range(routing.shape[1]):
            ids = [*routing[t, layer].tolist(), *shared]
            weights = np.array([*gates[t, layer].tolist(), *[0x8000] * len(shared)], np.uint16)
            want = moe_layer(x[t, layer], [experts.get(layer, e) for e in ids], weights)
            verdict.count("results")
            if errors[t, layer]:
                verdict.differ(f"token {t}, layer {layer}: the hardware reported an error")
            elif not np.array_equal(want, results[t, layer]):
                at = int(np.flatnonzero(want != results[t, layer])[0])
                verdict.differ(f"token {t}, layer {layer}, channel {at}: "
                               f"result {results[t, layer, at]}, golden {want[at]}")


def read_log(path: Path) -> Iterator[tuple[str, list[int]]]:
    """Records of an event log: ('E', [cycle, kind, layer, expert, slot, arg]) or ('P', ...)."""
    with path.open() as file:
        for line in file:
            kind, *fields = line.split()
            yield kind, [int(value) for value in fields]


def worth_of(geometry: Geometry, policy: Policy) -> Worth | None:
    """Golden's judge of candidates."""
    if not policy.worth:
        return None
    config = geometry.config
    if policy.predictor != "linear":
        return Worth(config.model.experts, None)
    return Worth(config.model.experts, config.linear.fraction, rows_slack=geometry.rows_slack)


def golden_rounds(unit: PredictionUnit | None, routing: np.ndarray, token: int, first: bool,
                  ahead: np.ndarray | None = None) -> list[list[Candidate]]:
    """Candidates of every round of a step: that of its announcement, then of each layer.

    Of the tokens of a step the last one is announced and observed; first, if any of them is.
    """
    if unit is None:
        return [[]] * (len(routing) + 1)
    return [unit.token(token, first),
            *(unit.observe(layer, experts.tolist(), first,
                           None if ahead is None else ahead[layer])
              for layer, experts in enumerate(routing))]


def check_predictions_and_events(
        verdict: Verdict, geometry: Geometry, policy: Policy, log: Path, routing: np.ndarray,
        token: np.ndarray, first: np.ndarray, unit: PredictionUnit | None,
        ahead: np.ndarray | None = None, played: list[Step] | None = None,
        dense: Sequence[DenseStep] = ()) -> dict[str, Any]:
    """Every prediction and every decision of the manager against golden, in the order reported.

    Parameters
    ----------
    routing: [token, layer, rank]. token, first: [token], identity (-1 unknown), whether first of
        its sequence. unit: golden, in the state that the hardware started from; None: off.
    ahead: int32 [token, layer, expert], logits that the router has looked ahead to, of the next
        layer; the last layer's are not read. None: it has not.
    played: steps that the tokens were commanded in, None: one by one. dense: commands of dense
        weights, in order, wherever they came between those.

    Returns golden's counters, the events, and ``rounds``: per step and layer the (expert, score)
    predicted once it was routed, of the next layer.
    """
    model = geometry.config.model
    shared = list(range(model.experts, model.expert_ids))
    manager = ExpertManager(geometry, retain=policy.retain, prefetch=policy.prefetch,
                            prefetch_round=geometry.config.prefetch_round,
                            retention=policy.retention, worth=worth_of(geometry, policy))
    tokens, layers, _ = routing.shape
    played = one_by_one(tokens) if played is None else played
    total = len(played) * (layers + 1)
    rounds: list[list[Candidate]] = []

    def begin(withheld: bool) -> None:
        start, stop, _ = played[len(rounds) // (layers + 1)]
        at = stop - 1
        rounds.extend(golden_rounds(unit, routing[at], -1 if withheld else int(token[at]),
                                    bool(first[start:stop].any()),
                                    None if ahead is None else ahead[at]))

    seen: list[list[Candidate]] = [[]]
    step = 0
    events: list[list[int]] = []
    broken, left = False, deque(dense)
    for kind, fields in read_log(log):
        if kind == "P":
            if fields[4]:
                seen.append([])
            else:
                seen[-1].append((fields[1], fields[2], fields[3]))
            continue
        events.append(fields)
        if broken:
            continue
        cycle, what, layer, expert, slot, arg = fields
        begins = what in (ROUTE, TOKEN)
        if what == DENSE:
            if not left:
                verdict.differ(f"cycle {cycle}: dense weights that nobody asked for")
                broken = True
                continue
            order = left.popleft()
            manager.dense(order.layer, [model.expert_ids + order.first + blob
                                        for blob in range(order.blobs)],
                          order.tokens, matrix=order.matrix)
        if begins:
            at = step % (layers + 1) - 1
            if step >= total or (what == TOKEN) != (at < 0):
                verdict.differ(f"cycle {cycle}: a token or layer that nobody commanded")
                broken = True
                continue
            if what == TOKEN:
                begin(manager.token())
            else:
                start, stop, phase = played[step // (layers + 1)]
                served = {e: parts(geometry, len(of), stop - start)
                          for e, of in group(routing[start:stop, at], shared)}
                manager.route(at, [e for e in served if e not in shared], shared, served,
                              stream=phase == Phase.PREFILL)
        try:
            verdict.count("events")
            manager.check(ManagerEvent(what, layer, expert, slot, arg))
        except Mismatch as error:
            verdict.differ(f"cycle {cycle}: {error}")
            broken = True
            continue
        if begins:
            for about, found in groupby(rounds[step], lambda candidate: candidate[0]):
                manager.predict(about, [(e, score) for _, e, score in found])
            step += 1
    if left and not verdict.mismatches:
        verdict.differ(f"{len(left)} commands of dense weights were never begun")
    if step != total and not verdict.mismatches:
        verdict.differ(f"{step} tokens and layers were begun, {total} commanded")
    while len(rounds) < total:
        begin(False)
    if seen[-1]:
        verdict.differ(f"a round was not closed after {seen[-1]}")
    _compare_rounds(verdict, seen[:-1], rounds, layers)
    counters = manager.counters | NOTHING_PREDICTED | {"tokens": len(played)}
    if unit is not None:
        counters |= unit.counts()
    if max(policy.depth, policy.token_depth) > 1 or policy.guess:  # time decides how far rounds go
        for name in ("weight_reads", "rows_added"):
            del counters[name]
        counters["predicted"] = sum(map(len, seen))
    return {"counters": counters, "events": events, "rounds": [
        [(expert, score) for about, expert, score in found if about == index % (layers + 1)]
        for index, found in enumerate(rounds) if index % (layers + 1)]}


def _compare_rounds(verdict: Verdict, seen: list[list[Candidate]],
                    want: list[list[Candidate]], layers: int) -> None:
    """Round by round; what goes beyond the first layer of a round may be missing at its end."""
    verdict.count("predictions", sum(map(len, want)))
    if len(seen) != len(want):
        verdict.differ(f"{len(seen)} rounds of candidates, golden {len(want)}")
    for index, (found, wanted) in enumerate(zip(seen, want, strict=False)):
        first = sum(about == index % (layers + 1) for about, *_ in wanted)
        if found != wanted[:max(first, len(found))]:
            at = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b),
                      min(len(found), len(wanted)))
            verdict.differ(f"round {index}, candidate {at}: hardware {found[at:at + 1]}, "
                           f"golden {wanted[at:at + 1]}")
            return


def check_learned(verdict: Verdict, geometry: Geometry, home: Path,
                  unit: PredictionUnit | None) -> None:
    """What the predictor has learned, as the run in ``home`` left it, against golden's: weights
    on chip and in expert memory, gains, rows of the table."""
    if isinstance(unit, TableUnit):
        for name, found, want in zip(("ids", "confidences"), table_rows(geometry.config, home),
                                     unit.table.rows(), strict=True):
            _compare_rows(verdict, f"{name} of the table, layer pair, expert, entry", found, want)
    if not isinstance(unit, LearnedUnit):
        return
    predictor = unit.predictor
    wanted = {"token identity": identity_rows(predictor),
              "layer": layer_rows(predictor).transpose(1, 0, 2)}
    for kind, found in weight_rows(geometry, home).items():
        _compare_rows(verdict, f"weights by {kind}, row, layer, expert", found, wanted[kind])
    if isinstance(predictor, Combined):
        _compare_rows(verdict, "gains, layer", gains(home)[:len(predictor.gain)], predictor.gain)


def _compare_rows(verdict: Verdict, what: str, found: np.ndarray, want: np.ndarray) -> None:
    """Row by row; the first difference is reported with its indices, which ``what`` names."""
    verdict.count("rows", max(1, want[..., 0].size))
    if found.shape != want.shape:
        verdict.differ(f"{what}: hardware has {found.shape}, golden {want.shape}")
        return
    for at in np.argwhere(found != want)[:1]:
        place = tuple(at)
        verdict.differ(f"{what} {', '.join(map(str, at))}: hardware {found[place]}, "
                       f"golden {want[place]}")


def check_counters(verdict: Verdict, found: dict[str, int], want: dict[str, int]) -> None:
    """Hardware counters against golden's, for every counter that golden has.

    Beats that are read again after a bus error, golden does not know of.
    """
    for name, value in want.items():
        if found["retries"] and name in REPEATED:
            continue
        verdict.count("counters")
        if found[name] != value:
            verdict.differ(f"counter {name}: hardware {found[name]}, golden {value}")


def check_first_beats(verdict: Verdict, found: dict[str, int], events: list[list[int]]) -> None:
    """Whether the counters of a demand's wait for its first beat agree with the events and with one
    another.

    A layer's first demand finds no other in hand, unless a late prefetch became one; a later one
    may.
    """
    least = most = 0
    first = False
    for _, kind, *_ in events:
        if kind in (ROUTE, DENSE):
            first = True
        elif kind == HIT_LATE:
            first = False
        elif kind == DEMAND:
            least, most, first = least + first, most + 1, False
    count, total, worst = (found[f"first_beat{name}"] for name in ("s", "_cycles", "_worst"))
    verdict.count("counters", 3)
    if not least <= count <= most:
        verdict.differ(f"counter first_beats: hardware {count}, golden {least} to {most}")
    if not worst <= total <= count * worst:
        verdict.differ(f"counter first_beat_cycles: hardware {total} of {count} demands, of which "
                       f"the worst took {worst}")
