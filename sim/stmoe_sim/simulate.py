"""Runs a replay under several policies of one netlist and collects the report."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stmoe_golden.energy import Technology
from stmoe_golden.metrics import policy_record

from .image import write_image
from .policies import POLICIES, Policy
from .replay import Outcome, Replay, SimulationError, hold_against_rtl, run
from .report.files import write_json
from .report.timeline import chrome_trace

__all__ = ["simulate"]

BASE = "on-demand"
Progress = Callable[..., None]


def simulate(replay: Replay, policies: list[Policy], *, technology: Technology, preset: str,
             jobs: int = 2, keep: Path | None = None, timeline: Path | None = None,
             progress: Progress = lambda stage, done, of=None: None) -> dict[str, Any]:
    """The report (docs/results.md explains its fields) of ``replay`` under ``policies``.

    On-demand loading, the base of every speed-up, is simulated even where it is not listed.
    ``jobs`` simulator processes run side by side; ``progress(stage, done, of)`` is called from
    their threads, ``of`` None for tokens of a policy. ``timeline``: file to write a timeline of
    all policies to, warm-up included.
    """
    config = replay.config
    experts = replay.experts()
    progress("expert image", 0, 1)
    image = write_image(experts, replay.cache)
    progress("expert image", 1, 1)
    progress("netlist and simulator", 0, 1)
    simulator = replay.simulator(
        steps=lambda done, of, step: progress("synthesis, blocks", done, of) if of else None)
    rtl = dataclasses.replace(replay, gates=None)
    beside = rtl.simulator() if replay.gates else None
    progress("netlist and simulator", 1, 1)
    stimulus = replay.stimulus()

    def one(policy: Policy) -> Outcome:
        outcome = run(replay, policy, simulator, image, experts, stimulus,
                      lambda done: progress(policy.name, done), keep)
        if beside:
            hold_against_rtl(outcome, run(rtl, policy, beside, image, experts, stimulus))
        return outcome

    extra = [] if any(policy.name == BASE for policy in policies) else [POLICIES[BASE]]
    with ThreadPoolExecutor(jobs) as pool:
        every = list(pool.map(one, extra + policies))
    reference = next(outcome for outcome in every if outcome.policy.name == BASE)
    if extra and reference.verdict.mismatches:
        raise SimulationError(f"{BASE}, the base of the speed-ups, differs from golden: "
                              f"{reference.verdict.mismatches[0]}")
    outcomes = every[len(extra):]
    base = reference.counters["cycles_total"]
    window = replay.window
    played = [step for step in replay.steps if step.start >= window.warmup]
    last = [step.stop - 1 for step in played]  # which is predicted from
    records = [
        policy_record(
            name=outcome.policy.name, geometry=replay.geometry, counters=outcome.counters,
            tokens=window.tokens, on_demand_cycles=base, technology=technology,
            memory=replay.memory.name, mismatches=len(outcome.verdict.mismatches),
            routing=stimulus["experts"][last], first=stimulus["first"][last],
            predicted=outcome.golden["rounds"][-len(played) * config.model.layers:],
            events=outcome.golden["events"])
        for outcome in outcomes]
    for record, outcome in zip(records, outcomes, strict=True):
        record["compared"] = outcome.verdict.compared
        record["differences"] = outcome.verdict.mismatches[:20]
    if timeline is not None:
        write_json(timeline, chrome_trace(
            [(outcome.policy.name, outcome.golden["events"]) for outcome in outcomes],
            config.clock_mhz))
    seconds = sum(outcome.seconds for outcome in outcomes)
    g = replay.geometry
    return {
        "config_hash": f"{config.hash:016x}", "preset": preset, "config": config.to_dict(),
        "weights": "random" if replay.model is None else window.trace.model,
        "trace": window.trace.name, "trace_note": window.trace.metadata.get("note", ""),
        "warmup_tokens": window.warmup, "profile_tokens": window.profile[1] - window.profile[0],
        "profile_passes": window.passes,
        "memory": replay.memory.name, "attention_cycles": replay.attention_cycles,
        "routing": "hardware" if replay.route_on_chip else "host",
        "at_a_time": replay.at_a_time, "phase": replay.phase,
        "gates": str(replay.gates) if replay.gates else "",
        "expert_bytes": g.blob_bytes, "slots": g.slots, "d_ff": g.ff,
        "streams_through": g.ring,
        "experts_total": config.model.layers * config.model.expert_ids,
        "shared_units": config.model.shared_units,
        "simulated_cycles_per_second": sum(o.cycles for o in outcomes) / max(seconds, 1e-9),
        "tokens": window.tokens, "policies": records}
