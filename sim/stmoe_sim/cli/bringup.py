"""``stmoe bringup``: from a loaded bitstream to the first tokens."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from stmoe.config import ConfigError
from stmoe.config.error import check_range

from .options import DEFAULT_PRESET, ConfigFile, Overrides, PresetName, load_config
from .progress import stages

__all__ = ["EPILOG", "bringup"]

EPILOG = """\b
Examples:
  stmoe bringup --port /dev/ttyUSB0 --config board.toml
  stmoe bringup --port /dev/ttyACM0 --preset edge --tokens 64 --policy linear --json bringup.json
  stmoe bringup --port /dev/ttyUSB0 --config board.toml --test-bytes 65536 --dump counters.json
Without a board: stmoe rehearse.
"""


def bringup(
        port: Annotated[str, typer.Option(
            "--port", metavar="PORT", help="Serial port of the board, as /dev/ttyUSB0.")],
        preset: PresetName = None, config: ConfigFile = None, overrides: Overrides = None,
        baud: Annotated[int, typer.Option(
            "--baud", metavar="N", help="Rate of the line, that of the bitstream.")] = 3_000_000,
        trace: Annotated[Path | None, typer.Option(
            "--trace", "-t", metavar="FILE",
            help="Routing trace; else that of the project's own model, if the configuration has "
                 "its shape, else seeded random routing.")] = None,
        tokens: Annotated[int, typer.Option(
            "--tokens", "-n", metavar="N", help="Tokens to replay.")] = 16,
        policy: Annotated[str, typer.Option(
            "--policy", metavar="NAME", help="Policy of the replay, see stmoe simulate.")] = "lru",
        test_bytes: Annotated[int, typer.Option(
            "--test-bytes", metavar="N",
            help="Bytes of memory whose every cell is tested, at most; 0 = all.")] = 1 << 18,
        retention: Annotated[float, typer.Option(
            "--retention", metavar="SECONDS",
            help="Time without an access after which cells are read.")] = 0.5,
        seed: Annotated[int, typer.Option(
            "--seed", metavar="N", help="Of all that is random.")] = 1,
        timeout: Annotated[float, typer.Option(
            "--timeout", metavar="SECONDS", help="Until a request is sent again.")] = 0.25,
        patience: Annotated[float, typer.Option(
            "--patience", metavar="SECONDS",
            help="Without an answer, or without a cable, until it is given up.")] = 5.0,
        dump: Annotated[Path | None, typer.Option(
            "--dump", metavar="FILE", help="Write all counters of the replay as JSON.")] = None,
        json_file: Annotated[Path | None, typer.Option(
            "--json", metavar="FILE", help="Write steps, measurements and counters as JSON.",
        )] = None,
) -> None:
    """Bring a board up: identify, test, load experts, compute, compare.

    The build is identified by its hash, registers and memory are tested, experts are loaded, one is
    held against the golden model, then a trace is replayed and every result compared. A step that
    fails says what to check next, and ends it: exit 1. A cable may be pulled and plugged in again.
    """
    from stmoe_golden.trace import load

    from ..host.bringup import Step, bring_up
    from ..host.device import Device
    from ..host.link import Link
    from ..host.transport import SerialTransport
    from ..host.workload import model_workload, trace_workload
    from ..job import prediction_unit
    from ..policies import parse_policies
    from ..report.files import check_distinct, check_writable, write_json

    chosen = load_config(preset, config, overrides)
    check_range("--baud", baud, 1, 12_000_000)
    check_range("--tokens", tokens, 1, 1 << 20)
    check_range("--test-bytes", test_bytes, 0, 1 << 40)
    check_range("--seed", seed, 0, 2**31 - 1)
    for option, value in (("--retention", retention), ("--timeout", timeout),
                          ("--patience", patience)):
        if not 0 <= value <= 3600 or (option == "--timeout" and value < 0.01):
            raise ConfigError(option, value, "0 to 3600 seconds, a timeout at least 0.01")
    policies = parse_policies(policy)
    if len(policies) != 1:
        raise ConfigError("--policy", policy, "one policy")
    policies[0].check(chosen, route_on_chip=False)
    for option, path in (("--dump", dump), ("--json", json_file)):
        if path is not None:
            check_writable(option, path)
    check_distinct(dump=dump, json=json_file)
    workload = (trace_workload(chosen, load(trace), tokens, seed) if trace
                else model_workload(chosen, tokens, seed))

    from stmoe.config import Geometry
    console = Console(width=None if Console().is_terminal else 120, soft_wrap=False)
    with stages() as progress:
        def report(step: Step) -> None:
            console.print(f"{'ok' if step.passed else 'FAILED':7}{step.name:10} {step.found}",
                          highlight=False, markup=False, soft_wrap=True)
            if not step.passed:
                console.print(f"{'':7}next: {step.check}", highlight=False, markup=False,
                              soft_wrap=True)
        outcome = bring_up(
            lambda: Device(Link(SerialTransport(port, baud), timeout=timeout, patience=patience),
                           chosen),
            workload, policies[0], unit=prediction_unit(Geometry(chosen), policies[0]),
            test_bytes=test_bytes, retention=retention, seed=seed, progress=progress,
            report=report)
    if outcome.counters:
        _print(outcome.measured, console)
    if dump is not None and outcome.counters:
        write_json(dump, outcome.counters)
        console.print(f"Counters: {dump}", highlight=False)
    if json_file is not None:
        write_json(json_file, {
            "preset": config.stem if config else preset or DEFAULT_PRESET,
            "config": chosen.to_dict(), "policy": policy, "passed": outcome.passed,
            "steps": [vars(step) for step in outcome.steps], "measured": outcome.measured,
            "counters": outcome.counters})
        console.print(f"JSON: {json_file}", highlight=False)
    if not outcome.passed:
        raise typer.Exit(1)


def _print(measured: dict[str, Any], console: Console) -> None:
    from ..report.terminal import number, percent, table

    link = measured["link"]
    console.print(table("Measured on the board", ["what", "value"], [
        ["cycles of the replay", number(measured["cycles_total"], 0)],
        ["of these with a layer in work", number(measured["cycles_computing"], 0)],
        ["coverage", percent(measured["coverage"])],
        ["bytes per cycle of the DMA at work", number(measured["dma_bytes_per_cycle"])],
        ["tokens per second, over the link", number(measured["tokens_per_second"], 1)],
        ["tokens per second, link left out",
         number(measured["tokens_per_second_without_link"], 1)],
        ["line rate used by the load", percent(measured["line_efficiency"])],
        ["requests, of these sent again", f"{link['requests']:,}, {link['repeated']:,}"],
        ["bad frames received, cable lost", f"{link['bad_frames']:,}, {link['reopened']:,}"]]))
