"""What tests of workers share: who does the steps, in three ways, and a project whose runs they are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic  # noqa: F401 - seconds that no time limit of a test is to pay
import dbos  # noqa: F401 - as above
import pytest

from claude_force.orchestrator import Project
from claude_force.testing import ApiFault, Rule, SeenRequest, Simulator

SECRET = "a secret that all machines have"


@pytest.fixture(autouse=True)
def project(project: Path) -> Path:
    """The project of all tests."""
    return project


@pytest.fixture
def refused() -> set[str]:
    """The words that nobody is to say: a 400."""
    return set()


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch, refused: set[str]) -> Iterator[Simulator]:
    """Who answers everybody: a task's last word."""

    def word(request: SeenRequest) -> str:
        return request.prompt.split()[-1]

    rule = Rule(ApiFault(400, message="no such thing"), when=lambda request: word(request) in refused)
    with Simulator(answer=word, rules=[rule]) as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
        yield server


@pytest.fixture(params=["built-in", "sqlite", "postgres"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """What to give as `engine`: this process; a file, for which it works itself; Postgres, and a machine that works."""
    if request.param == "built-in":
        yield "built-in"
        return
    if request.param == "sqlite":
        yield "durable"
        return
    monkeypatch.setenv("CLAUDE_ENGINE_URL", request.getfixturevalue("postgres"))
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", SECRET)
    request.getfixturevalue("simulator")
    machine = Project(project_dir=tmp_path_factory.mktemp("machine"))
    shift = machine.shift(concurrency=10)
    shift.try_start()
    yield "durable"
    shift.stop(drains=True)
    machine.close()
