import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_wheel_holds_the_three_packages_and_their_data(tmp_path):
    pytest.importorskip("hatchling", reason="building would download the build backend")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
                   cwd=ROOT, check=True, capture_output=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    for name in ("stmoe/bus/stmoe.rdl", "stmoe/emit/waivers.vlt", "stmoe/top.py",
                 "stmoe_golden/__init__.py", "stmoe_golden/model/tiny-moe.safetensors",
                 "stmoe_golden/model/tiny-moe.trace.npz", "stmoe_sim/cli/__init__.py",
                 "stmoe_sim/hdl/stmoe_tb.sv", "stmoe_sim/hdl/axi_checker.svh",
                 "stmoe_sim/memories.toml", "stmoe_sim/explore/area.toml",
                 "stmoe_sim/report/explore.html", "stmoe_sim/report/explore.js",
                 *(f"stmoe_sim/energy/{name}.toml" for name in ("45nm", "7nm", "osu018",
                                                           "memory"))):
        assert name in names, name
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests/") for name in names)


def test_generator_imports_neither_numpy_nor_its_checkers():
    script = ("import sys, stmoe.bus.csr, stmoe.config, stmoe.emit; "
              "bad = {'numpy', 'stmoe_golden', 'stmoe_sim'} & set(sys.modules); "
              "sys.exit(repr(bad) if bad else 0)")
    subprocess.run([sys.executable, "-c", script], check=True)


def test_golden_imports_no_hardware_description():
    script = ("import sys, pkgutil, importlib, stmoe_golden; "
              "[importlib.import_module(m.name) for m in "
              "pkgutil.walk_packages(stmoe_golden.__path__, 'stmoe_golden.')]; "
              "sys.exit('amaranth' in sys.modules)")
    subprocess.run([sys.executable, "-c", script], check=True)


def test_check_tools_names_the_debian_packages(tmp_path):
    (tmp_path / "python3").symlink_to(sys.executable)
    result = subprocess.run(["/bin/sh", str(ROOT / "scripts" / "check-tools")],
                            env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert result.returncode == 1
    assert "apt-get install g++ make perl" in result.stderr.replace("  ", " ")
