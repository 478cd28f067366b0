"""Several ways to Claude, each a simulator of its own: over real HTTP, in both faces."""

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import anthropic  # noqa: F401 - a second that no time limit of a test is to pay
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from claude_force import (
    AsyncAgentOrchestrator,
    BudgetError,
    ConfigError,
    CredentialsError,
    TaskError,
)
from claude_force.base.config import load_settings
from claude_force.testing import ApiFault, Disconnect, Hang, Simulator

from .conftest import ledger

Face = Callable[..., Any]
LONG = "A rule that all keep to. " * 400
SECRET = "sk-ant-canary"

pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture
def three() -> Iterator[dict[str, Simulator]]:
    """Three servers, by the names of their endpoints."""
    with Simulator("from a") as a, Simulator("from b") as b, Simulator("from c") as c:
        yield {"a": a, "b": b, "c": c}


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own config file, and a key for each endpoint in the environment."""
    for name in "abc":
        monkeypatch.setenv(f"KEY_{name.upper()}", f"{SECRET}-{name}")
    path = Path.home() / ".claude/claude.json"
    path.parent.mkdir()
    return path


def endpoints(servers: dict[str, Simulator], **more: dict[str, Any]) -> list[dict[str, Any]]:
    """The config's part for these servers."""
    return [
        {"name": name, "base_url": server.base_url, "api_key_env": f"KEY_{name.upper()}", **more.get(name, {})}
        for name, server in servers.items()
    ]


def configure(path: Path, servers: dict[str, Simulator], sections: Any = (), **more: dict[str, Any]) -> None:
    """Write the user's own config."""
    path.write_text(json.dumps({"endpoints": endpoints(servers, **more), **dict(sections)}))


def calls(servers: dict[str, Simulator]) -> dict[str, int]:
    """How often each was asked."""
    return {name: server.stats.calls.get("/v1/messages", 0) for name, server in servers.items()}


def agent(project: Path, prompt: str, front: str = "") -> None:
    """The one that is asked."""
    text = f"---\nname: reviewer\ndescription: Reviews.\nmodel: haiku\n{front}---\n{prompt}\n"
    (project / ".claude/agents/reviewer.md").write_text(text)


# ---------------------------------------------------------------- where a request goes


def test_one_agent_has_one_way_and_its_prompt_cache(
    face: Face, project: Path, own: Path, three: dict[str, Simulator]
) -> None:
    """All its tasks go to one endpoint with that endpoint's key, and read there what was written there."""
    agent(project, LONG)
    configure(own, three, a={"region": "Paris"}, b={"region": "Paris"}, c={"region": "Paris"})
    with face() as subject:
        results = [subject.execute_agent("reviewer", f"task {number}") for number in range(4)]
    (where,) = {result.endpoint for result in results}
    assert sorted(calls(three).values()) == [0, 0, 4]
    assert results == [f"from {where}"] * 4
    assert results[-1].usage.cache_read_tokens > 1000
    assert {request.headers["authorization"] for request in three[where].requests} == {f"Bearer {SECRET}-{where}"}
    assert [(line["endpoint"], line["region"]) for line in ledger(project)] == [(where, "Paris")] * 4
    assert (results[0].to_dict()["endpoint"], results[0].region) == (where, "Paris")


def test_short_prompts_are_spread(face: Face, own: Path, three: dict[str, Simulator]) -> None:
    """What the prompt cache cannot keep goes everywhere; with one orchestrator as with the next, the same way."""
    configure(own, three)
    with face(enable_cache=False) as subject:
        first = [subject.execute_agent("reviewer", f"task {number}") for number in range(12)]
    with face(enable_cache=False) as subject:
        assert [subject.execute_agent("reviewer", f"task {number}") for number in range(12)] == first
    assert all(calls(three).values())


