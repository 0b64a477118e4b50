"""A layer command of many tokens through the whole netlist, more experts than slots."""

import numpy as np
import pytest

from stmoe.config import PRESETS
from stmoe_golden.compute.expert import Expert
from stmoe_golden.compute.mapping import moe_tokens
from support.layer_bench import LayerBench

CONFIG = PRESETS["tiny"].replace(
    model_layers=1, model_experts=5, model_top_k=2, model_d_model=32, model_d_ff=16, slots=2,
    max_d_ff=0, pes=2, predictor="none", router_layers=0, max_tokens=4)


@pytest.mark.parametrize(("routing", "changes"), [
    ([[0, 1], [1, 2], [4, 0], [3, 1]], {}), ([[2, 2 ^ 1]], {}),
    ([[0, 1], [1, 2], [4, 0], [3, 1]], {"split_groups": True})])  # expert 1 for two and one
def test_every_tokens_result_is_its_own(routing, changes):
    rng = np.random.default_rng(7)
    model = CONFIG.model
    experts = {e: Expert.random(rng, model.d_model, model.d_ff) for e in range(model.experts)}
    x = rng.integers(-128, 128, (len(routing), model.d_model), np.int8)
    gates = rng.integers(0, 65536, np.shape(routing)).astype(np.uint16)
    bench = LayerBench(CONFIG.replace(**changes), experts)
    (found,) = bench.play([(routing, gates, x)])
    assert np.array_equal(found, moe_tokens(x, np.array(routing), gates, experts))
    assert not bench.errors["error"]
