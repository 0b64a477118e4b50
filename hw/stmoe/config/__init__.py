"""One configuration for generator, golden model, testbench, host and documents."""

from .accelerator import AcceleratorConfig
from .error import ConfigError
from .geometry import Geometry
from .linear import LinearOptions
from .model import ModelShape
from .presets import PRESETS, preset

__all__ = ["PRESETS", "AcceleratorConfig", "ConfigError", "Geometry", "LinearOptions",
           "ModelShape", "preset"]
