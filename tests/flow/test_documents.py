import re
from pathlib import Path

import pytest

from stmoe.bus.registers import registers
from stmoe.config import PRESETS, Geometry
from stmoe.interfaces import Event
from stmoe_golden.buffer.manager import Kind
from stmoe_golden.energy import ACTIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]


def test_programming_model_lists_every_register_at_its_offset():
    text = (DOCS / "programming-model.md").read_text()
    for register in registers(Geometry(PRESETS["tiny"])):
        assert f"| 0x{register.address:03X} | `{register.name}` |" in text, register.name
        for field in register.fields if register.width == 32 else ():
            if len(register.fields) > 1:
                assert f"`{field.name}`" in text, f"{register.name}.{field.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_documents_named_in_the_code_exist():
    sources = [path for root in ("hw", "golden", "sim") for path in (ROOT / root).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r"docs/[\w-]+\.md", path.read_text())}
    assert len(named) > 4
    for name in named:
        assert (ROOT / name).exists(), name


def test_architecture_lists_every_event_and_energy_every_action():
    events = (DOCS / "architecture.md").read_text()
    for event in Event:
        assert event == 0 or f"| {event.value} | {event.name} |" in events, event
    assert {kind.name: kind.value for kind in Kind} == {
        event.name: event.value for event in Event if event}
    actions = (DOCS / "energy.md").read_text()
    for action in ACTIONS:
        assert f"`{action}`" in actions, action
