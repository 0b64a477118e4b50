"""``stmoe trace record``: run a model and keep its routing."""

from pathlib import Path
from typing import Annotated

import typer

from stmoe.config import ConfigError
from stmoe.config.error import check_range

from ..record.run import DEFAULT_TOKENS, OPTIONAL, Recordable, Source, record
from .options import check_text
from .trace_options import Note, Output, check_output, each, labelled, progress_bar, store

__all__ = ["EPILOG", "OWN", "record_trace"]

OWN = "tiny"
EPILOG = """\b
Examples:
  stmoe trace record --prompt "def fibonacci(n):" --tokens 128 -o fibonacci.npz
  stmoe trace record --text manual.txt --domain english --text library.py --domain python \\
      --hidden --lookahead -o both.npz
  stmoe trace record --model ./OLMoE-1B-7B --prompt-file question.txt -o olmoe.npz
"""


def read_text(option: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(option, str(path), f"a readable file ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(option, str(path), "a text file in UTF-8") from None


def record_trace(
        output: Output,
        model: Annotated[str, typer.Option(
            "--model", "-m", metavar="MODEL",
            help=f"{OWN}, the project's own; a .safetensors file of that format; or a Hugging "
                 "Face model, folder or name (needs the extra record).")] = OWN,
        prompt: Annotated[list[str] | None, typer.Option(
            "--prompt", metavar="TEXT",
            help="Prompt to continue greedily; may be repeated.")] = None,
        prompt_file: Annotated[list[Path] | None, typer.Option(
            "--prompt-file", metavar="FILE", help="Prompt in a file; may be repeated.")] = None,
        text: Annotated[list[Path] | None, typer.Option(
            "--text", metavar="FILE",
            help="Text whose own tokens are fed and recorded as decode tokens, in sequences of "
                 "the context's length; may be repeated.")] = None,
        tokens: Annotated[int | None, typer.Option(
            "--tokens", "-n", metavar="N",
            help=f"Decode tokens per prompt ({DEFAULT_TOKENS} unless given), or tokens per text "
                 "(all unless given).")] = None,
        hidden: Annotated[bool, typer.Option(
            "--hidden", help="Keep the input of each MoE layer.")] = False,
        logits: Annotated[bool, typer.Option(
            "--logits", help="Keep the router's logits of all experts.")] = False,
        lookahead: Annotated[bool, typer.Option(
            "--lookahead", help="Keep the next layer's router logits on this layer's input.",
        )] = False,
        domain: Annotated[list[str] | None, typer.Option(
            "--domain", metavar="NAME",
            help="Domain of the inputs: once for all, or once per input, in the order prompts, "
                 "prompt files, texts.")] = None,
        note: Note = None,
) -> None:
    """Run a model and record which experts its routers choose.

    With token identities and router weights; prompts as prefill tokens, what follows as decode
    tokens.
    """
    check_output(output)
    if tokens is not None:
        check_range("--tokens", tokens, 1, 1 << 24)
    for words in prompt or []:
        check_text("--prompt", words)
    inputs = [(f"--prompt {i + 1}", value, False) for i, value in enumerate(prompt or [])]
    inputs += [(str(path), read_text("--prompt-file", path), False) for path in prompt_file or []]
    inputs += [(str(path), read_text("--text", path), True) for path in text or []]
    if not inputs:
        raise ConfigError("--prompt, --prompt-file and --text", "nothing", "given at least once")
    domains = each("--domain", domain, len(inputs))
    if domain and not all(domain):
        raise ConfigError("--domain", "''", "a name")
    sources = [Source(name, words, forced, label)
               for (name, words, forced), label in zip(inputs, domains, strict=True)]
    keep = frozenset(name for name, on in zip(OPTIONAL, (hidden, logits, lookahead), strict=True)
                     if on)
    machine: Recordable
    if model == OWN or model.endswith(".safetensors"):
        from stmoe_golden.model.storage import load_model

        from ..record.own import OwnModel

        machine = OwnModel(load_model(None if model == OWN else model),
                           "tiny-moe" if model == OWN else Path(model).stem)
    else:
        from ..record.huggingface import load_model as load_huggingface

        machine = load_huggingface(model)
    with progress_bar("tokens", None) as done:
        trace = record(machine, sources, name=output.stem, tokens=tokens, keep=keep, progress=done)
    store(labelled(trace, None, note), output)
