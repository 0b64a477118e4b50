"""A random model small enough to be computed in many ways, and its quantised form."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from stmoe_golden.model.quantise import quantise
from stmoe_golden.model.shape import LmShape
from stmoe_golden.model.weights import FloatModel

TEXT = ["def add(a, b):\n    return a + b\n", "Größe ≤ 3 € — naïve 日本語 🙂🙂", "one two three"]


def tokenizer_json() -> str:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=280, special_tokens=["<|end|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(TEXT, trainer)
    return backend.to_str()


def _write_checkpoint(m: FloatModel, path, **changes):
    meta = {name: getattr(m.shape, name) for name in m.shape.__dataclass_fields__}
    parts = m.backbone.tensors() | {
        "router": m.router, "gate": m.gate, "up": m.up, "down": m.down,
        "meta": np.array(json.dumps(meta | {"steps": 12})), "tokenizer": np.array(m.tokenizer)}
    np.savez(path, **{k: v for k, v in (parts | changes).items() if v is not None})


@pytest.fixture(scope="session")
def write_checkpoint():
    """Writes a float model as training does, some fields changed, or left out when None."""
    return _write_checkpoint


@pytest.fixture(scope="session")
def shape():
    return LmShape(vocab=288, d_model=32, layers=3, heads=2, experts=8, top_k=3, d_ff=16,
                   context=24)


@pytest.fixture(scope="session")
def float_model(shape):
    return FloatModel.random(np.random.default_rng(5), shape, tokenizer_json())


@pytest.fixture(scope="session")
def tokens(shape):
    return np.random.default_rng(6).integers(0, shape.vocab, 500).astype(np.uint16)


@pytest.fixture(scope="session")
def model(float_model, tokens):
    return quantise(float_model, {"noise": tokens})
