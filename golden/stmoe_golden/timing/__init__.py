"""Fast timing model of the machine."""
