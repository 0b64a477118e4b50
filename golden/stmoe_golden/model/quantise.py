"""From a float checkpoint and calibration tokens to the integers of the accelerator.

Layers are quantised in order, each on the activations that the layers before it, already in
integers, really produce. Scales are static.
"""

from typing import Any

import numpy as np

from ..compute.expert import Expert
from .activations import dequantise_output, quantise_input
from .batch import BatchExpert, requant_exact, route_batch
from .error import require
from .expert_rounding import moment, round_expert, swiglu
from .quantised import QuantisedModel, moe_tensors
from .rounding import clipped_step, encode_scale, round_weights
from .transformer import Transformer
from .weights import Backbone, FloatModel

__all__ = ["quantise"]

HEADROOM = 4.0  # of the int16 result over the largest output seen
FEW = 128  # tokens below which an expert's statistics lean on those of the layer
SAMPLE = 1024  # tokens of the layer that stand in for an expert with few of its own


def _half(backbone: Backbone) -> Backbone:
    return Backbone(backbone.shape, **{name: value.astype(np.float16)
                                       for name, value in backbone.tensors().items()})


class _Quantiser:
    """A batch engine that quantises a layer when its inputs arrive, and answers in integers."""

    def __init__(self, model: FloatModel):
        self.model, self.shape = model, model.shape
        self.parts: dict[str, Any] = {
            name: np.zeros(dims, kind) for name, (dims, kind) in moe_tensors(model.shape).items()}
        self.parts["router"] = model.router.astype(np.float16)

    def layers(self, layer: int, x: np.ndarray) -> np.ndarray:
        step = clipped_step(x.T.astype(np.float64)).astype(np.float32)
        self.parts["activation_scale"][layer] = step
        q = quantise_input(x, step)
        whole = q.astype(np.float64)
        common = moment(whole)
        ids, gates = self._route(layer, q, step, common)
        chosen = [np.nonzero(ids == e) for e in range(self.shape.experts)]
        floats = [self._folded(layer, e, step) for e in range(self.shape.experts)]
        largest = max((float(np.abs(swiglu(whole[token] @ gate.T, whole[token] @ up.T)
                                    @ down.T).max(initial=0))
                       for (gate, up, down), (token, _) in zip(floats, chosen, strict=True)))
        out_step = np.float32(HEADROOM * max(largest, 1e-6) / 32767)
        self.parts["output_scale"][layer] = out_step
        total = np.zeros(x.shape)
        for e, (token, rank) in enumerate(chosen):
            own = whole[token]
            share = len(own) / (len(own) + FEW)
            inputs = share * moment(own) + (1 - share) * common
            seen = own if len(own) >= FEW else whole[::max(1, len(whole) // SAMPLE)]
            expert = round_expert(*floats[e], seen, inputs, float(out_step))
            self._store(layer, e, expert)
            total[token] += gates[token, rank, None] * BatchExpert(expert).forward(own)
        result = requant_exact(total, 2.0**-15, 16)
        return dequantise_output(result.astype(np.int16), float(out_step))

    def _folded(self, layer: int, e: int,
                step: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        model, step = self.model, step.astype(np.float64)
        return model.gate[layer, e] * step, model.up[layer, e] * step, model.down[layer, e]

    def _route(self, layer: int, q: np.ndarray, step: np.ndarray,
               inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Quantise the router; routing of ``q`` by it. All rows share a step: so do all logits."""
        folded = self.model.router[layer] * step.astype(np.float64)
        unit = clipped_step(folded.reshape(1, -1))
        weights = round_weights(folded, np.repeat(unit, len(folded)), inputs)
        mult, shift = encode_scale(64 * unit[0])
        for name, value in (("int8", weights), ("mult", mult), ("shift", shift)):
            self.parts[f"router_{name}"][layer] = value
        return route_batch(weights, q, self.shape.top_k, float(np.ldexp(float(mult), -int(shift))))

    def _store(self, layer: int, e: int, expert: Expert) -> None:
        for name, (mult, shift) in (("gate", expert.gate_scale), ("up", expert.up_scale),
                                    ("hidden", expert.hidden_scale), ("down", expert.out_scale)):
            self.parts[f"{name}_mult"][layer, e] = mult
            self.parts[f"{name}_shift"][layer, e] = shift
        for name in ("gate", "up", "down"):
            self.parts[name][layer, e] = getattr(expert, name)


def quantise(model: FloatModel, calibration: dict[str, np.ndarray]) -> QuantisedModel:
    """The model in integers; ``calibration`` holds token ids [n] by domain.

    Every domain counts as much as it has tokens; each must fill a context.
    """
    context = model.shape.context
    require(len(calibration) > 0, "calibration", "must hold at least one domain")
    runs = []
    for domain, tokens in sorted(calibration.items()):
        require(len(tokens) >= context, "calibration",
                f"{domain} must have at least {context} tokens, not {len(tokens)}")
        whole = len(tokens) // context * context
        runs.append(np.asarray(tokens[:whole], np.int64).reshape(-1, context))
    backbone = _half(model.backbone)
    engine = _Quantiser(model)
    Transformer(backbone).stream(np.concatenate(runs), engine)
    return QuantisedModel(backbone, **engine.parts, tokenizer=model.tokenizer)
