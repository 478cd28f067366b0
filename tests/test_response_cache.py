"""The response cache: the answer that was paid for, or none; never a wrong one, whatever happened to the disk."""

import json
import logging
import math
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from claude_force.base.clock import SystemClock
from claude_force.base.errors import CacheError, ConfigError, TaskError
from claude_force.base.records import Reply
from claude_force.base.usage import Usage
from claude_force.response_cache import FILE_NAME, MB, CacheEntry, ResponseCache, cache_folder, entry_of, key_of
from claude_force.stores.entries import ENTRY_OVERHEAD_BYTES
from claude_force.stores.seal import Sealer

from .conftest import NOON, MovedClock, in_threads

# More, where somebody has the time: the tests themselves see no variable that begins like these.
CRASH_ROUNDS = int(os.environ.get("CLAUDE_FORCE_CRASH_ROUNDS", "3"))
EXAMPLES = int(os.environ.get("CLAUDE_FORCE_CACHE_EXAMPLES", "20"))  # of 40 steps each

SECRET = "a secret for tests: long enough"
KEY = key_of("linter", "Check it.", "haiku", "")


class Clock(MovedClock):
    """Both of its times go together unless it jumps."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead

    def pass_time(self, seconds: float) -> None:
        """Time goes by."""
        self.seconds += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.ahead += timedelta(seconds=seconds)


def make(folder: Path, **options: Any) -> ResponseCache:
    """A cache in this folder that keeps nothing in memory, so that every answer comes from the disk."""
    defaults: dict[str, Any] = {"secret": SECRET, "memory_mb": 1e-6, "clock": Clock()}
    return ResponseCache(folder, **(defaults | options))


def entry(**facts: Any) -> CacheEntry:
    """An entry with these facts."""
    defaults: dict[str, Any] = {
        "key": KEY,
        "agent_name": "linter",
        "task": "Check it.",
        "model": "claude-haiku-5-5",
        "response": "Fine.",
        "input_tokens": 90,
        "output_tokens": 4,
        "estimated_cost": Decimal("0.000011"),
        "timestamp": NOON.timestamp(),
    }
    return CacheEntry(**(defaults | facts))


def put(cache: ResponseCache, task: str = "Check it.", response: str = "Fine.", agent: str = "linter") -> None:
    """Keep one answer."""
    cache.set(agent, task, "haiku", response, 90, 4, 0.001)


def got(cache: ResponseCache, task: str = "Check it.", agent: str = "linter") -> str | None:
    """The answer that is served."""
    hit = cache.get(agent, task, "haiku")
    return None if hit is None else str(hit["response"])


def sql(folder: Path, statement: str, *values: object) -> list[Any]:
    """What somebody else does to the file."""
    connection = sqlite3.connect(folder / FILE_NAME)
    with connection:
        rows = connection.execute(statement, values).fetchall()
    connection.close()
    return rows


def is_exact(folder: Path) -> bool:
    """Whether the size that is kept is that of what is there."""
    ((kept, entries),) = sql(folder, "SELECT bytes, entries FROM totals")
    both = "SELECT length(sealed) FROM entries UNION ALL SELECT length(sealed) FROM quarantine"
    sizes = [size for (size,) in sql(folder, both)]
    ((count,),) = sql(folder, "SELECT count(*) FROM entries")
    return bool(kept == sum(sizes) + ENTRY_OVERHEAD_BYTES * len(sizes) and entries == count)


# ---------------------------------------------------------------- what is served


@pytest.mark.parametrize("memory_mb", [16, 1e-6], ids=["memory", "disk"])
def test_an_answer_comes_back(tmp_path: Path, memory_mb: float) -> None:
    """What was kept is served with its facts and its age."""
    clock = Clock()
    cache = make(tmp_path, memory_mb=memory_mb, clock=clock)
    cache.set("linter", "Check it.", "haiku", "Fine.", 90, 4, 0.001)
    clock.pass_time(180)
    assert cache.get("linter", "Check it.", "haiku") == {
        "response": "Fine.",
        "input_tokens": 90,
        "output_tokens": 4,
        "estimated_cost": 0.001,
        "cached": True,
        "cache_age_seconds": 180.0,
    }


def test_an_answer_survives_the_process(tmp_path: Path) -> None:
    """Another object, as another process would make it, serves it, too."""
    with make(tmp_path) as cache:
        put(cache)
    assert got(make(tmp_path)) == "Fine."


@pytest.mark.parametrize("response", ["x", "ü\0\n" * 10, "word " * 100_000, "\U0001f600" * 3000], ids=len)
def test_every_text_comes_back_as_it_was(tmp_path: Path, response: str) -> None:
    """Short and long, plain and not; long ones are compressed."""
    cache = make(tmp_path)
    put(cache, response=response)
    assert got(cache) == response
    assert cache.get_stats()["size_mb"] < (len(response) + 1000) / MB


def test_all_facts_of_an_entry_come_back(tmp_path: Path) -> None:
    """An entry has all that it takes to give the answer again, money exactly."""
    kept = entry(
        request_id="req_1", stop_reason="stop_sequence", cache_read_tokens=7, cache_write_5m_tokens=1,
        cache_write_1h_tokens=2, thinking_tokens=3, estimated_cost=Decimal("0.000000000125"), input_tokens=None,
    )  # fmt: skip
    cache = make(tmp_path)
    cache.keep(kept)
    assert cache.lookup(KEY, agent_name="linter") == kept


@pytest.mark.parametrize("usage", [None, Usage(input_tokens=90, output_tokens=4)], ids=["not counted", "counted"])
def test_what_a_server_does_not_count_is_unknown(usage: Usage | None) -> None:
    """And never 0."""
    reply = Reply(model="m", text="Fine.", stop_reason="end_turn", usage=usage)
    kept = entry_of(KEY, reply, agent="linter", task="Check it.", cost_usd=None, timestamp=0.0)
    assert (kept.input_tokens, kept.output_tokens) == ((90, 4) if usage else (None, None))


@pytest.mark.parametrize(
    "asked",
    [("other", "Check it.", "haiku", ""), ("linter", "Check it. ", "haiku", ""), ("linter", "Check it.", "opus", ""),
     ("linter", "Check it.", "haiku", "edited"), ("linterCheck it.", "", "haiku", "")],
    ids=["agent", "task", "model", "fingerprint", "parts run together"],
)  # fmt: skip
def test_another_question_is_a_miss(tmp_path: Path, asked: tuple[str, str, str, str]) -> None:
    """Whatever decides the answer is in the key."""
    cache = make(tmp_path)
    put(cache)
    agent, task, model, fingerprint = asked
    assert cache.get(agent, task, model, fingerprint=fingerprint) is None


def test_the_key_is_stable() -> None:
    """Keys of files that lie on disks stay what they are; a new way to make them gets a new version."""
    assert KEY == "99a2ff69917018529f0948af3170da86cbf3f334e1d6ffa4b151dafb1402db28"


def test_half_a_character_is_refused() -> None:
    """A text that is no Unicode is the caller's error, told before anything is looked for."""
    with pytest.raises(TaskError, match="half a character"):
        key_of("linter", "\ud800", "haiku", "")


