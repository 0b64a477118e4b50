"""The gating network, as specification."""
