"""The SQLite store: the laws of every store, and what is special about a file."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from claude_force.stores.contract import ContractError, check_entry_store
from claude_force.stores.entries import StoreBusyError, Stored
from claude_force.stores.sqlite import SqliteEntries


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    """Every law of `stores.contract` holds."""
    names = count()
    assert len(list(check_entry_store(lambda: SqliteEntries(tmp_path / f"{next(names)}.db")))) == 9


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
    store.note_hit("agent", "a", None)
    with pytest.raises(StoreBusyError):
        store.settle()
    assert store.read("a") is not None
    other.execute("ROLLBACK")
    other.close()
    store.settle()
    assert [stored.hits for stored in store.scan()] == [1]
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
