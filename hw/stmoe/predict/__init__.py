"""Expert prediction unit: names the next layer's experts once a layer is routed."""

from .linear_unit import LinearUnit
from .null import NullPredictor
from .table import TablePredictor
from .unit import UNITS, PredictionUnit

__all__ = ["UNITS", "LinearUnit", "NullPredictor", "PredictionUnit", "TablePredictor"]
