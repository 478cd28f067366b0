"""`claude-force serve`, as a process of its own, asked over a real port."""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anthropic  # noqa: F401 - it takes seconds, which are not a test's
import httpx2
import pytest

from claude_force import PerformanceTracker
from claude_force.apps.dashboard.routes import ROUTES
from claude_force.testing import Hang, Simulator

from .conftest import Run, Start

TOKEN = "a token that nobody guesses"
WAIT_S = 120.0
ANYWHERE = "0.0.0.0"  # noqa: S104 - it is what is tested

WORKFLOW = {
    "steps": [
        {"id": "first", "agent": "reviewer", "task": "Look at {{ inputs.what }}."},
        {"id": "second", "agent": "reviewer", "task": "Look again.", "dependencies": ["first"]},
    ],
    "inputs": {"what": {"required": True}},
}


class Served(NamedTuple):
    """A server that runs."""

    process: subprocess.Popen[str]
    link: str
    """What it has printed."""
    client: httpx2.Client

    @property
    def origin(self) -> str:
        return str(self.client.base_url).rstrip("/")

    def get(self, path: str, **options: Any) -> Any:
        """The JSON document there."""
        response = self.client.get(path, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, document: object) -> httpx2.Response:
        return self.client.post(path, json=document)


class Told(NamedTuple):
    """One server-sent event."""

    id: str | None
    kind: str
    data: Any


Serve = Callable[..., Served]


@pytest.fixture
def project(project: Path) -> Path:
    """With a workflow of two steps."""
    (project / ".claude/workflows").mkdir()
    (project / ".claude/workflows/look.json").write_text(json.dumps(WORKFLOW))
    return project


@pytest.fixture
def serve(start: Start) -> Iterator[Serve]:
    """Starts a server, and waits until it listens."""
    clients: list[httpx2.Client] = []

    def serve(*args: str, **env: str) -> Served:
        process = start("serve", "--port", "0", *args, **env)
        assert process.stdout
        link = process.stdout.readline().strip()
        assert link, process.communicate()[1]
        client = httpx2.Client(base_url=link.partition("/login")[0], timeout=WAIT_S, trust_env=False)
        clients.append(client)
        return Served(process, link, client)

    yield serve
    for client in clients:
        client.close()


