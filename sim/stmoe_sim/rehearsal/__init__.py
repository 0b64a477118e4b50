"""A whole board, simulated to its pins, that host software finds behind a pseudo-terminal."""
