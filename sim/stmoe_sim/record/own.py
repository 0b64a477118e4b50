"""The project's own language model as a recordable one, in exactly the accelerator's arithmetic."""

from collections.abc import Sequence

import numpy as np

from stmoe_golden.model.batch import GoldenBatch
from stmoe_golden.model.quantised import QuantisedModel
from stmoe_golden.model.tokenizer import END, Tokenizer
from stmoe_golden.model.transformer import Transformer
from stmoe_golden.router.router import GATE_BITS

from .run import Step

__all__ = ["OwnModel"]

LOGIT_STEPS = 64


class _Session:
    def __init__(self, model: "OwnModel", keep: frozenset[str]):
        self.model, self.keep = model, keep
        self.cache = model.transformer.new_cache()

    def feed(self, ids: Sequence[int]) -> Step:
        model, engine = self.model, self.model.engine
        logits = model.transformer.prefill_whole(self.cache, ids, engine)
        layers = range(model.quantised.shape.layers)
        gates = np.stack([engine.gates[layer] for layer in layers], axis=1)
        hidden = np.stack([engine.x[layer] for layer in layers], axis=1).astype(np.int8)
        arrays = {"experts": np.stack([engine.ids[layer] for layer in layers], axis=1),
                  "weights": (gates / 2.0**GATE_BITS).astype(np.float32)}
        if "hidden" in self.keep:
            arrays["hidden"] = hidden
        if "logits" in self.keep:
            arrays["logits"] = model.logits(hidden)
        if "lookahead" in self.keep:
            arrays["lookahead"] = model.lookahead(hidden)
        return Step(arrays, int(logits.argmax()))


class OwnModel:
    """``quantised`` as a recordable model: hidden states are the int8 that the hardware receives.

    Texts start with the document separator. Everything follows from the hardware's arithmetic, so a
    trace is the same on every machine.
    """

    note = "routing of the project's own model in the accelerator's arithmetic"

    def __init__(self, quantised: QuantisedModel, name: str = "tiny-moe"):
        shape = quantised.shape
        self.quantised, self.name = quantised, name
        self.context, self.experts, self.stops = shape.context, shape.experts, frozenset([END])
        self.transformer = Transformer(quantised.backbone)
        self.engine = GoldenBatch(quantised)
        self.tokenizer = Tokenizer(quantised.tokenizer, shape.vocab)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.prompt(text) if text else []

    def session(self, keep: frozenset[str]) -> _Session:
        return _Session(self, keep)

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """Router logits, float32 [token, layer, expert], of int8 ``hidden``."""
        model = self.quantised
        sums = np.einsum("tld,led->tle", hidden.astype(np.float64),
                         model.router_int8.astype(np.float64))
        return (sums * model.scale("router")[:, None] / LOGIT_STEPS).astype(np.float32)

    def lookahead(self, hidden: np.ndarray) -> np.ndarray:
        """Logits of the next layer's float router on the input that ``hidden`` stands for."""
        model = self.quantised
        x = hidden.astype(np.float64) * model.activation_scale
        ahead = np.zeros((*hidden.shape[:2], self.experts), np.float32)
        ahead[:, :-1] = np.einsum("tld,led->tle", x[:, :-1], model.router[1:].astype(np.float64))
        return ahead
