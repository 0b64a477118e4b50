"""The worked example of docs/number-formats.md, recomputed by the golden functions."""

from pathlib import Path

import numpy as np

from stmoe_golden.compute.arithmetic import (
    SILU,
    Requantiser,
    Requantisers,
    requant,
    round_shift,
    saturate,
)
from stmoe_golden.compute.expert import Expert
from stmoe_golden.model.activations import dequantise_output, quantise_input
from stmoe_golden.router.router import EXP, GateMode, logits, requantise, route

PAGE = Path(__file__).parents[3] / "docs" / "number-formats.md"


def scales(*pairs: tuple[int, int]) -> Requantisers:
    mult, shift = zip(*pairs, strict=True)
    return Requantisers(np.array(mult, np.uint16), np.array(shift, np.uint8))


def test_worked_example():
    x = quantise_input(np.array([2.02, -1.5], np.float32), np.array([0.02, 0.025], np.float32))
    weights = np.array([[12, -7], [100, 20], [-30, -90], [98, 25]], np.int8)
    acc = logits(weights, x)
    below = [requantise(int(acc.max() - v), 33554, 20) for v in acc]
    routed = route(weights, x, 2, mode=GateMode.SOFTMAX, renormalise=True, mult=33554, shift=20)
    first = Expert(np.array([[90, 40]], np.int8), np.array([[-51, 110]], np.int8),
                   np.array([[77], [-128]], np.int8), scales((41943, 22)), scales((32768, 16)),
                   Requantiser(43691, 33), scales((40000, 14), (52429, 15)))
    gate_acc, up_acc = first.gate.astype(int) @ x, first.up.astype(int) @ x
    g, u = requant(gate_acc, 41943, 22, 10), requant(up_acc, 32768, 16, 16)
    silu = SILU[g & 1023]
    h = requant(silu.astype(int) * u, 43691, 33, 8)
    y = first.forward(x)
    second = np.array([-3000, 812])
    total = sum(gate * out.astype(int) for (_, gate), out in zip(routed, (y, second), strict=True))
    result = saturate(round_shift(total, 15), 16)
    text = PAGE.read_text(encoding="utf-8")
    for value in (x, acc, below, [EXP[v] for v in below], gate_acc, g, silu, up_acc, u, h,
                  first.down.astype(int).ravel() * h[0], y, total, result):
        for number in np.ravel(value).tolist():
            assert f"{number}".replace("-", "\u2212") in text, number
    assert all(f"= {gate}" in text for _, gate in routed)
    back = dequantise_output(result.astype(np.int16), 0.0005)
    assert [round(float(v), 4) for v in back] == [-5.6765, 5.6465]
