"""Bus errors, corrupt tiles, wrong commands: reported, and the machine goes on."""

import numpy as np
import pytest

from stmoe_golden.buffer.manager import Kind
from stmoe_sim import job

BUS, CORRUPT = 5, 10


def fault(machine, layer, token, *, count, resp):
    """Settings of a memory that fails reads in the middle of an expert that (token, layer) uses."""
    g = machine.replay.geometry
    expert = int(machine.replay.stimulus()["experts"][token, layer, 0])
    address = (layer * g.config.model.expert_ids + expert) * g.stride + g.blob_bytes // 2
    return expert, {"fault_low": address, "fault_high": address, "fault_count": count,
                    "fault_resp": resp}


def corruption(machine, layer, token, *, count, tile=1):
    """Settings of a memory that spoils a beat of a tile, likewise."""
    g = machine.replay.geometry
    expert = int(machine.replay.stimulus()["experts"][token, layer, 0])
    address = ((layer * g.config.model.expert_ids + expert) * g.stride + tile * g.tile_bytes
               + 3 * g.axi_bytes)
    return expert, {"corrupt_low": address, "corrupt_high": address, "corrupt_count": count}


@pytest.mark.parametrize("resp", [2, 3], ids=["SLVERR", "DECERR"])
@pytest.mark.parametrize("policy", ["on-demand", "table"])
def test_a_passing_bus_error_is_retried_and_nothing_is_lost(machine, policy, resp):
    retries = machine.replay.config.retries
    _, settings = fault(machine, 1, 5, count=retries, resp=resp)
    outcome = machine.run(policy, memory_settings=settings)
    assert outcome.verdict.mismatches == []
    assert outcome.all_counters["retries"] == retries
    assert not outcome.errors["error"]


@pytest.mark.parametrize("resp", [2, 3], ids=["SLVERR", "DECERR"])
def test_a_lasting_bus_error_fails_its_layer_and_is_reported(machine, resp):
    retries = machine.replay.config.retries
    expert, settings = fault(machine, 2, 6, count=retries + 1, resp=resp)
    outcome = machine.run("on-demand", memory_settings=settings)
    token = next(t for t, row in enumerate(machine.replay.stimulus()["experts"][:, 2])
                 if expert in row)
    assert outcome.verdict.mismatches == [
        f"token {token}, layer 2: the hardware reported an error"]
    assert outcome.irq
    assert (outcome.errors["error"], outcome.errors["error_layer"],
            outcome.errors["error_expert"]) == (BUS, 2, expert)
    assert outcome.all_counters["failed"] == 1
    g = machine.replay.geometry
    assert outcome.errors["error_detail"] == g.blob_bytes // 2 // g.tile_bytes


@pytest.mark.parametrize("mode", [0, 1, 2], ids=["a bit", "bits", "all bits"])
@pytest.mark.parametrize("policy", ["on-demand", "table"])
def test_a_passing_corruption_is_read_again_and_nothing_is_lost(machine, policy, mode):
    retries = machine.replay.config.retries
    _, settings = corruption(machine, 1, 5, count=retries)
    outcome = machine.run(policy, memory_settings=settings | {"corrupt_mode": mode})
    assert outcome.verdict.mismatches == []
    assert outcome.all_counters["corrupted"] == outcome.all_counters["retries"] == retries
    assert not outcome.errors["error"]


@pytest.mark.parametrize("tile", [0, 2, -1])
def test_a_lasting_corruption_fails_its_layer_and_names_the_tile(machine, tile):
    tile %= machine.replay.geometry.tiles
    expert, settings = corruption(machine, 2, 6, count=machine.replay.config.retries + 1, tile=tile)
    outcome = machine.run("on-demand", memory_settings=settings)
    token = next(t for t, row in enumerate(machine.replay.stimulus()["experts"][:, 2])
                 if expert in row)
    assert outcome.verdict.mismatches == [
        f"token {token}, layer 2: the hardware reported an error"]
    assert outcome.irq and list(outcome.errors.values()) == [CORRUPT, 2, expert, tile]


def test_without_crcs_a_corruption_reaches_the_result(make_machine):
    """Shown by golden, which is what would happen if the check were left out."""
    machine = make_machine(integrity=False)
    _, settings = corruption(machine, 2, 6, count=1)
    outcome = machine.run("on-demand", memory_settings=settings | {"corrupt_mode": 2})
    assert any("result" in text for text in outcome.verdict.mismatches)
    assert not outcome.errors["error"]


def test_a_prefetch_that_fails_is_read_again_on_demand(machine):
    """Its slot is freed; the layer that wants the expert orders it anew."""
    g, retries = machine.replay.geometry, machine.replay.config.retries
    demanded, alone = set(), []
    for _, kind, layer, expert, *_ in machine.run(
            "table", attention_cycles=6000).golden["events"]:
        if kind == Kind.DEMAND:
            demanded.add((layer, expert))
        elif kind == Kind.PREFETCH and (layer, expert) not in demanded:
            alone.append((layer, expert))  # first read ahead of time
    assert alone
    layer, expert = alone[0]
    address = (layer * g.config.model.expert_ids + expert) * g.stride
    outcome = machine.run("table", attention_cycles=6000, memory_settings={
        "fault_low": address, "fault_high": address, "fault_count": retries + 1, "fault_resp": 2})
    assert outcome.verdict.mismatches == []
    assert outcome.all_counters["failed"] == 1 and not outcome.errors["error"]


@pytest.mark.parametrize(("field", "value", "code"), [
    ("layer", 3, 2), ("layer", 255, 2), ("expert", 8, 3), ("expert", None, 3), ("tokens", 2, 4),
    ("tokens", 0, 4), ("route on chip", 1, 6)])
def test_a_refused_command_answers_and_the_next_one_works(machine, monkeypatch, field, value, code):
    """``None``: the same expert twice."""
    def changed(home, **arguments):
        job.write_job(home, **arguments)
        arrays = dict(np.load(home / "job.npz"))
        if field == "expert":
            routed = arrays["experts"][4, 1]
            routed[1] = routed[0] if value is None else value
        else:
            at = {"layer": 16, "tokens": 32, "route on chip": 8}[field]
            header = int(arrays["header"][4, 1]) & ~(0xffff << at if at > 8 else 1 << at)
            arrays["header"][4, 1] = header | value << at
        np.savez(home / "job.npz", **arrays)
    monkeypatch.setattr("stmoe_sim.replay.write_job", changed)
    outcome = machine.run("lru")
    assert outcome.errors["error"] == code and outcome.irq
    assert outcome.errors["error_layer"] == (value if field == "layer" else 1)
    wrong = [text for text in outcome.verdict.mismatches if text.startswith("token")]
    assert wrong == ["token 4, layer 1: the hardware reported an error"]  # all others are right
