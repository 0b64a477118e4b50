"""The training loop: batches of both domains, losses, log, checkpoints, resumption."""

import csv
import ctypes
import json
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from tiny_moe.checkpoint import save_checkpoint, write_atomically
from tiny_moe.model import Shape, TinyMoe
from tiny_moe.optim import make_optimizers
from tiny_moe.schedule import Schedule
from tiny_moe.sources import DOMAINS

__all__ = ["Settings", "sample_batch", "train"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hyper-parameters; recorded in the checkpoint.

    ``balance_weight`` and ``z_weight`` hold for every layer: the losses of layers add.
    """

    seed: int = 1
    batch_tokens: int = 4096
    short: int = 256
    muon_lr: float = 0.02
    adam_lr: float = 0.003
    weight_decay: float = 0.1
    balance_weight: float = 0.02
    z_weight: float = 0.001
    clip: float = 1.0
    decay: float = 0.7


def sample_batch(streams: dict[str, np.ndarray], *, length: int, batch_tokens: int, seed: int,
                 step: int) -> np.ndarray:
    """int64 ``[b, length + 1]``, the first half of the rows English, the second Python.

    Windows start anywhere; which ones are taken depends on ``seed`` and ``step`` only.
    """
    rng = np.random.default_rng([seed, step])
    each = batch_tokens // length // len(streams)
    rows = []
    for domain in DOMAINS:
        tokens = streams[domain]
        starts = rng.integers(0, len(tokens) - length, each)
        rows.append(tokens[starts[:, None] + np.arange(length + 1)])
    return np.concatenate(rows).astype(np.int64)


class _Log:
    """Means of what is logged, a line of ``log.csv`` and of the terminal every ``every`` steps."""

    FIELDS = ("step", "tokens", *DOMAINS, "balance", "z", "norm", "rate", "tokens_per_second")

    def __init__(self, path: Path, *, step: int, every: int = 50) -> None:
        """Begin the file, or go on after ``step``: what an interrupted run logged later goes."""
        self.path, self.every = path, every
        self._values: dict[str, list[float]] = defaultdict(list)
        self._time = time.monotonic()
        kept: list[dict[str, str]] = []
        if step and path.exists():
            with open(path, newline="") as file:
                kept = [line for line in csv.DictReader(file) if int(line["step"]) <= step]
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, self.FIELDS)
            writer.writeheader()
            writer.writerows(kept)

    def add(self, step: int, tokens: int, rate: float, batch_tokens: int,
            **values: float) -> None:
        for name, value in values.items():
            self._values[name].append(value)
        if step % self.every:
            return
        now = time.monotonic()
        steps = len(self._values["norm"])
        line: dict[str, object] = {k: f"{np.mean(v):.4f}" for k, v in self._values.items()}
        line |= {"step": step, "tokens": tokens, "rate": f"{rate:.4f}",
                 "tokens_per_second": round(steps * batch_tokens / (now - self._time))}
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self.FIELDS).writerow(line)
        print(" ".join(f"{k} {line[k]}" for k in self.FIELDS), flush=True)
        self._values.clear()
        self._time = now


def _keep_memory() -> None:
    """Have glibc reuse freed memory: returning and faulting it in again costs a fifth of a step."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        mmap_max, trim_threshold, top_pad = -4, -1, -2
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2 ** 31 - 1)
        libc.mallopt(top_pad, 2 ** 26)


def _save(folder: Path, model: TinyMoe, optimizers: list[torch.optim.Optimizer],
          progress: dict[str, object]) -> None:
    tokenizer = (folder / "tokenizer.json").read_text()
    state = {"progress": json.dumps(progress), "model": model.state_dict(),
             "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
    write_atomically(folder / "state.pt", lambda file: torch.save(state, file))
    save_checkpoint(folder / "checkpoint.npz", model, tokenizer, progress)


def _resume(path: Path, model: TinyMoe, optimizers: list[torch.optim.Optimizer]) -> dict:
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return json.loads(state["progress"])


def train(folder: Path, shape: Shape, settings: Settings, *, tokens: int | None = None,
          minutes: float | None = None, resume: bool = False, save_seconds: float = 300,
          stop_after: int | None = None) -> None:
    """Train on ``train.npz`` of ``folder`` for ``tokens``, or so that it ends in ``minutes``.

    ``minutes`` only chooses the number of tokens, which is then found in the checkpoint's
    ``total_tokens``; training for that many with the same settings takes the same steps. Writes
    ``checkpoint.npz``, ``state.pt`` (all that resumption needs) and ``log.csv``. ``stop_after``
    interrupts it after that step, as a signal would, but with everything saved.
    """
    if (tokens is None) == (minutes is None) and not resume:
        raise ValueError("tokens, minutes: exactly one of them says how long to train")
    _keep_memory()
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    with np.load(folder / "train.npz") as arrays:
        streams = {d: arrays[d] for d in DOMAINS}
    model = TinyMoe(shape)
    optimizers = make_optimizers(model, muon_lr=settings.muon_lr, adam_lr=settings.adam_lr,
                                 weight_decay=settings.weight_decay)
    schedule = Schedule(tokens, decay=settings.decay)
    step = seen = 0
    if resume:
        progress = _resume(folder / "state.pt", model, optimizers)
        step, seen = int(progress["steps"]), int(progress["tokens"])
        schedule.total = tokens or progress["total_tokens"]
    log = _Log(folder / "log.csv", step=step)
    started = saved = time.monotonic()
    first = seen

    def save() -> None:
        _save(folder, model, optimizers, {
            "steps": step, "tokens": seen, "total_tokens": schedule.total, **asdict(settings)})

    while not schedule.is_done(seen) and step != stop_after:
        length = shape.context if schedule.is_long(seen) else settings.short
        batch = torch.from_numpy(sample_batch(streams, length=length, seed=settings.seed,
                                              batch_tokens=settings.batch_tokens, step=step))
        losses, routing = model.losses(batch)
        (losses.mean() + settings.balance_weight * routing.balance.sum()
         + settings.z_weight * routing.z.sum()).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        rate = schedule.rate(seen)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["peak"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, seen = step + 1, seen + settings.batch_tokens
        domains = losses.detach().view(len(DOMAINS), -1).mean(1).tolist()
        log.add(step, seen, rate, settings.batch_tokens, **dict(zip(DOMAINS, domains, strict=True)),
                balance=routing.balance.mean().item(), z=routing.z.mean().item(),
                norm=norm.item())
        now = time.monotonic()
        if minutes is not None:
            schedule.fit(seen, minutes * 60 - (now - started), (seen - first) / (now - started))
        if now - saved > save_seconds or (step == 200 and not resume):
            save()
            saved = now
    save()
