"""From RTL to gates: synthesis, place and route, area."""
