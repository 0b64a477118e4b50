"""The largest of a sequence."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["TopK"]


class TopK(wiring.Component):
    """Keeps the ``k`` largest values in falling order, the earlier one first among equals.

    A value a cycle, shown in ``best`` in the next. Reset: ``best`` undefined until ``clear``.

    Parameters
    ----------
    k: values kept. id_bits: bits of what a value is known by. value_bits: of a value.

    Members
    -------
    clear: starts a sequence; not together with ``valid``. valid, value, id: next of the sequence.
    best: value and id by rank; of ranks not reached yet, undefined.
    """

    def __init__(self, k: int, id_bits: int, value_bits: int = 32):
        self.k = k
        entry = data.StructLayout({"value": signed(value_bits), "id": unsigned(id_bits)})
        super().__init__({"clear": In(1), "valid": In(1), "value": In(signed(value_bits)),
                          "id": In(id_bits), "best": Out(entry).array(k)})

    def elaborate(self, platform):
        m = Module()
        count = Signal(self.k)  # one bit per rank filled
        behind = Signal(self.k)  # ranks that the new value comes after
        for rank in range(self.k):
            m.d.comb += behind[rank].eq(count[rank] & (self.best[rank].value >= self.value))
        with m.If(self.clear):
            m.d.sync += count.eq(0)
        with m.Elif(self.valid):
            m.d.sync += count.eq(Cat(1, count))
            for rank in reversed(range(self.k)):
                here = self.best[rank]
                with m.If(~behind[rank]):
                    m.d.sync += [here.value.eq(self.value), here.id.eq(self.id)]
                    if rank:
                        above = self.best[rank - 1]
                        m.d.sync += [
                            here.value.eq(Mux(behind[rank - 1], self.value, above.value)),
                            here.id.eq(Mux(behind[rank - 1], self.id, above.id))]
        return m
