"""What a bring-up computes: experts, and tokens with their routing, with golden's results."""

from dataclasses import dataclass

import numpy as np

from stmoe.config import AcceleratorConfig, ConfigError, Geometry
from stmoe_golden.compute.expert import moe_layer
from stmoe_golden.trace import ONE, Trace, gates

from ..image import Experts, ModelExperts, layer_blobs

__all__ = ["Workload", "expert_blobs", "model_workload", "random_workload", "trace_workload"]

KEEP = 0.5  # of a random token's experts, those of the token before


def expert_blobs(experts: Experts) -> list[tuple[int, bytes]]:
    """Address and bytes of every expert and all dense weights, as they lie in expert memory."""
    g = experts.geometry
    return [((layer * g.config.blob_ids + number) * g.stride, blob)
            for layer in range(g.config.model.layers)
            for number, blob in enumerate(layer_blobs(experts, layer))]


@dataclass(frozen=True, eq=False)
class Workload:
    """Tokens to replay.

    Parameters
    ----------
    experts: what lies in expert memory. name: of the source.
    routing: [token, layer, rank], expert ids. gates: uint16 of the same shape, Q1.15.
    x: int8 [token, layer, d_model]. token: identities. first: bool, first of its sequence.
    """

    experts: Experts
    name: str
    routing: np.ndarray
    gates: np.ndarray
    x: np.ndarray
    token: np.ndarray
    first: np.ndarray

    def golden(self, token: int, layer: int) -> np.ndarray:
        """int16 [d_model], what the accelerator must give."""
        model = self.experts.config.model
        shared = list(range(model.experts, model.expert_ids))
        ids = [*self.routing[token, layer].tolist(), *shared]
        weights = np.array([*self.gates[token, layer].tolist(), *[ONE] * len(shared)], np.uint16)
        return moe_layer(self.x[token, layer], [self.experts.get(layer, e) for e in ids], weights)

    def blobs(self) -> list[tuple[int, bytes]]:
        """Address and bytes of every expert."""
        return expert_blobs(self.experts)


def random_workload(config: AcceleratorConfig, tokens: int, seed: int) -> Workload:
    """Seeded experts, activations and routing of the configuration's shape; half of a token's
    experts are, on the average, those of the token before."""
    model, rng = config.model, np.random.default_rng((seed, 0xB0))
    routing = np.zeros((tokens, model.layers, model.top_k), np.int64)
    for t in range(tokens):
        for layer in range(model.layers):
            kept = [int(e) for e in routing[t - 1, layer] if t and rng.random() < KEEP]
            others = [e for e in rng.permutation(model.experts).tolist() if e not in kept]
            routing[t, layer] = (kept + others)[:model.top_k]
    share = rng.dirichlet(np.ones(model.top_k), (tokens, model.layers))
    weights = np.floor(share * ONE).astype(np.uint16)
    return Workload(
        Experts(Geometry(config), seed), f"random routing, seed {seed}", routing, weights,
        rng.integers(-128, 128, (tokens, model.layers, model.d_model), np.int8),
        rng.integers(0, 64, tokens), np.arange(tokens) == 0)


def trace_workload(config: AcceleratorConfig, trace: Trace, tokens: int, seed: int,
                   experts: Experts | None = None) -> Workload:
    """The first ``tokens`` of ``trace``; random activations where it has none of the width.

    :class:`ConfigError` unless the configuration has the trace's layers, experts and top-k.
    """
    model = config.model
    for field, value in (("layers", trace.layers), ("experts", trace.num_experts),
                         ("top_k", trace.top_k)):
        if getattr(model, field) != value:
            raise ConfigError(f"model.{field}", getattr(model, field),
                              f"{value}, as trace {trace.name} has")
    if tokens > trace.tokens:
        raise ConfigError("--tokens", tokens, f"at most {trace.tokens}, those of {trace.name}")
    rng = np.random.default_rng((seed, 0xB1))
    x = rng.integers(-128, 128, (tokens, model.layers, model.d_model), np.int8)
    if experts is not None and trace.hidden is not None and trace.hidden.dtype == np.int8:
        x = trace.hidden[:tokens]
    starts = set(trace.offsets.tolist())
    return Workload(
        experts or Experts(Geometry(config), seed), trace.name,
        trace.experts[:tokens].astype(np.int64),
        np.array([[gates(trace, t, layer) for layer in range(trace.layers)]
                  for t in range(tokens)], np.uint16),
        x, trace.token[:tokens], np.array([t in starts or t == 0 for t in range(tokens)]))


def model_workload(config: AcceleratorConfig, tokens: int, seed: int) -> Workload:
    """The project's own model on its own trace, if the configuration has its shape, else a
    :func:`random_workload`."""
    from stmoe_golden.model.storage import load_model
    from stmoe_golden.model.trace import default_trace

    trace, model = default_trace(), load_model()
    shape, have = model.shape.moe(), config.model
    if any(getattr(shape, field) != getattr(have, field)
           for field in ("layers", "experts", "top_k", "d_model", "d_ff")):
        return random_workload(config, tokens, seed)
    return trace_workload(config, trace, tokens, seed, ModelExperts(Geometry(config), model))
