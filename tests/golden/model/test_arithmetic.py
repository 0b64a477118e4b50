"""The batched integers against the golden functions, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest

from stmoe_golden.compute.arithmetic import requant
from stmoe_golden.compute.expert import Expert
from stmoe_golden.model.activations import dequantise_output, host_gates, quantise_input
from stmoe_golden.model.batch import BatchExpert, GoldenBatch, requant_exact, route_batch
from stmoe_golden.model.engine import GoldenEngine
from stmoe_golden.router.router import GateMode, route


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_requantisation_in_float64_is_exact(bits):
    rng = np.random.default_rng(bits)
    acc = rng.integers(-2**31, 2**31, 20000)
    mult, shift = rng.integers(0, 65536, acc.shape), rng.integers(0, 64, acc.shape)
    acc[:4000] = rng.integers(-64, 64, 4000)  # ties
    mult[:4000] = 1 << rng.integers(0, 3, 4000)
    shift[:4000] = rng.integers(0, 6, 4000)
    scale = np.ldexp(mult.astype(float), -shift)
    assert np.array_equal(requant_exact(acc, scale, bits), requant(acc, mult, shift, bits))


@pytest.mark.parametrize("seed", range(3))
def test_batched_experts_equal_forward(seed):
    rng = np.random.default_rng(seed)
    expert = Expert.random(rng, 32, 16)
    x = rng.integers(-128, 128, (60, 32), np.int8)
    want = np.array([expert.forward(row) for row in x])
    assert np.array_equal(BatchExpert(expert).forward(x), want)
    down = expert.down.copy()
    down[3, 5] ^= 64
    assert not np.array_equal(BatchExpert(replace(expert, down=down)).forward(x), want)


def test_batched_routing_equals_route():
    rng = np.random.default_rng(3)
    weights = rng.integers(-128, 128, (16, 32), np.int8)
    weights[7] = weights[2]  # a tie in every row
    x = rng.integers(-128, 128, (80, 32), np.int8)
    x[0] = 0
    mult, shift = 50021, 24
    ids, gates = route_batch(weights, x, 4, mult / 2**shift)
    for row, found, gate in zip(x, ids, gates, strict=True):
        want = route(weights, row, 4, mode=GateMode.SOFTMAX, renormalise=True, mult=mult,
                     shift=shift)
        assert list(zip(found.tolist(), gate.tolist(), strict=True)) == want


@pytest.mark.parametrize("routing", ["hardware", "host"])
def test_batched_layer_equals_one_by_one(model, routing):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(40, model.shape.d_model)).astype(np.float32)
    batch, single = GoldenBatch(model, routing), GoldenEngine(model, routing)
    for layer in range(model.shape.layers):
        outputs = batch.layers(layer, x)
        for at, row in enumerate(x):
            single.begin_token(0, True)
            assert np.array_equal(single.layer(layer, row), outputs[at])
            record = single.records[0]
            assert record.experts == batch.ids[layer][at].tolist()
            assert np.array_equal(record.gates, batch.gates[layer][at])
            assert np.array_equal(record.x, batch.x[layer][at])


def test_activations_round_half_to_even_and_saturate():
    x = np.array([0.25, 0.75, -0.25, 100, -100, 1e30, -63.75], np.float32)
    found = quantise_input(x, np.full(7, 0.5, np.float32))
    assert found.dtype == np.int8 and found.tolist() == [0, 2, 0, 127, -128, 127, -128]
    back = dequantise_output(np.array([-32768, 3], np.int16), 0.125)
    assert back.dtype == np.float32 and back.tolist() == [-4096.0, 0.375]


def test_host_gates_prefer_lower_ids_and_sum_to_one():
    router = np.array([[1.0, 0], [3, 0], [1, 0], [3, 0]])
    ids, gates = host_gates(router, np.array([[1.0, 5.0]]), 3)
    assert ids.tolist() == [[1, 3, 0]]
    assert gates[0, 0] == gates[0, 1] and abs(int(gates.sum()) - 32768) <= 1