@pytest.mark.parametrize(
    ("facts", "options"),
    [
        ({"response": ""}, {}),
        ({"stop_reason": "max_tokens"}, {}),
        ({"stop_reason": "refusal"}, {}),
        ({"stop_reason": None}, {}),
        ({}, {"exclude_agents": ["linter"]}),
        ({}, {"enabled": False}),
    ],
    ids=["empty", "truncated", "refused", "cut", "excluded agent", "switched off"],
)
def test_what_is_not_kept(tmp_path: Path, facts: dict[str, Any], options: dict[str, Any]) -> None:
    """An answer that is none, or that nobody wants kept, is neither kept nor counted."""
    cache = make(tmp_path, **options)
    cache.keep(entry(**facts))
    assert make(tmp_path).lookup(KEY, agent_name="linter") is None
    assert cache.get_stats()["entries"] == 0


def test_a_simulated_answer_is_never_served_as_real(tmp_path: Path) -> None:
    """Nor a real one where a simulated one is wanted."""
    cache = make(tmp_path)
    cache.keep(entry(simulated=True))
    assert cache.lookup(KEY, agent_name="linter") is None
    assert cache.lookup(KEY, agent_name="linter", simulated=True) is not None


# ---------------------------------------------------------------- age


@pytest.mark.parametrize(
    ("seconds", "is_served"),
    [(0, True), (3599, True), (3600, False), (1e6, False), (-299, True), (-301, False)],
)
def test_age_counts_from_the_signed_time(tmp_path: Path, seconds: float, is_served: bool) -> None:  # noqa: FBT001
    """Too old is a miss, and so is a date that has not been: the clock was set back, so nobody knows the age."""
    clock = Clock()
    cache = make(tmp_path, clock=clock, ttl_hours=1)
    put(cache)
    clock.jump(seconds)
    for name in (FILE_NAME, FILE_NAME + "-wal"):
        os.utime(tmp_path / name, (0, 2**31))  # which says nothing
    assert (got(cache) is not None) is is_served


def test_a_fraction_of_an_hour_and_an_agent_of_its_own(tmp_path: Path) -> None:
    """`ttl_hours` may be a fraction, and one agent's may differ."""
    clock = Clock()
    cache = make(tmp_path, clock=clock, ttl_hours=0.5, agent_ttl_hours={"news": 0.1})
    put(cache)
    put(cache, agent="news")
    clock.pass_time(600)
    assert (got(cache), got(cache, agent="news")) == ("Fine.", None)


# ---------------------------------------------------------------- forgery


def forge(folder: Path, how: str) -> None:
    """What somebody who can write to the file tries."""
    ((sealed,),) = sql(folder, "SELECT sealed FROM entries WHERE key = ?", KEY)
    values = {
        "edited": sealed.replace(b"Fine.", b"Evil."),
        "cut": sealed[:-1],
        "longer": sealed + b"\0",
        "unsigned": bytes(32) + sealed[32:],
        "empty": b"",
        "text": "Fine.",
        "number": 7,
    }
    if how == "copied":
        other = key_of("linter", "Another task.", "haiku", "")
        ((sealed,),) = sql(folder, "SELECT sealed FROM entries WHERE key = ?", other)
        sql(folder, "UPDATE entries SET sealed = ? WHERE key = ?", sealed, KEY)
    else:
        sql(folder, "UPDATE entries SET sealed = ? WHERE key = ?", values[how], KEY)


