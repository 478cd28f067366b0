"""The SQLite store: the laws of every store, and what is special about a file."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.stores.contract import ContractError, check_entry_store
from claude_force.stores.entries import StoreBusyError, Stored
from claude_force.stores.sqlite import MOST_NOTES, SqliteEntries, _m001_entries


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    """Every law of `stores.contract` holds."""
    names = count()
    assert len(list(check_entry_store(lambda: SqliteEntries(tmp_path / f"{next(names)}.db")))) == 11


class Forgetful(SqliteEntries):
    """A store that is none."""

    def read(self, key: str) -> Stored | None:
        return None


def test_the_contract_finds_a_store_that_breaks_it(tmp_path: Path) -> None:
    """And says which law it was."""
    with pytest.raises(ContractError, match="What was written is read"):
        list(check_entry_store(lambda: Forgetful(tmp_path / "x.db")))


def test_settling_never_waits_for_another_process(tmp_path: Path) -> None:
    """While others write, notes are kept for later, and reads go on."""
    store = SqliteEntries(tmp_path / "x.db")
    store.write("a", b"kept", max_bytes=10_000)
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(2 * MOST_NOTES + 1):  # twice it tries by itself, in vain
        store.note_hit("agent", "a", None)
    with pytest.raises(StoreBusyError):
        store.settle()
    assert store.read("a") is not None
    other.execute("ROLLBACK")
    other.close()
    store.settle()
    assert [stored.hits for stored in store.scan()] == [2 * MOST_NOTES + 1] == [store.totals().by_agent["agent"].hits]
    for _ in range(MOST_NOTES):  # nobody is in the way: it settles by itself
        store.note_hit("agent", "a", None)
    assert [stored.hits for stored in store.scan()] == [3 * MOST_NOTES + 1]
    store.close()


def first_version(path: Path) -> None:
    """A file as the first version made it, with four entries of which the second was used since."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    _m001_entries(connection)
    connection.executemany("INSERT INTO entries (key, sealed) VALUES (?, ?)", [(key, b"x" * 744) for key in "abcd"])
    connection.execute("UPDATE uses SET used = 5, hits = 3 WHERE id = 2")
    connection.execute("PRAGMA user_version = 1")
    connection.close()


ACTS = st.lists(st.tuples(st.sampled_from(["write", "hit", "remove"]), st.sampled_from("abcdefghij")), max_size=40)


@given(acts=ACTS, is_old=st.booleans())
def test_who_was_used_longest_ago_goes_first(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, str]], *, is_old: bool
) -> None:
    """As in a dictionary that is kept in order, with six places; a file of the first version goes on where it was."""
    path = tmp_path_factory.mktemp("lru") / "x.db"
    if is_old:
        first_version(path)
    store = SqliteEntries(path)
    model = {"a": 0, "c": 0, "d": 0, "b": 3} if is_old else {}
    for act, key in acts:
        if act == "write":
            store.write(key, b"x" * 744, max_bytes=6_000)
            model.pop(key, None)
            model[key] = 0
            if len(model) > 6:
                del model[next(iter(model))]
        elif (stored := store.read(key)) is None:
            assert key not in model
        elif act == "hit":
            store.note_hit("agent", key, None)
            store.settle()
            model[key] = model.pop(key) + 1
        else:
            assert store.remove(stored) == 1
            del model[key]
        assert [(stored.key, stored.hits) for stored in store.scan()] == list(model.items())
    assert store.audit()
    store.close()


def test_nothing_noted_is_lost_or_counted_twice(tmp_path: Path) -> None:
    """Threads hit while another one writes notes down and reads the figures."""
    store = SqliteEntries(tmp_path / "x.db")
    store.write("a", b"kept", max_bytes=10_000)

    def hit(_: int) -> None:
        for _ in range(2_000):
            store.note_hit("agent", "a", Decimal("0.5"))

    with ThreadPoolExecutor(4) as pool:
        hitting = [pool.submit(hit, thread) for thread in range(4)]
        while not all(one.done() for one in hitting):
            with suppress(StoreBusyError):
                store.settle()
            store.totals()
    store.settle()
    (counts,) = store.totals().by_agent.values()
    assert (counts.hits, counts.saved) == (8_000, Decimal(4_000))
    assert [stored.hits for stored in store.scan()] == [8_000]
    store.close()


def test_a_scan_keeps_nobody_from_writing(tmp_path: Path) -> None:
    """More entries than are read at once, some of them removed meanwhile."""
    store = SqliteEntries(tmp_path / "x.db")
    for number in range(250):
        store.write(str(number), b"kept", max_bytes=10**6)
    seen = []
    for stored in store.scan():
        seen.append(stored.key)
        store.remove(stored)
    assert seen == [str(number) for number in range(250)]
    assert store.totals().entries == 0
    store.close()


def test_a_cleared_file_shrinks(tmp_path: Path) -> None:
    """At once, with the log beside it."""
    store = SqliteEntries(tmp_path / "x.db")
    store.write("a", bytes(2_000_000), max_bytes=10**7)
    assert store.clear() == 1
    assert sum(file.stat().st_size for file in tmp_path.iterdir() if not file.name.endswith("-shm")) < 100_000
    store.close()


def test_closing_while_others_write_holds_up_nobody(tmp_path: Path) -> None:
    """What is closed under a writer's hands is opened anew, and no lock stays behind."""
    store = SqliteEntries(tmp_path / "x.db")

    def write(thread: int) -> None:
        for number in range(100):
            store.write(f"{thread} {number}", b"kept", max_bytes=10**6)
            assert store.read(f"{thread} {number}")
            if thread == 0:
                store.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert store.totals().entries == 400
    store.close()
