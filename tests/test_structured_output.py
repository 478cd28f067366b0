"""Structured output: an answer is JSON that fits its schema, or an error; never something else."""

import copy
import json
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import AgentTask, AsyncAgentOrchestrator, InvalidOutputError, TaskError
from claude_force.base.records import Reply
from claude_force.engine.key import request_key
from claude_force.engine.request import Task, build_request
from claude_force.testing import Answer, Simulator

from .conftest import asking, calls

if TYPE_CHECKING:
    from claude_force.base.records import Retry

pytestmark = pytest.mark.usefixtures("project")
Face = Callable[..., Any]
Rest = Callable[[], None]

SCHEMA = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["merge", "change"]},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
        "files": {"type": "array", "items": {"$ref": "#/$defs/file"}, "minItems": 2},
    },
    "required": ["verdict", "score"],
    "$defs": {"file": {"type": "string", "minLength": 3}},
}
FITS = '{"verdict": "merge", "score": 4}'
TOO_HIGH = '{"verdict": "merge", "score": 9}'


@pytest.fixture(autouse=True)
def _no_waiting(project: Path) -> None:
    """Three retries, which wait for nothing that a test could not give at once."""
    (project / ".claude/claude.json").write_text('{"defaults": {"max_retries": 2}}')


def test_the_answer_is_data(face: Face) -> None:
    """The value is in `data`, the text is as it came, and neither a pickle nor a copy loses it."""
    with Simulator(answer=FITS) as simulator, asking(face, simulator) as subject:
        result = subject.execute_agent("reviewer", "x", output_schema=SCHEMA, effort="low")
        config = simulator.requests[0].body["output_config"]
    assert (result, result.data, result.attempts) == (FITS, {"verdict": "merge", "score": 4}, 1)
    reborn = (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result))  # noqa: S301 - our own bytes
    assert [each.data for each in reborn] == [result.to_dict()["data"]] * 3 == [result.data] * 3
    assert (config["effort"], config["format"]["type"]) == ("low", "json_schema")
    assert list(config["format"]["schema"]["properties"]) == ["verdict", "score", "files"]
    assert config["format"]["schema"]["additionalProperties"] is False
    assert config["format"]["schema"]["properties"]["score"] == {
        "type": "integer",
        "description": '{"minimum":1,"maximum":5}',
    }


def test_without_a_schema_there_is_no_data(face: Face) -> None:
    """A text that happens to be JSON stays a text, and nothing is said about its form."""
    with Simulator(answer=FITS) as simulator, asking(face, simulator) as subject:
        result = subject.execute_agent("reviewer", "x")
        assert "output_config" not in simulator.requests[0].body
    assert (result, result.data) == (FITS, None)


@pytest.mark.parametrize("bad", [TOO_HIGH, "Sure! " + FITS, FITS[:-1]], ids=["does not fit", "no JSON", "half"])
def test_what_does_not_fit_is_asked_for_again(face: Face, project: Path, bad: str) -> None:
    """The answer is the one that fits; both are paid, and who looks on hears why."""
    seen: list[Retry] = []
    with Simulator(answer=FITS, faults=[bad]) as simulator, asking(face, simulator) as subject:
        result = subject.execute_agent("reviewer", "x", output_schema=SCHEMA, on_retry=seen.append)
        assert calls(simulator) == 2
    assert (result.data["score"], result.attempts) == (4, 2)
    (retry,) = seen
    assert isinstance(retry.error, InvalidOutputError)
    (line,) = (project / ".claude/metrics/executions.jsonl").read_text().splitlines()
    assert json.loads(line)["output_tokens"] == result.usage.output_tokens > len(FITS) // 4


def test_what_never_fits_is_an_error(face: Face, project: Path) -> None:
    """After the last retry the error has the text and where it is wrong; nothing was kept, and the ledger knows."""
    with Simulator(answer=TOO_HIGH) as simulator, asking(face, simulator) as subject:
        for _ in range(2):
            with pytest.raises(InvalidOutputError, match=r"\$\.score: 9 is greater than the maximum of 5") as caught:
                subject.execute_agent("reviewer", "x", output_schema=SCHEMA)
        assert calls(simulator) == 6
    error = caught.value
    assert (error.text, error.problems) == (TOO_HIGH, ("$.score: 9 is greater than the maximum of 5",))
    assert (error.attempts, error.exit_code, error.agent, error.stop_reason) == (3, 1, "reviewer", "end_turn")
    line = json.loads((project / ".claude/metrics/executions.jsonl").read_text().splitlines()[0])
    assert (line["success"], line["error_type"]) == (False, "InvalidOutputError")


@pytest.mark.parametrize("text", ['{"verdict": "mer', FITS], ids=["half", "looks whole"])
def test_a_cut_answer_does_not_fit(face: Face, text: str) -> None:
    """`max_tokens` would cut it again, so it is not asked for again; and what looks whole may be the 4 of a 42."""
    with Simulator(answer=Answer(text, stop_reason="max_tokens")) as simulator, asking(face, simulator) as subject:
        with pytest.raises(InvalidOutputError, match="raise max_tokens") as caught:
            subject.execute_agent("reviewer", "x", output_schema=SCHEMA)
        assert calls(simulator) == 1
    assert (caught.value.text, caught.value.problems) == (text, ("$: cut (max_tokens)",))


