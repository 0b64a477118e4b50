"""Predictors of the next layer's experts, as specification."""
