"""The job that the testbench plays: stimulus, registers and settings, as files of a folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from stmoe.config import Geometry
from stmoe.predict import UNITS
from stmoe_golden.predict.unit import LearnedUnit, PredictionUnit, TableUnit

from .back_door import DUMPED_ROWS
from .lexical import pack_memory
from .memory import Memory
from .memory_files import write_words
from .policies import Policy
from .rows import table_commands, weight_commands
from .steps import Step, header, one_by_one
from .verilator import layout

__all__ = ["PUBLISHED_THRESHOLD", "load_commands", "memory_plusargs",
           "prediction_unit", "router_scale", "write_job"]

PUBLISHED_THRESHOLD = 2
SHAPE = ("in_words", "gu_groups", "dn_tiles", "out_groups", "side_words", "blob_beats", "stride",
         "group", "slots")
MATRIX_SHAPE = ("matrix_tiles", "matrix_parts", "matrix_beats")
PREDICTORS, RETENTIONS = tuple(UNITS), ("lru", "ewma")  # as registers number them
ROUTER_SHIFT = 14
ROUTER_SCALES = ("router_scale", "router_scale_next")
LEXICAL = "lexical.bin"


def router_scale(d_model: int) -> tuple[int, int]:
    """Multiplier and shift that give random int8 router weights logits of deviation 2."""
    steps = 2 * 64 / (73.9**2 * d_model**0.5)
    return max(1, round(steps * 2**ROUTER_SHIFT)), ROUTER_SHIFT


def setup_registers(registers: dict[str, Any], policy: Policy,
                    geometry: Geometry) -> list[tuple[int, int]]:
    """Register writes that select a policy, the run-time shape and the router's gate function."""
    fields = registers["ctrl"]["fields"]
    values = {
        "enable": 1, "retain": policy.retain, "prefetch": policy.prefetch,
        "predict": policy.predict, "use_cct": policy.use_cct, "use_ht": policy.use_ht,
        "irq_enable": 1, "predictor": PREDICTORS.index(policy.predictor or "table"),
        "lookahead": policy.lookahead, "worth": policy.worth,
        "retention": RETENTIONS.index(policy.retention)}
    control = sum(int(value) << fields[name]["lsb"] for name, value in values.items())
    limits = {"limit": geometry.config.model.experts, "depth": policy.depth,
              "token_depth": policy.token_depth, "guess": policy.guess}
    extent = sum(value << registers["prediction"]["fields"][name]["lsb"]
                 for name, value in limits.items())
    width = registers["linear_threshold"]["fields"]["value"]["width"]
    least = (policy.threshold << geometry.config.linear.fraction - 4) & (1 << width) - 1
    mult, shift = router_scale(geometry.config.model.d_model)
    return [(registers["ctrl"]["address"], control),
            (registers["threshold"]["address"], PUBLISHED_THRESHOLD),
            (registers["prediction"]["address"], extent),
            *((registers[name]["address"], least)
              for name in ("linear_threshold", "deep_threshold")),
            *((registers[name]["address"], mult | shift << 16)
              for name in ROUTER_SCALES),
            *((registers[f"shape_{name}"]["address"], getattr(geometry, name))
              for name in SHAPE + MATRIX_SHAPE * bool(geometry.config.dense_blobs))]


def prediction_unit(geometry: Geometry, policy: Policy) -> PredictionUnit | None:
    """Golden's unit with the settings of ``policy`` and of :func:`setup_registers`."""
    config = geometry.config
    if policy.predictor == "linear":
        return LearnedUnit(config, threshold=policy.threshold << config.linear.fraction - 4,
                           limit=config.model.experts,
                           lookahead=policy.lookahead, depth=policy.depth,
                           token_depth=policy.token_depth, guess=policy.guess)
    if policy.predictor == "table":
        return TableUnit(config, threshold=PUBLISHED_THRESHOLD, use_cct=policy.use_cct,
                         use_ht=policy.use_ht)
    return None


def load_commands(geometry: Geometry, unit: PredictionUnit | None) -> np.ndarray:
    """Commands, uint64 [row, word], that bring the hardware to the state of ``unit``."""
    if isinstance(unit, TableUnit):
        return table_commands(unit.table)
    if isinstance(unit, LearnedUnit):
        return weight_commands(geometry, unit.predictor)
    return np.zeros((0, 1), np.uint64)


def memory_plusargs(geometry: Geometry, image: Path) -> list[str]:
    """What the simulated memory loads, and, of rows of weights, dumps in the end; files of the job.
    """
    g = geometry
    arguments = [f"+image={image.resolve()}", f"+image_words={g.memory_bytes // g.axi_bytes}"]
    if g.streams_rows:
        at, words = g.lexical_base // g.axi_bytes, g.row_bytes // g.axi_bytes
        arguments += [f"+rows={LEXICAL}", f"+rows_at={at}", f"+rows_words={words}",
                      f"+dump={DUMPED_ROWS}", f"+dump_at={at}", f"+dump_words={words}"]
    return arguments


def write_job(home: Path, *, geometry: Geometry, policy: Policy, unit: PredictionUnit | None,
              stimulus: dict[str, np.ndarray], registers: dict[str, Any], memory: Memory,
              warmup: int, attention_cycles: int, stall: int, route_on_chip: bool,
              steps: list[Step] | None = None) -> None:
    """Leave ``job.json`` and ``job.npz`` in ``home``; ``steps``: None = token by token."""
    config = geometry.config
    tokens, layers, _ = stimulus["experts"].shape
    played = one_by_one(tokens) if steps is None else steps
    arrays: dict[str, Any] = stimulus | {
        "rows": load_commands(geometry, unit),
        "header": np.array([[header(layer, step.stop - step.start, step.phase, route_on_chip)
                             for layer in range(layers)] for step in played], np.int64),
        "steps": np.array([step[:2] for step in played], np.int64).reshape(-1, 2)}
    np.savez(home / "job.npz", **arrays)
    if geometry.streams_rows:
        predictor = unit.predictor if isinstance(unit, LearnedUnit) else None
        write_words(home / LEXICAL, pack_memory(geometry, predictor), geometry.axi_bytes)
    counters = {name[:-3]: (entry["address"], registers[name[:-3] + "_hi"]["address"])
                for name, entry in registers.items()
                if name.endswith("_lo") and entry["address"] >= 0x200}
    freeze, status = registers["counter_ctrl"], registers["status"]
    job = {
        "layout": layout(config), "hash": config.hash, "warmup": warmup,
        "streams_rows": geometry.streams_rows,
        "attention_cycles": attention_cycles, "stall": stall,
        "memory": memory.ports(config.clock_mhz),
        "registers": {
            "hash": [registers["hash_lo"]["address"], registers["hash_hi"]["address"]],
            "setup": setup_registers(registers, policy, geometry), "counters": counters,
            "router_scale": [registers[name]["address"] for name in ROUTER_SCALES],
            "freeze": [freeze["address"], 1 << freeze["fields"]["freeze"]["lsb"]],
            "busy": [status["address"], 1 << status["fields"]["busy"]["lsb"]],
            "errors": {name: registers[name]["address"]
                       for name in ("error", "error_layer", "error_expert", "error_detail")}}}
    (home / "job.json").write_text(json.dumps(job))