@pytest.mark.parametrize("how", ["edited", "cut", "longer", "unsigned", "empty", "text", "number", "copied"])
def test_a_forged_entry_is_a_miss(tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
    """It is counted, said once, moved out of the way; nothing else is touched and the next answer takes its place."""
    with make(tmp_path) as cache:
        put(cache)
        put(cache, task="Another task.", response="Another answer.")
    forge(tmp_path, how)
    cache = make(tmp_path)
    assert (got(cache), got(cache)) == (None, None)
    assert got(cache, task="Another task.") == "Another answer."
    stats = cache.get_stats()
    assert (stats["integrity_failures"], stats["quarantined"], stats["entries"]) == (1, 1, 1)
    assert [record.name for record in caplog.records] == ["claude_force.cache"]
    put(cache)
    assert got(cache) == "Fine."
    assert is_exact(tmp_path)


def test_every_byte_counts(tmp_path: Path) -> None:
    """Whichever byte of a stored entry is flipped, and wherever it is cut: a miss, and never an exception."""
    with make(tmp_path) as cache:
        put(cache)
    ((sealed,),) = sql(tmp_path, "SELECT sealed FROM entries")
    flipped = [sealed[:i] + bytes([sealed[i] ^ 1 << i % 8]) + sealed[i + 1 :] for i in range(len(sealed))]
    cut = [sealed[:length] for length in range(len(sealed))]
    cache, store = make(tmp_path), None
    for wrong in flipped + cut:
        put(cache)
        store = store or sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
        store.execute("UPDATE entries SET sealed = ?", (wrong,))
        assert got(cache) is None
    assert cache.get_stats()["integrity_failures"] == len(flipped) + len(cut)
    assert store is not None
    store.close()


def test_a_damaged_file_never_gives_a_wrong_answer(tmp_path: Path) -> None:
    """Bytes of the database itself may be wrong anywhere: the answer comes, or none, and nothing is raised."""
    with make(tmp_path / "good") as cache:
        for number in range(3):
            put(cache, task=str(number), response=f"answer {number} " * 300)
    good = (tmp_path / "good" / FILE_NAME).read_bytes()
    answers = set()
    for number, at in enumerate(range(0, len(good), 211)):
        folder = tmp_path / str(number)
        folder.mkdir()
        bad = good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]
        (folder / FILE_NAME).write_bytes(bad if number % 2 else good[:at])
        with make(folder) as cache:
            for task in range(3):
                answers.add((task, got(cache, task=str(task))))
            put(cache, task="new")
            cache.get_stats()
    assert answers <= {(t, None) for t in range(3)} | {(t, f"answer {t} " * 300) for t in range(3)}
    assert len(answers) == 6


# ---------------------------------------------------------------- secrets


def test_another_secret_is_a_stranger(tmp_path: Path) -> None:
    """What was signed with another secret is not served."""
    with make(tmp_path) as cache:
        put(cache)
    assert got(make(tmp_path, secret="another secret: also long enough")) is None


OLD, NEW = "the old secret: long enough", "the new secret: long enough"


@pytest.mark.parametrize("secret", [[NEW, OLD], (NEW.encode(), OLD.encode()), None], ids=["list", "bytes", "variable"])
def test_rotation(tmp_path: Path, secret: Any) -> None:
    """The old secret is still believed, only the new one signs."""
    with make(tmp_path, secret=OLD) as cache:
        put(cache, task="before")
    with make(tmp_path, secret=secret, environment={"CLAUDE_CACHE_SECRET": f"{NEW}, {OLD}"}) as cache:
        put(cache, task="after")
        assert got(cache, task="before") == "Fine."
    with make(tmp_path, secret=NEW) as cache:
        assert (got(cache, task="after"), got(cache, task="before")) == ("Fine.", None)


def test_where_the_secret_comes_from(tmp_path: Path) -> None:
    """The argument is before the environment, and that before the user's own file."""
    environment = {"CLAUDE_CACHE_SECRET": NEW}
    with make(tmp_path, secret=None, environment=environment) as cache:
        put(cache)
    assert got(make(tmp_path, secret=NEW, environment={})) == "Fine."
    assert not list(Path(os.environ["HOME"]).rglob("cache.key"))


@pytest.mark.parametrize("secret", ["short", b"123456789012345", "", [], [NEW, b""], None], ids=repr)
def test_a_short_secret_is_refused(tmp_path: Path, secret: Any) -> None:
    """With the reason and the way out, wherever it comes from."""
    with pytest.raises(ConfigError, match=r"too short to sign the cache: it could be guessed; give at least 16"):
        make(tmp_path, secret=secret, environment={"CLAUDE_CACHE_SECRET": f"{NEW},short"})


def key_file() -> Path:
    """The user's own secret."""
    return Path(os.environ["XDG_CONFIG_HOME"]) / "claude-force" / "cache.key"


def test_the_secret_of_a_user(tmp_path: Path) -> None:
    """It is made once, random, private, and not beside the cache."""
    with make(tmp_path, secret=None) as cache:
        put(cache)
    secret = key_file().read_text()
    assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
    assert len(bytes.fromhex(secret)) == 32
    assert got(make(tmp_path, secret=None)) == "Fine."
    assert key_file().read_text() == secret
    assert sorted(path.name for path in key_file().parent.iterdir()) == ["cache.key"]


def readable_by_all(path: Path) -> None:
    """A secret that is none."""
    path.parent.mkdir(parents=True)
    path.write_text("f" * 64)
    path.chmod(0o644)


def nowhere(path: Path) -> None:
    """No place for a secret."""
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    path.parent.write_text("in the way")


