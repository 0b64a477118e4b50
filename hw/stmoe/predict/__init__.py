"""Expert prediction unit: names the next layer's experts once a layer is routed."""

from ..config import Geometry
from .null import NullPredictor
from .table import TablePredictor

__all__ = ["NullPredictor", "TablePredictor", "prediction_unit"]


def prediction_unit(geometry: Geometry) -> NullPredictor | TablePredictor:
    """The unit that the configuration asks for; all have the members of ``PredictionSignature``."""
    unit = NullPredictor if geometry.config.predictor == "none" else TablePredictor
    return unit(geometry)
