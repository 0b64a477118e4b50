"""The worked example of docs/adding-a-predictor.md, as printed."""

import re
from pathlib import Path

import numpy as np

from stmoe_golden.predict.predictor import Shape
from stmoe_golden.predict.quality import measure, measured_window
from stmoe_golden.predict.registry import make
from support.synthetic import synthetic

PAGE = Path(__file__).parents[3] / "docs" / "adding-a-predictor.md"


def test_the_example_is_a_predictor(tmp_path):
    file = tmp_path / "two_tokens.py"
    file.write_text(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1])
    shape = Shape(3, 12, 2)
    golden = make(f"{file}:weight=3", shape)
    routed = [np.array([[0, 1], [2, 3], [4, 5]]), np.array([[1, 2], [3, 4], [5, 6]])]
    for first, experts in zip((True, False), routed, strict=True):
        golden.begin_token(-1, first)
        for layer in range(3):
            golden.observe(layer, experts[layer])
    assert golden.begin_token(-1, False).tolist() == [1, 4, 3] + [0] * 9
    assert golden.begin_token(-1, True).tolist() == [0] * 12
    trace = synthetic(1, layers=3, experts=12, top_k=2, tokens=400, sequences=4)
    recall = [(measure(make(text, shape), measured_window(trace)).rank[:, 1:] < 4).mean()
              for text in (str(file), "none")]
    assert recall[0] > 2 / 12 > recall[1] == 0