@pytest.mark.parametrize("fault", [ApiFault(529), ApiFault(500), ApiFault(429), Disconnect(), Hang()])
def test_another_one_answers(face: Face, project: Path, own: Path, three: dict[str, Simulator], fault: Any) -> None:
    """For one that is overloaded, broken, without room, gone or silent; what it answered is not lost."""
    agent(project, LONG)
    breaker = {"breaker": {"failure_threshold": 1, "timeout_seconds": 3600}}
    configure(own, three, breaker)
    with face() as subject:
        where = subject.execute_agent("reviewer", "first").endpoint
        three[where].script(*[fault] * 9)
        result = subject.execute_agent("reviewer", "second", attempt_timeout_seconds=5)
        other = result.endpoint
        assert (other != where, result, result.attempts) == (True, f"from {other}", 2)
        again = subject.execute_agent("reviewer", "third")
    if fault != ApiFault(429):  # which opens no breaker, and may be asked again
        assert (again.endpoint, again.attempts) == (other, 1)
        assert calls(three)[where] == 2


def test_many_at_once_survive_the_end_of_one(project: Path, own: Path, three: dict[str, Simulator]) -> None:
    """A hundred tasks while an endpoint goes down: each is answered, and each answer is in the ledger once."""
    configure(own, three)

    async def main() -> list[Any]:
        async with AsyncAgentOrchestrator(max_concurrent=20, enable_cache=False) as subject:
            tasks = [("reviewer", f"task {number}") for number in range(100)]
            found = []
            async for outcome in subject.as_completed(tasks):
                found.append(outcome.result)
                if len(found) == 20:
                    await asyncio.to_thread(three["b"].stop)
            return found

    found = asyncio.run(main())
    assert {str(result) for result in found} <= {"from a", "from b", "from c"}
    assert len(found) == len(ledger(project)) == 100
    assert all(line["success"] for line in ledger(project))


def test_machines_share_what_they_know_of_each(
    face: Face, project: Path, own: Path, three: dict[str, Simulator], valkey: str
) -> None:
    """Breakers and limits of an endpoint are those of all who share them, and of no other endpoint."""
    agent(project, LONG)
    configure(own, three, {"shared": {"url": valkey}})
    with face(enable_cache=False) as here, face(enable_cache=False) as there:
        where = here.execute_agent("reviewer", "x").endpoint
        three[where].script(ApiFault(429, retry_after=3600))
        other = here.execute_agent("reviewer", "x").endpoint
        result = there.execute_agent("reviewer", "x")
    assert (result.endpoint, result.attempts) == (other, 1)
    assert other != where


# ---------------------------------------------------------------- accounts


def test_a_refused_account_is_left_out(face: Face, project: Path, own: Path, three: dict[str, Simulator]) -> None:
    """With a warning that has no key in it; only where all are refused the call ends with that error."""
    agent(project, LONG)
    configure(own, three)
    with face(enable_cache=False) as subject:
        where = subject.execute_agent("reviewer", "x").endpoint
        three[where].script(ApiFault(401))
        left_out, after = (subject.execute_agent("reviewer", "x") for _ in range(2))
        assert f"the endpoint {where!r} is left out from now on" in " ".join(left_out.warnings)
        assert (left_out.attempts, after.attempts, after.warnings) == (2, 1, ())
        for server in three.values():
            server.script(*[ApiFault(402)] * 9)
        with pytest.raises(Exception, match=r"raise the limit.*\(at the endpoint '.'\)") as caught:
            subject.execute_agent("reviewer", "x")
    assert caught.value.exit_code == 4  # type: ignore[attr-defined] # of our family
    assert SECRET not in (project / ".claude/metrics/executions.jsonl").read_text() + str(caught.value)


