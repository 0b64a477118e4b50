"""Machines and memories at the size of real models, for the timing model alone."""

from dataclasses import dataclass

from stmoe.config import AcceleratorConfig, ConfigError, Geometry, preset
from stmoe_golden.timing.model import MemoryTiming
from stmoe_golden.trace import Trace

from .attention import attention_cycles
from .memory import memory
from .timing import memory_timing

__all__ = ["REGIMES", "SHAPES", "Regime", "Scene", "scene"]

SHAPES = {  # d_model, d_ff by the model's name in traces: published configurations
    "gpt-oss-20b": (2880, 2880),
    "qwen3-30b-a3b": (2048, 768),
    "gemma4-26b-a4b": (2816, 704)}
SCALED = 128, 32  # of a board that holds no real expert
MAX_SLOTS = 4096


@dataclass(frozen=True, kw_only=True)
class Regime:
    """A machine between an expert memory and a buffer.

    Parameters
    ----------
    changes: of the preset ``server``. buffer_bytes: of the expert buffer, or ``slots`` if not 0.
    part: expert memory, of ``memories.toml``, whose DRAM timing applies; None = behind a link of
        ``link_gbps`` and ``link_ns`` latency, without rows. attention_gbps: bandwidth that the
        attention phase reads projections and KV cache with. context: tokens in the KV cache.
    scaled: experts are made smaller, see :data:`SCALED`.
    energy: memory of the energy tables, None = the link's energy is not known.
    buffer: "sram", or "dram" where the slots are no part of the chip.
    """

    name: str
    summary: str
    changes: dict[str, object]
    attention_gbps: float
    buffer_bytes: int = 0
    slots: int = 0
    part: str | None = None
    bandwidth_scale: float = 1.0
    link_gbps: float = 0.0
    link_ns: float = 0.0
    context: int = 2048
    scaled: bool = False
    energy: str | None = None
    buffer: str = "sram"


REGIMES = {regime.name: regime for regime in (
    Regime(name="paper", summary="8 PEs of 64 x 64 MACs at 1 GHz, 16 MB of experts, one HBM2 stack "
                                 "of 256 GB/s that attention has a like of",
           changes={}, buffer_bytes=16 << 20, part="hbm2-2000", attention_gbps=256,
           energy="hbm2-2000"),
    Regime(name="edge", summary="a PE of 8 x 8 MACs at 800 MHz, which reads LPDDR5 at 51.2 GB/s; "
                                "there 4 GB hold experts, which flash of 2 GB/s and 80 us feeds",
           changes={"pes": 1, "rows": 8, "lanes": 8, "clock_mhz": 800, "outstanding": 64},
           buffer_bytes=4 << 30, link_gbps=2, link_ns=80_000, attention_gbps=51.2,
           buffer="dram"),
    Regime(name="ecp5", summary="preset edge at 100 MHz on an ECP5 board: 16 slots, DDR3 of 1.6 "
                                "GB/s; experts scaled to d_model 128, d_ff 32",
           changes={"pes": 2, "rows": 4, "lanes": 8, "clock_mhz": 100, "axi_data_bits": 64,
                    "tile_bytes": 512, "outstanding": 8}, slots=16, part="lpddr4-3200",
           bandwidth_scale=0.25, attention_gbps=1.6, context=128, scaled=True,
           energy="lpddr4-3200"))}


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


def scene(regime: Regime, trace: Trace, changes: dict[str, object] | None = None) -> Scene:
    """The machine of ``regime`` for the model of ``trace``, with ``changes`` of its configuration.

    :class:`ConfigError` if the model's widths are not known.
    """
    known = next((name for name in SHAPES if trace.name.lower().startswith(name)
                  or trace.model.lower().startswith(name)), None)
    if known is None and not regime.scaled:
        raise ConfigError("trace", trace.name, f"of a model whose widths are known: "
                                               f"{', '.join(SHAPES)}")
    width, hidden = SCALED if regime.scaled or known is None else SHAPES[known]
    config = preset("server").replace(
        model_layers=trace.layers, model_experts=trace.num_experts, model_top_k=trace.top_k,
        model_d_model=width, model_d_ff=hidden, model_name=known or trace.model, slots=2,
        linear_weight_store="chip", linear_lexical_store="chip", axi_addr_bits=48,
        router_layers=0, **regime.changes).replace(**changes or {})
    if "slots" not in (changes or {}):
        slot = Geometry(config).blob_bytes
        everything = config.model.layers * config.model.expert_ids
        config = config.replace(slots=regime.slots or max(
            2, min(regime.buffer_bytes // slot, everything, MAX_SLOTS)))
    if regime.part is not None:
        timing = memory_timing(memory(regime.part).scaled(regime.bandwidth_scale),
                               config.clock_mhz)
    else:
        timing = MemoryTiming(column=round(64_000 / regime.link_gbps),
                              latency=round(1000 * regime.link_ns), row_bytes=1 << 20,
                              outstanding=64)
    per_cycle = regime.attention_gbps * 1e3 / config.clock_mhz
    return Scene(regime, Geometry(config), timing,
                 attention_cycles(config, per_cycle, regime.context))