def told(response: httpx2.Response) -> Iterator[Told]:
    """The events of a stream."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            yield Told(fields.get("id"), fields["event"], json.loads(fields["data"]))
            fields = {}


def listen(server: Served, **headers: str) -> Any:
    """The stream of events, as a context manager."""
    return server.client.stream("GET", "/api/events", headers=headers)


# ---------------------------------------------------------------- what it shows


def test_figures_are_those_of_analytics(serve: Serve, run: Run, project: Path) -> None:
    """Each figure of the overview is that of `analytics --json`, to the digit, and what others write is in the next."""
    tracker = PerformanceTracker(project / ".claude/metrics")
    for number in range(1, 41):
        tracker.track_execution(
            f"agent-{number % 3}",
            "x",
            success=number % 7 > 0,
            execution_time_ms=number * 317.7,
            model=f"model-{number % 2}",
            input_tokens=number,
            output_tokens=number * 3,
            error_type=None if number % 7 else "OverloadedError",
        )
    with tracker.path.open("a") as ledger:
        ledger.write("{torn")
    server = serve()
    shown = server.get("/api/overview")
    total = json.loads(run("analytics", "summary", "--json").stdout)
    for kind in ("agent", "model"):
        assert [group["name"] for group in shown[f"by_{kind}"]] == [group[kind] for group in total.pop(f"{kind}s")]
    assert {**shown["total"], "unreadable_lines": shown["unreadable_lines"]} == total
    by_agent = json.loads(run("analytics", "by-agent", "--json").stdout)
    assert [{"agent": group.pop("name"), **group} for group in shown["by_agent"]] == by_agent
    assert sum(bar["executions"] for bar in shown["latency"]) == 40 - 5
    assert shown["today"]["executions"] == 40
    assert (shown["agents"], shown["problems"]) == (["agent-0", "agent-1", "agent-2"], {})

    of_one = server.get("/api/overview", params={"agent": "agent-1", "days": "0.5"})
    assert of_one["total"]["executions"] == 14  # 1, 4, ... 40
    for wrong in (
        "days=-1",
        "days=0",
        "days=null",
        "days=nan",
        "days=",
        "day=1",
        "days=1&days=2",
        "days=1e300",
        "simulated=2",
    ):
        assert server.client.get(f"/api/overview?{wrong}").status_code == 400, wrong
    assert server.get("/api/overview?days=3650")["total"] == shown["total"]


def test_a_run_of_another_process(serve: Serve, start: Start, simulator: Simulator) -> None:
    """A run from the shell is seen from beginning to end; who was away gets what was missed, and nothing twice."""
    server = serve()
    simulator.hold()
    with listen(server) as stream:
        events = told(stream)
        assert next(events).kind == "hello"
        process = start("run-workflow", "look", "--input", "what=this")
        seen = []
        for event in events:
            simulator.release()  # now that its beginning was seen
            seen.append(event)
            if event.kind == "run" and event.data["status"] == "completed":
                break
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    run_id = seen[-1].data["id"]
    runs = [event.data for event in seen if event.kind == "run"]
    ends = {event.data["step"]["id"]: event.data["step"] for event in seen if event.kind == "step"}
    assert (seen[0].kind, seen[0].data["status"], runs[-1]["is_here"]) == ("run", "running", False)
    assert {step: facts["status"] for step, facts in ends.items()} == {"first": "done", "second": "done"}
    shown = server.get(f"/api/runs/{run_id}")
    assert shown["run"] == runs[-1] == server.get("/api/runs")["runs"][0]
    assert shown["steps"] == list(ends.values())
    answer = server.get(f"/api/runs/{run_id}/steps/second")
    assert (answer["answers"], answer["attempts"]) == ({"second": "Looks good."}, 1)
    assert server.client.get(f"/api/runs/{run_id}/steps/third").status_code == 404

    with listen(server, **{"Last-Event-ID": str(seen[1].id)}) as stream:
        events = told(stream)
        assert next(events).kind == "hello"
        assert [next(events) for _ in seen[2:]] == seen[2:]
    with listen(server, **{"Last-Event-ID": "another.7"}) as stream:
        events = told(stream)
        assert [next(events).kind for _ in range(2)] == ["hello", "reset"]


def test_what_is_broken_takes_nothing_along(serve: Serve, project: Path) -> None:
    """A ledger that is none, or a journal, is said where it is asked for; the rest is served."""
    (project / ".claude/metrics/executions.jsonl").mkdir(parents=True)
    (project / ".claude/runs.db").write_text("no database")
    (project / ".claude/budgets.db").write_text("no database")
    (project / ".claude/claude.json").write_text('{"budgets": {"per_day_usd": 1}}')
    server = serve()
    shown = server.get("/api/overview")
    assert set(shown["problems"]) == {"ledger", "alerts", "budgets"}
    assert shown["total"]["executions"] == 0
    problem = server.client.get("/api/runs")
    assert (problem.status_code, problem.headers["content-type"]) == (500, "application/problem+json")
    assert problem.json()["type"] == "urn:claude-force:error:JournalError"
    metrics = server.client.get("/metrics").text
    for part in ("ledger", "budgets", "runs"):
        assert f'claude_force_unreadable{{part="{part}"}} 1.0' in metrics
    assert len(server.get("/api/agents")["agents"]) == 1
    ready = server.get("/readyz")  # agents can run, though what they do is lost
    assert {check["name"]: check["status"] for check in ready["checks"]}["stores"] == "degraded"


def test_agents_with_faults(serve: Serve, project: Path) -> None:
    """What is said of an agent's file is served, and so is what is said of a file that is none."""
    (project / ".claude/agents/odd.md").write_text("---\nname: Odd One\ndescription: d\n---\nLook.\n")
    (project / ".claude/agents/none.md").write_text("")
    served = serve().get("/api/agents")
    warnings = [warning for agent in served["agents"] for warning in agent["warnings"] if agent["name"] == "Odd One"]
    assert ["is unusual" in warning for warning in warnings] == [True]
    assert [Path(problem["path"]).name for problem in served["problems"]] == ["none.md"]


