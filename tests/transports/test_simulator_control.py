"""The simulator as a thing that is started, watched, held back and stopped: threads, sockets, counts, determinism."""

import asyncio
import gc
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import anthropic
import pytest

from claude_force import testing
from claude_force.base.errors import InputError
from claude_force.testing import ALLOW_REAL_CALLS, ApiFault, Latency, Simulator, simulator
from tests.transports.conftest import ASK, HEADERS, call

__all__ = ["simulator"]  # a fixture, for pytest to find

MANY = 2000


def ask(running: Simulator, **more: Any) -> Any:
    """The JSON of a plain HTTP request."""
    return call(running, body={**ASK, **more})[2]


def task(number: int) -> dict[str, Any]:
    """A request of its own."""
    return {"messages": [{"role": "user", "content": f"task {number}"}]}


def raw_request(body: dict[str, Any]) -> bytes:
    """The bytes of a request."""
    raw = json.dumps(body).encode()
    head = ["POST /v1/messages HTTP/1.1", "x-api-key: k", "anthropic-version: 1", f"content-length: {len(raw)}"]
    return "\r\n".join([*head, "", ""]).encode() + raw


def open_files() -> int:
    """How many this process has; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_stopping_leaves_nothing_behind() -> None:
    """No thread, no socket, no warning: with clients that wait, that stream, that are idle and that just connect."""
    gc.collect()  # what other tests forgot is none of ours
    threads, files = threading.active_count(), open_files()
    for _ in range(3):
        with ExitStack() as clients:
            with Simulator(latency=Latency(per_token_s=0.01)) as running:
                port = int(running.base_url.rpartition(":")[2])
                running.hold()
                for body in (ASK, {**ASK, "stream": True}, None):
                    client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
                    client.sendall(raw_request(body) if body else b"")
                running.wait_until(lambda stats: stats.in_flight == 2 and stats.connections_open == 3)
                running.release(1)
                for _ in range(20):
                    clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert running.stats.connections_open == 0
            assert running.stats.in_flight == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    gc.collect()  # a socket that was forgotten warns here, and warnings are errors
    assert threading.active_count() == threads
    assert open_files() == files


def test_it_can_be_stopped_and_started_again() -> None:
    """A server that goes away and comes back keeps its address, its script and its counts."""
    running = Simulator(["one", "two"])
    running.start()
    url = running.base_url
    assert running.start() is running
    assert ask(running)["content"][0]["text"] == "one"
    running.stop()
    running.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(running)
    with running:
        assert running.base_url == url
        assert ask(running)["content"][0]["text"] == "two"
        assert running.stats.calls == {"/v1/messages": 2}


def test_many_simulators_live_side_by_side() -> None:
    """Each has its own port, script and counts."""
    with ExitStack() as stack:
        all_ = [stack.enter_context(Simulator(f"number {number}")) for number in range(20)]
        assert [ask(each)["content"][0]["text"] for each in all_] == [f"number {number}" for number in range(20)]
        assert len({each.base_url for each in all_}) == 20
        assert all(each.stats.calls == {"/v1/messages": 1} for each in all_)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "example.com", ""])  # noqa: S104 - refused
def test_only_loopback_is_served(host: str) -> None:
    """A server that checks nothing must not be reachable from elsewhere."""
    with pytest.raises(InputError, match="cannot listen on"):
        Simulator(host=host)


def test_a_port_that_is_taken_is_said_so() -> None:
    """The error names the port and the way out, and leaves no thread."""
    threads = threading.active_count()
    with Simulator() as first:
        port = int(first.base_url.rpartition(":")[2])
        with pytest.raises(InputError, match=f"cannot listen on port {port}: .*; use port 0"):
            Simulator(port=port).start()
    assert threading.active_count() == threads


def test_same_seed_same_answers() -> None:
    """Ids, texts and latencies are the same in every run and in any order of arrival, and differ with the seed."""

    def run(seed: int, order: range) -> dict[int, Any]:
        with Simulator(seed=seed) as running:
            return {number: ask(running, **task(number)) for number in order}

    first = run(1, range(5))
    assert first == run(1, range(4, -1, -1))
    assert len({reply["id"] for reply in first.values()}) == 5
    other = run(2, range(5))
    assert all(first[number]["id"] != other[number]["id"] for number in first)
    assert all(first[number]["content"] != other[number]["content"] for number in first)


def test_the_same_request_twice_gets_the_same_text_and_another_id() -> None:
    """As with the API, an id names one reply."""
    with Simulator() as running:
        first, second = ask(running), ask(running)
    assert first["content"] == second["content"]
    assert first["id"] != second["id"]


def test_answers_are_held_until_released() -> None:
    """A test can have any number of requests in flight at once, and let them go one by one, without sleeping."""
    with Simulator(lambda request: request.prompt) as running, ThreadPoolExecutor(8) as pool:
        running.hold()
        futures = [pool.submit(ask, running, **task(number)) for number in range(8)]
        assert running.wait_until(lambda stats: stats.in_flight == 8).max_in_flight == 8
        assert not any(future.done() for future in futures)
        running.release(3)
        running.wait_until(lambda stats: stats.in_flight == 5)
        running.hold()
        assert running.stats.statuses == {200: 3}
        running.release()
        assert {future.result()["content"][0]["text"] for future in futures} == {f"task {n}" for n in range(8)}
        assert ask(running)["type"] == "message"


def test_a_pass_goes_to_a_client_that_is_still_there() -> None:
    """One client waits and leaves, another waits: `release(1)` is for the other."""
    with Simulator() as running, ThreadPoolExecutor(1) as pool:
        running.hold()
        port = int(running.base_url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as leaving:
            leaving.sendall(raw_request(ASK))
            running.wait_until(lambda stats: stats.in_flight == 1)
        running.wait_until(lambda stats: stats.abandoned == 1)
        other = pool.submit(ask, running)
        running.wait_until(lambda stats: stats.in_flight == 1)
        running.release(1)
        assert other.result(timeout=10)["type"] == "message"


def test_passes_may_be_given_before_anybody_comes() -> None:
    """`release(1)` on a held simulator lets the next request through, whenever it arrives."""
    with Simulator("hello") as running, ThreadPoolExecutor(1) as pool:
        running.hold()
        running.release(1)
        assert ask(running)["type"] == "message"
        late = pool.submit(ask, running)
        running.wait_until(lambda stats: stats.in_flight == 1)
        assert not late.done()
        running.release()
        assert late.result()["type"] == "message"


def test_a_client_that_leaves_is_counted_and_forgotten() -> None:
    """A cancelled call closes its connection; held or not, nothing is sent to nobody."""

    async def leave(running: Simulator) -> None:
        async with anthropic.AsyncAnthropic(base_url=running.base_url, api_key="k", max_retries=0) as client:
            call = asyncio.create_task(client.messages.create(**ASK))
            await asyncio.to_thread(running.wait_until, lambda stats: stats.in_flight == 1)
            call.cancel()
            await asyncio.to_thread(running.wait_until, lambda stats: stats.abandoned == 1)
            assert call.cancelled() or await asyncio.wait({call})

    with Simulator() as running:
        running.hold()
        asyncio.run(leave(running))
        running.release()
        assert running.stats.usage == {}
        assert running.stats.in_flight == 0
        assert ask(running)["type"] == "message"


def test_waiting_for_what_does_not_come_ends_with_the_counts() -> None:
    """The error says how far it got."""
    with Simulator() as running:
        ask(running)
        with pytest.raises(TimeoutError, match="'/v1/messages': 1"):
            running.wait_until(lambda stats: stats.calls["/v1/messages"] == 2, timeout_s=0.01)


def test_requests_are_recorded_as_they_came() -> None:
    """Body, headers, path and number of the last requests, and no more than asked for."""
    with Simulator(max_recorded=2) as running, Simulator(max_recorded=0) as silent:
        for number in range(3):
            ask(running, **task(number))
            ask(silent)
        last = running.requests[-1]
        assert [request.prompt for request in running.requests] == ["task 1", "task 2"]
        assert (last.number, last.method, last.path, last.model) == (3, "POST", "/v1/messages", "claude-sonnet-5-5")
        assert last.headers["x-api-key"] == "k"
        assert last.body == {**ASK, **task(2)}
        assert silent.requests == ()


def test_every_call_is_counted_once() -> None:
    """Many threads, all paths: the counts add up."""
    with Simulator(faults=[ApiFault(529)] * 10) as running, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: ask(running, **task(number)), range(100)))
        stats = running.wait_until(lambda stats: stats.connections_open == 0)
    assert stats.calls == {"/v1/messages": 100}
    assert stats.statuses == {200: 90, 529: 10}
    assert (stats.in_flight, stats.connections_made) == (0, 100)
    assert 1 <= stats.max_in_flight <= 16
    assert stats.usage["claude-sonnet-5-5"].input_tokens == 90 * 2


def test_two_thousand_clients_at_once() -> None:
    """Each holds its connection with a request in flight, and each gets its own answer."""
    with Simulator(lambda request: request.prompt, max_recorded=0) as running, ExitStack() as stack:
        resource = pytest.importorskip("resource", reason="this system tells no limit of open files")
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= soft < 2 * MANY + 200:
            pytest.skip(f"only {soft} files may be open here; client and server need {2 * MANY + 200}")
        running.hold()
        port = int(running.base_url.rpartition(":")[2])
        clients = []
        for number in range(MANY):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=120))
            client.sendall(raw_request({**ASK, **task(number)}))
            clients.append(client)
        stats = running.wait_until(lambda stats: stats.in_flight == MANY, timeout_s=120)
        assert stats.connections_open == MANY
        running.release()
        for number, client in enumerate(clients):
            assert f'"text":"task {number}"' in client.recv(65536).decode()


def test_the_fixture_sends_the_sdk_to_the_simulator(simulator: Simulator) -> None:
    """A user's test needs the fixture and nothing else; real calls are forbidden meanwhile."""
    with anthropic.Anthropic() as client:
        assert client.messages.create(**ASK).stop_reason == "end_turn"
    assert simulator.stats.calls == {"/v1/messages": 1}
    assert os.environ[ALLOW_REAL_CALLS] == "0"


def test_the_door_for_users_is_complete() -> None:
    """Every name that is promised is there."""
    assert all(hasattr(testing, name) for name in testing.__all__)


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


def test_it_works_without_pytest_and_without_the_sdk() -> None:
    """The simulator needs the standard library only: importing it must stay cheap, for `--offline`."""
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from claude_force.testing import Simulator\n"
        "with Simulator() as running: print(running.base_url.startswith('http://127.0.0.1:'))\n"
        "print(sorted({'anthropic', 'pydantic', 'httpx2', 'aiohttp', 'msgspec', 'click'} & sys.modules.keys()))\n"
    )
    assert run_python(code) == "True\n[]"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serving_ends_with_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    """`serve` says where it listens, answers, and returns the signal that ended it."""
    code = (
        "from claude_force.transports.simulator import serve\n"
        "print(serve(0, on_ready=lambda url: print(url, flush=True)).name)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        with closing(connection):
            connection.request("GET", "/v1/models", headers=HEADERS)
            assert connection.getresponse().status == 200
        process.send_signal(number)
        assert process.stdout.read().strip() == number.name
    assert process.returncode == 0
