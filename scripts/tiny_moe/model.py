"""The tiny MoE language model in torch: RMSNorm, rotary attention, top-k SwiGLU experts."""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiny_moe.experts import apply_experts
from tiny_moe.loss import next_token_loss

__all__ = ["Routing", "Shape", "TinyMoe", "rotary_table"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of the model; ``shared`` experts (0 or 1) see every token beside the routed ones."""

    vocab: int = 2048
    d_model: int = 128
    layers: int = 8
    heads: int = 4
    experts: int = 32
    top_k: int = 4
    d_ff: int = 32
    shared: int = 0
    context: int = 512
    theta: float = 10000.0
    eps: float = 1e-6

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name in ("shared", "eps") else 1
            if value < least:
                raise ValueError(f"{field.name}: must be at least {least}, not {value}")
        if self.d_model % (2 * self.heads):
            raise ValueError(f"heads: {self.heads} do not split d_model {self.d_model} into even "
                             "heads")
        if self.top_k > self.experts:
            raise ValueError(f"top_k: {self.top_k} of {self.experts} experts")
        if self.shared > 1:
            raise ValueError(f"shared: at most 1, not {self.shared}")


@dataclass
class Routing:
    """What the routers did: ``chosen`` int64 ``[L, n, k]``, and both auxiliary losses,
    ``[L]`` each."""

    chosen: Tensor
    balance: Tensor
    z: Tensor


def rotary_table(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine ``[length, head/2]``.

    Pair (i, i + head/2) turns by position times theta^(-2 i / head).
    """
    half = shape.d_model // shape.heads // 2
    rate = shape.theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), rate)
    return angle.cos().float(), angle.sin().float()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def _norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of [b, h, t, c]; twice as fast here as torch's fused one in bfloat16."""
    batch, heads, length, size = q.shape
    mask = torch.full((length, length), -torch.inf, dtype=q.dtype).triu(1)
    scores = torch.baddbmm(mask.expand(batch * heads, -1, -1), q.flatten(0, 1),
                           k.flatten(0, 1).transpose(1, 2), alpha=1 / math.sqrt(size))
    return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).view_as(q)


