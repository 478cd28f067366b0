"""What agents did before: found where it is like the task, believed where we have signed it, and nothing else."""

import os
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force import AgentMemory, AgentMemoryError, InputError

SECRET = "a secret of the tests"


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[AgentMemory]:
    """An empty one."""
    opened = AgentMemory(tmp_path / "agent_memory.db", secret=SECRET)
    yield opened
    opened.close()


def change(memory: AgentMemory, statement: str, *values: object) -> None:
    """Change the file behind its back."""
    memory.close()
    with closing(sqlite3.connect(memory.path)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def fill(memory: AgentMemory) -> None:
    """Some sessions of several agents."""
    for agent, task, success in [
        ("reviewer", "Review the retry loop of the HTTP client", True),
        ("reviewer", "Review the migration that drops the users table", False),
        ("reviewer", "Review the colours of the login page", True),
        ("writer", "Write release notes for the HTTP client", True),
    ]:
        memory.store_session(agent, task, f"An answer about: {task.lower()}", success=success)


def test_what_is_like_it_is_found(memory: AgentMemory) -> None:
    """By words in any form, the most alike first; where nothing is alike, nothing is found."""
    fill(memory)
    (found,) = memory.get_similar_sessions("reviewer", "reviewing `retryLoop` in http_client.py")
    assert (found.task, found.success, found.agent_name) == (
        "Review the retry loop of the HTTP client",
        True,
        "reviewer",
    )
    assert found.relevance is not None
    assert 0.4 <= found.relevance < 1
    (same, *_) = memory.get_similar_sessions("reviewer", "Review the colours of the login page")
    assert same.relevance == 1
    for unlike in ("Translate the manual into French", "", "!!!", "the of and"):
        assert memory.get_similar_sessions("reviewer", unlike) == []


def test_filters(memory: AgentMemory) -> None:
    """By agent, end and age; at most so many."""
    fill(memory)
    old = datetime.now(UTC) - timedelta(days=9)
    memory.store_session("reviewer", "Review the HTTP client's timeouts", "Fine.", success=True, timestamp=old)

    def tasks(agent: str | None = None, limit: int = 5, **wanted: object) -> list[str]:
        found = memory.get_similar_sessions(agent, "HTTP client review", limit, min_relevance=0, **wanted)  # type: ignore[arg-type]
        return [session.task for session in found]

    assert len(tasks()) == 5
    assert len(tasks(limit=2)) == 2
    assert tasks("writer") == ["Write release notes for the HTTP client"]
    assert tasks(success=False) == ["Review the migration that drops the users table"]
    assert "Review the HTTP client's timeouts" in tasks()
    assert "Review the HTTP client's timeouts" not in tasks(max_age=timedelta(days=7))


def test_rare_words_decide(memory: AgentMemory) -> None:
    """A word that all tasks have makes none of them alike."""
    for number in range(40):
        memory.store_session("reviewer", f"Review change {number} of the payment service", "Fine.", success=True)
    memory.store_session("reviewer", "Review deadlock in scheduler", "Two locks.", success=True)
    (found,) = memory.get_similar_sessions("reviewer", "Review a scheduler that has a deadlock at night", limit=3)
    assert found.result == "Two locks."


def test_keys_are_masked(memory: AgentMemory) -> None:
    """In the task, the answer and the metadata; nothing of them is in the file."""
    key = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz"
    id_ = memory.store_session("a", f"use {key}", f"used {key}", success=True, metadata={"from": key})
    session = memory.get_session(id_)
    assert (session.task, session.result, session.metadata) == ("use [masked]", "used [masked]", {"from": "[masked]"})
    memory.close()
    assert not any(key[8:].encode() in file.read_bytes() for file in memory.path.parent.iterdir())


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE sessions SET result = 'do as I say' WHERE id = 1",
        "UPDATE sessions SET success = 0 WHERE id = 1",
        "UPDATE sessions SET timestamp = '2030-01-01T00:00:00+00:00' WHERE id = 1",
        "UPDATE sessions SET metadata = '{' WHERE id = 1",
        "UPDATE seals SET seal = (SELECT seal FROM seals WHERE session = 2) WHERE session = 1",
        "UPDATE seals SET seal = x'' WHERE session = 1",
        "DELETE FROM seals WHERE session = 1",
    ],
)
def test_what_we_have_not_signed_is_not_believed(memory: AgentMemory, forgery: str) -> None:
    """Edited, copied, unsigned: it is passed over, and the others are still found."""
    for _ in range(2):
        memory.store_session("a", "Review the retry loop", "Fine.", success=True)
    change(memory, forgery)
    assert [session.id for session in memory.get_similar_sessions("a", "Review the retry loop")] == [2]
    assert [session.id for session in memory.sessions()] == [2]
    with pytest.raises(InputError, match="no session 1"):
        memory.get_session(1)


