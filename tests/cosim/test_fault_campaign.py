"""The fault campaign: it passes, and it can fail."""

import dataclasses
import json

import pytest

from stmoe_sim import faults, faults_plan
from stmoe_sim.faults import run_campaign
from stmoe_sim.faults_plan import KINDS, Step
from stmoe_sim.image import Experts, write_image
from stmoe_sim.replay import Replay


def only(monkeypatch, *kinds):
    """Steps are of these kinds."""
    monkeypatch.setattr(faults_plan, "KINDS", kinds)


def test_every_kind_of_fault_is_injected_and_none_is_silent(machine):
    report = run_campaign(machine.replay, 8)
    assert report.passed, report.problems
    assert report.total("injected") > 400
    for kind, row in report.table.items():
        assert row["steps"] and (row["injected"] or kind == "nothing"), kind
        assert row["injected"] == row["right"] + row["reported"]
    for kind in ("error response, lasting", "corrupted beat, lasting", "bad command"):
        assert report.table[kind]["reported"], kind


def test_a_campaign_repeats_itself(machine):
    first, again = (run_campaign(machine.replay, 2) for _ in range(2))
    assert first == again
    other = run_campaign(dataclasses.replace(machine.replay, seed=6), 2)
    assert other.table != first.table


def test_without_crcs_wrong_data_are_silent(make_machine, monkeypatch):
    only(monkeypatch, "corrupted beat", "corrupted beat, lasting", "nothing")
    report = run_campaign(make_machine(integrity=False).replay, 3)
    assert report.total("silent") > 10 and not report.passed
    assert any("golden" in text for text in report.problems)


def test_wrong_experts_with_right_crcs_are_noticed(machine, monkeypatch):
    monkeypatch.setattr(faults, "write_image", lambda experts, cache: write_image(
        Experts(experts.geometry, experts.seed + 1), cache))
    only(monkeypatch, "repeated prefetch")
    report = run_campaign(machine.replay, 1)
    assert not report.passed and not report.total("right")


@pytest.mark.parametrize(("port", "name"), [
    ("stall of results", "m_axis_res"), ("stall of AR", "m_axi AR"), ("stall of R", "m_axi R"),
    ("stall of commands", "s_axis_cmd"), ("stall of activations", "s_axis_act")])
def test_a_port_that_stands_still_for_good_is_named(machine, monkeypatch, port, name):
    def forever(self, kind, layer, experts):
        return Step(kind, self.episodes([faults_plan.PORTS[port]], 1 << 30, 1) | {
            "freeze_chance": 65536}, [], "freezes", [])
    only(monkeypatch, port)
    monkeypatch.setattr(faults_plan._Planner, "step", forever)
    report = run_campaign(machine.replay, 1)
    assert report.total("hung") and not report.passed
    assert f"{name} stalled" in report.problems[-1] or f"{name} and" in report.problems[-1]


def test_a_refusal_with_another_code_is_noticed(machine, monkeypatch):
    only(monkeypatch, "bad command")
    refused = faults_plan._Planner.refused
    monkeypatch.setattr(faults_plan._Planner, "refused", lambda self, layer, experts: refused(
        self, layer, experts) | {"code": 200})
    report = run_campaign(machine.replay, 1)
    assert report.table["bad command"]["silent"] and "not 200" in report.problems[0]


@pytest.mark.parametrize("silent", [0, 1])
def test_the_verb_exits_1_for_one_silent_fault(stmoe, monkeypatch, tmp_path, silent):
    def made_up(replay: Replay, runs, progress):
        report = faults.CampaignReport()
        report.count("corrupted beat", 3, "right")
        report.count("corrupted beat", silent, "silent")
        return report
    monkeypatch.setattr(faults, "run_campaign", made_up)
    path = tmp_path / "faults.json"
    code, out, _ = stmoe("faults", "--runs", 1, "--json", path, "--build", tmp_path)
    assert code == silent and ("FAILED" in out) == bool(silent)
    found = json.loads(path.read_text())
    assert found["passed"] == (not silent) and set(found["faults"]) == set(KINDS)