def pipe(path: Path) -> None:
    """What would be waited for."""
    path.parent.mkdir(parents=True)
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("spoil", "way_out"),
    [
        (readable_by_all, "`chmod 600` it"),
        (nowhere, "mend that, or set CLAUDE_CACHE_SECRET"),
        (pipe, "it is no regular file; mend that, or set CLAUDE_CACHE_SECRET"),
    ],
)
def test_a_secret_that_cannot_be_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], way_out: str
) -> None:
    """The cache is off on disk, and the warning says what to do, as does the error for who asks for it by name."""
    spoil(key_file())
    cache = make(tmp_path, secret=None)
    put(cache)
    assert got(cache) is None
    assert way_out in caplog.text
    with pytest.raises(CacheError, match=way_out):
        cache.clear()


# ---------------------------------------------------------------- figures


def test_figures_survive_the_process(tmp_path: Path) -> None:
    """Hits and misses are totals on disk; those of this process are there as well."""
    with make(tmp_path) as cache:
        put(cache)
        for _ in range(8):
            got(cache)
        got(cache, agent="other")
    cache = make(tmp_path)
    for _ in range(10):
        got(cache, task="unknown")
    got(cache)
    stats = cache.get_stats()
    assert (stats["hits"], stats["misses"], stats["hit_rate"]) == (9, 11, "45.0%")
    assert (stats["session_hits"], stats["session_misses"], stats["session_hit_rate"]) == (1, 10, "9.1%")
    assert stats["by_agent"]["other"] == {"hits": 0, "misses": 1, "hit_rate": "0.0%", "saved_usd": 0.0}
    assert stats["saved_usd"] == pytest.approx(0.009, abs=0)
    assert (stats["enabled"], stats["entries"], stats["evictions"]) == (True, 1, 0)


def test_a_peek_counts_for_nothing(tmp_path: Path) -> None:
    """Who only wants to know gets what is fresh, is in no figure, and makes no file where there is none."""
    assert make(tmp_path / "none").peek(KEY, agent_name="linter") is None
    assert not (tmp_path / "none").exists()
    clock = Clock()
    cache = make(tmp_path, clock=clock)
    cache.keep(entry())
    assert make(tmp_path).peek(KEY, agent_name="linter") == entry()
    assert make(tmp_path, exclude_agents=["linter"]).peek(KEY, agent_name="linter") is None
    assert cache.peek("0" * 64, agent_name="linter") is None
    assert (cache.get_stats()["hits"], cache.get_stats()["misses"]) == (0, 0)
    clock.pass_time(25 * 3600)
    assert cache.peek(KEY, agent_name="linter") is None


