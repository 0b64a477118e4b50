from pathlib import Path

from stmoe.bus.registers import registers
from stmoe.config import PRESETS, Geometry

DOCS = Path(__file__).parents[2] / "docs"


def test_programming_model_lists_every_register_at_its_offset():
    text = (DOCS / "programming-model.md").read_text()
    for register in registers(Geometry(PRESETS["tiny"])):
        assert f"| 0x{register.address:03X} | `{register.name}` |" in text, register.name
        for field in register.fields if register.width == 32 else ():
            if len(register.fields) > 1:
                assert f"`{field.name}`" in text, f"{register.name}.{field.name}"
