"""What crosses the border between a run and its workers comes back as it was, or is not believed."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from claude_force.base import errors
from claude_force.base.errors import (
    BudgetError,
    ClaudeForceError,
    DeadlineError,
    EngineError,
    InvalidOutputError,
    RateLimitError,
)
from claude_force.base.records import Call, Execution, Request, Retry
from claude_force.base.usage import Usage
from claude_force.stores.seal import Sealer
from claude_force.workers.work import (
    Failure,
    Outcome,
    Work,
    error_of,
    failed,
    failure_of,
    opened_outcome,
    opened_work,
    retry_of,
    sealed_outcome,
    sealed_work,
    work_id,
)

OURS, THEIRS = Sealer([b"a secret of ours, 32 bytes long.."]), Sealer([b"a secret of theirs, of 32 bytes."])
WORK = Work(
    agent="reviewer",
    task="say 1",
    workflow="chain",
    run="20261126-111530-3fa2c1",
    step="reviews[3]",
    request=Request(model="claude-haiku-5-5", system=("You.",), prompt=("say 1",), max_tokens=100),
    timeout_s=60.0,
    max_retries=3,
    limit_usd=Decimal("0.1"),
)
ID = work_id(WORK, "1")


def crossed(error: ClaudeForceError) -> ClaudeForceError:
    """The error, on the other side."""
    return error_of(msgspec.json.decode(msgspec.json.encode(failure_of(error)), type=Failure))


def test_work_and_outcome_come_back_as_they_were() -> None:
    """Nothing is lost on the way, money least of all."""
    assert opened_work(OURS, ID, sealed_work(OURS, ID, WORK)) == WORK
    usage = Usage(input_tokens=3, cache_read_tokens=2, output_tokens=5)
    execution = Execution(
        timestamp=datetime(2026, 11, 26, tzinfo=UTC),
        agent_name="reviewer",
        task="say 1",
        model="claude-haiku-5-5",
        success=True,
        duration_ms=1.5,
        attempts=2,
        usage=usage,
        cost_usd=Decimal("0.0000001"),
        calls=(Call(model="claude-haiku-5-5", asked_as="haiku", usage=usage),),
    )
    outcome = Outcome(text="1", execution=execution, warnings=("mind this",))
    assert opened_outcome(OURS, ID, sealed_outcome(OURS, ID, outcome)) == outcome


@pytest.mark.parametrize("change", ["other secret", "other id", "one bit", "outcome as work", "nothing"])
def test_what_is_not_ours_is_refused(change: str) -> None:
    """Neither what others sign, nor what was changed, nor what was ours under another id."""
    sealed, id_ = sealed_work(THEIRS if change == "other secret" else OURS, ID, WORK), ID
    if change == "other id":
        id_ = ID.replace("reviews[3]", "reviews[4]")
    elif change == "one bit":
        sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    elif change == "outcome as work":
        sealed = sealed_outcome(OURS, ID, Outcome(text="1"))
    elif change == "nothing":
        sealed = b""
    with pytest.raises(EngineError, match="not signed by us") as refused:
        opened_work(OURS, id_, sealed)
    assert refused.value.work == id_


def test_every_error_is_raised_as_what_it_was() -> None:
    """Class, message, exit code and facts, also of errors within errors."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, ClaudeForceError):
            again = crossed(kind("what happened"))
            assert (type(again), str(again), again.exit_code) == (kind, "what happened", kind.exit_code)
    late = DeadlineError("late", timeout_s=3.0, exit_code=5, last_error=RateLimitError("wait", retry_after_s=2.5))
    again = crossed(late)
    assert isinstance(again, DeadlineError)
    assert (again.timeout_s, again.exit_code) == (3.0, 5)
    assert isinstance(again.last_error, RateLimitError)
    assert again.last_error.retry_after_s == 2.5
    assert vars(crossed(BudgetError("no", limit_usd=Decimal("1.50")))) == {"limit_usd": Decimal("1.50")}
    assert vars(crossed(InvalidOutputError("no", problems=("$.a", "$.b")))) == {"problems": ("$.a", "$.b")}
    assert isinstance(error_of(Failure(kind="os", message="of a newer version", facts={})), EngineError)


def test_a_retry_is_told_as_it_was() -> None:
    """With the error that it was made for."""
    retry = Retry(attempt=1, max_attempts=4, wait_s=0.5, error=RateLimitError("wait"))
    again = retry_of(msgspec.convert(msgspec.to_builtins(failed(retry)), type(failed(retry))))
    assert (again.attempt, again.max_attempts, again.wait_s, str(again.error)) == (1, 4, 0.5, "wait")
    assert isinstance(again.error, RateLimitError)


def test_an_id_is_that_of_what_is_asked() -> None:
    """Whatever decides the answer gives another id; what only says how to ask does not."""
    other = msgspec.structs.replace(WORK, request=msgspec.structs.replace(WORK.request, prompt=("say 2",)))
    assert work_id(other, "1") != ID
    assert work_id(msgspec.structs.replace(WORK, server="127.0.0.1:1"), "1") != ID
    assert work_id(msgspec.structs.replace(WORK, inference_geo="us"), "1") != ID
    assert work_id(msgspec.structs.replace(WORK, timeout_s=1.0, limit_usd=None, max_retries=0), "1") == ID
    assert ID.startswith("20261126-111530-3fa2c1/reviews[3]/")
