"""What every `EntryStore` must keep to, as checks that its author can run: `check_entry_store(make)`.

It needs no test framework. A check that fails raises `ContractError` with the law that was broken. Where a server keeps
the entries and removes them as it likes, nobody can promise which goes and when: such laws are for stores that are
`bounded`, which do so themselves.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from claude_force.stores.entries import ENTRY_OVERHEAD_BYTES, AgentCounts

if TYPE_CHECKING:
    from claude_force.stores.entries import EntryStore

_ROOM = 1_000_000
_ONE = 100 + ENTRY_OVERHEAD_BYTES  # what an entry of these checks counts


class ContractError(AssertionError):
    """A store does not do what a store of answers must."""


def check_entry_store(make: Callable[[], "EntryStore"], *, bounded: bool = True) -> Iterator[str]:
    """Check a new, empty store for each law, and give the laws as they are met.

    `make` gives a new store each time; `bounded` is whether it sees to its size itself. Its `after_fork`, and several
    processes at once, are not checked.
    """
    for law in (*_LAWS, *_LAWS_OF_BOUNDS) if bounded else _LAWS:
        store = make()
        try:
            if not law(store):
                raise ContractError(law.__doc__)
            yield law.__doc__ or ""
        finally:
            store.close()


def _fill(store: "EntryStore", keys: str, *, max_bytes: int = _ROOM) -> None:
    for key in keys:
        store.write(key, key.encode() * 100, max_bytes=max_bytes)


def _keys(store: "EntryStore") -> str:
    return "".join(sorted(stored.key for stored in store.scan()))


def _in_order(store: "EntryStore") -> str:
    return "".join(stored.key for stored in store.scan())


def _gives_back(store: "EntryStore") -> bool:
    """What was written is read, byte for byte, and nothing else is."""
    store.write("a", bytes(range(256)), max_bytes=_ROOM)
    read = store.read("a")
    return read is not None and (read.key, read.sealed) == ("a", bytes(range(256))) and store.read("b") is None


def _replaces(store: "EntryStore") -> bool:
    """A second write under a key replaces the first, and says so by its generation."""
    _fill(store, "ab")
    before = store.generation()
    store.write("a", b"new", max_bytes=_ROOM)
    read = store.read("a")
    size = store.totals().bytes == _ONE + ENTRY_OVERHEAD_BYTES + len(b"new")
    return read is not None and read.sealed == b"new" and size and store.generation() > before


def _refuses(store: "EntryStore") -> bool:
    """What cannot fit is not kept, and nothing is pushed out for it."""
    _fill(store, "ab")
    store.write("c", bytes(_ROOM), max_bytes=_ROOM)
    return _keys(store) == "ab"


def _counts(store: "EntryStore") -> bool:
    """Hits, misses and savings are exact sums, before they are written down and afterwards."""
    _fill(store, "a")
    for _ in range(3):
        store.note_hit("agent", "a", Decimal("0.000000000125"))
    store.note_miss("agent")
    noted = store.totals().by_agent
    store.settle()
    (scanned,) = store.scan()
    expected = {"agent": AgentCounts(3, 1, Decimal("0.000000000375"))}
    return noted == expected == store.totals().by_agent and scanned.hits == 3  # noqa: PLR2004 - as above


def _removes(store: "EntryStore") -> bool:
    """What is removed is what was read: an entry that was replaced in between stays."""
    _fill(store, "abc")
    a, b = store.read("a"), store.read("b")
    store.write("b", b"new", max_bytes=_ROOM)
    return a is not None and b is not None and store.remove(a, b) == 1 and _keys(store) == "bc"


def _sets_aside(store: "EntryStore") -> bool:
    """What is in quarantine is not read, and is counted."""
    _fill(store, "ab")
    a = store.read("a")
    if a is None or not store.quarantine(a) or store.quarantine(a) or store.read("a") is not None:
        return False
    held = store.totals()
    counted = (held.quarantined, held.integrity_failures, held.entries, held.bytes) == (1, 1, 1, 2 * _ONE)
    return counted and _keys(store) == "b"


def _clears(store: "EntryStore") -> bool:
    """A cleared store is empty, tells others so by its generation, and goes on."""
    _fill(store, "ab")
    store.note_hit("agent", "a", None)
    before = store.generation()
    removed = store.clear()
    totals = store.totals()
    gone = (removed, totals.bytes, totals.entries, _keys(store)) == (2, 0, 0, "") and store.generation() > before
    _fill(store, "c")
    return gone and totals.by_agent["agent"].hits == 1 and _keys(store) == "c"


def _opens_anew(store: "EntryStore") -> bool:
    """A closed store opens again by itself, with all that was in it."""
    _fill(store, "a")
    store.note_miss("agent")
    store.close()
    return _keys(store) == "a" and store.totals().by_agent["agent"].misses == 1 and store.audit()


def _bounds(store: "EntryStore") -> bool:
    """The least recently used goes when room is needed, and a hit is a use."""
    _fill(store, "abc")
    store.note_hit("agent", "a", None)
    _fill(store, "d", max_bytes=3 * _ONE)
    totals = store.totals()
    return (_in_order(store), totals.bytes, totals.entries, totals.evictions) == ("cad", 3 * _ONE, 3, 1)


def _orders(store: "EntryStore") -> bool:
    """A scan gives the least recently used first, and both a write and a hit are uses."""
    _fill(store, "abcd")
    store.note_hit("agent", "a", None)
    store.settle()
    _fill(store, "b")
    return _in_order(store) == "cdab"


def _frees(store: "EntryStore") -> bool:
    """What is in quarantine is the first to go."""
    _fill(store, "abc")
    forged = [stored for stored in store.scan() if stored.key in "ab"]
    if not all(store.quarantine(stored) for stored in forged):
        return False
    _fill(store, "d", max_bytes=2 * _ONE)
    freed = store.totals()
    return (freed.quarantined, freed.integrity_failures, freed.entries, _keys(store)) == (0, len(forged), 2, "cd")


_LAWS = (_gives_back, _replaces, _refuses, _counts, _removes, _sets_aside, _clears, _opens_anew)
_LAWS_OF_BOUNDS = (_bounds, _orders, _frees)
