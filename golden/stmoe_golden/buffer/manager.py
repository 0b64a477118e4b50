"""Expert manager: residency, replacement and the fate of prefetches, decision by decision."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stmoe.config import Geometry

from .events import COUNTERS, Kind, ManagerEvent, Mismatch, increments
from .retention import CLOCK_BITS, VISIT, UseFrequencies, ahead
from .worth import Worth

__all__ = ["ExpertManager", "Kind", "ManagerEvent", "Mismatch"]


FREE, FILLING, READY = range(3)
DENSE_SLOTS = 2  # never promised where there are dense weights, which settle no promise


@dataclass
class Slot:
    """State of a slot. ``promised``: prefetched for a layer to come and not yet used."""

    layer: int = 0
    expert: int = 0
    state: int = FREE
    pinned: bool = False
    promised: bool = False
    first: bool = False
    bad: bool = False
    due: int = 0


class ExpertManager:
    """Follows the events of a run and comes to the same decisions.

    What depends on time is taken from the events: when transfers land, slots are released, and how
    far a round of candidates gets before the next layer is routed. Everything else is decided here
    and must be what the next event says.

    Parameters
    ----------
    geometry: shape and sizes of the machine, all its slots in use.
    retain: keep experts after use. retention: which of them goes first, the least recently used
        (``lru``) or the one that is expected to be used last (``ewma``, see ``retention``).
    prefetch: candidates are ordered. prefetch_round: most promises at a time.
        Experts that stream through (``geometry.ring``) are not kept, nor candidates ordered.
    worth: only those that pay (see ``worth``), None = all.

    Attributes
    ----------
    counters: by name, as the hardware's, exact while no bus error occurs.
    """

    def __init__(self, geometry: Geometry, *, retain: bool, prefetch: bool, prefetch_round: int,
                 retention: str = "lru", worth: Worth | None = None):
        if retention not in ("lru", "ewma"):
            raise ValueError(f"retention is {retention}, not lru or ewma")
        self.geometry, slots, self.worth = geometry, geometry.slots, worth
        model = geometry.config.model
        self.layers, self.experts, self.units = model.layers, model.experts, model.shared_units
        self.ewma, self.clock, self.visited = retention == "ewma", 0, True
        self.frequencies = UseFrequencies(model.layers, model.experts, model.shared_units)
        self.retain, self.prefetch = (wanted and not geometry.ring for wanted in (retain, prefetch))
        self.round_size = prefetch_round
        self.slots = [Slot() for _ in range(slots)]
        self.where: dict[tuple[int, int], int] = {}
        self.order: OrderedDict[int, None] = OrderedDict.fromkeys(range(slots))  # first out first
        self.promises: list[int] = []
        self.wanted: set[int] = set()
        self.candidates: deque[tuple[int, int, int | None]] = deque()
        self.demands: deque[tuple[int, int]] = deque()
        self.expected: deque[ManagerEvent] = deque()
        self.layer, self.routing, self.about, self.guessing = 0, list[int](), 0, False
        self.shared: frozenset[int] = frozenset()
        self.parts: Mapping[int, Sequence[int]] = {}
        self.streaming = self.matrix = False
        self.counters = dict.fromkeys(COUNTERS, 0)

    def token(self) -> bool:
        """A token is about to be reported by a TOKEN event; whether its rows are withheld."""
        if self.expected:
            raise Mismatch(f"a token began while {self._due()} was still to come")
        self.streaming = False
        withheld = self.worth is not None and self.worth.withholds()
        self.expected.append(ManagerEvent(Kind.TOKEN, 0, 0, 0, int(withheld)))
        return withheld

    def route(self, layer: int, experts: Sequence[int], shared: Sequence[int],
              parts: Mapping[int, Sequence[int]] | None = None, *, stream: bool = False) -> None:
        """A layer's routing is about to be reported by a ROUTE event.

        ``parts``: how many tokens each expert serves, part by part, by id, if not one. ``stream``:
        of a prompt; the candidates are all experts of the next layer, in place of those that are
        predicted.
        """
        if self.expected or self.demands:
            raise Mismatch(f"layer {layer} was routed while {self._due()} was still to come")
        if any(slot.pinned for slot in self.slots):
            raise Mismatch(f"layer {layer} was routed before the last layer's experts were read")
        self.layer, self.routing = layer, [*experts, *shared]
        self.shared, self.parts, self.streaming = frozenset(shared), parts or {}, stream
        self.matrix = False
        self.expected.append(ManagerEvent(Kind.ROUTE, layer, 0, 0, None))

    def dense(self, layer: int, blobs: Sequence[int], tokens: int = 1, *, matrix: bool) -> None:
        """Blobs of dense weights, by id, are about to be reported by a DENSE event; for all of
        ``tokens`` tokens. Nothing of them is kept, and no round ends or begins."""
        if self.expected or self.demands:
            raise Mismatch(f"dense weights of layer {layer} were asked for while {self._due()} was "
                           "still to come")
        if any(slot.pinned for slot in self.slots):
            raise Mismatch(f"dense weights of layer {layer} were asked for before the last layer's "
                           "experts were read")
        self.layer, self.routing, self.matrix = layer, list(blobs), matrix
        self.shared, self.parts = frozenset(blobs), dict.fromkeys(blobs, (tokens,))
        self.expected.append(ManagerEvent(Kind.DENSE, layer, 0, 0, len(blobs)))

    def predict(self, layer: int, candidates: Sequence[tuple[int, int]]) -> None:
        """Candidates (expert, score) in order, of the round that follows the last TOKEN or ROUTE.

        Called once for the layer that the round is about, then for each deeper one.
        """
        if self.prefetch and not self.streaming:
            self.candidates.extend((layer, *found) for found in candidates)

    def check(self, event: ManagerEvent) -> None:
        """Take the next event; :class:`Mismatch` if it cannot be."""
        if not self.expected:
            self._expect(event)
        due = self.expected.popleft()
        if due._replace(arg=event.arg if due.arg is None else due.arg) != event:
            raise Mismatch(f"hardware says {event}; golden, {due}")
        if event.kind == Kind.ROUTE:
            self._measure(event)
        for name, value in increments(event, self.geometry, event.expert in self.shared,
                                      self.parts.get(event.expert, (1,)), self.matrix).items():
            self.counters[name] += value
        if event.kind == Kind.TOKEN:
            interrupted = self.about != 0
            self._begin_round(0)
            if interrupted:
                self._settle(lambda slot: True)
            if self.worth is not None:
                self.worth.forget()
        elif event.kind == Kind.ROUTE:
            self._verify()
        elif event.kind == Kind.DENSE:
            for blob in self.routing:
                self.expected.append(ManagerEvent(Kind.MISS, self.layer, blob, 0))
                self.demands.append((self.layer, blob))

    def _measure(self, event: ManagerEvent) -> None:
        """What a ROUTE tells: as many experts as were routed, and the slack of the layer."""
        slack, experts = divmod(event.arg or 0, 256)
        if experts != len(self.routing):
            raise Mismatch(f"hardware says {event}; golden, {len(self.routing)} experts")
        if self.worth is not None:
            self.worth.routed(self.routing, slack, expected=self.layer == self.about)

    def _due(self) -> str:
        if self.expected:
            return str(self.expected[0])
        return "DEMAND layer {} expert {}".format(*self.demands[0])

    def _expect(self, event: ManagerEvent) -> None:
        """Work out what the next decision is, of the kind that ``event`` claims."""
        if event.kind in (Kind.FIRST, Kind.READY, Kind.FAIL, Kind.RELEASE):
            self._arrival(event)
        elif event.kind in (Kind.ROUTE, Kind.TOKEN, Kind.DENSE):
            raise Mismatch(f"hardware says {event}; golden knows of none")
        elif self.demands:
            self._demand()
        elif self.candidates:
            self._candidate(*self.candidates.popleft())
        else:
            raise Mismatch(f"hardware says {event}; golden has nothing to decide")

    def _say(self, kind: Kind, number: int, arg: int | None = 0) -> None:
        slot = self.slots[number]
        self.expected.append(ManagerEvent(kind, slot.layer, slot.expert, number, arg))

    def _free(self, number: int) -> None:
        slot = self.slots[number]
        del self.where[slot.layer, slot.expert]
        self.slots[number] = Slot()
        self._first_out(number)

    def _first_out(self, number: int) -> None:
        self.order[number] = None
        self.order.move_to_end(number, last=False)

    def _verify(self) -> None:
        """Classify the layer's experts, then settle what layers up to it had been promised.

        Of a host that skips layers every promise is settled: none was made for what comes next.
        The round of the last layer is about the first of the next token.
        """
        skipped = self.layer != self.about
        self._begin_round((self.layer + 1) % self.layers, self.layer + 1 == self.layers)
        if self.prefetch and self.streaming:
            everyone = [*range(self.experts, self.experts + self.units), *range(self.experts)]
            self.candidates.extend((self.about, expert, None) for expert in everyone)
        for expert in self.routing:
            number = self.where.get((self.layer, expert))
            if number is None:
                self.expected.append(ManagerEvent(Kind.MISS, self.layer, expert, 0))
                self.demands.append((self.layer, expert))
                continue
            slot = self.slots[number]
            if slot.state == FILLING:
                kind = Kind.HIT_LATE
            else:
                kind = Kind.HIT_PREFETCHED if slot.promised else Kind.HIT_RESIDENT
            self._say(kind, number)
            self.order.pop(number, None)
            slot.pinned, slot.promised = True, False
        self._settle(lambda slot: skipped or slot.layer <= self.layer)
        self.clock = (self.clock + VISIT) % (1 << CLOCK_BITS)
        self.visited = False
        if not self.demands:
            self._visit()

    def _visit(self) -> None:
        """Use frequencies of the layer, and due times of what the buffer holds of it."""
        if self.visited:
            return
        self.visited = True
        self.frequencies.visit(self.layer, self.routing)
        for (layer, expert), number in self.where.items():
            if layer == self.layer:
                self.slots[number].due = self._due_again(layer, expert)

    def _due_again(self, layer: int, expert: int) -> int:
        return (self.clock + self.frequencies.wait(layer, expert)) % (1 << CLOCK_BITS)

    def _due_next(self, layer: int) -> int:
        """When the layer, the one of the round or a deeper one, is visited next."""
        return (self.clock + VISIT * (layer - self.about + 1)) % (1 << CLOCK_BITS)

    def _begin_round(self, about: int, guessing: bool = False) -> None:
        self.about, self.guessing = about, guessing
        self.candidates.clear()
        self.wanted.clear()

    def _settle(self, due: Callable[[Slot], bool]) -> None:
        """Cancel or drop the promises that are due and were not used, in order of promise."""
        promises, self.promises = self.promises, []
        for number in promises:
            slot = self.slots[number]
            if not slot.promised:
                continue
            if not due(slot):
                self.promises.append(number)
            elif slot.state == FILLING:
                self._say(Kind.CANCEL, number, None)
                self._say(Kind.LANDED, number, None)
                self._free(number)
            else:
                self._say(Kind.DROP, number)
                slot.promised = False
                if self.retain:
                    self._first_out(number)
                else:
                    self._free(number)

    def _arrival(self, event: ManagerEvent) -> None:
        number = event.slot
        slot = self.slots[number] if number < len(self.slots) else Slot()
        kind = Kind(event.kind)
        filling = slot.state == FILLING
        if kind == Kind.RELEASE:
            possible = slot.pinned and slot.state == READY
        else:
            possible = filling and not (kind == Kind.FIRST and slot.first)
        if not possible:
            raise Mismatch(f"hardware says {event}; golden has the slot as {slot}")
        self._say(kind, number, int(slot.pinned) if kind == Kind.FAIL else 0)
        if kind == Kind.FIRST:
            slot.first = True
        elif kind == Kind.READY:
            slot.state = READY
        elif kind == Kind.FAIL and slot.pinned:
            slot.state, slot.bad = READY, True
        elif kind == Kind.RELEASE and self.retain and not slot.bad and not self._dense(slot.expert):
            slot.pinned = False
            self.order[number] = None
        else:
            self._free(number)

    def _victim(self) -> int:
        """The slot that is given out next; there is one."""
        if not self.ewma:
            return next(iter(self.order))
        free = [number for number in self.order if self.slots[number].state == FREE]
        return min(free) if free else min(
            self.order, key=lambda number: (-ahead(self.slots[number].due, self.clock), number))

    def _take(self, kind: Kind, layer: int, expert: int) -> int:
        """The next slot leaves the list and is filled with another expert."""
        number = self._victim()
        old = self.slots[number]
        if old.state != FREE:
            self._say(Kind.EVICT, number)
            del self.where[old.layer, old.expert]
        del self.order[number]
        self.slots[number] = Slot(layer, expert, FILLING, pinned=kind == Kind.DEMAND,
                                  promised=kind == Kind.PREFETCH)
        self.where[layer, expert] = number
        self._say(kind, number)
        return number

    def _demand(self) -> None:
        if not self.order:
            raise Mismatch(f"{self._due()} before a slot could be had")
        layer, expert = self.demands.popleft()
        number = self._take(Kind.DEMAND, layer, expert)
        if self.visited and not self._dense(expert):
            self.slots[number].due = self._due_again(layer, expert)
        self._visit()

    def _dense(self, expert: int) -> bool:
        return expert >= self.geometry.config.model.expert_ids

    def _spares(self, layer: int) -> bool:
        """Whether a slot can be given to a candidate of ``layer``."""
        if not self.order or len(self.promises) == self.round_size:
            return False
        if self.geometry.config.dense_blobs and len(self.promises) + DENSE_SLOTS >= len(self.slots):
            return False
        deep = self.guessing or layer != self.about
        if deep and len(self.order) <= self.geometry.config.model.active:
            return False
        number = self._victim()
        if not self.ewma:
            return number not in self.wanted
        slot = self.slots[number]
        return slot.state == FREE or (
            ahead(slot.due, self.clock) > ahead(self._due_next(layer), self.clock))

    def _candidate(self, layer: int, expert: int, score: int | None) -> None:
        if not self.order and len(self.promises) < len(self.slots):
            raise Mismatch(f"candidate {expert} of layer {layer} was decided on while experts of "
                           "the present layer had all slots")
        number = self.where.get((layer, expert))
        if number is not None:
            self._say(Kind.TOUCH, number)
            if number in self.order:
                self.order.move_to_end(number)
                self.wanted.add(number)
                self.slots[number].due = self._due_next(layer)
        elif self.worth is not None and score is not None and not self.worth.pays(expert, score):
            self.expected.append(ManagerEvent(Kind.SKIP, layer, expert, 0))
        elif not self._spares(layer):
            self.expected.append(ManagerEvent(Kind.STOP, layer, expert, 0))
            self.candidates.clear()
            return
        else:
            number = self._take(Kind.PREFETCH, layer, expert)
            self.slots[number].due = self._due_next(layer)
            self.promises.append(number)
        near = layer == self.about and not self.guessing
        if self.worth is not None and score is not None and near:
            self.worth.decided(expert, score)
