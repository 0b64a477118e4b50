"""``python -m stmoe_sim.cli``."""

from . import main

main()
