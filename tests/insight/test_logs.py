"""Logs, as an application sees them that has set `logging` up: what they say, and what they never do."""

import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic  # noqa: F401 - a second that no time limit of a test is to pay
import pytest

from claude_force import ClaudeForceError, JsonFormatter
from claude_force.testing import Answer, ApiFault, MidStreamError, Refusal, Rule, Simulator

Face = Callable[..., Any]
Log = Callable[[], list[dict[str, Any]]]

pytestmark = pytest.mark.usefixtures("project")
SOON = {"retry-after-ms": "1"}
CANARY = "canary-of-the-text"
KEY = "sk-ant-api03-canary-0123456789abcdefghij"


class Lines(logging.Handler):
    """Keeps each record as JSON has it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def handler(unobserved: None) -> Iterator[Lines]:  # noqa: ARG001 - before and after
    """All that `claude_force` logs, down to DEBUG; the root logger is left alone."""
    handler, logger, root = Lines(), logging.getLogger("claude_force"), logging.getLogger()
    before = list(root.handlers), root.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    assert (root.handlers, root.level) == before


def test_what_a_run_says(face: Face, handler: Lines) -> None:
    """Each attempt, turn, step and run ends with a record that has its ids and facts, as message and as fields."""
    steps = [{"id": "a", "agent": "reviewer", "task": "Do a."}]
    faults = [ApiFault(529, headers=SOON)]
    with Simulator(faults=faults) as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        result = subject.execute_workflow({"name": "w", "steps": steps})
    said = [json.loads(line) for line in handler.lines]
    ended = [line for line in said if line["level"] == "INFO"]
    assert [line["message"].partition(" after ")[0] for line in ended] == [
        "attempt claude-haiku-5-5: OverloadedError",
        "attempt claude-haiku-5-5: done",
        "turn reviewer: done",
        "step a: done",
        "run w: completed",
    ]
    assert {line["run_id"] for line in said} == {result.run_id}
    assert {line["step_id"] for line in said[:-2]} == {"a"}
    turn = ended[2]
    assert (turn["logger"], turn["attempts"], turn["cached"]) == ("claude_force.turn", 2, False)
    assert turn["cost_usd"] == float(result.cost_usd)
    assert {line["level"] for line in said if line["event"] in {"lookup", "wait"}} == {"DEBUG"}


def test_no_prompt_answer_or_key_is_logged(face: Face, handler: Lines, project: Path) -> None:
    """Whatever becomes of a turn: an answer, streamed, from the cache, a refusal, bad JSON, an error that quotes it."""
    (project / ".claude/claude.json").write_text('{"defaults": {"max_retries": 1}}')
    quoting = f"prompt was {CANARY} with {KEY}"
    faults: list[Any] = [
        None,
        ApiFault(400, message=quoting),
        ApiFault(529, message=quoting, headers=SOON),
        MidStreamError(message=quoting),
        ApiFault(401, message=quoting),
    ]
    refusing = Rule(Answer("", refusal=Refusal("cyber", quoting)), when=lambda request: "sonnet" in request.model)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    ways: list[dict[str, Any]] = [
        {},
        {},
        {"on_text": lambda _: None, "use_cache": False},
        {"on_text": lambda _: None, "use_cache": False},
        {"use_cache": False},
        {"output_schema": schema},
        {"model": "sonnet"},
    ]
    with (
        Simulator(answer=Answer(f"it is {CANARY}"), faults=faults, rules=[refusing]) as simulator,
        face(api_key=KEY, base_url=simulator.base_url) as subject,
    ):
        for way in ways:
            with suppress(ClaudeForceError):
                subject.execute_agent("reviewer", f"tell {CANARY} {KEY}", **way)
        steps = [{"id": "a", "agent": "reviewer", "task": f"Do {CANARY}."}]
        subject.execute_workflow({"name": "w", "steps": steps}, on_error="return")
    assert len(handler.lines) > 20
    assert "canary" not in "\n".join(handler.lines)
    assert {"InvalidRequestError", "OverloadedError", "RefusalError", "CredentialsError", "InvalidOutputError"} <= {
        json.loads(line).get("error_type") for line in handler.lines
    }


def test_a_key_in_somebody_elses_record_is_masked() -> None:
    """In the message, its fields however deep, and a traceback; and what JSON does not know is its text."""
    headers = {"x-api-key": KEY, KEY: 1, (1, 2): [("a", KEY), {"b": (KEY,)}]}
    record = logging.makeLogRecord(
        {"msg": "with %s", "args": (KEY,), "header": f"Bearer {KEY}", "path": ValueError(KEY), "headers": headers}
    )
    record.rate, record.cost = math.nan, Decimal("0.25")
    line = JsonFormatter().format(record)
    assert "canary" not in line
    said = json.loads(line, parse_constant=pytest.fail)
    assert said["message"] == "with [masked]"
    assert said["headers"]["(1, 2)"] == [["a", "[masked]"], {"b": ["[masked]"]}]
    assert (said["rate"], said["cost"]) == ("nan", 0.25)
