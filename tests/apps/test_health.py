"""`claude-force health`, for people and for probes."""

import json
from pathlib import Path

import pytest

from claude_force.testing import ApiFault, Disconnect, NotMessages, Rule, SeenRequest, Simulator, environment

from .conftest import Run


def test_for_people(run: Run, simulator: Simulator) -> None:
    """One line for each check, and the whole at the end; nothing is sent."""
    done = run("health")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert (done.returncode, lines[-1]) == (0, ["ok"])
    assert [line[:2] for line in lines[:-1]] == [
        ["config", "ok"],
        ["agents", "ok"],
        ["metrics", "ok"],
        ["stores", "ok"],
        ["executions", "ok"],
        ["breakers", "ok"],
    ]
    assert simulator.stats.calls == {}


def test_for_probes(run: Run, simulator: Simulator) -> None:
    """`--json` has every figure, and executions of the last hour are among them."""
    simulator.script(None, ApiFault(500))
    run("execute", "reviewer", "x")
    run("execute", "reviewer", "y")
    data = json.loads(run("health", "--json").stdout)
    checks = {check["name"]: check for check in data["checks"]}
    assert data["status"] == "ok"
    assert (checks["executions"]["facts"]["executions"], checks["executions"]["facts"]["errors"]) == (2, 1)
    assert checks["executions"]["facts"]["models"] == {
        "claude-haiku-5-5": {"executions": 2, "errors": 1, "error_rate": 0.5}
    }


@pytest.mark.parametrize(("args", "code"), [([], 0), (["--strict"], 1)])
def test_degraded(run: Run, project: Path, args: list[str], code: int) -> None:
    """What is only degraded fails a probe that asks for `--strict`."""
    (project / ".claude/agents/broken.md").write_text("")
    done = run("health", *args)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (code, "degraded")


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
def test_failing(run: Run, project: Path, as_json: list[str]) -> None:
    """What cannot run is exit code 1, with all checks, and no crash."""
    (project / ".claude/claude.json").write_text("{")
    done = run("health", *as_json)
    assert done.returncode == 1
    assert "failing" in done.stdout
    assert "breakers" in done.stdout


def test_live(run: Run, simulator: Simulator) -> None:
    """`--live` asks for the list of models once: no tokens, and how long it took."""
    data = json.loads(run("health", "--live", "--json").stdout)
    api = data["checks"][-1]
    assert (api["name"], api["status"], api["facts"]["status"]) == ("api", "ok", 200)
    assert api["facts"]["latency_ms"] > 0
    assert simulator.stats.calls == {"/v1/models": 1}
    assert simulator.stats.usage == {}


def models(request: SeenRequest) -> bool:
    """Requests for the list of models."""
    return request.path == "/v1/models"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (ApiFault(401), "failing"),
        (ApiFault(402), "failing"),
        (ApiFault(500), "failing"),
        (Disconnect(), "failing"),
        (ApiFault(404), "degraded"),
        (ApiFault(429), "degraded"),
        (ApiFault(529), "degraded"),
    ],
    ids=str,
)
def test_live_trouble(run: Run, fault: ApiFault | Disconnect, status: str) -> None:
    """What passes with time, and a gateway without that list, keep no agent from running; all else does."""
    with Simulator(rules=[Rule(fault, when=models)]) as simulator:
        done = run("health", "--live", "--json", **environment(simulator.base_url))
    data = json.loads(done.stdout)
    assert (data["status"], data["checks"][-1]["status"]) == (status, status)
    assert done.returncode == (1 if status == "failing" else 0)


def test_a_page_of_something_else(run: Run) -> None:
    """A proxy's page with status 200 is no API that is well."""
    with Simulator(rules=[Rule(NotMessages(), when=models)]) as simulator:
        done = run("health", "--live", "--json", **environment(simulator.base_url))
    assert (done.returncode, json.loads(done.stdout)["checks"][-1]["status"]) == (1, "failing")


def test_live_without_credentials(run: Run) -> None:
    """No key is failing, and the message says what to do."""
    done = run("health", "--live", ANTHROPIC_API_KEY="")
    assert done.returncode == 1
    assert "--offline" in done.stdout
