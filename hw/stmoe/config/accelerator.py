"""Configuration of a generated accelerator."""

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from .error import ConfigError, check_choice, check_multiple, check_power_of_two, check_range
from .linear import LinearOptions
from .model import MAX_ACTIVE, ModelShape

__all__ = ["PREDICTORS", "AcceleratorConfig"]

PREDICTORS = ("none", "table", "linear", "table+linear")


def _known(names: Iterable[str]) -> str:
    return "a known field: " + ", ".join(sorted(names))


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """Everything a netlist depends on, and nothing that a register may change at run time.

    Parameters
    ----------
    model: shape that sizes tables and buffers; smaller shapes can be set at run time.
    pes: processing elements, 1 to 16.
    max_tokens: most tokens of a layer command, a power of two up to 64. More than one: at most 255
        experts may be needed by them together, shared units included.
    split_groups: tokens that share an expert may be split over PEs, of which there are several
        (docs/architecture.md, "Layers of many tokens").
    rows, lanes: int8 multipliers of a PE, output channels x inputs, powers of two.
    weight_group: 0 = weights of eight bits; 32 or 64 = of four, and as many inputs of a row, at
        least ``lanes``, share a scale (docs/number-formats.md).
    slots: expert slots, 2 to 4096, of ``banks_per_slot`` banks (a power of two).
    max_d_ff: largest hidden width settable at run time, banks regrouped; 0 = ``model.d_ff``.
        Experts larger than half of the buffer stream through it, tile by tile.
    tile_bytes: grain at which arrival is tracked, a power of two, a multiple of the bus width.
    axi_data_bits, axi_addr_bits, burst_beats, outstanding: the expert memory's AXI4 port.
    retries: times a failed burst is read again before it is reported.
    integrity: a CRC-32 ends every tile, and a tile is used once its CRC has been found right. A
        tile is then one burst, so at most ``burst_beats`` long; both have at least two beats.
    predictor: prediction units to generate, "none", "table" (as published), "linear" (learned) or
        "table+linear", of which a register then chooses.
    linear: options of the learned one.
    prefetch_round: most experts promised by one prediction, 1 to 255.
    router_layers: layers whose gate weights the on-chip router holds, 0 = no router.
    dense_blobs: blobs of dense weights behind each layer's experts, for DENSE commands: parts of
        matrices, or units of d_ff of a dense layer (docs/architecture.md); 0 = no such command.
    clock_mhz: clock that memory timing in nanoseconds is converted with.
    """

    model: ModelShape
    pes: int = 2
    rows: int = 4
    lanes: int = 16
    weight_group: int = 0
    slots: int = 16
    banks_per_slot: int = 1
    max_d_ff: int = 0
    tile_bytes: int = 512
    axi_data_bits: int = 64
    axi_addr_bits: int = 40
    burst_beats: int = 64
    outstanding: int = 8
    retries: int = 2
    integrity: bool = True
    predictor: str = "table+linear"
    linear: LinearOptions = dataclasses.field(default_factory=LinearOptions)
    prefetch_round: int = 32
    router_layers: int = 1
    max_tokens: int = 1
    dense_blobs: int = 0
    split_groups: bool = False
    clock_mhz: int = 800
    name: str = "custom"

    def __post_init__(self) -> None:
        check_range("pes", self.pes, 1, 16)
        check_power_of_two("rows", self.rows, 2, 128)
        check_power_of_two("lanes", self.lanes, 4, 128)
        check_range("slots", self.slots, 2, 4096)
        check_power_of_two("banks_per_slot", self.banks_per_slot, 1, 16)
        check_power_of_two("axi_data_bits", self.axi_data_bits, 32, 512)
        check_range("axi_addr_bits", self.axi_addr_bits, 16, 64)
        check_power_of_two("tile_bytes", self.tile_bytes, self.axi_data_bits // 8, 4096)
        check_range("burst_beats", self.burst_beats, 1, 256)
        check_range("outstanding", self.outstanding, 1, 64)
        check_range("retries", self.retries, 0, 7)
        if not isinstance(self.integrity, bool):
            raise ConfigError("integrity", self.integrity, "true or false")
        if self.integrity:  # a beat of content and one with its CRC
            check_range("burst_beats", self.burst_beats, 2, 256)
            check_power_of_two("tile_bytes", self.tile_bytes, self.axi_data_bits // 4, 4096)
        check_choice("predictor", self.predictor, PREDICTORS)
        check_range("prefetch_round", self.prefetch_round, 1, 255)
        check_range("router_layers", self.router_layers, 0, self.model.layers)
        check_range("clock_mhz", self.clock_mhz, 1, 4000)
        check_power_of_two("max_tokens", self.max_tokens, 1, 64)
        check_range("dense_blobs", self.dense_blobs, 0, 256)
        if self.most_experts > MAX_ACTIVE:
            raise ConfigError("max_tokens", self.max_tokens,
                              f"so small that all its tokens need at most {MAX_ACTIVE} experts of "
                              f"a layer (they may need {self.most_experts})")
        if not isinstance(self.split_groups, bool):
            raise ConfigError("split_groups", self.split_groups, "true or false")
        if self.split_groups and min(self.max_tokens, self.pes) == 1:
            raise ConfigError("split_groups", self.split_groups,
                              f"false with max_tokens = {self.max_tokens} and pes = {self.pes}: "
                              "it takes several of both")
        if self.split_groups and self.dense_blobs:
            raise ConfigError("split_groups", self.split_groups,
                              f"false with dense_blobs = {self.dense_blobs}, of which all tokens "
                              "of a command share each")
        if (self.weight_group is True or self.weight_group not in (0, 32, 64)
                or 0 < self.weight_group < self.lanes):
            raise ConfigError("weight_group", self.weight_group,
                              f"0, or 32 or 64 and at least lanes = {self.lanes}")
        if self.rows * self.lanes * self.weight_bits < self.axi_data_bits:
            raise ConfigError("rows*lanes", self.rows * self.lanes,
                              f"at least {self.axi_data_bits // self.weight_bits}: a bus beat of "
                              f"weights of {self.weight_bits} bits")
        model = self.model
        for field, value in (("model.d_model", model.d_model), ("model.d_ff", model.d_ff)):
            check_multiple(field, value, self.lanes, "lanes")
            check_multiple(field, value, self.rows, "rows")
            check_multiple(field, value, self.weight_group or 1, "weight_group")
        if model.d_model // self.rows < 4:
            raise ConfigError("model.d_model", model.d_model,
                              f"at least 4 * rows = {4 * self.rows} (accumulator turnaround)")
        if model.d_model // self.lanes < 2:
            raise ConfigError("model.d_model", model.d_model,
                              f"at least 2 * lanes = {2 * self.lanes}")
        if self.max_d_ff:
            check_range("max_d_ff", self.max_d_ff, model.d_ff, 16384)
            check_multiple("max_d_ff", self.max_d_ff, self.lanes, "lanes")
            check_multiple("max_d_ff", self.max_d_ff, self.rows, "rows")
            check_multiple("max_d_ff", self.max_d_ff, self.weight_group or 1, "weight_group")

    @property
    def weight_bits(self) -> int:
        return 4 if self.weight_group else 8

    @property
    def most_experts(self) -> int:
        """Experts that the tokens of a layer command may need together, shared units included."""
        model = self.model
        return min(self.max_tokens * model.top_k, model.experts) + model.shared_units

    @property
    def blob_ids(self) -> int:
        """Ids of a layer's blobs: experts, shared units, then dense weights."""
        return self.model.expert_ids + self.dense_blobs

    @property
    def hash(self) -> int:
        """64-bit digest of every field but the names; a register of the netlist holds it.

        ``dense_blobs`` and ``split_groups`` count where they are set: netlists without them are
        what they were before there was the option.
        """
        data = self.to_dict()
        del data["name"], data["model"]["name"]
        if not self.dense_blobs:
            del data["dense_blobs"]
        if not self.split_groups:
            del data["split_groups"]
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    def replace(self, **changes: Any) -> Self:
        """A copy with fields changed; ``model_FIELD`` and ``linear_FIELD`` reach further in."""
        inner: dict[str, dict[str, Any]] = {"model": {}, "linear": {}}
        for key in list(changes):
            part, _, field = key.partition("_")
            if part in inner and field:
                inner[part][field] = changes.pop(key)
        for part, fields in inner.items():
            whole = changes.get(part, getattr(self, part))
            known = {field.name for field in dataclasses.fields(whole)}
            for key, value in fields.items():
                if key not in known:
                    raise ConfigError(f"{part}.{key}", value, _known(known))
            changes[part] = dataclasses.replace(whole, **fields)
        known = {field.name for field in dataclasses.fields(self)}
        for key, value in changes.items():
            if key not in known:
                raise ConfigError(key, value, _known(known))
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain data, nested for ``model`` and ``linear``."""
        data = dataclasses.asdict(self)
        for name in ("features", "leaders"):
            data["linear"][name] = [list(pair) for pair in data["linear"][name]]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; unknown and missing fields are errors."""
        data = dict(data)
        model, linear = data.pop("model", None), data.pop("linear", {})
        if not isinstance(model, dict):
            raise ConfigError("model", model, "a table of the model's shape")
        if not isinstance(linear, dict):
            raise ConfigError("linear", linear, "a table of options")
        for kind, prefix, given in ((ModelShape, "model.", model),
                                    (LinearOptions, "linear.", linear), (cls, "", data)):
            fields = {field.name: field for field in dataclasses.fields(kind)}
            for key, value in given.items():
                if key not in fields:
                    raise ConfigError(prefix + key, value, _known(fields))
            for key, declared in fields.items():
                if key not in given and key != "model" and (
                        declared.default is declared.default_factory is dataclasses.MISSING):
                    raise ConfigError(prefix + key, None, "given")
        for field, value in (("name", data.get("name", "")), ("model.name", model.get("name", ""))):
            if not isinstance(value, str):
                raise ConfigError(field, value, "text")
        return cls(model=ModelShape(**model), linear=LinearOptions(**linear), **data)

    def to_toml(self) -> str:
        """The configuration as TOML text."""
        data = self.to_dict()
        parts = {name: data.pop(name) for name in ("linear", "model")}
        lines = [f"{key} = {json.dumps(value)}" for key, value in data.items()]
        for name, fields in parts.items():
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read what :meth:`to_toml` writes; errors are :class:`ConfigError`."""
        try:
            return cls.from_dict(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError("TOML", str(error), "well-formed") from None
