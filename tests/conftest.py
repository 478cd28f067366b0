"""What all tests share: nothing of this machine reaches them, and nothing real is called."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import HealthCheck, settings

from claude_force import AgentOrchestrator
from claude_force.testing import Simulator, environment

if TYPE_CHECKING:
    from claude_force import AgentResult

# Two tests share a core here: how long one example takes says nothing.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

FOREIGN = ("ANTHROPIC_", "CLAUDE_", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of its own for each test, no credentials, and the switch that forbids real calls."""
    for name in os.environ:
        if name.upper().startswith(FOREIGN):
            monkeypatch.delenv(name)
    home: Path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("CLAUDE_FORCE_ALLOW_REAL_CALLS", "0")


class Awaited:
    """The async face, called as a script would: each call in an event loop of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._subject = AgentOrchestrator(*args, **options)

    def execute_agent(self, agent: str, task: str, **options: Any) -> "AgentResult":
        return asyncio.run(self._subject.execute_agent_async(agent, task, **options))

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


# ---------------------------------------------------------------- the command line

AGENT = "---\nname: reviewer\ndescription: Reviews code. Slowly.\nmodel: haiku\n---\nYou review code.\n"

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with one agent, and no retries, so that a fault is seen at once."""
    (tmp_path / ".git").mkdir()
    agent = tmp_path / ".claude/agents/reviewer.md"
    agent.parent.mkdir(parents=True)
    agent.write_text(AGENT)
    (tmp_path / ".claude/claude.json").write_text('{"defaults": {"max_retries": 0}}')
    return tmp_path


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A server for the command to talk to."""
    with Simulator(answer="Looks good.") as running:
        yield running


@pytest.fixture
def start(project: Path, simulator: Simulator) -> Start:
    """Starts the command in the project, against the simulator."""

    def start(*args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "claude_force", *args],
            cwd=project,
            env=os.environ | environment(simulator.base_url) | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def run(start: Start) -> Run:
    """Runs the command to its end; no traceback is ever shown."""

    def run(*args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        process = start(*args, **env)
        out, err = process.communicate(stdin, timeout=60)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    return run
