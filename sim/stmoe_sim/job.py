"""The job that the testbench plays: stimulus, registers and settings, as files of a folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from stmoe.config import Geometry
from stmoe_golden.predict.table import TablePredictor

from .memory import Memory
from .policies import Policy
from .verilator import layout

__all__ = ["PUBLISHED_THRESHOLD", "router_scale", "write_job"]

PUBLISHED_THRESHOLD = 2
LAYER = 2  # opcode
SHAPE = ("in_words", "gu_groups", "dn_tiles", "out_groups", "side_words", "blob_beats", "stride",
         "group", "slots")
ROUTER_SHIFT = 14


def router_scale(d_model: int) -> tuple[int, int]:
    """Multiplier and shift that give random int8 router weights logits of deviation 2."""
    steps = 2 * 64 / (73.9**2 * d_model**0.5)
    return max(1, round(steps * 2**ROUTER_SHIFT)), ROUTER_SHIFT


def table_rows(predictor: TablePredictor) -> np.ndarray:
    """Rows of LOAD_TABLE commands: pair, expert, then words of four 16-bit entries."""
    ids, confidence = predictor.rows()
    pairs, experts, k = ids.shape
    words = -(-k // 4)
    entries = np.zeros((pairs, experts, words * 4), np.uint64)
    entries[..., :k] = ids.astype(np.uint64) | confidence.astype(np.uint64) << np.uint64(14)
    shifts = np.arange(4, dtype=np.uint64) * np.uint64(16)
    packed = (entries.reshape(pairs, experts, words, 4) << shifts).sum(-1, dtype=np.uint64)
    index = np.indices((pairs, experts)).astype(np.uint64)
    return np.concatenate([index.transpose(1, 2, 0), packed], axis=-1).reshape(-1, 2 + words)


def setup_registers(registers: dict[str, Any], policy: Policy,
                    geometry: Geometry) -> list[tuple[int, int]]:
    """Register writes that select a policy, the run-time shape and the router's gate function."""
    control = registers["ctrl"]
    bits = {"enable": 1, "retain": policy.retain, "prefetch": policy.prefetch,
            "predict": policy.predict, "use_cct": policy.use_cct, "use_ht": policy.use_ht,
            "irq_enable": 1}
    value = sum(int(on) << control["fields"][name]["lsb"] for name, on in bits.items())
    mult, shift = router_scale(geometry.config.model.d_model)
    return [(control["address"], value), (registers["threshold"]["address"], PUBLISHED_THRESHOLD),
            (registers["router_scale"]["address"], mult | shift << 16),
            *((registers[f"shape_{name}"]["address"], getattr(geometry, name)) for name in SHAPE)]


def write_job(home: Path, *, geometry: Geometry, policy: Policy, predictor: TablePredictor,
              stimulus: dict[str, np.ndarray], registers: dict[str, Any], memory: Memory,
              warmup: int, attention_cycles: int, stall: int, route_on_chip: bool) -> None:
    """Leave ``job.json`` and ``job.npz`` in ``home``."""
    config = geometry.config
    rows = table_rows(predictor) if policy.predict else np.zeros((0, 3), np.uint64)
    tokens, layers, _ = stimulus["experts"].shape
    header = LAYER | int(route_on_chip) << 8 | np.arange(layers) << 16 | 1 << 32
    arrays: dict[str, Any] = stimulus | {"table": rows, "header": np.tile(header, (tokens, 1))}
    np.savez(home / "job.npz", **arrays)
    counters = {name[:-3]: (entry["address"], registers[name[:-3] + "_hi"]["address"])
                for name, entry in registers.items()
                if name.endswith("_lo") and entry["address"] >= 0x200}
    freeze, status = registers["counter_ctrl"], registers["status"]
    job = {
        "layout": layout(config), "hash": config.hash, "warmup": warmup,
        "attention_cycles": attention_cycles, "stall": stall,
        "memory": memory.ports(config.clock_mhz),
        "registers": {
            "hash": [registers["hash_lo"]["address"], registers["hash_hi"]["address"]],
            "setup": setup_registers(registers, policy, geometry), "counters": counters,
            "freeze": [freeze["address"], 1 << freeze["fields"]["freeze"]["lsb"]],
            "busy": [status["address"], 1 << status["fields"]["busy"]["lsb"]],
            "errors": {name: registers[name]["address"]
                       for name in ("error", "error_layer", "error_expert", "error_detail")}}}
    (home / "job.json").write_text(json.dumps(job))