def test_a_file_may_break_after_it_was_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was asked for by name fails as ours; all else goes on without, and says so once."""
    cache = make(tmp_path)
    put(cache)
    sql(tmp_path, "DROP TABLE quarantine")
    with pytest.raises(CacheError, match=r"cannot be used: .*quarantine"):
        cache.clear()
    sql(tmp_path, "DROP TABLE entries")
    with caplog.at_level(logging.WARNING, "claude_force.cache"):
        assert [got(cache), got(cache)] == [None, None]
    assert [record.message.partition(":")[0] for record in caplog.records] == ["the cache on disk is not asked"]


def test_an_empty_cache_has_figures(tmp_path: Path) -> None:
    """Nothing asked is 0.0%, and so it is where the cache is off, without a file."""
    stats = make(tmp_path).get_stats()
    assert (stats["hit_rate"], stats["path"]) == ("0.0%", str(tmp_path / FILE_NAME))
    off = make(tmp_path / "off", enabled=False)
    assert (off.get_stats()["hit_rate"], (tmp_path / "off").exists()) == ("0.0%", False)


# ---------------------------------------------------------------- bounds


def tasks_kept(cache: ResponseCache) -> list[str]:
    """What is on disk, the least recently used first."""
    return [kept.task for kept in cache.entries()]


def test_the_least_recently_used_goes(tmp_path: Path) -> None:
    """Not the oldest, and not the one with the fewest hits."""
    response = os.urandom(2000).hex()
    cache = make(tmp_path, max_size_mb=4 * 4600 / MB)
    for task in "abcd":
        put(cache, task, response)
    for task in "bbbba":
        got(cache, task)
    put(cache, "e", response)
    assert tasks_kept(cache) == ["d", "b", "a", "e"]
    assert cache.get_stats()["evictions"] == 1
    assert is_exact(tmp_path)


def test_an_answer_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    """Nor does it push out what is there."""
    cache = make(tmp_path, max_size_mb=3000 / MB)
    put(cache, "small")
    put(cache, "huge", os.urandom(2000).hex())
    assert tasks_kept(cache) == ["small"]


def test_memory_is_bounded(tmp_path: Path) -> None:
    """By its own limit, in bytes, whatever the disk may hold."""
    cache = make(tmp_path, memory_mb=0.05)
    for number in range(40):
        put(cache, str(number), "x" * 4000)
    stats = cache.get_stats()
    assert (stats["entries"], stats["memory_entries"]) == (40, 10)
    assert stats["memory_mb"] <= 0.05


def test_memory_is_bounded_for_every_script(tmp_path: Path) -> None:
    """A text that is not ASCII takes more room, and counts as much when it goes as when it came."""
    cache = make(tmp_path, memory_mb=0.05)
    for number in range(100):
        cache.set("linter", f"{number} €", "haiku", f"{number}" + "€" * 3000, 1, 1, 0.1)
    stats = cache.get_stats()
    assert stats["memory_entries"] == 3
    assert 0 < stats["memory_mb"] <= 0.05


@pytest.mark.parametrize(
    "options",
    [
        {"ttl_hours": 0},
        {"max_size_mb": -1},
        {"max_size_mb": 1e9},
        {"agent_ttl_hours": {"a": 0}},
        {"memory_mb": -1},
        {"memory_mb": math.nan},
        {"memory_mb": math.inf},
    ],
    ids=repr,
)
def test_a_limit_that_is_none_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    """Nothing and less is a mistake; off is said otherwise."""
    with pytest.raises(ConfigError, match="enabled=False"):
        make(tmp_path, **options)


# ---------------------------------------------------------------- looking after it


def test_delete_and_clear(tmp_path: Path) -> None:
    """What is removed is gone, from memory as well, and figures of the past stay."""
    cache = make(tmp_path, memory_mb=16)
    for task in "abc":
        put(cache, task)
    assert got(cache, "a") == "Fine."
    assert (cache.delete("linter", "a", "haiku"), cache.delete("linter", "a", "haiku")) == (True, False)
    assert (got(cache, "a"), cache.clear(), got(cache, "b")) == (None, 2, None)
    assert cache.get_stats()["hits"] == 1
    assert is_exact(tmp_path)
    assert cache.get_stats()["size_mb"] == 0.0
    cache.close()
    assert got(make(tmp_path)) is None
    assert make(tmp_path).get_stats()["on_disk"]


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        ({}, ["linter now", "linter then", "news now"]),
        ({"agent": "linter"}, ["news ages ago", "news now"]),
        ({"older_than_hours": 2}, ["linter now", "news now"]),
        ({"older_than_hours": 4}, ["linter now", "linter then", "news now"]),
        ({"agent": "news", "older_than_hours": 2}, ["linter now", "linter then", "news now"]),
        ({"model": "opus"}, ["linter now", "linter then", "news ages ago", "news now"]),
        ({"model": "haiku"}, []),
    ],
    ids=repr,
)
def test_prune(tmp_path: Path, conditions: dict[str, Any], left: list[str]) -> None:
    """What meets every condition goes; without one, what expired."""
    clock = Clock()
    cache = make(tmp_path, clock=clock, memory_mb=16)
    put(cache, "news ages ago", agent="news")
    clock.pass_time(22 * 3600)
    put(cache, "linter then")
    clock.pass_time(3 * 3600)
    put(cache, "linter now")
    put(cache, "news now", agent="news")
    assert got(cache, "nothing") is None  # so that for a second nobody looks what others have removed
    assert cache.prune(**conditions) == 4 - len(left)
    assert sorted(tasks_kept(cache)) == left
    assert got(cache, "news now", agent="news") == ("Fine." if "news now" in left else None)
    assert is_exact(tmp_path)


def test_verify_and_repair(tmp_path: Path) -> None:
    """Every signature and the size are checked; repair moves away what is forged, and nothing else."""
    clock = Clock()
    with make(tmp_path, clock=clock) as cache:
        put(cache)
        put(cache, "good")
        clock.pass_time(25 * 3600)
        put(cache, "better")
        put(cache, "best")
    forge(tmp_path, "unsigned")
    sql(tmp_path, "UPDATE totals SET bytes = 5")
    cache, steps = make(tmp_path, clock=clock), list[tuple[int, int]]()
    check = cache.verify(on_progress=lambda done, total: steps.append((done, total)))
    assert (check.checked, check.expired, check.forged, check.is_size_right) == (4, 1, (KEY,), False)
    assert not msgspec.structs.replace(check, forged=()).is_clean
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    mended = cache.verify(repair=True)
    assert (mended.forged, mended.is_size_right) == ((KEY,), False)  # a look alone had mended nothing
    assert cache.verify().is_clean
    assert is_exact(tmp_path)
    assert tasks_kept(cache) == ["good", "better", "best"]


def test_what_another_version_signed_is_left_alone(tmp_path: Path) -> None:
    """Nobody forged it, so it is named for what it is, and a repair keeps it for who can read it."""
    with make(tmp_path) as cache:
        put(cache)
    sql(tmp_path, "UPDATE entries SET sealed = ?", Sealer([SECRET.encode()]).seal(KEY, b'{"of": "another version"}'))
    for repair in (False, True):
        check = cache.verify(repair=repair)
        assert (check.checked, check.forged, check.unreadable) == (1, (), (KEY,))


def test_another_process_is_noticed(tmp_path: Path) -> None:
    """What somebody else cleared or replaced is not served from memory for longer than a second."""
    clock = Clock()
    mine, other = make(tmp_path, memory_mb=16, clock=clock), make(tmp_path, clock=clock)
    put(mine)
    put(other, response="Newer.")
    clock.pass_time(1.1)
    assert got(mine) == "Newer."
    sql(tmp_path, "UPDATE entries SET sealed = x'00'")  # what is in memory is not looked up again
    sql(tmp_path, "UPDATE totals SET generation = generation - 1")
    clock.pass_time(1.1)
    assert got(mine) == "Newer."
    other.clear()
    clock.pass_time(1.1)
    assert got(mine) is None


def test_an_answer_that_another_process_renewed_is_taken_at_once(tmp_path: Path) -> None:
    """Ours in memory expired, theirs did not: who waited for it does not pay once more."""
    clock = Clock()
    mine, other = make(tmp_path, memory_mb=16, clock=clock), make(tmp_path, clock=clock)
    put(mine)
    clock.pass_time(25 * 3600)
    assert got(mine) is None  # so this second's look at the others is over
    put(other, response="Newer.")
    assert got(mine) == "Newer."


# ---------------------------------------------------------------- bundles


def test_a_bundle_carries_answers_to_another_machine(tmp_path: Path) -> None:
    """Those that are fresh, and that are newer than what is there; it is private."""
    clock = Clock()
    here, there = make(tmp_path / "here", clock=clock), make(tmp_path / "there", clock=clock)
    put(here, "expired")
    clock.pass_time(25 * 3600)
    put(here, "both", "Older.")
    put(here, "new")
    clock.pass_time(1)
    put(there, "both", "Newer.")
    bundle = tmp_path / "answers.bundle"
    assert (here.export_bundle(bundle), there.import_bundle(bundle), there.import_bundle(bundle)) == (2, 1, 0)
    assert [got(there, task) for task in ("expired", "both", "new")] == [None, "Newer.", "Fine."]
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    assert is_exact(tmp_path / "there")


def test_a_bundle_is_whole_and_ours_or_refused(tmp_path: Path) -> None:
    """Cut after any line, edited, or signed with another secret: nothing of it is taken."""
    here = make(tmp_path / "here")
    for task in "abc":
        put(here, task)
    bundle, wrong = tmp_path / "answers.bundle", tmp_path / "wrong.bundle"
    here.export_bundle(bundle)
    lines = bundle.read_bytes().splitlines(keepends=True)
    bad = [b"".join(lines[:count]) for count in range(len(lines))]
    bad += [b"".join([*lines[:2], *lines[3:]]), b"".join(lines).replace(b"a", b"b", 1), b"".join([*lines, lines[1]])]
    for content in bad:
        wrong.write_bytes(content)
        with pytest.raises(CacheError, match="is no whole bundle that was signed with our secret"):
            make(tmp_path / "there").import_bundle(wrong)
    with pytest.raises(CacheError, match="CLAUDE_CACHE_SECRET"):
        make(tmp_path / "there", secret="somebody else's secret").import_bundle(bundle)
    with pytest.raises(CacheError, match=r"cannot read .*; give a file"):
        here.import_bundle(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")  # which is not waited for
    with pytest.raises(CacheError, match=r"cannot read .*: it is no regular file; give a file"):
        here.import_bundle(tmp_path / "pipe")
    with pytest.raises(CacheError, match=r"cannot write .*; give a path"):
        here.export_bundle(tmp_path / "nowhere" / "x")
    assert make(tmp_path / "there").get_stats()["entries"] == 0


# ---------------------------------------------------------------- the disk


def test_what_is_written_is_private(tmp_path: Path) -> None:
    """Files 0600, the folder 0700 and ignored by git; a folder that was there is left as it is."""
    cache = make(tmp_path / "a" / "cache")
    put(cache)
    folder = tmp_path / "a" / "cache"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.name != ".gitignore"}
    assert modes == {FILE_NAME: 0o600, FILE_NAME + "-wal": 0o600, FILE_NAME + "-shm": 0o600}
    there = tmp_path / "there"
    there.mkdir()
    put(make(there))
    assert not (there / ".gitignore").exists()


def newer(folder: Path) -> None:
    """A file of a later version."""
    put(make(folder))
    sql(folder, "PRAGMA user_version = 99")


def with_a_trigger(folder: Path) -> None:
    """A file that somebody has prepared."""
    put(make(folder))
    sql(folder, "CREATE TRIGGER evil AFTER INSERT ON entries BEGIN DELETE FROM entries; END")


def link(name: str) -> Callable[[Path], None]:
    """A repository that brings a link along."""

    def plant(folder: Path) -> None:
        folder.mkdir()
        (folder.parent / "precious").write_text("precious")
        (folder / name).symlink_to(folder.parent / "precious")

    return plant


def make_folder(folder: Path) -> None:
    """A folder with its parents."""
    folder.mkdir(parents=True)


def holding(content: str) -> Callable[[Path], None]:
    """A file that is none of ours."""

    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / FILE_NAME).write_text(content)

    return write


BROKEN: dict[str, Callable[[Path], object]] = {
    "a file where the folder belongs": lambda folder: folder.write_text(""),
    "a folder where the file belongs": lambda folder: make_folder(folder / FILE_NAME),
    "an empty file": holding(""),
    "no database": holding("no database " * 999),
    "a newer version": newer,
    "a planted trigger": with_a_trigger,
    "a link": link(FILE_NAME),
    "a link for the log": link(FILE_NAME + "-wal"),
    "a link to nowhere": lambda folder: folder.symlink_to("/proc/nowhere"),
}


@pytest.mark.parametrize("break_it", BROKEN.values(), ids=BROKEN)
def test_a_broken_cache_costs_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, break_it: Callable[[Path], object]
) -> None:
    """One warning, answers in memory, no exception; only who asks for the disk by name hears of it."""
    folder = tmp_path / "cache"
    break_it(folder)
    cache = make(folder, memory_mb=16)
    put(cache)
    put(cache, "another")
    assert (got(cache), cache.get_stats()["on_disk"]) == ("Fine.", False)
    assert [(record.name, record.levelno) for record in caplog.records] == [("claude_force.cache", logging.WARNING)]
    for work in (cache.clear, cache.verify, cache.prune, lambda: list(cache.entries())):
        with pytest.raises(CacheError, match="the cache cannot be used"):
            work()
    precious = tmp_path / "precious"
    assert not precious.exists() or precious.read_text() == "precious"


FULL_DISK = """
import resource, sys
from claude_force.response_cache import ResponseCache
cache = ResponseCache(sys.argv[1], secret="a secret for tests: long enough", memory_mb=1e-6)
cache.set("a", "before", "m", "kept", 1, 1, None)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
for number in range(50):
    cache.set("a", str(number), "m", str(number) * 4000, 1, 1, None)