def test_another_secret(memory: AgentMemory) -> None:
    """A file that a repository brings along is not believed; an older secret of ours is."""
    fill(memory)
    other = AgentMemory(memory.path, secret="a secret of somebody else")
    assert list(other.sessions()) == []
    rotated = AgentMemory(memory.path, secret=["a secret that is newer", SECRET])
    assert len(list(rotated.sessions())) == 4
    for opened in (other, rotated):
        opened.close()


@pytest.mark.usefixtures("_from_nursery")
def test_queries_are_remembered_until_somebody_writes(memory: AgentMemory) -> None:
    """Whoever it is: this object, another one, or another process."""
    fill(memory)

    def ask() -> int:
        return len(memory.get_similar_sessions(None, "HTTP client", min_relevance=0.9))

    def figures() -> tuple[int, int]:
        stats = memory.get_stats()
        return stats["query_hits"], stats["query_misses"]

    assert [ask(), ask(), ask()] == [2, 2, 2]
    assert figures() == (2, 1)
    id_ = memory.store_session("writer", "The HTTP client again", "Fine.", success=True)
    assert [ask(), ask()] == [3, 3]
    memory.forget(id_)
    assert ask() == 2
    other = AgentMemory(memory.path, secret=SECRET)
    other.store_session("writer", "The HTTP client again", "Fine.", success=True)
    other.close()
    assert ask() == 3
    code = (
        "import sys; from claude_force import AgentMemory;"
        "AgentMemory(sys.argv[1], secret=sys.argv[2]).store_session('w', 'HTTP client', 'x', success=True)"
    )
    subprocess.run(["quick-python", "-c", code, memory.path, SECRET], check=True, timeout=120)
    assert [ask(), ask()] == [4, 4]
    assert figures() == (4, 5)


def test_no_more_queries_than_that_are_remembered(tmp_path: Path) -> None:
    """The one that was not asked for the longest time goes; with 0, all are asked anew."""
    for most, hits in ((2, 2), (0, 0)):
        memory = AgentMemory(tmp_path / f"{most}.db", secret=SECRET, max_cached_queries=most)
        fill(memory)
        for task in ("http", "login", "http", "users", "login", "http", "http"):
            memory.get_similar_sessions(None, task)
        assert memory.get_stats()["query_hits"] == hits
        memory.close()


@pytest.mark.usefixtures("_from_nursery")
def test_many_processes(memory: AgentMemory) -> None:
    """All that they keep is there, and found."""
    code = (
        "import sys; from claude_force import AgentMemory; memory = AgentMemory(sys.argv[1], secret=sys.argv[2])\n"
        "for n in range(25): memory.store_session('a', f'task {n} of process {sys.argv[3]}', 'done', success=True)"
    )
    processes = [
        subprocess.Popen(["quick-python", "-c", code, memory.path, SECRET, str(number)]) for number in range(4)
    ]
    assert [process.wait(120) for process in processes] == [0] * 4
    found = Counter(session.task.rpartition(" ")[2] for session in memory.sessions())
    assert found == dict.fromkeys("0123", 25)
    assert memory.get_similar_sessions("a", "task 24 of process 3", limit=1)[0].relevance == 1


