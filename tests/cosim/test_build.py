"""Builds are cached by configuration, and share what is the same in all."""

from stmoe.config import preset
from stmoe_sim.verilator import build


def test_a_second_build_borrows_the_run_time_objects(tmp_path):
    small = preset("tiny").replace(
        slots=2, max_d_ff=0, router_layers=0, predictor="none", model_layers=1, model_experts=4,
        model_d_model=32, model_d_ff=16, model_top_k=2, pes=1, lanes=8)
    first = build(small, memory_words=4096, cache=tmp_path)
    log = (first.path.parent / "build.log").read_text()
    assert "-o verilated.o" in log
    second = build(small.replace(retries=1), memory_words=4096, cache=tmp_path)
    assert second.path != first.path
    assert "-o verilated" not in (second.path.parent / "build.log").read_text()
    assert list((tmp_path / "sim").glob("runtime-*/verilated.o"))
