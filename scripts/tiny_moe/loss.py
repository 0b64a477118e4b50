"""Next-token loss in chunks that stay in the cache; the gradient is computed on the way."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["next_token_loss"]

CHUNK = 512


class _NextTokenLoss(torch.autograd.Function):
    """Valid for a backward gradient that is the same for all rows, as that of a mean is."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, embed: Tensor, targets: Tensor) -> Tensor:
        losses = torch.empty(len(states))
        needs = any(ctx.needs_input_grad)
        dstates, dembed = torch.empty_like(states), torch.zeros(embed.shape)
        for start in range(0, len(states), CHUNK):
            rows = slice(start, start + CHUNK)
            logits = (states[rows] @ embed.t()).float()
            target = targets[rows].unsqueeze(1)
            top = logits.amax(1, keepdim=True)
            picked = logits.gather(1, target)
            exp = logits.sub_(top).exp_()
            total = exp.sum(1, keepdim=True)
            losses[rows] = (total.log() + top - picked).squeeze(1)
            if needs:
                dlogits = exp.div_(total)
                dlogits.scatter_add_(1, target, torch.full_like(picked, -1.0))
                dlogits = dlogits.to(states.dtype)
                torch.mm(dlogits, embed, out=dstates[rows])
                dembed += torch.mm(dlogits.t(), states[rows])
        if needs:
            ctx.save_for_backward(dstates, dembed)
        return losses

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dstates, dembed = ctx.saved_tensors
        scale = grad[0]
        return dstates * scale.to(dstates.dtype), (dembed * scale).to(dstates.dtype), None


def next_token_loss(states: Tensor, embed: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood in nats, float32 [n], of int64 ``targets`` [n] under the logits
    ``states @ embed.T`` ([n, d], [V, d]). Its gradient holds for the mean or sum over all rows."""
    return _NextTokenLoss.apply(states, embed, targets)