def test_a_key_that_is_missing_is_that_ones_trouble(
    face: Face, project: Path, own: Path, three: dict[str, Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others answer; the error names the variable."""
    agent(project, LONG)
    configure(own, three)
    with face(enable_cache=False) as subject:
        where = subject.execute_agent("reviewer", "x").endpoint
    monkeypatch.delenv(f"KEY_{where.upper()}")
    with face(enable_cache=False) as subject:
        result = subject.execute_agent("reviewer", "x")
        assert (result.endpoint != where, f"KEY_{where.upper()}" in result.warnings[0]) == (True, True)
        assert sum(calls(three).values()) == 2
    for name in "abc":
        monkeypatch.delenv(f"KEY_{name.upper()}", raising=False)
    with face(enable_cache=False) as subject, pytest.raises(CredentialsError, match=r"KEY_. has no key"):
        subject.execute_agent("reviewer", "x")


# ---------------------------------------------------------------- where models run


def test_a_demand_goes_only_where_it_is_kept(face: Face, project: Path, own: Path, three: dict[str, Simulator]) -> None:
    """By call, agent or config; the API is told, trouble leads nowhere else, and the price is that of the place."""
    configure(own, three, {"defaults": {"max_retries": 1}}, b={"inference_geo": "us"})
    with face(enable_cache=False) as subject:
        plain = [subject.execute_agent("reviewer", f"{number}") for number in range(9)]
        results = [subject.execute_agent("reviewer", f"{number}", inference_geo="us") for number in range(9)]
        assert {result.endpoint for result in results} == {"b"}
        assert {request.body.get("inference_geo") for request in three["b"].requests} == {"us"}
        assert {request.body.get("inference_geo") for request in three["a"].requests} == {None}
        dear, cheap = results[0], next(each for each in plain if each.endpoint != "b")
        assert dear.usage.inference_geo == "us"
        assert dear.cost_usd / dear.usage.total_tokens > cheap.cost_usd / cheap.usage.total_tokens
        three["b"].script(*[ApiFault(529)] * 2)
        with pytest.raises(Exception, match="at the endpoint 'b'"):
            subject.execute_agent("reviewer", "x", inference_geo="us")
        asked = calls(three)
        with pytest.raises(TaskError, match=r"no endpoint has the inference_geo 'eu'.*a none, b us, c none"):
            subject.execute_agent("reviewer", "x", inference_geo="eu")
        agent(project, "Be kind.", "inference_geo: us\n")
        with pytest.raises(TaskError, match="the call 'global', the agent 'reviewer' 'us'"):
            subject.execute_agent("reviewer", "x", inference_geo="global")
        assert calls(three) == asked
    configure(own, three, {"inference_geo": "global"}, b={"inference_geo": "us"}, c={"inference_geo": "global"})
    with face(enable_cache=False) as subject:
        with pytest.raises(TaskError, match="the agent 'reviewer' 'us', the config 'global'"):
            subject.execute_agent("reviewer", "y")
        agent(project, "Be kind.")
        assert {subject.execute_agent("reviewer", f"{number}").endpoint for number in range(5)} == {"c"}


def test_a_demand_needs_no_endpoints(face: Face, project: Path, three: dict[str, Simulator]) -> None:
    """It is told to the one way that there is, and priced; a limit counts it in."""
    with face(api_key="k", base_url=three["a"].base_url, max_cost_usd=0.001) as subject:
        result = subject.execute_agent("reviewer", "x", inference_geo="us", max_tokens=100)
        assert three["a"].requests[-1].body["inference_geo"] == "us"
        usage = result.usage
        assert (usage.inference_geo, result.endpoint) == ("us", None)
        exact = (Decimal("0.1") * usage.input_tokens + Decimal("0.5") * usage.output_tokens) / 1_000_000
        assert result.cost_usd == exact * Decimal("1.1")
        assert ledger(project)[0]["inference_geo"] == "us"
        # 1,800 tokens of output are $0.0009; a tenth more, and what was spent, pass the limit.
        assert subject.execute_agent("reviewer", "y", max_tokens=1_500) == "from a"
        with pytest.raises(BudgetError):
            subject.execute_agent("reviewer", "z", inference_geo="us", max_tokens=1_800)


# ---------------------------------------------------------------- what is kept


class Unmarked(BaseHTTPRequestHandler):
    """Passes messages on to a simulator, and answers without its mark, as Claude would."""

    simulator: Simulator

    def do_POST(self) -> None:
        host = urlsplit(self.simulator.base_url).netloc
        with closing(HTTPConnection(host)) as connection:
            body = self.rfile.read(int(self.headers["content-length"]))
            connection.request("POST", self.path, body, dict(self.headers))
            answer = connection.getresponse().read()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def claude() -> Iterator[str]:
    """The address of one who passes for Claude."""
    with Simulator("from Claude") as behind:
        handler = type("Handler", (Unmarked,), {"simulator": behind})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            Thread(target=server.serve_forever).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()


def test_answers_outlive_an_endpoint(face: Face, own: Path, claude: str, three: dict[str, Simulator]) -> None:
    """Endpoints count as Claude itself: what one answered is there without it, and with another one."""
    own.write_text(json.dumps({"endpoints": [{"name": "z", "base_url": claude, "api_key_env": "KEY_A"}]}))
    with face() as subject:
        first = subject.execute_agent("reviewer", "x")
    assert (first, first.simulated, first.cached) == ("from Claude", False, False)
    for servers in (three, {}):
        configure(own, servers)
        with face(api_key="k") if not servers else face() as subject:
            again = subject.execute_agent("reviewer", "x")
            assert (again, again.cached, again.endpoint) == (first, True, None)


def test_a_simulator_is_not_taken_for_claude(face: Face, own: Path, claude: str, three: dict[str, Simulator]) -> None:
    """One that was tried as an endpoint answers again only while all are tried; nothing of it is left for Claude."""
    configure(own, {"a": three["a"]})
    with face() as subject:
        assert [subject.execute_agent("reviewer", "x").cached for _ in range(2)] == [False, True]
    ways = {"name": "z", "base_url": claude, "api_key_env": "KEY_A"}, {"name": "far", "weight": 1e-12}
    own.write_text(json.dumps({"endpoints": ways}))
    with face() as subject:
        answer = subject.execute_agent("reviewer", "x")
    assert (answer, answer.cached, answer.simulated) == ("from Claude", False, False)


def test_a_batch_belongs_to_the_endpoint_that_took_it(
    face: Face, project: Path, own: Path, three: dict[str, Simulator]
) -> None:
    """It goes by the first, at that one's price; what must be answered elsewhere is not sent."""
    places = {"a": {"region": "Paris", "inference_geo": "us"}, "b": {"inference_geo": "global"}}
    configure(own, three, **places)
    tasks = [("reviewer", "one"), ("reviewer", "two")]
    with face() as subject:
        with pytest.raises(TaskError, match="batches go by the first endpoint, 'a', whose inference_geo is 'us'"):
            subject.execute_batch(tasks, inference_geo="global")
        results = subject.execute_batch(tasks)
    assert [(result, result.endpoint) for result in results] == [("from a", "a")] * 2
    (body,) = [request.body for request in three["a"].requests if request.path == "/v1/messages/batches"]
    assert {one["params"]["inference_geo"] for one in body["requests"]} == {"us"}
    assert {(line["endpoint"], line["region"], line["inference_geo"]) for line in ledger(project)} == {
        ("a", "Paris", "us")
    }
    assert [server.stats.calls for name, server in three.items() if name != "a"] == [{}, {}]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`claude-force`, as a user starts it."""
    return subprocess.run(["claude-force", *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.usefixtures("_from_nursery")
def test_a_batch_waits_for_its_endpoint(project: Path, own: Path, three: dict[str, Simulator]) -> None:
    """It is found under another order of the config; where its endpoint is gone, that is said, and nothing is lost."""
    configure(own, three)
    (project / "tasks.jsonl").write_text('{"id": "one", "agent": "reviewer", "task": "one"}\n')
    sent = command(
        "execute", "reviewer", "--tasks-file", "tasks.jsonl", "--output", "out.jsonl", "--batch", "--no-wait"
    )
    assert sent.returncode == 0, sent.stderr
    (batch,) = json.loads(command("batch", "list", "--json").stdout)
    configure(own, {name: three[name] for name in "bc"})
    gone = command("batch", "collect", batch["id"])
    assert gone.returncode == 1
    assert "was sent by the endpoint 'a'" in gone.stderr
    assert "name it in the config again" in gone.stderr
    configure(own, {name: three[name] for name in "cba"})
    found = command("batch", "collect", batch["id"])
    assert found.returncode == 0, found.stderr
    assert [line["endpoint"] for line in ledger(project)] == ["a"]


# ---------------------------------------------------------------- who may say so


def test_a_project_may_name_none(project: Path, own: Path, three: dict[str, Simulator]) -> None:
    """Not even of this machine; the user's own hold in every project, and those of a file that is named."""
    config = project / ".claude/claude.json"
    config.write_text(json.dumps({"endpoints": endpoints(three)}))
    with pytest.raises(ConfigError, match=r"endpoints: your keys go there.*--config"):
        load_settings(start=project)
    assert len(load_settings(config).config.endpoints) == 3
    config.write_text("{}")
    configure(own, three)
    assert [each.name for each in load_settings(start=project).config.endpoints] == ["a", "b", "c"]
    assert load_settings(config).config.endpoints == []
    own.write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        load_settings(start=project)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "a", "api_key": SECRET}, "unknown key"),
        ({"name": "a", "api_key_env": SECRET}, "matching regex"),
        ({"name": "a", "base_url": f"https://me:{SECRET}@example.com"}, r"endpoints\[1\].base_url: give https://host"),
        (
            {"name": "a", "base_url": f"https://example.com/?key={SECRET}"},
            r"endpoints\[1\].base_url: give https://host",
        ),
        ({"name": "a", "base_url": "example.com"}, r"endpoints\[1\].base_url: give https://host"),
        ({"name": "a", "weight": 0}, "weight"),
        ({"name": "b"}, "endpoints: 2 have the name 'b'"),
        ({"name": "no/path"}, "name"),
    ],
)
def test_mistakes_are_said_without_secrets(own: Path, wrong: dict[str, Any], said: str) -> None:
    """A key that somebody wrote into the file is not written anywhere else."""
    own.write_text(json.dumps({"endpoints": [{"name": "b"}, wrong]}))
    with pytest.raises(ConfigError, match=said) as caught:
        load_settings(own)
    assert SECRET not in str(caught.value)


