"""The error family: catchable by branch, with facts as fields, and whole after a pickle."""

import pickle
import re
from decimal import Decimal
from typing import get_type_hints

import pytest

from claude_force.base import errors
from claude_force.base.errors import ApiError, ClaudeForceError, DeadlineError, RateLimitError, RefusalError
from claude_force.base.records import RateLimits

FAMILY = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ClaudeForceError)]
by_name = pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)


@by_name
def test_every_error_survives_pickle_with_its_facts(kind: type[ClaudeForceError]) -> None:
    """An error that crosses a process border keeps its class, message, facts and exit code."""
    hints = get_type_hints(kind, localns={"Decimal": Decimal, "RateLimits": RateLimits})
    facts = {name: 7 for name in hints if name != "is_terminal"}
    error = kind("it broke", **facts)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error) == facts


@by_name
def test_an_undeclared_fact_is_refused(kind: type[ClaudeForceError]) -> None:
    """A misspelt fact fails at once instead of vanishing."""
    with pytest.raises(TypeError, match="colour"):
        kind("it broke", colour="red")


def test_the_drawn_tree_is_the_real_one() -> None:
    """The picture in the module's docstring names every class, under its parent, with its exit code."""
    drawn: dict[str, tuple[int, int | None]] = {}
    parents: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([│├└─ ]*)(\w+Error) +(\d)?", line):
            depth, name = len(found[1]), found[2]
            path = [*(p for p in path if p[0] < depth), (depth, name)]
            drawn[name] = (depth, int(found[3]) if found[3] else None)
            parents[name] = path[-2][1] if len(path) > 1 else "Exception"
    drawn["ClaudeForceError"] = (0, 1)
    assert {kind.__name__: kind.__base__.__name__ for kind in FAMILY if kind.__base__} == parents
    codes = {kind.__name__: kind.exit_code for kind in FAMILY}
    assert {name: code for name, (_, code) in drawn.items() if code is not None}.items() <= codes.items()


def test_terminal_errors_are_those_that_every_further_call_would_meet() -> None:
    """Credentials, spent limits and dead models end a run; a busy server does not."""
    terminal = {kind.__name__ for kind in FAMILY if kind.is_terminal}
    assert terminal == {"CredentialsError", "AccountLimitError", "ModelNotFoundError"}


def test_the_message_says_how_often_it_was_tried() -> None:
    """After retries the message names the number of attempts; after one it does not."""
    assert str(RateLimitError("too many", attempts=4)) == "too many (gave up after 4 attempts)"
    assert str(ApiError("too many")) == "too many"


def test_a_deadline_takes_over_the_exit_code_of_its_cause() -> None:
    """A turn that rate limits used up exits like a rate limit."""
    assert DeadlineError("late", exit_code=RateLimitError.exit_code).exit_code == 5
    assert DeadlineError("late").exit_code == 1
    assert RefusalError("no").exit_code == 6
