"""What all our files have in common: versions, and how a file gets from one to the next."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from claude_force.stores.database import Database, Design
from claude_force.stores.entries import StoreError


def _m001_words(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE words (word TEXT)")
    connection.execute("INSERT INTO words VALUES ('first')")


def _m002_lengths(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE words ADD COLUMN length INTEGER")
    connection.execute("UPDATE words SET length = length(word)")


def _m003_fails(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE words SET length = 0")
    connection.execute("CREATE TABLE later (word TEXT)")
    if connection.execute("SELECT count(*) FROM words").fetchone() != (1,):
        raise sqlite3.DataError("cannot be")


FIRST = Design("word list", "move it away", (_m001_words,))
SECOND = FIRST._replace(migrations=(_m001_words, _m002_lengths))
THIRD = FIRST._replace(migrations=(_m001_words, _m002_lengths, _m003_fails))


class Words(Database):
    """A file with one table."""

    def add(self, word: str) -> None:
        self._change("INSERT INTO words (word) VALUES (?)", word)

    def all(self) -> list[tuple[object, ...]]:
        return self._rows("SELECT * FROM words")


def made(path: Path, design: Design, *words: str) -> None:
    """A file of this version."""
    store = Words(path, design)
    for word in words:
        store.add(word)
    store.all()
    store.close()


def schema(path: Path) -> list[list[tuple[object]]]:
    """What a file is made of, and its version."""
    connection = sqlite3.connect(path)
    found = [connection.execute(query).fetchall() for query in ("SELECT sql FROM sqlite_schema", "PRAGMA user_version")]
    connection.close()
    return found


def test_an_older_file_is_brought_to_ours(tmp_path: Path) -> None:
    """With what it holds, to the very schema of a new one; an older program refuses it from then on."""
    made(tmp_path / "old", FIRST, "second")
    made(tmp_path / "new", SECOND)
    store = Words(tmp_path / "old", SECOND)
    assert store.all() == [("first", 5), ("second", 6)]
    store.close()
    assert schema(tmp_path / "old") == schema(tmp_path / "new")
    with pytest.raises(StoreError, match="newer claude-force; upgrade, or move it away"):
        Words(tmp_path / "old", FIRST).all()


def test_many_may_bring_it_at_once(tmp_path: Path) -> None:
    """Each migration is done once, whoever comes first; nobody takes the file for a foreign one meanwhile."""

    def at_once(store: Words) -> list[tuple[object, ...]]:
        together.wait()
        return store.all()

    together = Barrier(8)
    for file in (tmp_path / f"{number}" for number in range(8)):
        made(file, FIRST)
        stores = [Words(file, SECOND) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(at_once, stores)) == [[("first", 5)]] * 8
        for store in stores:
            store.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """It still opens with the program that wrote it, and nothing is half done."""
    made(tmp_path / "old", SECOND, "second")
    before = schema(tmp_path / "old")
    store = Words(tmp_path / "old", THIRD)
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot be"):
            store.all()
    store.close()
    assert schema(tmp_path / "old") == before
    store = Words(tmp_path / "old", SECOND)
    assert store.all() == [("first", 5), ("second", None)]
    store.close()


def test_an_older_file_that_somebody_prepared_is_refused(tmp_path: Path) -> None:
    """Before a migration could set off what is in it."""
    made(tmp_path / "old", FIRST)
    connection = sqlite3.connect(tmp_path / "old")
    connection.execute("CREATE TRIGGER evil AFTER UPDATE ON words BEGIN DELETE FROM words; END")
    connection.close()
    with pytest.raises(StoreError, match="is no word list of claude-force; move it away"):
        Words(tmp_path / "old", SECOND).all()


def test_changes_by_anybody(tmp_path: Path) -> None:
    """A look tells whether anybody has written since, or has put another file there; and makes none."""
    path = tmp_path / "words.db"
    watched, writer = Words(path, FIRST), Words(path, FIRST)
    assert watched.changes() is None
    assert not path.exists()
    writer.add("second")
    first = watched.changes()
    assert first is not None
    assert watched.changes() == first
    writer.add("third")
    second = watched.changes()
    assert second != first
    watched.add("fourth")
    assert watched.changes() not in {first, second}
    third = watched.changes()
    for word, is_seen in (("another", True), ("a third", False)):  # that there is none in between may go unseen
        for file in tmp_path.glob("words.db*"):
            file.rename(file.with_name(f"away-{word}-{file.name}"))
        assert not is_seen or watched.changes() is None
        made(path, FIRST, word)
        assert watched.changes() not in {first, second, third}
        assert watched.all() == [("first",), (word,)]
