"""``stmoe simulate``: replay a trace through the generated hardware."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from stmoe.config import ConfigError, Geometry
from stmoe.config.error import check_choice, check_range
from stmoe_golden.trace import Trace, Window, decode_slice, load

from ..policies import POLICY_HELP
from .options import (
    DEFAULT_PRESET,
    MAX_PASSES,
    ConfigFile,
    Overrides,
    Passes,
    PresetName,
    check_overrides,
    load_config,
)
from .progress import stages

__all__ = ["EPILOG", "simulate"]

DEFAULT_POLICIES = "on-demand,lru,table,st-moe"
WARMUP = 16
EPILOG = """\b
Examples:
  stmoe simulate
  stmoe simulate --trace gpt-oss-20b-math.npz --tokens 128 --json out.json
  stmoe simulate --policy table:none,table,st-moe --set slots=152 --memory ddr4-3200
  stmoe simulate --d-ff 32 --set lanes=8 --set model.d_ff=8 --set slots=2 --set max_d_ff=32
  stmoe simulate --policy st-moe,st-moe-ahead --set linear.lookahead=true --routing hardware
  stmoe simulate --gates ecp5 --tokens 1 --warmup 0 --policy st-moe
"""


def window_of(trace: Trace, tokens: int, warmup: int | None, profile: int | None,
              passes: int = 1) -> Window:
    """The window of ``tokens``; warm-up of 16 tokens unless given, less where the trace ends."""
    check_range("--profile-passes", passes, 1, MAX_PASSES)
    if warmup is None:
        spare = decode_slice(trace, 1, 0, profile)
        warmup = max(0, min(WARMUP, spare.trace.tokens - spare.start - tokens))
    return decode_slice(trace, tokens, warmup, profile, passes)


def simulate(
        preset: PresetName = None, config: ConfigFile = None, overrides: Overrides = None,
        trace: Annotated[Path | None, typer.Option(
            "--trace", "-t", metavar="FILE",
            help="Routing trace, .npz or route_trace v1 .csv; else that of the project's own "
                 "model, with its weights and activations.")] = None,
        tokens: Annotated[int, typer.Option(
            "--tokens", "-n", metavar="N", help="Decode tokens to measure.")] = 64,
        warmup: Annotated[int | None, typer.Option(
            "--warmup", metavar="N", help=f"Decode tokens replayed before, uncounted; {WARMUP} "
                                          "where the trace has as many to spare.")] = None,
        profile: Annotated[int | None, typer.Option(
            "--profile-tokens", metavar="N",
            help="Tokens at the trace's front that predictors are profiled on; by default a fifth "
                 "of the sequences, or the prompt.")] = None,
        passes: Passes = 1,
        policy: Annotated[str, typer.Option(
            "--policy", metavar="A,B,..",
            help=f"Policies, run on one netlist: {POLICY_HELP}.")] = DEFAULT_POLICIES,
        memory: Annotated[str, typer.Option(
            "--memory", metavar="NAME", help="Expert memory: lpddr4-3200, lpddr5-6400, ddr4-3200, "
                                             "hbm2-2000, ideal.")] = "lpddr4-3200",
        bandwidth_scale: Annotated[float, typer.Option(
            "--bandwidth-scale", metavar="X", help="Scale of the memory's bandwidth.")] = 1.0,
        attention: Annotated[int | None, typer.Option(
            "--attention-cycles", metavar="N",
            help="Cycles between a layer's result and the next layer; by default what reading "
                 "projections and KV cache takes (docs/results.md).")] = None,
        routing: Annotated[str, typer.Option(
            "--routing", metavar="WHO",
            help="host (from the trace) or hardware (int8 router, on chip; of the project's own "
                 "trace only, whose layers have their inputs).")] = "host",
        at_a_time: Annotated[int, typer.Option(
            "--at-a-time", metavar="N",
            help="Tokens of a layer command; more than 1 take --set max_tokens=N.")] = 1,
        phase: Annotated[str, typer.Option(
            "--phase", metavar="NAME",
            help="What tokens that are commanded together are: decode, prefill (nothing is "
                 "prefetched for the next layer) or verify.")] = "decode",
        gates: Annotated[str | None, typer.Option(
            "--gates", metavar="NAME[:BLOCK,..]",
            help="Simulate the netlist after synthesis, ecp5 or generic, beside RTL: outputs, "
                 "events and cycles are held against each other. With blocks as stmoe synth names "
                 "them, these alone.")] = None,
        d_ff: Annotated[int | None, typer.Option(
            "--d-ff", metavar="N",
            help="Hidden width set at run time, up to --set max_d_ff=N; of experts larger than "
                 "half of the buffer, which model.d_ff and slots size, tiles stream through "
                 "it. By default model.d_ff.")] = None,
        technology: Annotated[str, typer.Option(
            "--technology", metavar="NAME", help="Energy table: 45nm, 7nm, osu018 or a .toml file.",
        )] = "45nm",
        seed: Annotated[int, typer.Option(
            "--seed", metavar="N", help="Of weights and activations, where they are random.")] = 1,
        stall: Annotated[int, typer.Option(
            "--stall", metavar="N", help="Chance of 256 that a stream of the host pauses in a "
                                         "cycle: exercise, not measurement.")] = 0,
        jobs: Annotated[int, typer.Option(
            "--jobs", "-j", metavar="N", help="Simulations side by side.")] = 2,
        json_file: Annotated[Path | None, typer.Option(
            "--json", metavar="FILE", help="Write the report as JSON.")] = None,
        html: Annotated[Path | None, typer.Option(
            "--html", metavar="FILE", help="Write the report as a page; build/report.html unless "
                                           "--json is given.")] = None,
        timeline: Annotated[Path | None, typer.Option(
            "--timeline", metavar="FILE",
            help="Write layers, transfers and use of slots over time, for ui.perfetto.dev.",
        )] = None,
        build: Annotated[Path, typer.Option(
            "--build", metavar="DIR", help="Where netlists and images are cached.",
        )] = Path("build"),
) -> None:
    """Replay a routing trace through the generated hardware, cycle by cycle, and report.

    Layers, experts and top-k come from the trace, everything else from the configuration. Every
    result, prediction, decision and counter is held against the golden model; exit 1 if one
    differs.
    """
    from stmoe_golden.model.storage import load_model
    from stmoe_golden.model.trace import default_trace

    from ..attention import attention_cycles
    from ..energy import technology as energy_table
    from ..memory import memory as memory_named
    from ..policies import parse_policies
    from ..replay import Replay, fit
    from ..report.files import check_distinct, check_folder, check_writable
    from ..synth.netlist import parse_gates

    chosen = load_config(preset, config, overrides)
    policies = parse_policies(policy)
    check_range("--tokens", tokens, 1, 1 << 24)
    check_range("--seed", seed, 0, 2**31 - 1)
    check_range("--stall", stall, 0, 230)
    check_range("--jobs", jobs, 1, 64)
    check_choice("--routing", routing, ("host", "hardware"))
    on_chip = routing == "hardware"
    if on_chip and trace is not None:
        raise ConfigError("--routing", routing, f"host with --trace {trace}: gate weights and "
                                                "inputs of layers come with the project's own "
                                                "trace only")
    if d_ff is not None:
        check_range("--d-ff", d_ff, 1, Geometry(chosen).max_d_ff)
    if warmup is not None:
        check_range("--warmup", warmup, 0, 1 << 24)
    if attention is not None:
        check_range("--attention-cycles", attention, 0, 10**9)
    part = memory_named(memory).scaled(bandwidth_scale)
    prices = energy_table(technology)
    if html is None and json_file is None:
        html = build / "report.html"
    for option, path in (("--json", json_file), ("--html", html), ("--timeline", timeline)):
        if path is not None:
            check_writable(option, path)
    check_distinct(json=json_file, html=html, timeline=timeline)
    check_folder("--build", build)
    after = parse_gates(gates) if gates else None
    recorded, model = (load(trace), None) if trace else (default_trace(), load_model())
    window = window_of(recorded, tokens, warmup, profile, passes)
    if d_ff is not None and model is not None and d_ff != model.shape.d_ff:
        raise ConfigError("--d-ff", d_ff, f"{model.shape.d_ff}, as the project's own model has, or "
                                          "with --trace")
    fitted = fit(chosen, recorded, model, d_ff or 0)
    Geometry(fitted, d_ff or 0)
    check_overrides(overrides, fitted, trace or "the project's own trace")
    for entry in policies:
        entry.check(fitted, on_chip)
    if attention is None:
        attention = attention_cycles(fitted, part.bytes_per_cycle(fitted))
    replay = Replay(config=fitted, window=window, memory=part, attention_cycles=attention,
                    seed=seed, stall=stall, model=model, cache=build, route_on_chip=on_chip,
                    at_a_time=at_a_time, phase=phase, gates=after, d_ff=d_ff or 0)
    name = config.stem if config else preset or DEFAULT_PRESET
    report = _run(replay, policies, prices, name, jobs, timeline)
    console = Console(width=None if Console().is_terminal else 120, soft_wrap=False)
    from ..report import print_report, render_page, write_json, write_text
    print_report(report, console)
    if json_file:
        write_json(json_file, report)
        console.print(f"JSON: {json_file}", highlight=False)
    if html:
        write_text(html, render_page(report))
        console.print(f"Page: {html}", highlight=False)
    if timeline:
        console.print(f"Timeline: {timeline}", highlight=False)
    if any(record["mismatches"] for record in report["policies"]):
        raise typer.Exit(1)


def _run(replay: Any, policies: list[Any], prices: Any, preset: str, jobs: int,
         timeline: Path | None) -> dict[str, Any]:
    from ..simulate import simulate as run_all

    window = replay.window
    with stages(window.warmup + window.tokens) as progress:
        return run_all(replay, policies, technology=prices, preset=preset, jobs=jobs,
                       timeline=timeline, progress=progress)

