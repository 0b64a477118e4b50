"""A seeded trace with the correlations that predictors feed on. Not a recording."""

import numpy as np

from stmoe_golden.trace import Trace, TraceError

__all__ = ["synthetic"]

VOCABULARY = 64
LATENT = 12


def synthetic(seed: int = 1, layers: int = 8, experts: int = 32, top_k: int = 4,
              tokens: int = 320, sequences: int = 5) -> Trace:
    """``tokens`` decode tokens in ``sequences`` of nearly equal length, the same for a seed.

    An expert's logit is the sum of: what the layer before chose (cross-layer), a state that drifts
    from token to token (cross-token), the identity of the input token (lexical), a fixed
    popularity, and noise. Router weights are the softmax over the top-k.
    """
    if not 1 <= sequences <= tokens:
        raise TraceError(f"synthetic: sequences must be 1 to {tokens}, not {sequences}")
    if not 1 <= top_k <= experts:
        raise TraceError(f"synthetic: top_k must be 1 to {experts}, not {top_k}")
    rng = np.random.default_rng((seed, 0x57))
    follow = rng.normal(size=(layers, experts, experts))
    view = rng.normal(size=(layers, LATENT, experts)) / np.sqrt(LATENT)
    lexicon = rng.normal(size=(VOCABULARY, LATENT))
    popularity = 0.5 * rng.normal(size=(layers, experts))
    offsets = np.linspace(0, tokens, sequences + 1).astype(np.int64)
    starts = set(offsets.tolist())
    frequency = 1 / np.arange(1, VOCABULARY + 1)
    token = rng.choice(VOCABULARY, tokens, p=frequency / frequency.sum())
    chosen = np.zeros((tokens, layers, top_k), np.int16)
    weights = np.zeros(chosen.shape, np.float32)
    state = np.zeros(LATENT)
    for t in range(tokens):
        if t in starts:
            state = rng.normal(size=LATENT)
        state = 0.97 * state + np.sqrt(1 - 0.97**2) * rng.normal(size=LATENT)
        for layer in range(layers):
            logits = popularity[layer] + 3.0 * (state + 0.7 * lexicon[token[t]]) @ view[layer]
            if layer:
                logits += 2.0 * follow[layer, chosen[t, layer - 1]].sum(0) / np.sqrt(top_k)
            logits += 0.3 * rng.normal(size=experts)
            order = np.argsort(-logits, kind="stable")[:top_k]
            share = np.exp(logits[order] - logits[order[0]])
            chosen[t, layer], weights[t, layer] = order, share / share.sum()
    note = "synthetic: seeded random routing with built-in correlations, not a recording of a model"
    return Trace(name=f"synthetic-seed{seed}", model="synthetic", experts=chosen, offsets=offsets,
                 token=token.astype(np.int32), weights=weights, num_experts=experts,
                 metadata={"synthetic": True, "seed": seed, "note": note})
