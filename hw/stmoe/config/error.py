"""The error of every illegal configuration: it names the field, the value and the limit."""

__all__ = ["ConfigError", "check_choice", "check_multiple", "check_power_of_two", "check_range"]


class ConfigError(ValueError):
    """An illegal configuration value; the message names the field, the value and the limit."""

    def __init__(self, field: str, value: object, limit: str):
        super().__init__(f"{field} must be {limit}, not {value!r}")
        self.field, self.value, self.limit = field, value, limit


def check_range(field: str, value: object, low: int, high: int) -> None:
    """Refuse ``value`` unless it is an integer in ``low`` .. ``high``."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(field, value, f"an integer from {low} to {high}")


def check_power_of_two(field: str, value: int, low: int, high: int) -> None:
    """Refuse ``value`` unless it is a power of two in ``low`` .. ``high``."""
    check_range(field, value, low, high)
    if value & (value - 1):
        raise ConfigError(field, value, f"a power of two from {low} to {high}")


def check_multiple(field: str, value: int, of: int, what: str) -> None:
    """Refuse ``value`` unless it is a multiple of ``of``, which ``what`` names."""
    if value % of:
        raise ConfigError(field, value, f"a multiple of {what} = {of}")


def check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse ``value`` unless it is one of ``choices``."""
    if value not in choices:
        raise ConfigError(field, value, f"one of {', '.join(choices)}")
