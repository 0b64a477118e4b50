"""The hardware of docs/adding-a-predictor.md, as printed, against the golden example there."""

import importlib.util
import random
import re
from pathlib import Path

import pytest

from stmoe_golden.predict.predictor import Shape
from support.prediction_bench import Bench, geometry

PAGE = Path(__file__).parents[3] / "docs" / "adding-a-predictor.md"


@pytest.fixture
def printed(tmp_path):
    """Classes of the page by name, ``change`` applied to its text."""
    def load(name, change=lambda text: text):
        blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        (source,) = (block for block in blocks if f"class {name}(" in block)
        changed = change(source)
        file = tmp_path / f"{name}_{hash(changed) & 0xffff}.py"
        file.write_text(changed)
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, name)
    return load


def stream(g, seed):
    """Operations, and per round what was routed: None at a token."""
    rng, model = random.Random(seed), g.config.model
    operations = []
    for t in range(14):
        first = t % 5 == 0
        operations.append(("token", first))
        operations += [("observe", layer, rng.sample(range(model.experts), model.top_k), first)
                       for layer in range(model.layers)]
    return operations


def wanted(golden, operations, threshold, layers):
    rounds = []
    for kind, *rest in operations:
        if kind == "token":
            about, scores = 0, golden.begin_token(7, rest[0])
        else:
            about, scores = rest[0] + 1, golden.observe(rest[0], rest[1])
        rounds.append([] if about == layers else sorted(
            ((about, e, int(s)) for e, s in enumerate(scores) if s >= threshold),
            key=lambda found: (-found[2], found[1])))
    return rounds


@pytest.mark.parametrize("layers, experts, top_k, stall", [
    (3, 16, 4, 0.0), (3, 16, 4, 0.4), (2, 128, 8, 0.2), (1, 6, 2, 0.3)])
@pytest.mark.parametrize("threshold", [1, 2, 3])
def test_the_unit_equals_the_golden_example(printed, layers, experts, top_k, stall, threshold):
    g = geometry(layers, experts, top_k)
    golden = printed("TwoTokens")(Shape(layers, experts, top_k))
    operations = stream(g, experts)
    bench = Bench(g, [("set", {"threshold": threshold}), *operations], stall=stall,
                  unit=printed("TwoTokensUnit")(g))
    rounds = wanted(golden, operations, threshold, layers)
    assert bench.rounds == rounds
    assert bench.counts["predicted"] == sum(map(len, rounds)) > 0


def test_clear_and_disable_forget(printed):
    g = geometry(3, 8, 2)
    unit = printed("TwoTokensUnit")
    operations = [("set", {"threshold": 1}), *stream(g, 1)[:8]]
    assert Bench(g, [*operations, ("clear",), ("token", False)], unit=unit(g)).rounds[-1] == []
    assert Bench(g, [*operations, ("token", False)], unit=unit(g)).rounds[-1]
    off = Bench(g, [*operations, ("set", {"enable": 0}), ("token", False)], unit=unit(g))
    assert off.rounds[-1] == []


@pytest.mark.parametrize("good, bad", [
    ("Cat(routed, before)", "Cat(routed, earlier)"), ("age >= 2", "age >= 1"),
    ("known & ~older", "known"), ("read.addr.eq(following)", "read.addr.eq(layer)")])
def test_a_wrong_unit_is_noticed(printed, good, bad):
    g = geometry(3, 16, 4)
    operations = stream(g, 3)
    unit = printed("TwoTokensUnit", lambda text: text.replace(good, bad))
    golden = printed("TwoTokens")(Shape(3, 16, 4))
    assert Bench(g, operations, unit=unit(g)).rounds != wanted(golden, operations, 2, 3)
