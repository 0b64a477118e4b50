"""The examples of the help pages are commands that parse, and every verb has some."""

import re
import shlex

import pytest
import typer

from stmoe.config import AcceleratorConfig, ModelShape
from stmoe.config.linear import LinearOptions
from stmoe_sim.cli.app import app
from stmoe_sim.cli.options import parse_overrides

WITHOUT = {"version"}


def leaves(command, path=()):
    """Verbs with their paths, groups followed; a group's epilog serves its verbs."""
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from leaves(child, (*path, name))
        else:
            yield (*path, name), child.epilog or command.epilog or ""


VERBS = dict(leaves(typer.main.get_command(app)))
EXAMPLES = sorted({line for epilog in VERBS.values()
                   for line in re.findall(r"^ *(stmoe .*)$", epilog.replace("\\\n", " "), re.M)})


def parsed(line):
    """The parameters that the command line gives to its verb."""
    words, command = shlex.split(line)[1:], typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    context = command.make_context(command.name, words)
    return context.params


@pytest.mark.parametrize("path", [path for path in VERBS if path[0] not in WITHOUT],
                         ids=" ".join)
def test_every_verb_has_an_example(path):
    assert any(example.startswith(" ".join(("stmoe", *path))) for example in EXAMPLES)


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_parse(line):
    changes = parse_overrides(parsed(line).get("overrides"))
    parts = {f"{part}_{field}" for part, kind in (("model", ModelShape), ("linear", LinearOptions))
             for field in kind.__dataclass_fields__}
    assert set(changes) <= set(AcceleratorConfig.__dataclass_fields__) | parts


def test_a_wrong_example_does_not_parse():
    with pytest.raises(Exception, match="No such option"):
        parsed("stmoe simulate --colour blue")
