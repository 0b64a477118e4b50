"""The timing model against the netlist: the same event in the same cycle."""

import dataclasses

import numpy as np
import pytest

from stmoe_golden.timing import model as timing
from stmoe_sim.image import Experts, write_image
from stmoe_sim.memory import memory
from stmoe_sim.policies import parse_policies
from stmoe_sim.replay import measure
from stmoe_sim.timing import model
from stmoe_sim.validation import COUNTS


def both(machine, name, **changes):
    """Outcome and events of the netlist, and the model's run, without warm-up."""
    window = dataclasses.replace(machine.replay.window, warmup=0)
    replay = dataclasses.replace(machine.replay, window=window, **changes)
    policy, = parse_policies(name)
    stimulus = replay.stimulus()
    image = write_image(Experts(replay.geometry, replay.seed), replay.cache)
    outcome, events = measure(replay, policy, replay.simulator(), image, stimulus)
    run = model(replay, policy, stimulus, start=events[0][0] - 2, log=len(events) + 9)
    return outcome, np.array(events), run


@pytest.mark.parametrize("policy", ["on-demand", "lru", "ewma", "table", "linear", "st-moe"])
@pytest.mark.parametrize("part", ["lpddr4-3200", "hbm2-2000", "ideal"])
def test_events_come_in_the_netlists_cycles(machine, policy, part):
    outcome, events, run = both(machine, policy, memory=memory(part))
    error = run.cycles / (outcome["ended"] - (events[0, 0] - 2)) - 1
    counted = outcome["counters_all"]
    off = {name: run.counters[name] - counted[name] for name in COUNTS
           if run.counters[name] != counted[name]}
    print(f"{policy}, {part}: {error:.3%}, counts off by {off}")
    if policy in ("linear", "st-moe") and part == "lpddr4-3200":
        # A burst of rows and one of an expert may come in the other order, depending on where in
        # a refresh the run begins: `stmoe validate` has seen 0.3 %, and a prefetch begun or not.
        assert abs(error) < 3e-3
        assert all(abs(more) < 0.02 * counted[name] for name, more in off.items())
        return
    assert abs(error) < 1e-4
    if policy in ("on-demand", "lru", "ewma"):
        assert (run.events == events).all()
    if policy in ("linear", "st-moe"):  # a beat more or less before a prefetch is cancelled
        assert abs(off.pop("bank_writes", 0)) < 1e-3 * counted["bank_writes"]
    assert off == {}
    assert [int(kind) for kind in events[:40, 1]] == [int(kind) for kind in run.events[:40, 1]]


def test_a_cycle_too_many_is_seen(machine, monkeypatch):
    right = both(machine, "on-demand")
    assert (right[1] == right[2].events).all()
    monkeypatch.setattr(timing, "REQUANTISE", timing.REQUANTISE + 1)
    wrong = both(machine, "on-demand")
    assert not (wrong[1] == wrong[2].events).all()