def test_a_kept_answer_has_its_data(face: Face) -> None:
    """It is given again, with a value of its own that nobody else can change."""
    with Simulator(answer=FITS) as simulator, asking(face, simulator) as subject:
        first, second = (subject.execute_agent("reviewer", "x", output_schema=SCHEMA) for _ in range(2))
        assert calls(simulator) == 1
    first.data["score"] = 0
    assert (second.cached, second.data) == (True, {"verdict": "merge", "score": 4})


def test_a_kept_answer_that_fits_no_more_is_asked_for_again(face: Face) -> None:
    """A cache may have it from a time when the check was less strict."""
    with Simulator(answer=FITS) as simulator, asking(face, simulator) as subject:
        parts = subject._project.parts
        task = Task(agent_name="reviewer", text="x", output_schema=SCHEMA)
        request = build_request(task, parts.agents.find("reviewer"), parts.config, parts.aliases).request
        old = Reply(model=request.model, text=TOO_HIGH, stop_reason="end_turn", usage=None)
        parts.cache.keep(request_key(request, server=parts.server), old, agent="reviewer", task="x", cost_usd=None)
        for cached in (False, True):
            result = subject.execute_agent("reviewer", "x", output_schema=SCHEMA)
            assert (result, result.cached) == (FITS, cached)
        assert calls(simulator) == 1


def test_another_schema_asks_again(face: Face) -> None:
    """A schema decides the answer; the order of its keys does not."""
    turned = dict(reversed(SCHEMA.items()))
    stricter = SCHEMA | {"required": ["verdict", "score", "files"]}
    with Simulator() as simulator, asking(face, simulator) as subject:
        given = [
            subject.execute_agent("reviewer", "x", output_schema=schema) for schema in (SCHEMA, turned, stricter, None)
        ]
    assert [result.cached for result in given] == [False, True, False, False]
    assert given[2].data["files"] == ["simulated", "simulated"]


@pytest.mark.parametrize(
    "schema",
    [{"type": "objekt"}, {"$ref": "https://example.com/review.json"}, {"$ref": "#/$defs/no"}, "object"],
    ids=str,
)
def test_an_unusable_schema_costs_nothing(face: Face, schema: Any) -> None:
    """What is wrong with it is said before anything is sent."""
    with Simulator() as simulator, asking(face, simulator) as subject:
        with pytest.raises(TaskError, match="output schema"):
            subject.execute_agent("reviewer", "x", output_schema=schema)
        assert calls(simulator) == 0


def test_a_map_is_refused_by_the_api(face: Face) -> None:
    """An object of any names is more than the API can do; who asks for one hears it from there, and pays nothing."""
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    with (
        Simulator() as simulator,
        asking(face, simulator) as subject,
        pytest.raises(Exception, match="'additionalProperties' must"),
    ):
        subject.execute_agent("reviewer", "x", output_schema=schema)


def test_offline_fits_too(face: Face) -> None:
    """The simulator answers within the bounds, though the API's words for a schema have none."""
    with face(offline=True) as subject:
        result = subject.execute_agent("reviewer", "x", output_schema=SCHEMA)
    assert (result.data, result.attempts, result.simulated) == ({"verdict": "merge", "score": 1}, 1, True)


async def test_a_stream_and_a_batch_take_a_schema() -> None:
    """Pieces arrive as they are written, the result at the end has the data; in a batch each task may have its own."""
    with Simulator(answer=FITS, faults=[TOO_HIGH]) as simulator:
        async with AsyncAgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
            *pieces, result = [piece async for piece in subject.stream("reviewer", "x", output_schema=SCHEMA)]
            assert "".join(map(str, pieces)) == TOO_HIGH + FITS
            assert getattr(result, "data", None) == {"verdict": "merge", "score": 4}
            tasks = [AgentTask("reviewer", "y"), AgentTask("reviewer", "z", {"output_schema": {"required": ["no"]}})]
            one, other = await subject.execute_multiple(tasks, on_error="return", output_schema=SCHEMA)
    assert getattr(one, "data", None) == {"verdict": "merge", "score": 4}
    assert isinstance(other, InvalidOutputError)


@pytest.mark.usefixtures("_from_nursery")
def test_only_a_schema_loads_the_checker() -> None:
    """Who gives none does not wait for its import, whatever else is loaded."""
    program = (
        "import sys\nfrom claude_force import AgentOrchestrator\n"
        "with AgentOrchestrator(offline=True) as subject:\n"
        "    subject.execute_agent('reviewer', 'x')\n"
        "    print('jsonschema' in sys.modules)\n"
        "    subject.execute_agent('reviewer', 'x', output_schema={'type': 'object'})\n"
        "    print('jsonschema' in sys.modules)\n"
    )
    done = subprocess.run(["quick-python", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nTrue\n"
