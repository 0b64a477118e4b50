"""Machines of ``stmoe compare``: what a regime makes of a model."""

import dataclasses
import itertools

import pytest

from stmoe.config import ConfigError
from stmoe_golden.timing.model import Settings, simulate
from stmoe_golden.timing.stimulus import Stimulus, rounds_by_score
from stmoe_sim.attention import Kind, attention_cycles
from stmoe_sim.energy import technology
from stmoe_sim.regimes import LINKS, REGIMES, SHAPES, PortedGeometry, scene
from support.synthetic import synthetic

TRACE = dataclasses.replace(
    synthetic(layers=4, experts=16, top_k=4, tokens=12, sequences=2), name="qwen3-30b-a3b")
MB = 1 << 20


def made(name, trace=TRACE, **changes):
    return scene(dataclasses.replace(REGIMES[name], **changes), trace)


def run(where, retain=True, prefetch=True):
    routing = TRACE.experts.astype(int)
    scores = (routing[..., None] == range(16)).sum(2)  # the experts themselves
    rounds = rounds_by_score(where.config, scores, 1, 16) if prefetch else None
    settings = Settings(retain=retain, prefetch=prefetch, predictor="linear" if prefetch else None,
                        attention=where.attention)
    first = [t in TRACE.offsets for t in range(12)]
    return simulate(where.geometry, settings, where.memory,
                    Stimulus(routing, TRACE.token, first, rounds))


@pytest.mark.parametrize("name", REGIMES)
def test_a_model_fits_every_regime(name):
    where = made(name)
    assert where.geometry.slots >= 2 and where.attention > 0
    assert run(where).counters["layers_done"] == 48


def test_more_buffer_never_slows_and_ends_with_all_experts():
    sizes = [64 << 10, 16 * MB, 64 * MB, 128 * MB, 16 << 30]
    found = [made("paper", buffer_bytes=size) for size in sizes]
    assert [where.geometry.slots for where in found] == [2, 3, 14, 28, 64]
    cycles = [run(where, prefetch=False).cycles for where in found]
    assert all(later <= before for before, later in itertools.pairwise(cycles))
    assert cycles[-1] < 0.7 * cycles[0]


def test_attention_reads_projections_and_what_each_kind_of_layer_looks_back_on():
    kinds = (Kind(3, 100, 10, 50), Kind(1, 200, 20))
    config = made("paper").config
    width = config.model.d_model
    windowed = 2 * width * 110 + 2 * 50 * 10
    whole = 2 * width * 220 + 2 * 1000 * 20
    assert attention_cycles(config, 1, 1000, kinds) == -(-(3 * windowed + whole) // 4)
    assert attention_cycles(config, 1, 20, kinds[:1]) == 2 * width * 110 + 2 * 20 * 10
    assert made("paper").attention == -(-SHAPES["qwen3-30b-a3b"].attention[0].read(2048, 2048)
                                        // 256)
    longer = made("paper", context=8192)
    assert longer.attention - made("paper").attention == 2 * (8192 - 2048) * 512 // 256


def test_ports_side_by_side_are_one_of_their_width():
    one, four = made("paper", ports=1), made("paper")
    assert isinstance(four.geometry, PortedGeometry) and four.geometry.axi_bytes == 256
    assert four.geometry.blob_beats * 4 == pytest.approx(one.geometry.blob_beats, rel=0.001)
    slow, fast = (run(where, retain=False, prefetch=False) for where in (one, four))
    loads = [found.cycles - 48 * one.attention for found in (slow, fast)]
    assert 3.2 < loads[0] / loads[1] < 4.2  # refresh does not become faster


def test_what_attention_takes_of_a_shared_memory_is_not_there_for_prefetch():
    plain, half, all_of_it = (run(made("shared", shared=part)) for part in (0.0, 0.5, 1.0))
    assert plain.cycles < half.cycles < all_of_it.cycles
    alone = run(made("shared", shared=1.0), prefetch=False)
    hidden = [found.counters["hit_prefetched"] for found in (plain, half, all_of_it)]
    assert hidden[0] >= hidden[1] > hidden[2]
    assert all_of_it.cycles >= 0.97 * alone.cycles


def test_experts_are_fetched_ahead_into_fewer_slots_than_a_layer_uses():
    where = made("paper")
    assert where.geometry.slots == 3 < TRACE.top_k
    ahead, alone = run(where), run(where, prefetch=False)
    assert ahead.counters["hit_prefetched"] > 40
    assert ahead.cycles < 0.9 * alone.cycles and ahead.counters["dropped"] == 0


def test_experts_behind_a_link():
    edge = REGIMES["edge"]
    for name, link in LINKS.items():
        where = scene(edge.behind(name), TRACE)
        assert (where.memory.column, where.memory.latency) == (
            round(64_000 / link.gbps), 1000 * link.ns)
    assert edge.behind("ddr4-3200").part == "ddr4-3200"
    with pytest.raises(ConfigError, match="flash"):
        edge.behind("tape")


def test_a_buffer_off_chip_has_its_memorys_price():
    edge, table = made("edge"), technology("7nm")
    priced, g = edge.priced(table), edge.geometry
    assert priced.price("bank_read", g, "flash") == 8 * g.word_bytes * 7.0
    assert priced.price("mac", g, "flash") == table.price("mac", g, "flash")
    assert made("paper").priced(table) is table
