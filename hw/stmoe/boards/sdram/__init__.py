"""The controller of SDR SDRAM on boards that have it."""
