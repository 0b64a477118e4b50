"""Benches of ``stmoe explore`` that misbehave or tell, for processes of their own."""

import os
from dataclasses import dataclass
from pathlib import Path

from stmoe_sim.explore.evaluate import Bench

__all__ = ["DEADLY", "Deadly", "Noting"]

DEADLY = 13  # slots


class Deadly(Bench):
    """Ends the process that evaluates a point of :data:`DEADLY` slots, as a lack of memory does."""

    def evaluate(self, point):
        if point.values["config.slots"] == DEADLY:
            os._exit(9)
        return super().evaluate(point)


@dataclass
class Noting(Bench):
    """Leaves a file PID-ID in ``folder`` for every evaluation."""

    folder: str = ""

    def evaluate(self, point):
        found = super().evaluate(point)
        (Path(self.folder) / f"{os.getpid()}-{point.id}").touch()
        return found
