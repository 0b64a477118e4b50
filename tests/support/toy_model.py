"""A random language model, small enough for a simulated board."""

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from stmoe_golden.model.quantise import quantise
from stmoe_golden.model.shape import LmShape
from stmoe_golden.model.weights import FloatModel

__all__ = ["toy_model", "toy_tokenizer"]


def toy_tokenizer(text: str, vocab: int = 260) -> str:
    """JSON of a tokenizer trained on a text, bytes mostly."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=["<|end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return backend.to_str()


def toy_model(text: str = "one two three", **shape: int):
    """A quantised model of width 32; ``shape``: layers, experts, top_k and others."""
    sizes = {"vocab": 288, "d_model": 32, "layers": 3, "heads": 2, "experts": 8, "top_k": 3,
             "d_ff": 16, "context": 24}
    rng = np.random.default_rng(5)
    made = FloatModel.random(rng, LmShape(**sizes | shape), toy_tokenizer(text))
    return quantise(made, {"noise": rng.integers(0, 288, 500).astype(np.uint16)})
