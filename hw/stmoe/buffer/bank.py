"""A bank of the expert buffer."""

from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["BankMemory"]


class BankMemory(wiring.Component):
    """RAM of one read and one write port, written in parts of a word.

    ``read_data`` answers ``read_en`` one cycle later and holds until the next read. A word written
    is read from the next cycle on; read and written in the same cycle, it reads as anything: FPGAs
    would need logic beside the RAM to tell. Contents after power-up: zeros.

    Parameters
    ----------
    width, depth: bits and number of words. part: bits written at a time.
    """

    def __init__(self, width: int, depth: int, part: int):
        self.width, self.depth, self.part = width, depth, part
        bits = max(1, (depth - 1).bit_length())
        super().__init__({
            "read_en": In(1), "read_addr": In(bits), "read_data": Out(width),
            "write_en": In(width // part), "write_addr": In(bits), "write_data": In(part)})

    def verilog(self, name: str) -> str:
        """The same module for the emitted Verilog, parts of a word in a loop.

        Synthesis sees the usual RAM with byte enables; simulators visit a word's parts only when
        one is written. Nobody has to convert the initial zeros of megabytes of banks.
        """
        parts, bits = self.width // self.part, max(1, (self.depth - 1).bit_length())
        return f"""\
module {name} (
  input clk, input rst,
  input read_en, input [{bits - 1}:0] read_addr, output reg [{self.width - 1}:0] read_data,
  input [{parts - 1}:0] write_en, input [{bits - 1}:0] write_addr,
  input [{self.part - 1}:0] write_data);
  (* rw_addr_collision = "no", no_rw_check *)
  reg [{self.width - 1}:0] ram [{self.depth - 1}:0];
  integer i;
  initial begin
    for (i = 0; i < {self.depth}; i = i + 1) ram[i] = 0;
    read_data = 0;
  end
  integer part;
  always @(posedge clk) begin
    if (|write_en) begin
      /* verilator unroll_disable */
      for (part = 0; part < {parts}; part = part + 1) begin
        if (write_en[part]) ram[write_addr][part * {self.part} +: {self.part}] <= write_data;
      end
    end
    if (read_en) read_data <= ram[read_addr];
  end
endmodule
"""

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = memory.Memory(
            shape=self.width, depth=max(2, self.depth), init=[],
            attrs={"no_rw_check": 1})
        read, write = ram.read_port(), ram.write_port(granularity=self.part)
        m.d.comb += [
            read.addr.eq(self.read_addr), read.en.eq(self.read_en),
            self.read_data.eq(read.data), write.addr.eq(self.write_addr),
            write.data.eq(self.write_data.replicate(self.width // self.part)),
            write.en.eq(self.write_en)]
        return m
