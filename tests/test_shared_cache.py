"""One cache for many machines, on a real Valkey: what is shared is believed as on disk, and nothing costs an answer."""

import asyncio
import logging
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic  # noqa: F401 - not within the time limits of calls
import pytest
import redis

from claude_force import AsyncAgentOrchestrator, CacheError, ConfigError, ResponseCache
from claude_force.response_cache import key_of
from claude_force.stores.redis import AWAY_S, PREFIX
from claude_force.testing import Simulator

from .conftest import MovedClock, asker, asking, calls, counted

Face = Callable[..., Any]
SECRET = "a secret for tests: long enough"
KEY = key_of("linter", "Check it.", "haiku", "")
NAME = f"{PREFIX}entry:{KEY}"


@pytest.fixture
def make(valkey: str) -> Iterator[Callable[..., ResponseCache]]:
    """A machine's cache on the server, that keeps nothing in memory."""
    made = []

    def make(**options: Any) -> ResponseCache:
        defaults: dict[str, Any] = {"url": valkey, "secret": SECRET, "memory_mb": 1e-6, "clock": MovedClock()}
        made.append(ResponseCache(**(defaults | options)))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


@pytest.fixture
def shared(project: Path, valkey: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose answers are kept on the server."""
    monkeypatch.setenv("CLAUDE_CACHE_URL", valkey)
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", SECRET)
    return project


def put(cache: ResponseCache, task: str = "Check it.", response: str = "Fine.") -> None:
    """Keep one answer."""
    cache.set("linter", task, "haiku", response, 90, 4, 0.25)


def got(cache: ResponseCache, task: str = "Check it.") -> str | None:
    """The answer that is served."""
    hit = cache.get("linter", task, "haiku")
    return None if hit is None else str(hit["response"])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said, but for the server's limits, of which it has none here."""
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [line for line in said if not line.startswith("nothing bounds the cache")]


# ---------------------------------------------------------------- what is shared


def test_machines_share_answers_and_figures(make: Callable[..., ResponseCache], tmp_path: Path) -> None:
    """What one has paid for the others are given, and what they saved is one sum; no folder is made."""
    one, other = make(cache_dir=tmp_path / "one"), make(cache_dir=tmp_path / "other")
    assert got(one) is None
    put(one)
    assert got(other) == got(one) == "Fine."
    for cache in (one, other):
        cache.close()
    stats = one.get_stats()
    assert (stats["entries"], stats["hits"], stats["misses"], stats["saved_usd"]) == (1, 2, 1, 0.5)
    assert (stats["size_mb"] > 0, stats["max_size_mb"], stats["on_disk"]) == (True, None, True)
    assert [(entry.task, entry.hit_count) for entry in other.entries()] == [("Check it.", 2)]
    assert list(tmp_path.iterdir()) == []
    assert other.export_bundle(tmp_path / "bundle") == other.clear() == 1
    assert one.import_bundle(tmp_path / "bundle") == 1
    assert got(other) == "Fine."


def test_an_answer_stays_for_what_is_left_of_its_time(make: Callable[..., ResponseCache], client: redis.Redis) -> None:
    """One that was brought along from elsewhere is as old on the server as it was there."""
    clock = MovedClock()
    cache = make(clock=clock, ttl_hours=3)
    put(cache)
    entry = cache.peek(KEY, agent_name="linter")
    assert entry
    clock.seconds = 3600
    cache.keep(entry)
    assert 2 * 3600 - 60 < client.ttl(NAME) <= 2 * 3600


def test_both_faces_share(face: Face, shared: Path) -> None:
    """Another machine's call is answered by the first one's, at no cost; nothing is kept on the disk."""
    with Simulator(answer=counted) as simulator:
        results = []
        for _ in range(2):
            with asking(face, simulator) as subject:
                results += [subject.execute_agent("reviewer", "same") for _ in range(2)]
    assert results == ["answer 1"] * 4
    assert [result.cached for result in results] == [False, True, True, True]
    assert not (shared / ".claude/cache").exists()


def test_another_machine_is_noticed(make: Callable[..., ResponseCache]) -> None:
    """What it cleared, removed or replaced is not served from memory for longer than a second.

    Who must not wait is given nothing when it is time to look.
    """
    clock = MovedClock()
    mine, other = make(memory_mb=16, clock=clock), make(clock=clock)

    def remembered() -> bool:
        return mine.lookup(KEY, agent_name="linter", in_memory=True) is not None

    put(mine)
    assert got(mine) == "Fine."
    for change in (
        other.clear,
        lambda: other.prune(agent="linter"),
        lambda: other.delete("linter", "Check it.", "haiku"),
    ):
        put(mine)
        clock.seconds += 1.1
        assert not remembered()
        assert got(mine) == "Fine."
        assert remembered()
        assert change() == 1
        clock.seconds += 1.1
        assert not remembered()
        assert got(mine) is None
    put(mine)
    put(other, response="Newer.")
    clock.seconds += 1.1
    assert got(mine) == "Newer."


def test_another_machine_is_noticed_whatever_becomes_of_figures(
    make: Callable[..., ResponseCache], client: redis.Redis
) -> None:
    """Where somebody has put something else in their place, they are not written down, and that is all."""
    clock = MovedClock()
    mine, other = make(memory_mb=16, clock=clock), make(clock=clock)
    put(mine)
    assert got(mine) == "Fine."
    client.set(f"{PREFIX}hits", "no figures")
    assert other.clear() == 1
    clock.seconds += 1.1
    assert got(mine) is None


def test_without_a_secret_of_all_it_is_refused(valkey: str) -> None:
    """One that only this machine has would make every other machine miss; the address is shown without its password."""
    url = valkey.replace("//", "//app:sesame@")
    with pytest.raises(ConfigError, match="CLAUDE_CACHE_SECRET") as refused:
        ResponseCache(url=url)
    assert "sesame" not in str(refused.value)
    ResponseCache(url=url, environment={"CLAUDE_CACHE_SECRET": SECRET}).close()


def edit(client: redis.Redis, _: ResponseCache) -> None:
    """Some bytes of the answer."""
    sealed = client.hget(NAME, "sealed")
    assert isinstance(sealed, bytes)
    client.hset(NAME, "sealed", sealed[:-9] + bytes(9))


def copy(client: redis.Redis, cache: ResponseCache) -> None:
    """Another question's answer."""
    put(cache, "Something else.", "Wrong.")
    client.copy(f"{PREFIX}entry:{key_of('linter', 'Something else.', 'haiku', '')}", NAME, replace=True)


def sign_otherwise(_: redis.Redis, cache: ResponseCache) -> None:
    """By who has another secret."""
    with ResponseCache(url=cache._server._url, secret="another secret, as long", clock=MovedClock()) as other:  # type: ignore[union-attr] # it has one
        put(other, response="Wrong.")


def make_it_a_text(client: redis.Redis, _: ResponseCache) -> None:
    """As another program would keep it."""
    client.set(NAME, "Wrong.")


@pytest.mark.parametrize("forge", [edit, copy, sign_otherwise, make_it_a_text])
def test_what_others_write_is_a_miss(
    make: Callable[..., ResponseCache],
    client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    forge: Callable[[redis.Redis, ResponseCache], None],
) -> None:
    """Counted, said, and moved out of the way; the next answer takes its place."""
    cache = make()
    put(cache)
    forge(client, cache)
    assert not cache.verify().is_clean
    assert got(cache) is None
    stats = cache.get_stats()
    assert (stats["integrity_failures"], stats["quarantined"]) == (1, 1)
    assert any("not ours" in line for line in warnings(caplog))
    put(cache)
    assert got(cache) == "Fine."
    assert cache.verify().is_clean


# ---------------------------------------------------------------- outages


def test_an_outage_costs_the_cache_and_ends_by_itself(
    make: Callable[..., ResponseCache], valkey_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning for each; what is in memory is served meanwhile, figures are kept for later, and hits come back."""
    clock = MovedClock()
    cache = make(memory_mb=16, clock=clock)
    put(cache, "before")
    for outage in (1, 2):
        release = cache._claim(KEY, "linter", is_blocking=False)
        valkey_server.stop(signal.SIGKILL)
        clock.seconds += 2
        assert release is not None
        release()  # which meets it first, and says nothing
        put(cache, f"during {outage}")
        assert (got(cache, f"during {outage}"), got(cache, "never asked")) == ("Fine.", None)
        with pytest.raises(CacheError, match="cannot be used"):
            cache.clear()
        assert cache.get_stats()["on_disk"] is False
        assert len(warnings(caplog)) == outage
        valkey_server.start()
        clock.seconds += AWAY_S
        put(cache, "after")
        assert got(make(), "after") == "Fine."
    cache.close()
    agent = cache.get_stats()["by_agent"]["linter"]
    assert (agent["hits"], agent["misses"], agent["saved_usd"]) == (2, 2, 0.5)


def test_a_server_that_is_down_costs_no_call(
    face: Face, shared: Path, valkey_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """From the first call on; and one that comes later is taken."""
    valkey_server.stop()
    with Simulator(answer=counted) as simulator, asking(face, simulator) as subject:
        assert [subject.execute_agent("reviewer", task) for task in "xyx"] == ["answer 1", "answer 2", "answer 1"]
    valkey_server.start()
    assert shared.exists()
    (line,) = warnings(caplog)
    assert line.startswith("answers are kept in memory only, until the server answers again: redis://127.0.0.1")


def test_a_wrong_password_is_a_warning_without_it(
    face: Face, shared: Path, valkey: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The cache is off, and the log does not have it."""
    monkeypatch.setenv("CLAUDE_CACHE_URL", valkey.replace("//", "//default:sesame@").replace("default", "nobody"))
    with Simulator(answer=counted) as simulator, asking(face, simulator) as subject:
        assert subject.execute_agent("reviewer", "x") == "answer 1"
    assert shared.exists()
    (line,) = warnings(caplog)
    assert "does not let us in" in line
    assert "sesame" not in caplog.text


def test_a_full_server_costs_the_cache(
    make: Callable[..., ResponseCache], client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said that nothing bounds it; one that is full and removes nothing keeps what it has, and no call fails."""
    cache = make()
    put(cache)
    assert "nothing bounds the cache" in caplog.text
    client.config_set("maxmemory", "1")
    try:
        for task in ("x", "y"):
            put(cache, task)
        assert (got(cache), got(cache, "x")) == ("Fine.", None)
    finally:
        client.config_set("maxmemory", "0")
    (line,) = warnings(caplog)
    assert "set its maxmemory-policy to allkeys-lru" in line


def test_the_server_makes_room(make: Callable[..., ResponseCache], client: redis.Redis) -> None:
    """With a limit and an LRU of its own: what it removes is a miss, and what it has is right."""
    cache = make()
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 1_000_000)
    try:
        texts = {f"{number}": f"answer {number} " * 400 for number in range(600)}
        for task, text in texts.items():
            put(cache, task, text)
        found = {task: text for task in texts for text in [got(cache, task)] if text is not None}
        assert 0 < len(found) < 600
        assert found.items() <= texts.items()
        stats = cache.get_stats()
        assert 0 < stats["entries"] <= len(found)  # to ask takes memory, too
        assert stats["evictions"] > 0
    finally:
        client.config_set("maxmemory", "0")
        client.config_set("maxmemory-policy", "noeviction")


# ---------------------------------------------------------------- many machines at once


def claimed(client: redis.Redis) -> int:
    """How often anybody has tried to."""
    return int(client.info("commandstats").get("cmdstat_set", {}).get("calls", 0))


@pytest.mark.usefixtures("_from_nursery", "shared")
def test_a_killed_holder_is_taken_over(client: redis.Redis) -> None:
    """Those who ask the same wait for it; when its claim is over one of them asks, and all have that answer."""
    with Simulator(answer="Fine.") as simulator:
        simulator.hold()
        holder = asker(simulator)
        simulator.wait_until(lambda stats: stats.in_flight == 1, timeout_s=120)
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
        (claim,) = client.scan_iter(f"{PREFIX}claim:*")
        assert 0 < client.pttl(claim) <= 15_000
        before = claimed(client)
        others = [asker(simulator) for _ in range(2)]
        while claimed(client) < before + 10:
            client.pexpire(claim, 15_000)  # time stands still until both have looked
        assert calls(simulator) == 1
        client.delete(claim)  # and now it is over
        simulator.wait_until(lambda stats: stats.calls["/v1/messages"] == 2, timeout_s=120)
        simulator.release()
        assert [other.communicate(timeout=120)[0] for other in others] == ["Fine.\n"] * 2
        assert calls(simulator) == 2
    assert list(client.scan_iter(f"{PREFIX}claim:*")) == []


STORM = """
import select, sys, time
from datetime import UTC, datetime
from claude_force.response_cache import ResponseCache

class Clock:  # on which a server that was lost is asked again after a twentieth of a second
    now = staticmethod(lambda: datetime.now(UTC))
    monotonic = staticmethod(lambda: time.monotonic() * 100)
    roll = staticmethod(lambda: 0.5)

def ask(number):
    hit = cache.get("linter", f"{number}", "m")
    assert hit is None or hit["response"] == f"answer {number} " * 100, "a wrong answer"
    return hit is not None

cache = ResponseCache(url=sys.argv[1], secret=sys.argv[2], memory_mb=1e-6, clock=Clock())
number, least = int(sys.argv[3]), int(sys.argv[4])
operations = 0
print("ready", flush=True)
while operations < least or not select.select([sys.stdin], [], [], 0)[0]:
    number += 7
    cache.set("linter", f"{number % 50}", "m", f"answer {number % 50} " * 100, 1, 1, None)
    ask(number * 3 % 50)
    operations += 2
while not ask(0):  # it is back
    cache.set("linter", "0", "m", "answer 0 " * 100, 1, 1, None)
print(operations, flush=True)
"""


@pytest.mark.usefixtures("_from_nursery")
def test_eight_processes_while_the_server_is_restarted(
    make: Callable[..., ResponseCache], valkey: str, valkey_server: Any
) -> None:
    """No wrong answer, no exception, and each goes on with the server that is back."""
    command = ["quick-python", "-c", STORM, valkey, SECRET]
    processes = [
        subprocess.Popen([*command, str(n), "200"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(8)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        valkey_server.stop(how)
        valkey_server.start()
    for process in processes:
        assert process.stdin
        process.stdin.write("enough\n")
        process.stdin.flush()
    operations = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8  # each had a hit in the end, after the last restart
    assert min(operations) >= 200
    cache = make()
    assert cache.verify().is_clean
    assert cache.get_stats()["integrity_failures"] == 0


# ---------------------------------------------------------------- the event loop


@asynccontextmanager
async def relay(valkey: str, pause: Callable[[bytes], Any]) -> AsyncIterator[str]:
    """The address of somebody in between, who lives on this very loop: if it is held up, nobody is answered."""
    there = urlsplit(valkey)
    handlers: list[asyncio.Task[Any] | None] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await pause(data)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        server = await asyncio.open_connection(there.hostname, there.port)
        await asyncio.gather(pass_on(reader, server[1]), pass_on(server[0], writer), return_exceptions=True)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as relay:
        yield f"redis://127.0.0.1:{relay.sockets[0].getsockname()[1]}/0"
        await asyncio.gather(*filter(None, handlers))


@pytest.mark.usefixtures("shared")
async def test_the_loop_goes_on_while_the_server_is_asked(
    valkey: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To look, to claim, to keep and to let go: none of it is done on the loop."""

    async def pause(_: bytes) -> None:
        await asyncio.sleep(0)

    async with relay(valkey, pause) as address:
        monkeypatch.setenv("CLAUDE_CACHE_URL", address)
        with Simulator(answer=counted) as simulator:
            for _ in range(2):
                async with AsyncAgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
                    results = await asyncio.gather(*(subject.execute_agent("reviewer", task) for task in "xyxy"))
                    assert sorted(set(results)) == ["answer 1", "answer 2"]
                    await asyncio.to_thread(subject.response_cache.close)
            assert calls(simulator) == 2
    assert warnings(caplog) == []


@pytest.mark.usefixtures("shared")
async def test_a_call_that_is_cancelled_leaves_no_claim(valkey: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even in the moment in which the server grants it: nobody would end it, and others would wait for nothing."""
    claiming, granted = asyncio.Event(), asyncio.Event()

    async def pause(data: bytes) -> None:
        if b":claim:" in data:
            claiming.set()
            await granted.wait()

    async with relay(valkey, pause) as address:
        monkeypatch.setenv("CLAUDE_CACHE_URL", address)
        with Simulator(answer=counted) as simulator:
            async with AsyncAgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
                call = asyncio.create_task(subject.execute_agent("reviewer", "x"))
                await claiming.wait()
                call.cancel()
                granted.set()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert calls(simulator) == 0
                with redis.Redis.from_url(valkey) as client:
                    assert list(client.scan_iter(f"{PREFIX}claim:*")) == []
                assert await subject.execute_agent("reviewer", "x") == "answer 1"
                await asyncio.to_thread(subject.response_cache.close)