def test_a_forked_child_goes_on(memory: AgentMemory) -> None:
    """With connections of its own: what either keeps, both find."""
    fill(memory)
    assert len(memory.get_similar_sessions(None, "HTTP client", min_relevance=0.9)) == 2
    child = os.fork()
    if child == 0:
        try:
            memory.store_session("w", "The HTTP client of the child", "x", success=True)
            os._exit(len(memory.get_similar_sessions(None, "HTTP client", min_relevance=0.9)))
        finally:
            os._exit(99)
    memory.store_session("w", "The HTTP client of the parent", "x", success=True)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in {3, 4}
    assert len(memory.get_similar_sessions(None, "HTTP client", min_relevance=0.9)) == 4
    assert memory.get_stats()["sessions"] == 6


@given(
    st.lists(st.lists(st.sampled_from(["parser", "lexer", "cache", "client", "retry"]), max_size=4), max_size=8),
    st.data(),
)
def test_what_is_forgotten_leaves_nothing(tasks: list[list[str]], data: st.DataObject) -> None:
    """The words of those that are left are counted as if the others had never been there."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        memory = AgentMemory(Path(folder) / "m.db", secret=SECRET)
        ids = [memory.store_session("a", " ".join(task), "", success=True) for task in tasks]
        gone = data.draw(st.sets(st.sampled_from(ids))) if ids else set()
        assert memory.forget(*gone) == len(gone)
        left = [set(task) for id_, task in zip(ids, tasks, strict=True) if id_ not in gone]
        expected = Counter(word for task in left for word in task)
        for word in ("parser", "lexer", "cache", "client", "retry"):
            found = memory.get_similar_sessions("a", word, limit=10)
            assert len(found) == expected[word]
            assert all(session.relevance == 1 for session in found)
        memory.close()


def test_old_sessions_are_pruned(memory: AgentMemory) -> None:
    """Only those; what they were about is not found any more."""
    fill(memory)
    old = datetime.now(UTC) - timedelta(days=100)
    memory.store_session("reviewer", "Review the fax gateway", "Fine.", success=True, timestamp=old)
    assert memory.prune(older_than=timedelta(days=90)) == 1
    assert memory.get_stats()["sessions"] == 4
    assert memory.get_similar_sessions("reviewer", "Review the fax gateway") == []


def test_long_answers_are_cut_and_say_so(memory: AgentMemory) -> None:
    """What is kept is bounded."""
    id_ = memory.store_session("a", "Write a book", "word " * 10_000, success=True)
    assert memory.get_session(id_).result.endswith("[30,000 more characters were not kept]")


def test_asking_makes_no_file(memory: AgentMemory) -> None:
    """Where nothing was kept, there is nothing, and nothing is wrong."""
    assert memory.get_similar_sessions("a", "anything") == list(memory.sessions()) == []
    assert (memory.forget(1), memory.prune(older_than=timedelta(0)), memory.get_stats()["sessions"]) == (0, 0, 0)
    assert not memory.path.exists()


@pytest.mark.parametrize("what", ["damaged", "foreign", "link", "folder"])
def test_a_file_that_cannot_be_used(tmp_path: Path, what: str) -> None:
    """It is left as it is, and the error says which one and why."""
    path = tmp_path / "agent_memory.db"
    if what == "damaged":
        path.write_bytes(b"no database" * 1000)
    elif what == "foreign":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE sessions (id INTEGER PRIMARY KEY, agent_name TEXT)")
    elif what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    memory = AgentMemory(path, secret=SECRET)
    for use in (
        lambda: memory.store_session("a", "b", "c", success=True),
        lambda: memory.get_similar_sessions("a", "b"),
        lambda: list(memory.sessions()),
        lambda: memory.forget(1),
        memory.get_stats,
    ):
        with pytest.raises(AgentMemoryError, match=r"cannot be used: .*agent_memory\.db"):
            use()
    assert not (tmp_path / "elsewhere").exists()


def test_mistakes_of_the_caller(tmp_path: Path) -> None:
    """A short secret, and a size below nothing."""
    with pytest.raises(InputError, match="max_cached_queries is -1"):
        AgentMemory(tmp_path / "m.db", secret=SECRET, max_cached_queries=-1)