print(cache.get("a", "before", "m")["response"])
"""


def test_a_full_disk_costs_no_answer(tmp_path: Path) -> None:
    """What fits is kept, what does not is not, one warning says so, and the file is whole afterwards."""
    # Coverage could not be written down either, and would say so.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "kept\n"
    assert done.stderr.count("\n") == 1
    assert "an answer is not kept on disk" in done.stderr
    assert make(tmp_path).verify().is_clean


def test_where_the_cache_lies(tmp_path: Path) -> None:
    """In the project's `.claude`; in the user's where there is no project."""
    (tmp_path / ".claude").mkdir()
    assert cache_folder(tmp_path) == tmp_path / ".claude" / "cache"
    (tmp_path / "other").mkdir()
    assert cache_folder(tmp_path / "other") == Path(os.environ["HOME"]) / ".claude" / "cache"


# ---------------------------------------------------------------- many at once

WRITER = """
import sys
from claude_force.response_cache import ResponseCache
with ResponseCache(sys.argv[1]) as cache:
    for number in range(50):
        cache.set("a", f"{sys.argv[2]} {number}", "m", f"answer {sys.argv[2]} {number}", 1, 1, 0.5)
        assert cache.get("a", f"{sys.argv[2]} {number}", "m")
"""


@pytest.mark.usefixtures("_from_nursery")
def test_eight_processes_lose_nothing(tmp_path: Path) -> None:
    """They make the secret and the file at the same moment, write at once, and every answer and figure is there."""
    folder = tmp_path / "cache"
    writers = [subprocess.Popen(["quick-python", "-c", WRITER, folder, str(n)]) for n in range(8)]
    assert [writer.wait(60) for writer in writers] == [0] * 8
    cache = make(folder, secret=None, clock=SystemClock())
    for writer in range(8):
        for number in range(50):
            assert cache.get("a", f"{writer} {number}", "m")["response"] == f"answer {writer} {number}"  # type: ignore[index]
    assert cache.get_stats()["hits"] == 800
    assert cache.get_stats()["saved_usd"] == 400.0
    assert is_exact(folder)


def test_many_threads_share_one_cache(tmp_path: Path) -> None:
    """No answer and no count is lost."""
    cache = make(tmp_path, memory_mb=0.02)
    wrong: list[str] = []

    def work() -> None:
        name = threading.current_thread().name
        for number in range(40):
            put(cache, f"{name} {number}", f"answer {name} {number}")
            if got(cache, f"{name} {number}") != f"answer {name} {number}":
                wrong.append(f"{name} {number}")

    in_threads(work, 8)
    stats = cache.get_stats()
    assert (wrong, stats["entries"], stats["hits"], stats["session_hits"]) == ([], 320, 320, 320)
    assert is_exact(tmp_path)


def test_a_fork_has_its_own(tmp_path: Path) -> None:
    """A child that was forked from a process with an open cache works, and counts nothing twice."""
    program = f"""
