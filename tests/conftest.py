"""What all tests share: nothing of this machine reaches them, and nothing real is called."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import HealthCheck, settings

from claude_force import AgentOrchestrator

if TYPE_CHECKING:
    from claude_force import AgentMatch, AgentResult, ClaudeForceError
    from claude_force.base.results import WorkflowResult

# Two tests share a core here: how long one example takes says nothing.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

# A background job of a shell ignores Ctrl-C, and one of nohup its terminal's end; so would every program that a test
# starts and then interrupts.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

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
    """A folder with `claude-force`, and with `quick-python` for `-c CODE`: real processes that need not import the SDK.

    That is 3 of the 4 seconds of CPU that a command with a call costs, and hundreds of tests have one.
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


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one agent, which is the current folder."""
    (tmp_path / ".git").mkdir()
    agent = tmp_path / ".claude/agents/reviewer.md"
    agent.parent.mkdir(parents=True)
    agent.write_text("---\nname: reviewer\ndescription: Reviews code. Slowly.\nmodel: haiku\n---\nYou review code.\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path
