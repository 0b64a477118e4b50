"""Options that several verbs share: which configuration, with which fields changed."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from stmoe.config import AcceleratorConfig, ConfigError, Geometry, preset

__all__ = ["DEFAULT_PRESET", "MAX_PASSES", "ConfigFile", "Overrides", "Passes", "PresetName",
           "check_overrides", "check_text", "load_config", "parse_overrides"]

DEFAULT_PRESET = "tiny"
MAX_PASSES = 64

PresetName = Annotated[str | None, typer.Option(
    "--preset", "-p", metavar="NAME", help=f"Named configuration; {DEFAULT_PRESET} by default.")]
ConfigFile = Annotated[Path | None, typer.Option(
    "--config", "-c", metavar="FILE", help="Configuration in TOML, instead of a preset.")]
Overrides = Annotated[list[str] | None, typer.Option(
    "--set", "-s", metavar="FIELD=VALUE",
    help="Change a field, as slots=76 or model.d_ff=64; may be repeated.")]
Passes = Annotated[int, typer.Option(
    "--profile-passes", metavar="N",
    help="Times that a predictor that learns token by token goes over its profile: the host trains "
         "it, and loads its weights.")]


def check_text(option: str, text: str) -> None:
    """:class:`ConfigError` if ``text`` was no UTF-8 on the command line."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(option, text, "text in UTF-8") from None


def _value(text: str) -> Any:
    """A TOML value of one line, or plain text where it is none."""
    if "\n" in text:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_overrides(overrides: list[str] | None) -> dict[str, Any]:
    """Changes for :meth:`AcceleratorConfig.replace` from FIELD=VALUE texts."""
    changes: dict[str, Any] = {}
    for text in overrides or []:
        field, equals, value = text.partition("=")
        field = field.strip()
        if not equals or not field or not value.strip():
            raise ConfigError("--set", text, "FIELD=VALUE")
        known = AcceleratorConfig.__dataclass_fields__
        for part, example in (("model", "d_ff=64"), ("linear", "bits=8")):
            if field == part or field.startswith(f"{part}_"):
                raise ConfigError(field, value.strip(), f"set by its parts, as {part}.{example}")
        if "." not in field and field not in known:
            raise ConfigError(field, value.strip(), "a known field: model.FIELD, linear.FIELD, "
                                                    + ", ".join(sorted(known)))
        whole, dot, part = field.partition(".")
        key = f"{whole}_{part}" if whole in ("model", "linear") and dot else field
        if key in changes:
            raise ConfigError("--set", text, f"given once per field; {field} is set before")
        text = value.strip()
        changes[key] = text if key in ("name", "model_name") else _value(text)
    return changes


def load_config(preset_name: str | None, file: Path | None,
                overrides: list[str] | None = None) -> AcceleratorConfig:
    """The configuration that the options describe, checked whole."""
    if preset_name is not None and file is not None:
        raise ConfigError("--preset and --config", f"{preset_name}, {file}", "one of the two")
    if file is not None:
        try:
            config = AcceleratorConfig.from_toml(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError("--config", str(file),
                              f"a readable file ({error.strerror})") from None
        except UnicodeDecodeError:
            raise ConfigError("--config", str(file), "a text file in UTF-8") from None
        except ConfigError as error:
            raise ConfigError(f"{file}: {error.field}", error.value, error.limit) from None
    else:
        config = preset(DEFAULT_PRESET if preset_name is None else preset_name)
    changes = parse_overrides(overrides)
    if changes:
        config = config.replace(**changes)
    Geometry(config)
    Geometry(config, Geometry(config).max_d_ff)
    return config


def check_overrides(overrides: list[str] | None, fitted: AcceleratorConfig,
                    source: Path | str) -> None:
    """:class:`ConfigError` if an override says otherwise than ``source``, which has its way."""
    for field, value in parse_overrides(overrides).items():
        told = getattr(fitted.model, field.removeprefix("model_"), None)
        if field.startswith("model_") and field != "model_name" and value != told:
            raise ConfigError(f"model.{field[6:]}", value, f"left out or {told}, as in {source}")
