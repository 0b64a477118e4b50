"""What goes wrong in a run of a fault campaign: one step per layer command, from a seed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stmoe.config import Geometry
from stmoe.interfaces import ErrorCode, Opcode

__all__ = ["KINDS", "PORTS", "Step", "make_plan"]

PORTS = {"stall of commands": 0, "stall of activations": 1, "stall of results": 2,
         "stall of AR": 3, "stall of R": 4, "stall of AW and W": 5, "stall of B": 6,
         "stall of registers": 7}
"""Bits of the testbench's ``freeze_ports``."""

KINDS = ("nothing", *PORTS, "error response", "error response, lasting",
         "error response to a write", "corrupted beat", "corrupted beat, lasting", "reset",
         "late prefetch", "repeated prefetch", "command burst", "bad command", "all at once")
"""Rows of the table. A "nothing" step is held to be right; a "lasting" fault outlives retries."""

EVERYWHERE = (0, (1 << 63) - 1)
BUS_CODES = [int(ErrorCode.BUS), int(ErrorCode.ROW_BUS)]
CORRUPT_CODES = [int(ErrorCode.CORRUPT)]
BURST_WORDS = 40  # of commands in front of a layer command, which follows in the same burst
ALWAYS = 65536  # as the chance of an episode


@dataclass
class Step:
    """A layer command and the faults around it.

    ``settings``: inputs of the testbench by name; those named ``*_count`` and ``freeze_most`` are
    counted from what has been so far. ``words``: commands in front. ``codes``: error codes that may
    be reported. ``counted``: what counts as injected, a total of the testbench, "late" for hits on
    their way, or a number.
    """

    kind: str
    settings: dict[str, int]
    codes: list[int]
    counted: str | int
    words: list[int]
    repeat: bool = False  # the layer command is sent twice
    bad: dict[str, Any] | None = None  # a command that must be refused, before the layer command


