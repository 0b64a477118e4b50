"""What a checkpoint is worth: held-out loss and expert load per domain, and samples of text."""

import math
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from tiny_moe.checkpoint import load_checkpoint
from tiny_moe.data import END_ID
from tiny_moe.sources import DOMAINS

__all__ = ["evaluate", "generate"]

ROWS = 8


def _windows(tokens: np.ndarray, length: int) -> np.ndarray:
    """int64 ``[n, length + 1]``: consecutive windows that share one token; the rest is left out.

    Every token but the first of the text is predicted once.
    """
    starts = np.arange(0, len(tokens) - length, length)
    return tokens[starts[:, None] + np.arange(length + 1)].astype(np.int64)


@torch.no_grad()
def evaluate(checkpoint: Path, heldout: Path) -> dict[str, object]:
    """Per domain: loss in nats per token, perplexity, bits per byte of text, and the share of
    assignments of every expert, ``[L][E]``, summing to 1 per layer.

    Windows are as long as the context and do not overlap, so that tokens see 0 to context - 1
    tokens before them. Products run in float32.
    """
    torch.set_num_threads(1)
    model, tokenizer_json, meta = load_checkpoint(checkpoint)
    tokenizer = Tokenizer.from_str(tokenizer_json)
    shape = model.shape
    domains: dict[str, object] = {}
    with np.load(heldout, allow_pickle=False) as arrays:
        for domain in DOMAINS:
            windows = _windows(arrays[domain], shape.context)
            losses = []
            counts = torch.zeros(shape.layers, shape.experts)
            for start in range(0, len(windows), ROWS):
                part, routing = model.losses(torch.from_numpy(windows[start:start + ROWS]))
                losses.append(part.flatten())
                counts += torch.nn.functional.one_hot(
                    routing.chosen, shape.experts).sum((1, 2)).float()
            loss = float(torch.cat(losses).double().mean())
            text = tokenizer.decode_batch(windows[:, 1:].tolist(), skip_special_tokens=True)
            per_byte = loss * windows[:, 1:].size / sum(len(t.encode()) for t in text)
            domains[domain] = {
                "tokens": windows[:, 1:].size, "loss": loss, "perplexity": math.exp(loss),
                "bits_per_byte": per_byte / math.log(2),
                "expert_share": (counts / counts.sum(1, keepdim=True)).tolist()}
    return {"checkpoint_tokens": meta["tokens"], "window": shape.context, "domains": domains}


@torch.no_grad()
def generate(checkpoint: Path, prompt: str, *, tokens: int, temperature: float, seed: int) -> str:
    """``prompt`` and up to ``tokens`` more tokens of text; temperature 0 takes the likeliest.

    Ends early at the end-of-document token or at the end of the context. Raises ValueError if the
    prompt leaves no room.
    """
    torch.set_num_threads(1)
    model, tokenizer_json, _ = load_checkpoint(checkpoint)
    tokenizer = Tokenizer.from_str(tokenizer_json)
    ids = [END_ID, *tokenizer.encode(prompt).ids]
    if len(ids) >= model.shape.context:
        raise ValueError(f"prompt: {len(ids)} tokens, the context has {model.shape.context}")
    generator = torch.Generator().manual_seed(seed)
    for _ in range(min(tokens, model.shape.context - len(ids))):
        logits = model(torch.tensor([ids]))[0][0, -1]
        if temperature > 0:
            chances = (logits / temperature).softmax(0)
            token = int(torch.multinomial(chances, 1, generator=generator))
        else:
            token = int(logits.argmax())
        if token == END_ID:
            break
        ids.append(token)
    return tokenizer.decode(ids)