def test_an_address_that_is_said_goes_before(
    face: Face, own: Path, three: dict[str, Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An argument, or the environment: then there is that one way."""
    configure(own, {name: three[name] for name in "ab"})
    with face(api_key="k", base_url=three["c"].base_url) as subject:
        assert subject.execute_agent("reviewer", "x") == "from c"
    monkeypatch.setenv("ANTHROPIC_BASE_URL", three["c"].base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    with face() as subject:
        assert subject.execute_agent("reviewer", "y") == "from c"
        assert str(subject.client.base_url).rstrip("/") == three["c"].base_url
    with face(offline=True) as subject:
        assert subject.execute_agent("reviewer", "z").simulated
    monkeypatch.delenv("ANTHROPIC_BASE_URL")
    with face() as subject:
        assert str(subject.client.base_url).rstrip("/") == three["a"].base_url


# ---------------------------------------------------------------- what is seen


@pytest.mark.usefixtures("_from_nursery")
def test_doctor_and_health_list_them(own: Path, three: dict[str, Simulator], monkeypatch: pytest.MonkeyPatch) -> None:
    """With address, weight and place, and whether there is a key; never the key."""
    configure(own, three, b={"weight": 2, "inference_geo": "us", "region": "Oregon"})
    monkeypatch.delenv("KEY_C")
    asked = command("doctor", "--json")
    found = {each["subject"]: each for each in json.loads(asked.stdout)}
    assert found["credentials of a"]["detail"].startswith(f"a key or token from KEY_A, for {three['a'].base_url}")
    assert "weight 2.0, region Oregon, inference_geo us" in found["credentials of b"]["detail"]
    assert (found["credentials of c"]["state"], "KEY_C" in found["credentials of c"]["fix"]) == ("warning", True)
    assert asked.returncode == 0
    healthy = command("health", "--live", "--json")
    checks = {each["name"]: each["status"] for each in json.loads(healthy.stdout)["checks"]}
    assert (checks["api of a"], checks["api of b"], checks["api of c"]) == ("ok", "ok", "degraded")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", three["a"].base_url)
    aside = command("doctor")
    assert "endpoints: a, b, c: not in use, as ANTHROPIC_BASE_URL says where Claude is" in aside.stdout
    assert SECRET not in asked.stdout + healthy.stdout + aside.stdout


@pytest.mark.usefixtures("unobserved")
def test_spans_say_who_was_asked(face: Face, project: Path, own: Path, three: dict[str, Simulator]) -> None:
    """Each attempt has the endpoint's name, region and address."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    agent(project, LONG)
    configure(own, three, a={"region": "Paris"}, b={"region": "Paris"}, c={"region": "Paris"})
    with face() as subject:
        where = subject.execute_agent("reviewer", "x").endpoint
        three[where].script(ApiFault(529))
        other = subject.execute_agent("reviewer", "y").endpoint
    provider.shutdown()
    said = [dict(span.attributes or {}) for span in exporter.get_finished_spans() if span.name.startswith("chat ")]
    assert [each["claude_force.endpoint"] for each in said] == [where, where, other]
    assert {(each["claude_force.region"], each["server.address"]) for each in said} == {("Paris", "127.0.0.1")}
    assert said[1]["error.type"] == "OverloadedError"
