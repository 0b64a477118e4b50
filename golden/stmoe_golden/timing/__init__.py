"""Fast timing model of the machine."""
from . import arrays  # noqa: F401 - compiled code's view of state.Arrays