class _Planner:
    """Draws steps; ``experts`` are those that a step's layer uses."""

    def __init__(self, geometry: Geometry, rng: np.random.Generator):
        self.g, self.config, self.rng = geometry, geometry.config, rng

    def pick(self, low: int, high: int) -> int:
        """An integer in low .. high."""
        return int(self.rng.integers(low, high + 1))

    def tile(self, layer: int, expert: int) -> tuple[int, int]:
        """Addresses of the first byte and of the last beat of a tile of an expert."""
        g = self.g
        number = self.pick(0, g.tiles - 1)
        blob = (layer * self.config.blob_ids + expert) * g.stride
        end = min(g.blob_beats, (number + 1) * g.tile_beats)
        return (blob + number * g.tile_bytes, blob + (end - 1) * g.axi_bytes)

    def episodes(self, ports: list[int], length: int, most: int) -> dict[str, int]:
        return {"freeze_ports": sum(1 << port for port in ports), "freeze_length": length,
                "freeze_chance": self.pick(500, 20000), "freeze_most": most}

    def errors(self, where: tuple[int, int], count: int, prefix: str = "") -> dict[str, int]:
        return {f"{prefix}fault_low": where[0], f"{prefix}fault_high": where[1],
                f"{prefix}fault_count": count} | (
                    {} if prefix else {"fault_resp": self.pick(2, 3)})

    def corruption(self, where: tuple[int, int], count: int, every: int) -> dict[str, int]:
        return {"corrupt_low": where[0], "corrupt_high": where[1], "corrupt_count": count,
                "corrupt_every": every, "corrupt_mode": self.pick(0, 2)}

    def commands(self, layer: int) -> list[list[int]]:
        """Commands that may come at any time, and spoil predictions at most."""
        model, linear = self.config.model, self.config.linear
        found: list[list[int]] = []
        room = BURST_WORDS
        for _ in range(self.pick(2, 8)):
            draw = self.rng.random()
            if draw < 0.4:
                found.append([Opcode.LOAD_TABLE | self.pick(0, model.layers - 2) << 16
                              | self.pick(0, model.experts - 1) << 32,
                              *(self._table_word() for _ in range(-(-model.top_k // 4)))])
            elif draw < 0.7 and "linear" in self.config.predictor and linear.chip_rows(model):
                row = self.pick(0, linear.chip_rows(model) - 1)
                found.append([Opcode.LOAD_WEIGHTS | row << 32,
                              *(self.pick(0, 2**63 - 1) for _ in range(linear.row_words(model)))])
            elif draw < 0.9:
                found.append([Opcode.TOKEN | self.pick(0, 255) << 32])
            else:
                found.append([Opcode.FLUSH])
            room -= len(found[-1])
            if room < 0:
                found.pop()
                break
        return found

    def _table_word(self) -> int:
        entry = self.pick(0, self.config.model.experts - 1) | self.pick(0, 3) << 14
        return sum(entry << 16 * i for i in range(4))  # the same expert four times

    def refused(self, layer: int, experts: list[int]) -> dict[str, Any]:
        """A command with one thing wrong, and how it is refused."""
        model = self.config.model
        header = Opcode.LAYER | layer << 16 | 1 << 32
        variants: list[tuple[str, int, list[int]]] = [
            ("opcode", ErrorCode.BAD_OPCODE, [self.pick(8, 255) | self.pick(0, 255) << 32]),
            ("layer", ErrorCode.BAD_LAYER,
             [header & ~0xffff0000 | self.pick(model.layers, 0xffff) << 16, *experts]),
            ("expert", ErrorCode.BAD_EXPERT,
             [header, *experts[:-1], self.pick(model.experts, 0xffff)]),
            *([("tokens", ErrorCode.BAD_TOKENS,
                [header & 0xffffffff | self.pick(2, 0xffff) << 32, *experts])]
              if self.config.max_tokens == 1 else []),  # else as many words would have to follow
            ("shape", ErrorCode.BAD_SHAPE, [header, *experts]),
            ("table pair", ErrorCode.BAD_LAYER,
             [Opcode.LOAD_TABLE | self.pick(model.layers - 1, 0xffff) << 16,
              *[0] * -(-model.top_k // 4)]),
            ("table expert", ErrorCode.BAD_EXPERT,
             [Opcode.LOAD_TABLE | self.pick(model.experts, 0xffff) << 32,
              *[0] * -(-model.top_k // 4)])]
        if model.top_k > 1:
            variants.append(("repeated", ErrorCode.BAD_EXPERT, [header, *experts[:-1], experts[0]]))
        if self.config.router_layers:
            variants.append(("router", ErrorCode.NO_ROUTER_WEIGHTS, [header | 1 << 8]))
        if "linear" in self.config.predictor:
            row = self.pick(self.config.linear.chip_rows(model), 2**31)
            variants.append(("row", ErrorCode.BAD_ROW, [
                Opcode.LOAD_WEIGHTS | row << 32, *[0] * self.config.linear.row_words(model)]))
        what, code, words = variants[self.pick(0, len(variants) - 1)]
        return {"what": what, "code": int(code), "words": [int(word) for word in words],
                "answers": words[0] & 0xff == Opcode.LAYER}

    def step(self, kind: str, layer: int, experts: list[int]) -> Step:
        retries, beats = self.config.retries, self.g.tile_beats
        step = Step(kind, {}, [], 0, [])
        if kind in PORTS:
            step.settings = self.episodes([PORTS[kind]], self.pick(2, 400), self.pick(1, 6))
            step.counted = "freezes"
        elif kind == "error response":
            step.settings = self.errors(EVERYWHERE, self.pick(1, max(1, retries)))
            step.codes, step.counted = BUS_CODES, "faults"
        elif kind == "error response, lasting":
            expert = experts[self.pick(0, len(experts) - 1)]
            step.settings = self.errors(self.tile(layer, expert), retries + self.pick(1, 3))
            step.codes, step.counted = BUS_CODES, "faults"
        elif kind == "error response to a write":
            step.settings = self.errors(EVERYWHERE, self.pick(1, 4), "write_")
            step.codes, step.counted = BUS_CODES, "write_faults"
        elif kind == "corrupted beat":
            step.settings = self.corruption(EVERYWHERE, self.pick(1, 6), self.pick(beats, 499))
            step.codes, step.counted = CORRUPT_CODES, "corrupted"
        elif kind == "corrupted beat, lasting":
            low, high = self.tile(layer, experts[self.pick(0, len(experts) - 1)])
            at = low + self.pick(0, (high - low) // self.g.axi_bytes) * self.g.axi_bytes
            step.settings = self.corruption((at, at), retries + self.pick(1, 3), 1)
            step.codes, step.counted = CORRUPT_CODES, "corrupted"
        elif kind == "reset":
            step.settings, step.counted = {"reset_wait": self.pick(0, 4000)}, "resets"
        elif kind == "late prefetch":
            step.settings = self.episodes([PORTS["stall of R"]], self.pick(500, 5000), 1)
            step.settings["freeze_chance"], step.counted = ALWAYS, "late"
        elif kind == "repeated prefetch":
            step.repeat = bool(self.rng.random() < 0.3)
            count = self.pick(1, 4)
            step.words = [Opcode.TOKEN | self.pick(0, 255) << 32] * count
            step.counted = count + step.repeat
        elif kind == "command burst":
            commands = self.commands(layer)
            step.words = [word for command in commands for word in command]
            step.counted = len(commands)
        elif kind == "bad command":
            step.bad, step.counted = self.refused(layer, experts), 1
        elif kind == "all at once":
            step.settings = (
                self.episodes(list(range(8)), self.pick(2, 60), 4)
                | self.errors(EVERYWHERE, 1) | self.errors(EVERYWHERE, 1, "write_")
                | self.corruption(EVERYWHERE, 3, self.pick(beats, 499)))
            step.codes, step.counted = BUS_CODES + CORRUPT_CODES, "all"
        step.words = [int(word) for word in step.words]
        return step


def make_plan(geometry: Geometry, routing: np.ndarray, rng: np.random.Generator) -> list[Step]:
    """Steps of a run, token by token and layer by layer; ``routing`` is [token, layer, rank]."""
    planner = _Planner(geometry, rng)
    tokens, layers, _ = routing.shape
    writing = ("stall of AW and W", "stall of B", "error response to a write")
    kinds = [kind for kind in KINDS if geometry.streams_rows or kind not in writing]
    return [planner.step(kinds[planner.pick(0, len(kinds) - 1)], layer,
                         [int(e) for e in routing[t, layer]])
            for t in range(tokens) for layer in range(layers)]
