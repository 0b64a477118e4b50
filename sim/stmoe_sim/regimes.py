"""Machines and memories at the size of real models, for the timing model alone."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Self

from stmoe.config import AcceleratorConfig, ConfigError, Geometry, preset
from stmoe_golden.energy import Entry, Technology
from stmoe_golden.timing.model import MemoryTiming
from stmoe_golden.trace import Trace

from .attention import Kind, attention_cycles
from .memory import memories, memory
from .timing import memory_timing

__all__ = ["LINKS", "REGIMES", "SHAPES", "Link", "Regime", "Scene", "Shape", "scene"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Widths of a released model, from its published configuration; ``attention``: its layers."""

    d_model: int
    d_ff: int
    attention: tuple[Kind, ...]


SHAPES = {  # by the model's name in traces
    "gpt-oss-20b": Shape(d_model=2880, d_ff=2880,
                         attention=(Kind(1, 4096, 512, 128), Kind(1, 4096, 512))),
    "qwen3-30b-a3b": Shape(d_model=2048, d_ff=768, attention=(Kind(1, 4096, 512),)),
    "gemma4-26b-a4b": Shape(d_model=2816, d_ff=704,
                            attention=(Kind(5, 4096, 2048, 1024), Kind(1, 8192, 1024)))}
SCALED = Shape(d_model=128, d_ff=32, attention=())  # of a board that holds no real expert
MAX_SLOTS = 4096


@dataclass(frozen=True, kw_only=True)
class Link:
    """What experts come over where it is no DRAM of the machine's own: bandwidth in 1e9 bytes a
    second and latency in ns, both as software gets them; ``source``: whence. ``energy``: of the
    energy tables."""

    gbps: float
    ns: float
    source: str
    energy: str | None = None


LINKS = {
    "flash": Link(gbps=2, ns=80_000, source="UFS 3.1, sequential reads; a NAND page's read time",
                  energy="flash"),
    "nvme": Link(gbps=7, ns=60_000, source="PCIe 4.0 x4 drive, sequential reads"),
    "pcie": Link(gbps=25, ns=1_500, source="PCIe 4.0 x16: 31.5 GB/s less headers; pinned host "
                                           "memory")}


@dataclass(frozen=True, kw_only=True)
class Regime:
    """A machine between an expert memory and a buffer.

    Parameters
    ----------
    changes: of the preset ``server``. buffer_bytes: of the expert buffer, or ``slots`` if not 0.
    part: expert memory, of ``memories.toml``, whose DRAM timing applies; None = behind a link of
        ``link_gbps`` and ``link_ns`` latency, without rows. ports: AXI ports of that memory side
        by side, as one of their width together; the generator makes one.
    attention_gbps: bandwidth that the attention phase reads projections and KV cache with.
    shared: part of the expert memory's bandwidth that it takes for that from experts, 0 = it has a
        memory of its own, 1 = all. context: tokens in the KV cache.
    scaled: experts are made smaller, see :data:`SCALED`.
    energy: memory of the energy tables, None = the link's energy is not known. local: memory that
        holds the slots, None = on chip.
    """

    name: str
    summary: str
    changes: dict[str, object]
    attention_gbps: float
    buffer_bytes: int = 0
    slots: int = 0
    part: str | None = None
    ports: int = 1
    bandwidth_scale: float = 1.0
    link_gbps: float = 0.0
    link_ns: float = 0.0
    shared: float = 0.0
    context: int = 2048
    scaled: bool = False
    energy: str | None = None
    local: str | None = None

    def behind(self, name: str) -> Self:
        """The same machine with its experts in another part of ``memories.toml``, or behind one of
        :data:`LINKS`."""
        if name in LINKS:
            link = LINKS[name]
            return dataclasses.replace(self, part=None, link_gbps=link.gbps, link_ns=link.ns,
                                       shared=0.0, energy=link.energy)
        if name not in memories():
            raise ConfigError("memory", name, f"one of {', '.join((*memories(), *LINKS))}")
        return dataclasses.replace(self, part=name, bandwidth_scale=1.0, energy=name)


