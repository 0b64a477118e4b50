"""``stmoe chat``: text from the language model, its experts in the generated hardware."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import typer
from rich.console import Console

from stmoe.config import AcceleratorConfig, ConfigError
from stmoe.config.error import check_choice, check_range

from ..policies import POLICY_HELP
from .options import ConfigFile, Overrides, PresetName, check_overrides, check_text, load_config

__all__ = ["EPILOG", "chat"]

Engine = Literal["rtl", "golden", "float", "board"]
EPILOG = """\b
Examples:
  stmoe chat
  stmoe chat --prompt "The function returns" --tokens 40 --policy lru
  stmoe chat --set max_tokens=16 --prefill 16 --window 4
  stmoe chat --dense hardware --tokens 16
  stmoe chat --engine golden --prompt "class Buffer:" --temperature 0.8 --seed 7
  stmoe chat --engine board --port /dev/ttyUSB0 --preset board --policy table
"""


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within the block, the first Ctrl-C only makes the yielded function return True."""
    asked: list[int] = []

    def note(number: int, _: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


def chat(
        prompt: Annotated[str, typer.Option(
            "--prompt", metavar="TEXT", help="Text to continue.")] = "def fibonacci(n):",
        engine: Annotated[str, typer.Option(
            "--engine", metavar="NAME",
            help="Where the MoE layers are computed: rtl (the netlist, on Verilator, held against "
                 "golden), golden (the same integers in numpy), float, board (a board behind "
                 "--port, held against golden).")] = "rtl",
        port: Annotated[str | None, typer.Option(
            "--port", metavar="PORT", help="Serial port of the board, as /dev/ttyUSB0.")] = None,
        baud: Annotated[int, typer.Option(
            "--baud", metavar="N", help="Rate of its line.")] = 3_000_000,
        timeout: Annotated[float, typer.Option(
            "--timeout", metavar="SECONDS", help="Until the board is asked again.")] = 0.25,
        tokens: Annotated[int, typer.Option(
            "--tokens", "-n", metavar="N", help="Most tokens to generate.")] = 64,
        temperature: Annotated[float, typer.Option(
            "--temperature", metavar="X", help="0 = the most probable token.")] = 0.7,
        top_p: Annotated[float, typer.Option(
            "--top-p", metavar="X", help="Share of probability that is sampled from.")] = 0.9,
        past_end: Annotated[bool, typer.Option(
            "--past-end", help="Go on where the model ends its document.")] = False,
        seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the sampling.")] = 4,
        preset: PresetName = None, config: ConfigFile = None, overrides: Overrides = None,
        policy: Annotated[str, typer.Option(
            "--policy", metavar="NAME", help=f"One of {POLICY_HELP}.",
        )] = "st-moe",
        memory: Annotated[str, typer.Option(
            "--memory", metavar="NAME", help="Expert memory, as of stmoe simulate.",
        )] = "lpddr4-3200",
        bandwidth_scale: Annotated[float, typer.Option(
            "--bandwidth-scale", metavar="X", help="Scale of the memory's bandwidth.")] = 1.0,
        prefill: Annotated[int, typer.Option(
            "--prefill", metavar="N",
            help="Tokens of the prompt computed at a time; more than 1 take --set max_tokens=N.",
        )] = 1,
        window: Annotated[int, typer.Option(
            "--window", metavar="N",
            help="Tokens computed at a time behind the prompt: drafts of what followed before are "
                 "verified with the token that is known, and kept if they are what is sampled.",
        )] = 1,
        routing: Annotated[str, typer.Option(
            "--routing", metavar="WHO",
            help="hardware (int8 router, on chip) or host (the float router).")] = "hardware",
        dense: Annotated[str, typer.Option(
            "--dense", metavar="WHO",
            help="Who computes the projections of attention: host (in floating point) or hardware "
                 "(in integers, as DENSE commands; the netlist gets dense_blobs for them).",
        )] = "host",
        technology: Annotated[str, typer.Option(
            "--technology", metavar="NAME", help="Energy table: 45nm, 7nm, osu018 or a .toml file.",
        )] = "45nm",
        model_file: Annotated[Path | None, typer.Option(
            "--model", metavar="FILE", help="Language model; by default the one that comes with "
                                            "the package.")] = None,
        json_file: Annotated[Path | None, typer.Option(
            "--json", metavar="FILE", help="Write text and figures as JSON.")] = None,
        build: Annotated[Path, typer.Option(
            "--build", metavar="DIR", help="Where netlists and images are cached.",
        )] = Path("build"),
) -> None:
    """Continue a text: attention in numpy, every MoE layer in the generated hardware; with --dense
    hardware the projections of attention as well.

    The text is the same, byte for byte, for the engines rtl and golden. Ctrl-C ends the text and
    reports; figures are those of decode tokens, the prompt's are not counted. Exit 1 if the
    hardware differs from golden.
    """
    from stmoe.config import Geometry
    from stmoe_golden.model.engine import FloatEngine, GoldenEngine, Routing
    from stmoe_golden.model.generation import Generation
    from stmoe_golden.model.projections import BatchProjections
    from stmoe_golden.model.sampling import Sampler
    from stmoe_golden.model.storage import load_model
    from stmoe_golden.model.tokenizer import Tokenizer
    from stmoe_golden.model.transformer import Transformer

    from ..chat import Meter, converse, fit_model
    from ..dense import fit_dense, projections_of
    from ..energy import technology as energy_table
    from ..memory import memory as memory_named
    from ..policies import parse_policies
    from ..report import write_json
    from ..report.chat import ChatView, figures_table
    from ..report.files import check_folder, check_writable

    check_choice("--engine", engine, get_args(Engine))
    if (port is not None) != (engine == "board"):
        raise ConfigError("--port", port, "given with --engine board, and only with it")
    check_range("--baud", baud, 1, 12_000_000)
    if not 0.01 <= timeout <= 3600:
        raise ConfigError("--timeout", timeout, "0.01 to 3600 seconds")
    check_choice("--routing", routing, ("hardware", "host"))
    check_choice("--dense", dense, ("hardware", "host"))
    if dense == "hardware" and engine not in ("rtl", "golden"):
        raise ConfigError("--engine", engine, "rtl or golden with --dense hardware")
    check_range("--tokens", tokens, 1, 1 << 16)
    together = {"at_a_time": prefill, "window": window}
    check_range("--seed", seed, 0, 2**31 - 1)
    check_text("--prompt", prompt)
    if json_file is not None:
        check_writable("--json", json_file)
    check_folder("--build", build)
    policies = parse_policies(policy)
    if len(policies) != 1:
        raise ConfigError("--policy", policy, "one policy")
    prices = energy_table(technology)
    part = memory_named(memory).scaled(bandwidth_scale)
    chosen = load_config(preset, config, overrides)
    model = load_model(model_file)
    fitted = fit_model(chosen, model)
    if dense == "hardware":
        fitted = fit_dense(fitted)
    model = model.fit(fitted.weight_group)
    check_overrides(overrides, fitted, model_file or "the language model")
    policies[0].check(fitted, routing == "hardware")
    for option, value in (("--prefill", prefill), ("--window", window)):
        check_range(option, value, 1, fitted.max_tokens)
    if engine in ("float", "board") and max(prefill, window) > 1:
        raise ConfigError("--engine", engine, "rtl or golden with --prefill or --window")
    tokenizer = Tokenizer(model.tokenizer, model.shape.vocab)
    transformer = Transformer(model.backbone)
    projections = None
    if dense == "hardware":
        with Console(stderr=True).status("quantising the projections ..."):
            projections = projections_of(model, build).fit(fitted.weight_group)
        transformer.projections = BatchProjections(projections, Geometry(fitted).matrix_columns)
    sampler = Sampler(temperature, top_p, seed)
    ids = tokenizer.prompt(prompt)
    console = Console(width=None if Console().is_terminal else 120)

    def talk(moe: Any, cost: Callable[[], dict[str, Any]] = dict) -> dict[str, Any]:
        generation = Generation(transformer, moe, ids, sampler, max_tokens=tokens,
                                stop_at_end=not past_end, **together)
        with interruptible() as stop, ChatView(console, prompt, title).open() as view:
            found = converse(generation, tokenizer, update=view.update, cost=cost, stop=stop)
        return found | {"prompt_tokens": len(ids), "prefill": prefill, "window": window,
                        "drafted": generation.drafted, "accepted": generation.accepted}

    record: dict[str, Any] = {
        "prompt": prompt, "engine": engine, "routing": routing, "dense": dense, "model": str(
            model.facts.get("name", "tiny-moe")), "cycles_per_token": None, "coverage": None,
        "traffic": None, "energy_pj_per_token": None, "mismatches": None}
    if engine == "board":
        title = f"{fitted.name} on {port}, {policies[0].name}"
        Generation(transformer, FloatEngine(model.dequantised()), ids)  # refuses a long prompt now
        board = _connect(fitted, model, policies[0], routing, port or "", baud, timeout)
        meter = Meter(board, prices)
        try:
            record |= talk(board, lambda: meter.read(part.name) | {"energy_pj_per_token": None})
            verdict = board.finish()
        finally:
            board.machine.link.close()
        record |= _verdict(fitted, policies[0], verdict)
    elif engine == "rtl":
        title = f"{chosen.name} netlist, {policies[0].name}, {part.name}"
        Generation(transformer, FloatEngine(model.dequantised()), ids)  # refuses a long prompt now
        moe = _open(fitted, model, policies[0], part, routing, seed, build, projections)
        transformer.projections = moe.projections
        meter = Meter(moe, prices)
        try:
            record |= talk(moe, lambda: meter.read(part.name))
            verdict = moe.finish()
        finally:
            moe.machine.close()
        record |= meter.prompt(len(ids)) | {"memory": part.name}
        record |= _verdict(fitted, policies[0], verdict)
    else:
        title = f"{engine} model, no hardware"
        record |= talk(
            GoldenEngine(model, cast(Routing, routing), fitted.max_tokens)
            if engine == "golden" else FloatEngine(model.dequantised()))
    if not console.is_terminal:
        console.print(figures_table(record))
    if "prompt_cycles_per_token" in record:
        console.print(f"Prompt: {record['prompt_tokens']} tokens, "
                      f"{record['prompt_cycles_per_token']:,.0f} cycles per token. Drafts: "
                      f"{record['accepted']} of {record['drafted']} accepted.", highlight=False)
    if engine in ("rtl", "board"):
        console.print("Held against golden: " + ", ".join(
            f"{count:,} {name}" for name, count in record["compared"].items())
            + f"; {record['mismatches']} mismatches.", highlight=False)
        for text in record["differences"]:
            console.print(f"MISMATCH {text}", highlight=False, style="red", markup=False)
    if json_file is not None:
        write_json(json_file, record)
        console.print(f"JSON: {json_file}", highlight=False)
    if record["mismatches"]:
        raise typer.Exit(1)


def _verdict(config: AcceleratorConfig, policy: Any, verdict: Any) -> dict[str, Any]:
    return {"config_hash": f"{config.hash:016x}", "policy": policy.name,
            "mismatches": len(verdict.mismatches), "compared": verdict.compared,
            "differences": verdict.mismatches[:20]}


def _connect(config: AcceleratorConfig, model: Any, policy: Any, routing: Any, port: str,
             baud: int, timeout: float) -> Any:
    """The engine of a board, its experts loaded, progress on standard error."""
    from stmoe.config import Geometry

    from ..host.device import Device
    from ..host.engine import BoardEngine
    from ..host.link import Link
    from ..host.transport import SerialTransport
    from ..job import prediction_unit

    with Console(stderr=True).status("opening") as status:
        link = Link(SerialTransport(port, baud), timeout=timeout, patience=max(5, 20 * timeout))
        try:
            return BoardEngine(
                Device(link, config), model, policy=policy,
                unit=prediction_unit(Geometry(config), policy), routing=routing,
                progress=lambda done, of: status.update(f"experts: {done:,} of {of:,} bytes"))
        except BaseException:
            link.close()
            raise


def _open(config: AcceleratorConfig, model: Any, policy: Any, memory: Any, routing: Any, seed: int,
          build: Path, projections: Any) -> Any:
    """The engine of a new simulator process, with what happens meanwhile on standard error."""
    from stmoe_golden.model.trace import default_trace

    from ..chat import Host

    host = Host(config=config, model=model, policy=policy, memory=memory, routing=routing,
                profile=default_trace(), seed=seed, cache=build, projections=projections)
    with Console(stderr=True).status("preparing") as status:
        return host.open(lambda stage: status.update(f"{stage} ..."))
