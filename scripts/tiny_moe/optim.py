"""Muon for the matrices of blocks and experts, AdamW for everything else."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Muon", "make_optimizers"]

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalised(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices, roughly (singular values 0.7 to 1.2), of a batch
    ``[..., m, n]``, by a quintic Newton-Schulz iteration in bfloat16 (K. Jordan, 2024)."""
    a, b, c = NEWTON_SCHULZ
    rows, columns = matrices.shape[-2:]
    x = matrices.flatten(0, -3).bfloat16()
    if rows > columns:
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = torch.bmm(x, x.transpose(1, 2))
        x = a * x + torch.bmm(b * gram + c * torch.bmm(gram, gram), x)
    if rows > columns:
        x = x.transpose(1, 2)
    return x.float().view_as(matrices)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, per matrix of a parameter ``[..., m, n]``.

    The update of a matrix is ``lr * sqrt(max(1, m / n))`` times a semi-orthogonal one; weight
    decay is decoupled.
    """

    def __init__(self, params: Iterable[Tensor], *, lr: float, momentum: float = 0.95,
                 weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalised(p.grad.lerp(average, group["momentum"]))
                scale = max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * scale)


def make_optimizers(model: torch.nn.Module, *, muon_lr: float, adam_lr: float,
                    weight_decay: float) -> list[torch.optim.Optimizer]:
    """Optimizers of :class:`TinyMoe`; every group remembers its peak rate as ``peak``."""
    named = dict(model.named_parameters())
    norms = {n for n in named if n.endswith("norm")}
    adam = {"embed", "router"} | norms
    optimizers: list[torch.optim.Optimizer] = [
        Muon([p for n, p in named.items() if n not in adam], lr=muon_lr,
             weight_decay=weight_decay),
        torch.optim.AdamW([{"params": [named["embed"], named["router"]],
                            "weight_decay": weight_decay},
                           {"params": [named[n] for n in sorted(norms)], "weight_decay": 0.0}],
                          lr=adam_lr, betas=(0.9, 0.95), eps=1e-10)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers
