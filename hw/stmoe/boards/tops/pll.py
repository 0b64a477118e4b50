"""Settings of the PLL of an ECP5."""

from dataclasses import dataclass

from ...config import ConfigError

__all__ = ["PllSettings", "pll_settings"]

VCO = 400e6, 800e6  # Lattice FPGA-DS-02012, sysCLOCK PLL timing
PHASE_DETECTOR = 10e6, 400e6
PHASES = 4  # the output's divider is a multiple: a quarter of a cycle is whole


@dataclass(frozen=True)
class PllSettings:
    """Dividers of EHXPLLL, and the frequency in Hz that they make of the input's."""

    input: int
    feedback: int
    output: int
    clock_hz: int


def pll_settings(input_hz: int, clock_hz: int) -> PllSettings:
    """Settings for exactly ``clock_hz``; :class:`ConfigError` names the nearest that there are."""
    found: dict[int, PllSettings] = {}
    for divide in range(1, int(input_hz / PHASE_DETECTOR[0]) + 1):
        for feedback in range(1, 81):
            if input_hz * feedback % divide or input_hz / divide > PHASE_DETECTOR[1]:
                continue
            made = input_hz * feedback // divide
            for output in range(PHASES, 129, PHASES):
                if VCO[0] <= made * output <= VCO[1]:
                    found.setdefault(made, PllSettings(divide, feedback, output, made))
    if clock_hz not in found:
        near = sorted(sorted(found, key=lambda made: abs(made - clock_hz))[:4])
        raise ConfigError("clock_hz", clock_hz, "what a PLL makes of "
                          f"{input_hz / 1e6:g} MHz, as {', '.join(str(made) for made in near)}")
    return found[clock_hz]
