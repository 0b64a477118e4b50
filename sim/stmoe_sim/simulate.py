"""Runs a replay under several policies of one netlist and collects the report."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stmoe.config import Geometry
from stmoe_golden.energy import Technology
from stmoe_golden.metrics import policy_record

from .image import Experts, write_image
from .policies import Policy
from .replay import Outcome, Replay, run

__all__ = ["simulate"]


def simulate(replay: Replay, policies: list[Policy], *, technology: Technology, preset: str,
             jobs: int = 2, keep: Path | None = None,
             progress: Callable[[str, int], None] = lambda policy, tokens: None) -> dict[str, Any]:
    """The report (docs/results.md explains its fields) of ``replay`` under ``policies``.

    On-demand loading, the base of every speed-up, is simulated even where it is not listed.
    ``jobs`` simulator processes run side by side; ``progress(policy, tokens done)`` is called
    from their threads.
    """
    config = replay.config
    experts = Experts(config, replay.seed)
    image = write_image(experts, replay.cache)
    simulator = replay.simulator()
    stimulus = replay.stimulus()

    def one(policy: Policy) -> Outcome:
        return run(replay, policy, simulator, image, experts, stimulus,
                   lambda done: progress(policy.name, done), keep)

    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(pool.map(one, policies))
    base = next((o.counters["cycles_total"] for o in outcomes
                 if o.policy.name == "on-demand"), None)
    window = replay.window
    warm = slice(window.warmup, None)
    records = [
        policy_record(
            name=outcome.policy.name, config=config, counters=outcome.counters,
            tokens=window.tokens, on_demand_cycles=base, technology=technology,
            memory=replay.memory.name, mismatches=len(outcome.verdict.mismatches),
            routing=stimulus["experts"][warm], first=stimulus["first"][warm],
            predicted=outcome.golden["rounds"][window.warmup * config.model.layers:],
            events=outcome.golden["events"])
        for outcome in outcomes]
    for record, outcome in zip(records, outcomes, strict=True):
        record["compared"] = outcome.verdict.compared
        record["differences"] = outcome.verdict.mismatches[:20]
    seconds = sum(outcome.seconds for outcome in outcomes)
    g = Geometry(config)
    return {
        "config_hash": f"{config.hash:016x}", "preset": preset, "config": config.to_dict(),
        "trace": window.trace.name, "trace_note": window.trace.metadata.get("note", ""),
        "warmup_tokens": window.warmup, "profile_tokens": window.profile[1] - window.profile[0],
        "memory": replay.memory.name, "attention_cycles": replay.attention_cycles,
        "expert_bytes": g.blob_bytes, "slots": config.slots,
        "simulated_cycles_per_second": sum(o.cycles for o in outcomes) / max(seconds, 1e-9),
        "tokens": window.tokens, "policies": records}