EDGE: dict[str, object] = {"pes": 1, "rows": 8, "lanes": 8, "clock_mhz": 800, "outstanding": 64}
# 4 KiB a burst; a CRC would be a beat of 256 bytes.
WIDE: dict[str, object] = {"burst_beats": 16, "integrity": False}
FLASH, PCIE = LINKS["flash"], LINKS["pcie"]
REGIMES = {regime.name: regime for regime in (
    Regime(name="paper", summary="8 PEs of 64 x 64 MACs at 1 GHz, 16 MB of experts, one HBM2 stack "
                                 "of 256 GB/s that attention has a like of",
           changes=WIDE, buffer_bytes=16 << 20, part="hbm2-2000", ports=4, attention_gbps=256,
           energy="hbm2-2000"),
    Regime(name="edge", summary="a PE of 8 x 8 MACs at 800 MHz, which reads LPDDR5 at 51.2 GB/s; "
                                "there 4 GB hold experts, which flash of 2 GB/s and 80 us feeds",
           changes=EDGE, buffer_bytes=4 << 30, link_gbps=FLASH.gbps, link_ns=FLASH.ns,
           attention_gbps=51.2, energy="flash", local="lpddr5-6400"),
    Regime(name="ecp5", summary="2 PEs of 4 x 8 MACs at 100 MHz on an ECP5 board: 16 slots, DDR3 "
                                "of 1.6 GB/s; experts scaled to d_model 128, d_ff 32",
           changes={"pes": 2, "rows": 4, "lanes": 8, "clock_mhz": 100, "axi_data_bits": 64,
                    "tile_bytes": 512, "outstanding": 8}, slots=16, part="lpddr4-3200",
           bandwidth_scale=0.25, attention_gbps=1.6, context=128, scaled=True,
           energy="lpddr4-3200"),
    Regime(name="shared", summary="the paper's machine with 256 MB of experts, whose HBM2 stack "
                                  "attention reads as well, all of its bandwidth",
           changes=WIDE, buffer_bytes=256 << 20, part="hbm2-2000", ports=4, attention_gbps=256,
           shared=1.0, energy="hbm2-2000"),
    Regime(name="host", summary="the paper's machine with 8 GB of HBM2 for experts, which host "
                                "memory feeds over PCIe 4.0 x16",
           changes={}, buffer_bytes=8 << 30, link_gbps=PCIE.gbps, link_ns=PCIE.ns,
           attention_gbps=256, local="hbm2-2000"))}


@dataclass(frozen=True)
class PortedGeometry(Geometry):
    """Sizes with several AXI ports of the configured width, side by side."""

    ports: int = 1

    def _at(self, d_ff: int) -> Self:
        other = super()._at(d_ff)
        object.__setattr__(other, "ports", self.ports)
        return other

    @property
    def axi_bytes(self) -> int:
        return self.ports * super().axi_bytes


@dataclass(frozen=True)
class Scene:
    """A regime with a model in it."""

    regime: Regime
    geometry: Geometry
    memory: MemoryTiming
    attention: int

    @property
    def config(self) -> AcceleratorConfig:
        return self.geometry.config

    def priced(self, technology: Technology) -> Technology:
        """``technology`` with accesses to the slots at the price of what holds them."""
        g, local = self.geometry, self.regime.local
        if local is None:
            return technology
        bits = {"bank_read": g.word_bytes, "bank_write": g.axi_bytes, "side_read": g.side_bytes,
                "scale_read": g.side_bytes}
        per_bit = technology.price("link_beat", g, local)
        return dataclasses.replace(technology, actions=technology.actions | {
            name: Entry(8 * size * per_bit, "pJ per access", local, f"{8 * size} bits of it")
            for name, size in bits.items()})


def scene(regime: Regime, trace: Trace, changes: dict[str, object] | None = None) -> Scene:
    """The machine of ``regime`` for the model of ``trace``, with ``changes`` of its configuration.

    As many slots as the buffer holds experts, two at least. :class:`ConfigError` if the model's
    widths are not known.
    """
    known = next((name for name in SHAPES if trace.name.lower().startswith(name)
                  or trace.model.lower().startswith(name)), None)
    if known is None and not regime.scaled:
        raise ConfigError("trace", trace.name, f"of a model whose widths are known: "
                                               f"{', '.join(SHAPES)}")
    shape = SCALED if regime.scaled or known is None else SHAPES[known]
    config = preset("server").replace(
        model_layers=trace.layers, model_experts=trace.num_experts, model_top_k=trace.top_k,
        model_d_model=shape.d_model, model_d_ff=shape.d_ff, model_name=known or trace.model,
        slots=2, linear_weight_store="chip", linear_lexical_store="chip", axi_addr_bits=48,
        router_layers=0, **regime.changes).replace(**changes or {})
    if "slots" not in (changes or {}):
        slot = PortedGeometry(config, ports=regime.ports).blob_bytes
        everything = config.model.layers * config.model.expert_ids
        config = config.replace(slots=regime.slots or max(
            2, min(regime.buffer_bytes // slot, everything, MAX_SLOTS)))
    if regime.part is not None:
        timing = memory_timing(memory(regime.part).scaled(regime.bandwidth_scale),
                               config.clock_mhz)
    else:
        timing = MemoryTiming(column=round(64_000 / regime.link_gbps),
                              latency=round(1000 * regime.link_ns), row_bytes=1 << 20,
                              outstanding=64, in_flight=math.ceil(
                                  regime.link_gbps * regime.link_ns * 8 / config.axi_data_bits))
    timing = dataclasses.replace(timing, shared=round(1000 * regime.shared))
    per_cycle = regime.attention_gbps * 1e3 / config.clock_mhz
    return Scene(regime, PortedGeometry(config, ports=regime.ports), timing,
                 attention_cycles(config, per_cycle, regime.context, shape.attention))
