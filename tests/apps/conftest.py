"""What the tests of the command line share: a project, a server, and the command as a process."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claude_force.testing import SeenRequest, Simulator, environment
from tests.conftest import echo

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]


def on(word: str) -> Callable[[SeenRequest], bool]:
    """Requests of the task, or the step, with this last word."""
    return lambda request: request.path == "/v1/messages" and echo(request) == word


@pytest.fixture(autouse=True)
def _command(_from_nursery: None) -> None:
    """`claude-force` is started often here."""


@pytest.fixture
def project(project: Path) -> Path:
    """The project of all tests, with no retries, so that a fault is seen at once."""
    (project / ".claude/claude.json").write_text('{"defaults": {"max_retries": 0}}')
    return project


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A server for the command to talk to."""
    with Simulator(answer="Looks good.") as running:
        yield running


@pytest.fixture
def start(project: Path, simulator: Simulator) -> Iterator[Start]:
    """Starts the command in the project, against the simulator; what a failed test left running is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["claude-force", *args],
            cwd=project,
            env=os.environ | environment(simulator.base_url) | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def run(start: Start) -> Run:
    """Runs the command to its end; no traceback is ever shown."""

    def run(*args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        process = start(*args, **env)
        out, err = process.communicate(stdin, timeout=120)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    return run