def attend_and_route(x: Tensor, cos: Tensor, sin: Tensor, attn_norm: Tensor, wqkv: Tensor,
                     wo: Tensor, moe_norm: Tensor, router: Tensor, heads: int, eps: float,
                     dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Attention half of a block, and what the MoE half starts from.

    ``x`` float32 [b, t, d] -> x after attention [b, t, d], the experts' input [b*t, d] in
    ``dtype``, router logits float32 [b*t, E].
    """
    batch, length, d_model = x.shape
    normed = _norm(x, attn_norm, eps).to(dtype)
    qkv = (normed.view(-1, d_model) @ wqkv.to(dtype).t()).view(batch, length, 3, heads, -1)
    q, k, v = qkv.transpose(1, 3).unbind(2)
    mixed = _attention(_rotate(q, cos, sin), _rotate(k, cos, sin), v)
    mixed = mixed.transpose(1, 2).reshape(-1, d_model)
    x = x + (mixed @ wo.to(dtype).t()).view(batch, length, d_model).float()
    normed = _norm(x, moe_norm, eps).view(-1, d_model)
    return x, normed.to(dtype), normed @ router.t()


def route(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights [n, k] (softmax over the chosen), chosen [n, k], balance loss and z-loss of a layer.

    The balance loss is E * sum over experts of (share of assignments * mean probability): 1 when
    both are even.
    """
    experts = logits.shape[1]
    top, chosen = logits.topk(top_k, dim=1)
    share = torch.bincount(chosen.flatten(), minlength=experts) / chosen.numel()
    balance = experts * (share * logits.softmax(1).mean(0)).sum()
    return top.softmax(1), chosen, balance, logits.logsumexp(1).square().mean()


class TinyMoe(nn.Module):
    """Decoder-only model; parameter names and shapes are those of the checkpoint.

    embed [V, d]; attn_norm, moe_norm [L, d]; wq, wk, wv, wo [L, d, d]; router [L, E, d];
    gate, up [L, E, f, d]; down [L, E, d, f]; final_norm [d]; with a shared expert also
    shared_gate, shared_up [L, f, d] and shared_down [L, d, f]. All float32; products run in
    ``dtype``.
    """

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.shape, self.dtype = shape, dtype
        s, d, f = shape, shape.d_model, shape.d_ff
        out = 0.5 / math.sqrt(2 * s.layers)

        def matrix(*size: int, std: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*size) * std)

        self.embed = matrix(s.vocab, d, std=0.02)
        self.attn_norm = nn.Parameter(torch.ones(s.layers, d))
        self.wq, self.wk, self.wv = (matrix(s.layers, d, d, std=d ** -0.5) for _ in range(3))
        self.wo = matrix(s.layers, d, d, std=out * d ** -0.5)
        self.moe_norm = nn.Parameter(torch.ones(s.layers, d))
        self.router = matrix(s.layers, s.experts, d, std=0.02)
        self.gate, self.up = (matrix(s.layers, s.experts, f, d, std=d ** -0.5) for _ in range(2))
        self.down = matrix(s.layers, s.experts, d, f, std=out * f ** -0.5)
        self.final_norm = nn.Parameter(torch.ones(d))
        if s.shared:
            self.shared_gate, self.shared_up = (matrix(s.layers, f, d, std=d ** -0.5)
                                                for _ in range(2))
            self.shared_down = matrix(s.layers, d, f, std=out * f ** -0.5)

    def hidden(self, tokens: Tensor) -> tuple[Tensor, Routing]:
        """Final normed states [b*t, d] in ``dtype`` of int64 ``tokens`` [b, t], and the routing."""
        s = self.shape
        cos, sin = rotary_table(s, tokens.shape[1])
        p = {name: w.unbind(0) for name, w in self.named_parameters()
             if name not in ("embed", "final_norm")}
        x = F.embedding(tokens, self.embed)
        chosen, balances, zs = [], [], []
        for layer in range(s.layers):
            wqkv = torch.cat([p["wq"][layer], p["wk"][layer], p["wv"][layer]])
            x, normed, logits = attend_and_route(
                x, cos, sin, p["attn_norm"][layer], wqkv, p["wo"][layer], p["moe_norm"][layer],
                p["router"][layer], s.heads, s.eps, self.dtype)
            weights, ids, balance, z = route(logits, s.top_k)
            y = apply_experts(normed, weights, ids, p["gate"][layer], p["up"][layer],
                              p["down"][layer])
            if s.shared:
                gate, up, down = (p[f"shared_{name}"][layer].to(self.dtype)
                                  for name in ("gate", "up", "down"))
                y = y + (F.silu(normed @ gate.t()) * (normed @ up.t())) @ down.t()
            x = x + y.view_as(x)
            chosen.append(ids)
            balances.append(balance)
            zs.append(z)
        states = _norm(x, self.final_norm, s.eps).to(self.dtype).view(-1, s.d_model)
        return states, Routing(torch.stack(chosen), torch.stack(balances), torch.stack(zs))

    def losses(self, tokens: Tensor) -> tuple[Tensor, Routing]:
        """Negative log-likelihood in nats of every next token, float32 [b, t - 1], of int64
        ``tokens`` [b, t], and the routing. Memory stays small: logits never exist as a whole."""
        states, routing = self.hidden(tokens[:, :-1])
        loss = next_token_loss(states, self.embed.to(self.dtype), tokens[:, 1:].flatten())
        return loss.view(len(tokens), -1), routing

    def forward(self, tokens: Tensor) -> tuple[Tensor, Routing]:
        """Float32 logits [b, t, V] of int64 ``tokens`` [b, t], and the routing."""
        states, routing = self.hidden(tokens)
        logits = states @ self.embed.to(self.dtype).t()
        return logits.float().view(*tokens.shape, -1), routing
