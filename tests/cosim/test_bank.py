"""The bank written by hand for the emitted Verilog, beside the one that yosys writes."""

import re
import subprocess

import pytest

from stmoe.buffer.bank import BankMemory
from stmoe.emit.netlist import build_netlist
from stmoe_sim.verilator import toolchain_env

BENCH = """
module bench;
  bit clk = 0; always #1 clk = ~clk;
  bit [31:0] noise = 32'h2545f491, stamp = 0;
  bit read_en; bit [{a}:0] read_addr, write_addr; bit [{p}:0] write_en; bit [{d}:0] write_data;
  wire [{w}:0] by_hand, by_yosys;
  hand a (.clk, .rst(1'b0), .read_en, .read_addr, .read_data(by_hand), .write_en, .write_addr,
          .write_data);
  bank b (.clk, .rst(1'b0), .read_en, .read_addr, .read_data(by_yosys), .write_en, .write_addr,
          .write_data);
  always @(negedge clk) begin
    for (int i = 0; i < 8; i++) begin
      noise ^= noise << 13; noise ^= noise >> 17; noise ^= noise << 5;
      case (i)
        0: read_en = noise[7];
        1: read_addr = noise[20 +: $bits(read_addr)];
        2: write_addr = noise[20 +: $bits(write_addr)];
        3: write_en = noise[9] ? noise[12 +: $bits(write_en)] : '0;
        default: write_data = {{write_data, noise}} >> 5;
      endcase
    end
    read_addr %= {depth}; write_addr %= {depth};
    if (by_hand !== by_yosys) begin $display("DIFFER at %0d", stamp); $finish; end
    stamp++;
    if (stamp == 20000) begin $display("SAME"); $finish; end
  end
endmodule
"""


def lockstep(tmp_path, bank: BankMemory, by_hand: str) -> str:
    """What the bench prints when both modules get the same random accesses."""
    (tmp_path / "hand.v").write_text(by_hand)
    (tmp_path / "bank.v").write_text(build_netlist(bank, "bank").verilog)
    (tmp_path / "bench.sv").write_text(BENCH.format(
        a=(bank.depth - 1).bit_length() - 1, p=bank.width // bank.part - 1, d=bank.part - 1,
        w=bank.width - 1, depth=bank.depth))
    subprocess.run(
        ["verilator", "--binary", "--timing", "-Wno-fatal", "-Wno-lint", "--top-module", "bench",
         "-CFLAGS", "-O0", "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include", "-MAKEFLAGS",
         "CFG_LDLIBS_THREADS=-pthread", "-CFLAGS", "-std=c++20 -fcoroutines",
         "bench.sv", "bank.v", "hand.v"],
        cwd=tmp_path, env=toolchain_env(), check=True, capture_output=True, text=True)
    return subprocess.run([tmp_path / "obj_dir" / "Vbench"], check=True, capture_output=True,
                          text=True).stdout


@pytest.mark.parametrize("width, depth, part", [(128, 20, 32), (64, 9, 64)])
def test_both_banks_read_the_same(tmp_path, width, depth, part):
    bank = BankMemory(width, depth, part)
    assert "SAME" in lockstep(tmp_path, bank, bank.verilog("hand"))


def test_a_bank_that_writes_the_wrong_part_is_seen(tmp_path):
    bank = BankMemory(128, 20, 32)
    broken = re.sub(r"if \(write_en\[part\]\)", "if (write_en[3 - part])", bank.verilog("hand"))
    assert broken != bank.verilog("hand")
    assert "DIFFER" in lockstep(tmp_path, bank, broken)
