"""Expert computation of one layer as batched products of equal blocks of rows."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["BLOCK", "apply_experts"]

BLOCK = 64


def _blocks(chosen: Tensor, experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places of the assignments ``chosen`` [n, k] in blocks of one expert each.

    Returns ``place`` [n*k], the row of each assignment among ``blocks * BLOCK`` rows; ``source``
    [rows], the assignment in each row, n*k where there is none; ``owner`` [blocks], the expert of
    each block. The number of blocks depends on n*k and E only, so that the shapes of all products
    are the same in every step.
    """
    flat = chosen.flatten()
    total = len(flat)
    blocks = total // BLOCK + experts
    order = torch.argsort(flat, stable=True)
    counts = torch.bincount(flat, minlength=experts)
    used = (counts + BLOCK - 1) // BLOCK
    first = used.cumsum(0) - used
    start = counts.cumsum(0) - counts
    sorted_ids = flat[order]
    rows = first[sorted_ids] * BLOCK + torch.arange(total) - start[sorted_ids]
    place = torch.empty_like(order)
    place[order] = rows
    source = torch.full((blocks * BLOCK,), total)
    source[rows] = order
    owner = torch.zeros(blocks, dtype=torch.int64)
    owner[:int(used.sum())] = torch.repeat_interleave(torch.arange(experts), used)
    return place, source, owner


class _Experts(torch.autograd.Function):
    """``y[n] = sum_j w[n, j] * down(silu(gate x) * up x)`` over the experts that token n chose.

    Rows without an assignment are zero on both ways, so that they add nothing to any gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Tensor,
                down: Tensor) -> Tensor:
        tokens, top_k = chosen.shape
        experts, width, d_model = gate_up.shape
        place, source, owner = _blocks(chosen, experts)
        token = torch.cat([x, x.new_zeros(1, d_model)])
        index = torch.div(source, top_k, rounding_mode="floor")
        xs = token.index_select(0, index).view(-1, BLOCK, d_model)
        ws = torch.cat([weights.flatten(), weights.new_zeros(1)])[source].to(x.dtype)
        ws = ws.view(-1, BLOCK, 1)
        w1, w2 = gate_up.index_select(0, owner), down.index_select(0, owner)
        hidden = torch.bmm(xs, w1.transpose(1, 2))
        gate, up = hidden.split(width // 2, 2)
        inner = torch.nn.functional.silu(gate).mul_(up)
        ys = torch.bmm(inner * ws, w2.transpose(1, 2)).view(-1, d_model)
        ctx.save_for_backward(xs, ws, hidden, inner, w1, w2, place, index, owner)
        ctx.sizes = tokens, top_k, experts
        return ys.index_select(0, place).view(tokens, top_k, d_model).sum(1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        xs, ws, hidden, inner, w1, w2, place, index, owner = ctx.saved_tensors
        tokens, top_k, experts = ctx.sizes
        d_model = xs.shape[2]
        dys = torch.cat([dy, dy.new_zeros(1, d_model)]).index_select(0, index).view_as(xs)
        dscaled = torch.bmm(dys, w2)
        dw2 = torch.bmm(dys.transpose(1, 2), inner * ws)
        dws = (dscaled * inner).sum(2, dtype=torch.float32).flatten()
        gate, up = hidden.split(hidden.shape[2] // 2, 2)
        dinner = dscaled.mul_(ws)
        sigmoid = torch.sigmoid(gate)
        silu = gate * sigmoid
        dhidden = torch.cat([dinner * up * (sigmoid + silu * (1 - sigmoid)), dinner * silu], 2)
        dxs = torch.bmm(dhidden, w1).view(-1, d_model)
        dw1 = torch.bmm(dhidden.transpose(1, 2), xs)
        dx = dxs.index_select(0, place).view(tokens, top_k, d_model).sum(1)
        sums = [torch.zeros(experts, *dw.shape[1:]).index_add_(0, owner, dw.float())
                for dw in (dw1, dw2)]
        return dx, dws[place].view(tokens, top_k), None, sums[0].to(w1.dtype), sums[1].to(w1.dtype)


def apply_experts(x: Tensor, weights: Tensor, chosen: Tensor, gate: Tensor, up: Tensor,
                  down: Tensor) -> Tensor:
    """Sum of the chosen experts' outputs, ``[n, d]`` in the dtype of ``x``.

    ``x`` [n, d]; ``weights`` [n, k] float32 and ``chosen`` [n, k] int64, distinct per token;
    ``gate`` and ``up`` [E, f, d], ``down`` [E, d, f], cast to the dtype of ``x``. Differentiable
    in everything but ``chosen``.
    """
    gate_up = torch.cat([gate, up], 1).to(x.dtype)
    return _Experts.apply(x, weights, chosen, gate_up, down.to(x.dtype))