def test_files_whose_names_are_no_text(serve: Serve, project: Path) -> None:
    """Those of agents and workflows take nothing along, and are said to be what they are."""
    (project / ".claude/agents/a\udcff.md").write_text("")
    (project / ".claude/workflows").mkdir(exist_ok=True)
    (project / ".claude/workflows/w\udcff.json").write_text("{}")
    server = serve()
    assert [problem["path"][-5:] for problem in server.get("/api/agents")["problems"]] == ["a\udcff.md"]
    found = {workflow["name"]: workflow["problems"] for workflow in server.get("/api/workflows")["workflows"]}
    assert "cannot be seen" in found["w\udcff"][0]


def test_health(serve: Serve, project: Path) -> None:
    """Alive is not ready: without what agents need, the one says 200 and the other 503, with the reason."""
    server = serve("--allow-runs", ANTHROPIC_API_KEY="", ANTHROPIC_CONFIG_DIR=str(project / "none"))
    assert server.get("/healthz") == {"status": "ok"}
    ready = server.client.get("/readyz")
    failing = [check["name"] for check in ready.json()["checks"] if check["status"] == "failing"]
    assert (ready.status_code, failing) == (503, ["credentials"])


# ---------------------------------------------------------------- who may ask


def test_nothing_without_the_token(serve: Serve) -> None:
    """On another address there is a token, and without it every path and method is 401; the link works once."""
    server = serve("--host", ANYWHERE, "--allow-runs", CLAUDE_FORCE_TOKEN=TOKEN)
    paths = {re.sub(r"{\w+}", "x", route.path) for route in ROUTES}
    paths |= {"/", "/favicon.ico", "/page/index.html", "/page/../server.py", "/login/x", "/nothing"}
    bearer, basic, cookie = (
        {"Authorization": "Bearer x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": "a=b; " + TOKEN},
    )
    wrong = itertools.cycle(({}, bearer, basic, cookie))  # 7 methods: each path is asked with each of them
    for path in sorted(paths):
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            response = server.client.request(method, path, headers=next(wrong))
            assert response.status_code == 401, (method, path)
    assert server.client.get("/api/runs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200

    response = server.client.get(server.link)
    given = response.headers["set-cookie"]
    assert (response.status_code, response.headers["location"]) == (303, "/")
    assert {"httponly", "samesite=strict"} <= set(given.lower().split("; "))
    assert TOKEN not in given
    assert server.client.get("/").status_code == 200  # the client has the cookie now
    server.client.cookies.clear()
    assert server.client.get(server.link).status_code == 401

    other = serve("--token", TOKEN)  # another server, with the same token: a restart
    name, _, value = given.partition(";")[0].partition("=")
    own = name.replace(str(server.client.base_url.port), str(other.client.base_url.port))
    jar = f'a={{"x":1}}; {own}=old; {own}={value}'  # what else runs on this host has put things there, too
    assert other.client.get("/", headers={"Cookie": jar}).status_code == 200
    assert other.client.get(other.link, headers={"Cookie": jar}).status_code == 303
    other.client.cookies.clear()
    assert other.client.get(other.link).status_code == 401


def test_a_new_token(serve: Serve, start: Start) -> None:
    """Who listens elsewhere without one gets a token, on stderr; a short one is refused."""
    server = serve("--host", ANYWHERE)
    assert server.client.get("/").status_code == 401
    server.process.send_signal(signal.SIGINT)
    token = re.findall(r"the token is (\S+)", server.process.communicate(timeout=WAIT_S)[1])[0]
    assert len(token) >= 40
    refused = start("serve", "--port", "0", "--token", "short")
    assert (refused.wait(WAIT_S), "can be guessed" in refused.communicate()[1]) == (2, True)
    refused = start("serve", "--port", "0", CLAUDE_FORCE_TOKEN="")
    assert (refused.wait(WAIT_S), "is empty" in refused.communicate()[1]) == (2, True)


def test_other_pages(serve: Serve) -> None:
    """A page of another site reaches nothing: not by a name of its own, nor by a form, nor by a script."""
    server = serve("--allow-runs", "--allow-host", "review.internal")
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "10.1.2.3",
        "",
        "localhost@evil.example",
        "[::1",
        "127.1",
        "evil.example@localhost",
        "localhost/.evil.example",
        "localhost:x",
    ):
        for path in ("/", "/healthz", "/api/events", "/page/index.html", "/nothing"):
            assert server.client.get(path, headers={"Host": host}).status_code == 421, host
    for host in ("localhost", "127.0.0.1:1", "[::1]:8484", "REVIEW.internal:80"):
        assert server.client.get("/healthz", headers={"Host": host}).status_code == 200, host

    task = {"agent": "reviewer", "task": "x"}
    json_type = {"Content-Type": "application/json"}
    for headers, status in (
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[x"}, 403),
        ({"Origin": server.origin.replace("http", "https", 1) + "0"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Origin": server.origin, "Sec-Fetch-Site": "same-origin"}, 200),
    ):
        response = server.client.post("/api/execute", content=json.dumps(task), headers=json_type | headers)
        assert response.status_code == status, headers

    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert server.client.get("/", headers=linked).status_code == 200
    for path, mode in (("/", "no-cors"), ("/api/overview", "navigate"), ("/healthz", "no-cors")):
        assert server.client.get(path, headers=linked | {"Sec-Fetch-Mode": mode}).status_code == 403, path

    page = server.client.get("/", headers={"Origin": "https://evil.example"})
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert not [name for name in page.headers if name.startswith("access-control")]
    for path in ("/page/../server.py", "/page/%2e%2e/server.py", "/page//etc/passwd", "/page/..%2fserver.py"):
        assert server.client.get(path).status_code == 404, path


# ---------------------------------------------------------------- what it does


def test_only_shows(serve: Serve, simulator: Simulator) -> None:
    """Without `--allow-runs` nothing is done, and it says why; with a wrong method nothing is, either."""
    server = serve()
    for route in ROUTES:
        path = re.sub(r"{\w+}", "x", route.path)
        if route.method == "POST":
            response = server.post(path, {"agent": "reviewer", "task": "x"})
            assert (response.status_code, "--allow-runs" in response.json()["detail"]) == (403, True)
        response = server.client.delete(path)
        assert route.method in response.headers["allow"]
        assert (response.status_code, response.headers["content-type"]) == (405, "application/problem+json")
    assert simulator.stats.calls == {}


def test_execute(serve: Serve, project: Path) -> None:
    """An agent's answer, as on the command line; what is wrong is a problem with the status that fits."""
    server = serve("--allow-runs")
    asked = {"agent": "reviewer", "task": "Look.", "model": "haiku"}
    answer = server.post("/api/execute", asked)
    assert (answer.status_code, answer.json()["text"], answer.json()["cached"]) == (200, "Looks good.", False)
    assert server.post("/api/execute", asked).json()["cached"]
    shown = server.get("/api/overview", params={"simulated": "true"})
    assert (shown["total"]["executions"], shown["total"]["cached"]) == (2, 1)
    for document, status, detail in (
        ({"agent": "reviewr", "task": "x"}, 404, "reviewer"),
        ({"agent": "../reviewer", "task": "x"}, 400, "agent"),
        ({"agent": "reviewer"}, 400, "task"),
        ({"agent": "reviewer", "task": "x", "model": "x y"}, 400, "model"),
        ({"agent": "reviewer", "task": "x", "files": ["/etc/passwd"]}, 400, "files"),
        ([], 400, "object"),
    ):
        problem = server.post("/api/execute", document)
        assert (problem.status_code, problem.json()["status"]) == (status, status), problem.text
        assert detail in problem.json()["detail"]
    assert (
        server.client.post("/api/execute", content=b"\xff", headers={"Content-Type": "application/json"}).status_code
        == 400
    )

    (project / ".claude/claude.json").write_text('{"budgets": {"per_day_usd": 1e-9}}')
    poor = serve("--allow-runs").post("/api/execute", asked | {"task": "Another."})
    assert (poor.status_code, poor.json()["exit_code"]) == (402, 4)


def test_a_run_from_the_page(serve: Serve, simulator: Simulator) -> None:
    """A run is started, seen, cancelled and taken up again; what it had paid for is not asked twice."""
    server = serve("--allow-runs")
    simulator.script("One.", Hang())
    assert server.post("/api/runs", {"workflow": "look"}).json()["problems"] == ["inputs.what: nothing gives it"]
    assert server.post("/api/runs", {"workflow": ".claude/workflows/look.json"}).status_code == 400
    with listen(server) as stream:
        events = told(stream)
        begun = server.post("/api/runs", {"workflow": "look", "inputs": {"what": "this"}})
        run = begun.json()["run"]
        path = begun.headers["location"]
        assert (begun.status_code, run["status"], path) == (202, "running", f"/api/runs/{run['id']}")
        next(event for event in events if event.kind == "progress" and event.data["step"] == "second")
        assert server.get(path)["steps"][1]["status"] == "running"
        assert 'claude_force_runs{status="running"} 1.0' in server.client.get("/metrics").text
        assert server.post(f"{path}/resume", {}).status_code == 409
        cancelled = server.post(f"{path}/cancel", {})
        assert (cancelled.status_code, cancelled.json()["run"]["status"]) == (202, "cancelled")
        next(event for event in events if event.kind == "run" and event.data["status"] == "cancelled")
        assert server.post(f"{path}/cancel", {}).status_code == 409
        assert [step["status"] for step in server.get(path)["steps"]] == ["done", "cancelled"]

        simulator.script("Two.")
        assert server.post(f"{path}/resume", {}).status_code == 202
        next(event for event in events if event.kind == "run" and event.data["status"] == "completed")
    answers = [server.get(f"{path}/steps/{step}")["answers"][step] for step in ("first", "second")]
    assert answers == ["One.", "Two."]
    assert server.post("/api/runs/none/cancel", {}).status_code == 404


# ---------------------------------------------------------------- beginning and end


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_ends_at_once(serve: Serve, simulator: Simulator, number: signal.Signals, code: int) -> None:
    """Whatever is open, a signal ends it: pages are told, a call is cancelled, and no traceback is shown."""
    server = serve("--allow-runs")
    simulator.script(Hang())
    document = json.dumps({"agent": "reviewer", "task": "x"}).encode()
    address = (server.client.base_url.host, server.client.base_url.port)
    with (
        listen(server) as stream,
        socket.create_connection(address, WAIT_S) as deaf,  # it asks for events, and takes none
        socket.create_connection(address, WAIT_S) as slow,  # its body never comes to an end
        socket.create_connection(address, WAIT_S) as caller,
    ):
        head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(document)}\r\n\r\n"
        deaf.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        slow.sendall(b"POST /api/execute HTTP/1.1\r\n" + head.encode() + document[:-1])
        caller.sendall(b"POST /api/execute HTTP/1.1\r\n" + head.encode() + document)
        simulator.wait_until(lambda stats: stats.in_flight == 1, timeout_s=WAIT_S)
        server.process.send_signal(number)
        assert [event.kind for event in told(stream)][-1] == "bye"
        assert caller.recv(1000).startswith(b"HTTP/1.1 503")
        _, err = server.process.communicate(timeout=WAIT_S)  # while the others are still connected
    assert (server.process.returncode, "Traceback" in err) == (code, False), err


def test_ends_at_once_while_it_reads(serve: Serve, project: Path) -> None:
    """What is being read is left: nobody waits at the end for the figures of a ledger that takes hours."""
    ledger = project / ".claude/metrics/executions.jsonl"
    ledger.parent.mkdir(parents=True)
    ledger.touch()
    os.truncate(ledger, 1 << 40)  # a file with a hole, which takes no room
    server = serve()
    assert server.get("/healthz") == {"status": "ok"}
    server.process.send_signal(signal.SIGINT)
    _, err = server.process.communicate(timeout=WAIT_S)
    assert (server.process.returncode, "Traceback" in err) == (130, False)


def test_port_in_use(serve: Serve, start: Start) -> None:
    """Two servers do not share a port; the second one says so."""
    port = serve().client.base_url.port
    second = start("serve", "--port", str(port))
    _, err = second.communicate(timeout=WAIT_S)
    assert second.returncode == 2
    assert f"port {port}: Address already in use" in err


def test_without_the_extra(project: Path) -> None:
    """Who has not installed it hears what to install."""
    code = (
        "import sys; sys.modules['uvicorn'] = None; from claude_force.cli import main; sys.argv[1:] = ['serve']; main()"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=project, env=os.environ, capture_output=True, text=True, check=False)
    assert (done.returncode, "pip install 'claude-force[dashboard]'" in done.stderr) == (2, True)
