"""SDR SDRAM parts: what a data sheet says, and what that is in clock cycles."""

import math
from dataclasses import dataclass

from ...config import ConfigError

__all__ = ["ALL", "SDRAM_256M", "SdramCycles", "SdramPart"]

ALL = 10  # address bit by which PRECHARGE means all banks


@dataclass(frozen=True, kw_only=True)
class SdramPart:
    """Size and timing of a part: times in nanoseconds, names as in data sheets.

    Parameters
    ----------
    bank_bits, row_bits, column_bits, data_bits: of the address, and of a word.
    rc, ras, rcd, rp, rrd, rfc, wr, mrd: least times; ``wr`` from the last word written, ``rc`` and
        ``ras`` from ACTIVATE, ``rfc`` from REFRESH, ``mrd`` from MODE. ras_most: most time a row
        may be open.
    refresh: average interval of refreshes. power_up: with a stable clock, before the first command.
    refreshes: at least, before MODE. cas: latency in cycles. clock_least: period for that latency.
    """

    bank_bits: int = 2
    row_bits: int = 13
    column_bits: int = 9
    data_bits: int = 16
    rc: float
    ras: float
    ras_most: float
    rcd: float
    rp: float
    rrd: float
    rfc: float
    wr: float
    mrd: float
    refresh: float
    power_up: float
    refreshes: int
    cas: int
    clock_least: float

    @property
    def size(self) -> int:
        """Bytes."""
        return (self.data_bits // 8) << (self.bank_bits + self.row_bits + self.column_bits)

    @property
    def address_pins(self) -> int:
        """A0 and up; at least to the one that means all banks."""
        return max(self.row_bits, ALL + 1)

    def cycles(self, clock_hz: int) -> "SdramCycles":
        """Times as cycles of ``clock_hz``, those that some parts state in cycles at least two.

        :class:`ConfigError` if the clock is too fast or too slow.
        """
        period = 1e9 / clock_hz
        if period < self.clock_least:
            raise ConfigError("clock_hz", clock_hz, f"at most {int(1e9 / self.clock_least)}, for "
                                                    f"CAS latency {self.cas}")

        def up(ns: float, least: int = 1) -> int:
            return max(least, math.ceil(ns / period - 1e-6))
        refresh = int(self.refresh / period)
        if refresh < 4 * up(self.rfc) + 32:
            raise ConfigError("clock_hz", clock_hz, "fast enough to do more than refresh")
        return SdramCycles(
            rc=up(self.rc), ras=up(self.ras), rcd=up(self.rcd), rp=up(self.rp),
            rrd=up(self.rrd, 2), rfc=up(self.rfc), wr=up(self.wr, 2), mrd=up(self.mrd, 2),
            refresh=refresh, power_up=up(self.power_up), refreshes=self.refreshes, cas=self.cas)


@dataclass(frozen=True, kw_only=True)
class SdramCycles:
    """The times of a part in clock cycles."""

    rc: int
    ras: int
    rcd: int
    rp: int
    rrd: int
    rfc: int
    wr: int
    mrd: int
    refresh: int
    power_up: int
    refreshes: int
    cas: int


SDRAM_256M = SdramPart(
    rc=66, ras=44, ras_most=100_000, rcd=21, rp=21, rrd=15, rfc=66, wr=15, mrd=14,
    refresh=7_800, power_up=200_000, refreshes=8, cas=2, clock_least=10)
"""256 Mbit, 16 bits wide: of each time the slowest in the data sheets of Alliance AS4C16M16SA-7
(rev. 3.0, table 16), ISSI IS42S16160G-7 and Micron MT48LC16M16A2-75, so that it does not matter
which of them, or of their larger sisters with more columns, a board was made with."""
