"""Parts of :mod:`stmoe_golden.trace`: the trace itself, its file formats, its slices."""