import os
from claude_force.response_cache import ResponseCache
cache = ResponseCache({str(tmp_path)!r}, secret={SECRET!r})
cache.set("a", "t", "m", "kept", 1, 1, None)
cache.get("a", "t", "m")
if os.fork() == 0:
    assert cache.get("a", "t", "m") and cache.get("a", "t", "m")
    cache.set("a", "child", "m", "kept too", 1, 1, None)
    raise SystemExit
os.wait()
assert cache.get("a", "child", "m")
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=120)
    stats = make(tmp_path).get_stats()
    assert (stats["hits"], stats["entries"]) == (4, 2)


KILLED = """
import os, sys
from claude_force.response_cache import ResponseCache
cache = ResponseCache(sys.argv[1], secret="a secret for tests: long enough", max_size_mb=0.05, memory_mb=1e-6)
number = 0
while True:
    number += 1
    cache.set("a", f"{number % 50}", "m", f"answer {number % 50} " * 200, 1, 1, None)
    hit = cache.get("a", f"{number * 7 % 50}", "m")
    assert hit is None or hit["response"] == f"answer {number * 7 % 50} " * 200
    if number == 3:
        print("running", flush=True)
"""


@pytest.mark.usefixtures("_from_nursery")
def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    """During writes and evictions of two processes: what is there is whole, and the size is right.

    `CLAUDE_FORCE_CRASH_ROUNDS=200` makes it the long test.
    """
    for _ in range(CRASH_ROUNDS):
        command = ["quick-python", "-c", KILLED, str(tmp_path)]
        writers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"running\n"
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
        with make(tmp_path, max_size_mb=0.05) as cache:
            check = cache.verify()
            assert check.is_clean
            assert check.checked > 0
            for kept in cache.entries():
                assert kept.response == f"answer {kept.task} " * 200
            assert cache.get_stats()["size_mb"] <= 0.05
        assert is_exact(tmp_path)


def test_a_start_imports_nothing_heavy() -> None:
    """A hit in the shell must not wait for what it does not need."""
    heavy = ["anthropic", "pydantic", "asyncio", "rich", "sqlite3", "logging", "platformdirs"]
    loaded = f"[name for name in {heavy!r} if name in sys.modules]"
    program = f"import sys; before = {loaded}; import claude_force.response_cache; print(set({loaded}) - set(before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---------------------------------------------------------------- the law


