"""Experts three times as large as the whole buffer, streamed through the netlist."""

import dataclasses

import pytest

from stmoe_golden.buffer.manager import ExpertManager

from .conftest import Machine
from .test_faults import CORRUPT, corruption

WIDE = 96


@pytest.fixture(scope="module")
def wide(cache):
    """A buffer for two experts of d_ff 16, and a link as fast as its PE."""
    machine = Machine(cache, memory_name="ideal", model_d_ff=16, slots=2, max_d_ff=WIDE, pes=1,
                      axi_data_bits=512, max_tokens=2)
    machine.replay = dataclasses.replace(machine.replay, d_ff=WIDE)
    g = machine.replay.geometry
    assert g.weight_words == 3 * g.banks * g.bank_words
    return machine


@pytest.mark.parametrize(("policy", "stall", "settings"), [
    ("table:ewma", 0, {}), ("st-moe", 100, {"reorder": True, "stall": 60})])
def test_experts_larger_than_the_buffer_equal_golden(wide, policy, stall, settings):
    retries = wide.replay.config.retries
    _, corrupt = corruption(wide, 1, 5, count=retries, tile=wide.replay.geometry.tiles // 2)
    outcome = wide.run(policy, stall=stall, memory_settings=settings | corrupt)
    wide.check(outcome)
    counters = outcome.counters
    assert counters["missed"] == counters["routed"] and counters["predicted"]
    assert counters["prefetches"] == counters["evictions"] == 0
    assert outcome.all_counters["corrupted"] == outcome.all_counters["retries"] == retries


def test_many_tokens_share_each_word_of_a_ring(wide):
    outcome = wide.run("table", at_a_time=2, phase="verify", stall=40)
    assert outcome.verdict.mismatches == [] and not outcome.irq
    assert outcome.counters["mac_words"] > outcome.counters["bank_reads"]


def test_a_tile_of_a_ring_that_stays_corrupt_fails_its_layer_and_is_named(wide):
    tile = wide.replay.geometry.tiles - 2
    expert, settings = corruption(wide, 2, 6, count=wide.replay.config.retries + 1, tile=tile)
    outcome = wide.run("on-demand", memory_settings=settings)
    (text,) = outcome.verdict.mismatches
    assert "layer 2: the hardware reported an error" in text
    assert list(outcome.errors.values()) == [CORRUPT, 2, expert, tile]


def test_a_golden_that_keeps_what_streamed_through_is_noticed(wide, monkeypatch):
    made = ExpertManager.__init__

    def keeping(self, *given, **settings):
        made(self, *given, **settings)
        self.retain = True
    monkeypatch.setattr(ExpertManager, "__init__", keeping)
    assert any("golden" in text for text in wide.run("lru").verdict.mismatches)
