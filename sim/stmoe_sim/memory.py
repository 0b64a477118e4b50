"""Expert memories of the simulation: timing of real parts, as settings of ``axi_dram.sv``."""

import dataclasses
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from stmoe.config import AcceleratorConfig, ConfigError
from stmoe.config.error import check_range

__all__ = ["COLUMN_BYTES", "Memory", "memories", "memory"]

COLUMN_BYTES = 64  # of one column access
MAX_BANKS = 16


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Timing of an expert memory.

    Parameters
    ----------
    bandwidth_gbps: peak of the data bus, 1e9 bytes a second; 0 = the AXI port's own.
    *_ns: nanoseconds; ``controller_ns`` is the fixed latency in front of the part.
    banks: 1 to 16. row_bytes: bytes of an open row over the whole bus.
    outstanding: bursts that the controller takes at a time.
    reorder: answers bursts of different ids out of order.
    stall: chance of a beat's being withheld for a cycle, of 256.
    fault_*: answer the first ``fault_count`` bursts that touch [low, high] with ``resp``;
        ``write_fault_*``: likewise of writes, which then store nothing.
    corrupt_*: of the beats read from [low, high] one in ``corrupt_every`` comes with wrong data,
        until ``corrupt_count`` have; wrong is, by ``corrupt_mode``, 0 one bit, 1 any, 2 all.
    """

    name: str
    source: str
    bandwidth_gbps: float
    cas_ns: float
    rcd_ns: float
    rp_ns: float
    ras_ns: float
    rrd_ns: float
    faw_ns: float
    refresh_interval_ns: float
    refresh_ns: float
    banks: int
    row_bytes: int
    controller_ns: float
    outstanding: int = 16
    reorder: bool = False
    stall: int = 0
    fault_low: int = 0
    fault_high: int = 0
    fault_count: int = 0
    fault_resp: int = 2
    write_fault_low: int = 0
    write_fault_high: int = 0
    write_fault_count: int = 0
    corrupt_low: int = 0
    corrupt_high: int = 0
    corrupt_count: int = 0
    corrupt_every: int = 1
    corrupt_mode: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_ns", "_gbps")) and not 0 <= value <= 1e6:
                raise ConfigError(f"memory.{field.name}", value, "from 0 to 1000000")
        check_range("memory.banks", self.banks, 1, MAX_BANKS)
        check_range("memory.row_bytes", self.row_bytes, COLUMN_BYTES, 1 << 20)
        check_range("memory.outstanding", self.outstanding, 1, 16)
        check_range("memory.stall", self.stall, 0, 255)

    @property
    def ideal(self) -> bool:
        """Whether the part has no DRAM timing."""
        return self.bandwidth_gbps == 0

    def scaled(self, factor: float) -> Self:
        """The same part with ``factor`` times the bandwidth and unchanged latencies."""
        if not 0.001 <= factor <= 1000:
            raise ConfigError("bandwidth-scale", factor, "from 0.001 to 1000")
        if factor == 1:
            return self
        if self.ideal:
            raise ConfigError("bandwidth-scale", factor, "1 for the ideal memory")
        return dataclasses.replace(self, bandwidth_gbps=self.bandwidth_gbps * factor,
                                   name=f"{self.name} x{factor:g}")

    def bytes_per_cycle(self, config: AcceleratorConfig) -> float:
        """Peak bytes per clock cycle that reach the accelerator: part or port, the lesser."""
        port = config.axi_data_bits / 8
        return port if self.ideal else min(port, self.bandwidth_gbps * 1e3 / config.clock_mhz)

    def ports(self, clock_mhz: int) -> dict[str, int]:
        """Values of the simulated memory's settings at this clock, by name."""
        times = {name[:-3] + "_ps": round(1000 * getattr(self, name)) for name in (
            "cas_ns", "rcd_ns", "rp_ns", "ras_ns", "rrd_ns", "faw_ns", "refresh_interval_ns",
            "refresh_ns")}
        return times | {
            "clk_ps": round(1e6 / clock_mhz), "latency_ps": round(1000 * self.controller_ns),
            "column_ps": 0 if self.ideal else round(COLUMN_BYTES * 1000 / self.bandwidth_gbps),
            "ideal": int(self.ideal), "reorder": int(self.reorder), "mem_stall": self.stall,
            "banks": self.banks, "row_bytes": self.row_bytes, "mem_outstanding": self.outstanding,
            "fault_low": self.fault_low, "fault_high": self.fault_high,
            "fault_count": self.fault_count, "fault_resp": self.fault_resp,
            "write_fault_low": self.write_fault_low, "write_fault_high": self.write_fault_high,
            "write_fault_count": self.write_fault_count,
            **{name: getattr(self, name) for name in (
                "corrupt_low", "corrupt_high", "corrupt_count", "corrupt_every", "corrupt_mode")}}


@cache
def memories() -> dict[str, Memory]:
    """All known memories by name."""
    text = Path(__file__).with_name("memories.toml").read_text()
    return {name: Memory(name=name, **entry) for name, entry in tomllib.loads(text).items()}


def memory(name: str) -> Memory:
    """The memory called ``name``; :class:`ConfigError` names the known ones."""
    if name not in memories():
        raise ConfigError("memory", name, f"one of {', '.join(memories())}")
    return memories()[name]