class AgainstADict(RuleBasedStateMachine):
    """Whatever happens in whatever order, the cache does as a plain dict with the same rules."""

    LIMIT = 5_000
    TTL_S = 3600.0

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.cache = self.opened()
        self.model: dict[str, tuple[float, str, int]] = {}  # task: time, answer, size; the last used last
        self.hits = self.misses = 0

    def opened(self) -> ResponseCache:
        """The cache, as a new process finds it."""
        limit = self.LIMIT / MB
        return make(Path(self.folder.name), ttl_hours=self.TTL_S / 3600, max_size_mb=limit, clock=self.clock)

    tasks = st.sampled_from("abcdefgh")

    @rule(task=tasks, response=st.text(min_size=1, max_size=1200))
    def keep(self, task: str, response: str) -> None:
        """An answer comes in."""
        put(self.cache, task, response)
        now = self.clock.now().timestamp()
        size = len(sealed_of(Path(self.folder.name), task) or b"") + ENTRY_OVERHEAD_BYTES
        self.model.pop(task, None)
        self.model[task] = (now, response, size)
        while sum(size for _, _, size in self.model.values()) > self.LIMIT:
            del self.model[next(iter(self.model))]

    @rule(task=tasks)
    def ask(self, task: str) -> None:
        """An answer is asked for."""
        kept = self.model.get(task)
        is_fresh = kept is not None and -300 <= self.clock.now().timestamp() - kept[0] < self.TTL_S
        assert got(self.cache, task) == (kept[1] if kept and is_fresh else None)
        self.hits += is_fresh
        self.misses += not is_fresh
        if kept and is_fresh:
            self.model[task] = self.model.pop(task)

    @rule(task=tasks)
    def delete(self, task: str) -> None:
        """One is removed."""
        assert self.cache.delete("linter", task, "haiku") is (self.model.pop(task, None) is not None)

    @rule(seconds=st.floats(0, 5000))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.clock.pass_time(seconds)

    @rule(seconds=st.floats(-5000, 5000))
    def jump(self, seconds: float) -> None:
        """The clock is set."""
        self.clock.jump(seconds)

    @rule()
    def reopen(self) -> None:
        """The process ends and another one goes on."""
        self.cache.close()
        self.cache = self.opened()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def forge(self, data: st.DataObject) -> None:
        """Somebody edits an entry, and somebody asks for it."""
        task = data.draw(st.sampled_from(sorted(self.model)))
        key = key_of("linter", task, "haiku", "")
        sql(Path(self.folder.name), "UPDATE entries SET sealed = zeroblob(length(sealed)) WHERE key = ?", key)
        assert got(self.cache, task) is None
        self.misses += 1
        del self.model[task]
        sql(Path(self.folder.name), "DELETE FROM quarantine")

    @rule()
    def prune(self) -> None:
        """What expired is removed."""
        now = self.clock.now().timestamp()
        old = [task for task, (time, _, _) in self.model.items() if not -300 <= now - time < self.TTL_S]
        assert self.cache.prune() == len(old)
        for task in old:
            del self.model[task]

    @invariant()
    def the_figures_are_exact(self) -> None:
        """Size, entries, order and counts are those of the dict."""
        stats = self.cache.get_stats()
        size = sum(size for _, _, size in self.model.values())
        assert (round(stats["size_mb"] * MB), stats["entries"]) == (size, len(self.model))
        assert (stats["hits"], stats["misses"]) == (self.hits, self.misses)
        assert stats["size_mb"] * MB <= self.LIMIT
        assert {kept.task for kept in self.cache.entries()} == set(self.model)

    def teardown(self) -> None:
        """The end of one example."""
        self.cache.close()
        self.folder.cleanup()


def sealed_of(folder: Path, task: str) -> bytes | None:
    """What lies on disk for a task."""
    rows = sql(folder, "SELECT sealed FROM entries WHERE key = ?", key_of("linter", task, "haiku", ""))
    return rows[0][0] if rows else None


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_entries_are_json_ready(tmp_path: Path) -> None:
    """An entry can be shown to a machine."""
    cache = make(tmp_path)
    put(cache)
    (kept,) = cache.entries()
    assert json.loads(msgspec.json.encode(msgspec.structs.asdict(kept)))["response"] == "Fine."


# ---------------------------------------------------------------- encryption


def test_encryption(tmp_path: Path) -> None:
    """Nothing of an answer can be read on disk, and who has the secret gets it back, with or without the option."""
    with make(tmp_path, encrypt=True) as cache:
        put(cache, "A secret task.", "A secret answer. " * 1000)
        assert got(cache, "A secret task.") == "A secret answer. " * 1000
    assert b"secret" not in (tmp_path / FILE_NAME).read_bytes()
    assert got(make(tmp_path), "A secret task.") == "A secret answer. " * 1000
    sql(tmp_path, "UPDATE entries SET key = ?", KEY)
    assert got(make(tmp_path)) is None


def test_encryption_without_its_library(tmp_path: Path) -> None:
    """Who asks for it is told what to install; nothing is kept in the clear instead."""
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        f"from claude_force import ResponseCache; ResponseCache({str(tmp_path)!r}, encrypt=True)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'claude-force[encryption]'" in done.stderr
    assert list(tmp_path.iterdir()) == []
