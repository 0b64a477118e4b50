"""Builds are cached by configuration, share what is the same in all, and know modules apart."""

import pytest

from stmoe_sim.verilator import BLOCKS, build
from support.synthetic import synthetic

from .conftest import Machine


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small machine of two PEs; its cache is empty."""
    return Machine(
        tmp_path_factory.mktemp("build"), trace=synthetic(
            seed=3, layers=1, experts=4, top_k=2, tokens=24, sequences=3),
        slots=2, max_d_ff=0, router_layers=0, predictor="none", model_d_model=32, model_d_ff=16,
        pes=2, lanes=8)


@pytest.fixture(scope="module")
def builds(small):
    """Made as one netlist, and then with blocks of their own."""
    g = small.replay.geometry
    return [build(small.replay.config, memory_words=g.total_bytes // g.axi_bytes,
                  cache=small.replay.cache, blocks=blocks) for blocks in ((), BLOCKS)]


def test_a_second_build_borrows_the_run_time_objects(builds):
    first, second = builds
    assert first.path != second.path
    assert "-o verilated.o" in (first.path.parent / "build.log").read_text()
    assert "-o verilated.o" not in (second.path.parent / "build.log").read_text()
    assert list(first.path.parents[1].glob("runtime-*/verilated.o"))


def test_blocks_of_their_own_change_nothing(small, builds):
    home = builds[1].path.parent
    calls = "".join(path.read_text() for path in home.rglob("*__Dpi.h"))
    assert all(f"{name.replace('.', '_')}_protectlib_create" in calls for name in BLOCKS)
    found = []
    for simulator in builds:
        outcome = small.run("lru", small.parts(small.replay) | {"simulator": simulator}, stall=50)
        small.check(outcome)
        found.append((outcome.counters, outcome.verdict.compared))
    assert found[0] == found[1]
