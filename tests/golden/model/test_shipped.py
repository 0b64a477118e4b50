"""The model in the package: it is whole, small enough, and as good as its checkpoint."""

from dataclasses import replace

import numpy as np
import pytest

from stmoe.config import Geometry, preset
from stmoe_golden.compute.blob import pack, unpack
from stmoe_golden.model.batch import GoldenBatch
from stmoe_golden.model.engine import GoldenEngine
from stmoe_golden.model.generation import Generation
from stmoe_golden.model.perplexity import score
from stmoe_golden.model.storage import MAX_BYTES, load_model, packaged_model
from stmoe_golden.model.tokenizer import Tokenizer
from stmoe_golden.model.transformer import Transformer

DOMAINS = ("english", "python")
BOUND = 1.01


@pytest.fixture(scope="module")
def shipped():
    return load_model()


def test_it_is_the_documented_model(shipped):
    shape = shipped.shape
    assert (shape.layers, shape.experts, shape.top_k, shape.d_model, shape.d_ff) == (
        8, 32, 4, 128, 32)
    assert shape.vocab == 2048 and shape.context == 512
    assert packaged_model().stat().st_size <= MAX_BYTES
    assert {source["domain"] for source in shipped.facts["sources"]} == set(DOMAINS)
    assert all(source["licence"] for source in shipped.facts["sources"])
    assert {name: len(tokens) for name, tokens in shipped.heldout.items()} == dict.fromkeys(
        DOMAINS, 8192)


@pytest.mark.parametrize("domain", DOMAINS)
def test_perplexity_in_integers_is_within_one_percent_of_float(shipped, domain):
    found = score(Transformer(shipped.backbone), GoldenBatch(shipped), shipped.heldout[domain])
    known = shipped.facts["sample"][domain]
    assert found.tokens == known["tokens"]
    assert found.perplexity < BOUND * known["perplexity"]


def test_the_bound_notices_a_wrong_scale(shipped):
    tokens = shipped.heldout["python"][:1537]
    transformer = Transformer(shipped.backbone)
    right = score(transformer, GoldenBatch(shipped), tokens).perplexity
    halved = replace(shipped, down_shift=shipped.down_shift + np.uint8(1))
    wrong = score(transformer, GoldenBatch(halved), tokens).perplexity
    assert wrong > BOUND * right


def test_its_experts_survive_expert_memory(shipped):
    geometry = Geometry(preset("edge"))
    x = np.arange(-64, 64).astype(np.int8)
    for layer, expert in ((0, 0), (7, 31)):
        original = shipped.expert(layer, expert)
        again = unpack(pack(original, geometry), geometry)
        assert np.array_equal(again.forward(x), original.forward(x))


def test_it_has_learned_something(shipped):
    uniform = shipped.shape.vocab
    assert all(known["perplexity"] < uniform / 40 for known in shipped.facts["sample"].values())


def test_it_writes_the_same_text_twice(shipped):
    tokenizer = Tokenizer(shipped.tokenizer, shipped.shape.vocab)
    prompt = tokenizer.prompt("def fibonacci(n):")
    transformer = Transformer(shipped.backbone)
    runs = [list(Generation(transformer, GoldenEngine(shipped), prompt, max_tokens=12))
            for _ in range(2)]
    assert runs[0] == runs[1] and tokenizer.decode(runs[0])
    assert np.all(np.array(runs[0]) < shipped.shape.vocab)
