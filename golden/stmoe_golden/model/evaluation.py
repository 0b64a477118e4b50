"""Everything that the model card states, measured."""

from typing import Any

import numpy as np

from .batch import GoldenBatch
from .correlation import divergence, layer_pair, load, overlap
from .engine import FloatEngine
from .perplexity import Score, score
from .projections import Projections
from .quantised import QuantisedModel
from .tokenizer import Tokenizer
from .transformer import Transformer
from .weights import FloatModel

__all__ = ["RecordedBatch", "hardware", "perplexities", "routing_statistics", "spread"]

BLOCK = 512


class RecordedBatch(GoldenBatch):
    """Keeps the routing of every token: ``recorded()`` is int64 [token, layer, rank]."""

    def __init__(self, model: QuantisedModel):
        super().__init__(model)
        self.kept: list[list[np.ndarray]] = [[] for _ in range(model.shape.layers)]

    def layers(self, layer: int, x: np.ndarray) -> np.ndarray:
        result = super().layers(layer, x)
        self.kept[layer].append(self.ids[layer])
        return result

    def recorded(self) -> np.ndarray:
        return np.stack([np.concatenate(parts) for parts in self.kept], 1)


def spread(tokens: np.ndarray, size: int = 8192) -> np.ndarray:
    """uint16 [size]: blocks of 512 tokens spread evenly over ``tokens``, or all of a shorter text.
    """
    blocks = len(tokens) // BLOCK
    if blocks * BLOCK <= size:
        return np.asarray(tokens, np.uint16)
    at = np.linspace(0, blocks - 1, size // BLOCK).astype(int)
    return np.asarray(tokens[:blocks * BLOCK], np.uint16).reshape(blocks, BLOCK)[at].ravel()


def _entry(result: Score, octets: int) -> dict[str, Any]:
    return {"nats_per_token": result.nats, "perplexity": result.perplexity,
            "tokens": result.tokens,
            "bits_per_byte": result.nats * result.tokens / octets / np.log(2).item()}


def perplexities(model: QuantisedModel, heldout: dict[str, np.ndarray],
                 checkpoint: FloatModel | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """Scores by domain, then by arithmetic.

    "float": the checkpoint, if there is one. "dequantised": the shipped weights in floating point.
    "hardware": the accelerator's integers. "host routing": the same, the float router deciding.
    """
    shipped = Transformer(model.backbone)
    ways: dict[str, tuple[Transformer, Any]] = {}
    if checkpoint is not None:
        ways["float"] = Transformer(checkpoint.backbone), FloatEngine(checkpoint)
    ways["dequantised"] = shipped, FloatEngine(model.dequantised())
    ways["hardware"] = shipped, GoldenBatch(model)
    ways["host routing"] = shipped, GoldenBatch(model, "host")
    tokenizer = Tokenizer(model.tokenizer, model.shape.vocab)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for domain, tokens in sorted(heldout.items()):
        octets = max(1, len(tokenizer.bytes(tokens[1:].tolist())))
        found[domain] = {name: _entry(score(transformer, engine, tokens), octets)
                         for name, (transformer, engine) in ways.items()}
    return found


def hardware(model: QuantisedModel, heldout: dict[str, np.ndarray],
             projections: Projections | None = None) -> dict[str, dict[str, Any]]:
    """Scores by domain in the accelerator's integers; with ``projections``, of attention too."""
    transformer, engine = Transformer(model.backbone, projections), GoldenBatch(model)
    tokenizer = Tokenizer(model.tokenizer, model.shape.vocab)
    return {domain: _entry(score(transformer, engine, tokens),
                           max(1, len(tokenizer.bytes(tokens[1:].tolist()))))
            for domain, tokens in sorted(heldout.items())}


def _routing(model: QuantisedModel, tokens: np.ndarray) -> np.ndarray:
    """[sequence, token, layer, rank] of the whole windows of one context in ``tokens``."""
    context = model.shape.context
    runs = np.asarray(tokens[:len(tokens) // context * context], np.int64).reshape(-1, context)
    engine, transformer = RecordedBatch(model), Transformer(model.backbone)
    for at in range(0, len(runs), 8):
        transformer.stream(runs[at:at + 8], engine)
    ids = engine.recorded()
    return ids.reshape(-1, context, *ids.shape[1:])


def _domain(ids: np.ndarray, experts: int) -> dict[str, Any]:
    use, shared = load(ids, experts), overlap(ids, experts)
    share = use / experts
    entropy = -(share * np.log(np.maximum(share, 1e-12))).sum(-1)
    pairs = [layer_pair(ids, layer, experts) for layer in range(ids.shape[2] - 1)]
    return {
        "tokens": ids.shape[0] * ids.shape[1], "load": use.tolist(),
        "balance": [{"max": row.max(), "min": row.min(), "deviation": row.std(),
                     "effective_experts": float(np.exp(e))}
                    for row, e in zip(use, entropy, strict=True)],
        "pairs": [{"statistic": pair.test.statistic, "freedom": pair.test.freedom,
                   "log10_p": pair.test.log10_p, "cramers_v": pair.test.cramers_v,
                   "shuffled_statistic": pair.shuffled, "lift": pair.lift.tolist(),
                   "shuffled_lift": pair.shuffled_lift.tolist()}
                  for pair in pairs],
        "overlap": {"mean": shared.mean.tolist(), "uniform": shared.uniform,
                    "popular": shared.popular.tolist()}}


def routing_statistics(model: QuantisedModel, heldout: dict[str, np.ndarray]) -> dict[str, Any]:
    """Balance, correlation and overlap of the hardware's routing, JSON data.

    ``domains``: by name; ``divergence``: total variation between the first two domains per layer;
    ``all``: loads over all domains together, each weighing the same.
    """
    experts = model.shape.experts
    routed = {domain: _routing(model, tokens) for domain, tokens in sorted(heldout.items())}
    loads = [load(ids, experts) for ids in routed.values()]
    found: dict[str, Any] = {
        "domains": {domain: _domain(ids, experts) for domain, ids in routed.items()},
        "all": np.mean(loads, 0).tolist()}
    if len(loads) > 1:
        found["divergence"] = divergence(*loads[:2]).tolist()
    return found
