"""Facts for the model card, from what data preparation, training and evaluation left behind."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tiny_moe.sources import DOMAINS

__all__ = ["card"]

EXPERTS = ("gate", "up", "down")
NOT_ARRAYS = ("meta", "tokenizer")


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def _parameters(checkpoint: Path) -> tuple[dict[str, int], dict]:
    """Number of values per array, and ``meta``."""
    with np.load(checkpoint, allow_pickle=False) as arrays:
        return ({n: arrays[n].size for n in arrays.files if n not in NOT_ARRAYS},
                json.loads(str(arrays["meta"])))


def _curve(log: Path, points: int = 16) -> str:
    with open(log, newline="") as file:
        lines = list(csv.DictReader(file))
    chosen = sorted({round(i) for i in np.linspace(0, len(lines) - 1, points)})
    head = ("tokens", *DOMAINS, "balance", "rate")
    return _table([*head, "tokens per second"],
                  [[*(lines[i][k] for k in head), lines[i]["tokens_per_second"]] for i in chosen])


def _quality(report: dict) -> str:
    rows = []
    for domain, row in report["domains"].items():
        share = np.array(row["expert_share"])
        load = share * share.shape[1]
        rows.append([domain, row["tokens"], f"{row['loss']:.4f}", f"{row['perplexity']:.2f}",
                     f"{row['bits_per_byte']:.3f}", f"{load.max():.2f}", f"{load.min():.2f}"])
    shares = [np.array(report["domains"][d]["expert_share"]) for d in DOMAINS]
    both = sum(shares) / 2 * shares[0].shape[1]
    apart = abs(shares[0] - shares[1]).sum(1) / 2
    return _table(["domain", "held-out tokens", "loss (nats)", "perplexity", "bits per byte",
                   "busiest expert / even", "idlest / even"], rows) + "\n" + _table(
        ["layer", "busiest / even, both domains", "idlest / even", "distance of domains"],
        [[i, f"{both[i].max():.2f}", f"{both[i].min():.2f}", f"{apart[i]:.3f}"]
         for i in range(len(both))])


def card(folder: Path) -> str:
    """Markdown with sources and licences, split, sizes, hyper-parameters, curve, held-out quality
    and expert load. Needs ``data.json``, ``checkpoint.npz``, ``log.csv`` and ``eval.json`` in
    ``folder``; the distance of loads is the total variation, 0 (equal) to 1 (disjoint)."""
    data = json.loads((folder / "data.json").read_text())
    report = json.loads((folder / "eval.json").read_text())
    sizes, meta = _parameters(folder / "checkpoint.npz")
    expert = sum(sizes[n] for n in EXPERTS)
    total = sum(sizes.values())
    active = total - expert + expert * meta["top_k"] // meta["experts"]
    parts = [
        "# Data\n", _table(
            ["source", "domain", "packages", "version", "licence", "documents", "bytes"],
            [[s["source"], s["domain"], ", ".join(s["packages"]), s["version"], s["licence"],
              s["documents"], s["bytes"]] for s in data["sources"]]),
        f"Vocabulary {data['vocab']}; seed of the split {data['seed']}.\n", _table(
            ["domain", *(k.replace("_", " ") for k in data["split"][DOMAINS[0]]
                         if k != "heldout_names")],
            [[d, *(v for k, v in row.items() if k != "heldout_names")]
             for d, row in data["split"].items()]),
        "# Parameters\n", _table(
            ["all", "of experts", "active per token", "embedding (tied)"],
            [[total, expert, active, sizes["embed"]]]),
        "# Training\n", _table(["setting", "value"], meta.items()), _curve(folder / "log.csv"),
        "# Held-out text\n",
        f"Windows of {report['window']} tokens, float32, after {report['checkpoint_tokens']} "
        "tokens of training.\n", _quality(report),
        "# Commands\n",
        "```\nscripts/train_tiny_moe data\n"
        f"scripts/train_tiny_moe train --tokens {meta['total_tokens']}\n"
        "scripts/train_tiny_moe eval\nscripts/train_tiny_moe card\n```\n"]
    return "\n".join(parts)
