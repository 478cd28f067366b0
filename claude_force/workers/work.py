"""What is handed to a worker, and what comes back: JSON of our own, sealed under the id that it belongs to.

Work is all that a turn needs, so a worker has no look at a project: the request as it is sent, and how long, how often
and for how much it may be asked. An outcome is an answer with what it cost, or an error of our family, which is raised
again where the run is. Neither is believed without our seal (`stores.seal`) for that very id: a database is not a place
to take orders from.
"""

import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from claude_force.base import errors
from claude_force.base.errors import ClaudeForceError, EngineError
from claude_force.base.records import Execution, Request, Retry
from claude_force.engine.key import request_key
from claude_force.engine.request import Others
from claude_force.stores.seal import ForgedError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_force.stores.seal import Sealer


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One turn, ready to be made anywhere."""

    agent: str
    task: str
    """As it was given, for the ledger; `request` has it in full."""
    workflow: str
    run: str
    step: str
    request: Request
    fallbacks: tuple[Request, ...] = ()
    unrouted_model: str | None = None
    server: str = ""
    """Who is to answer; a worker that would ask another one does not do it."""
    inference_geo: str | None = None
    """Where the model must run; `None`: anywhere."""
    timeout_s: float
    attempt_timeout_s: float | None = None
    max_retries: int
    others: Others = "none"
    """See `Task.others`, as it stands when it is handed over."""
    run_s: float = 0.0
    keeps: bool = True
    """Whether the worker's response cache keeps the answer."""
    reads: bool = True
    """Whether what it has is good enough."""
    limit_usd: Decimal | None = None
    """The most that it may cost: what the run has set aside for it."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An error, as it crosses the border."""

    kind: str
    message: str
    facts: dict[str, Any]


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that failed and was made again: see `Retry`."""

    attempt: int
    max_attempts: int
    wait_s: float
    error: Failure


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a turn ended."""

    text: str | None = None
    """The answer; `None` where there is none, and then `error` says why."""
    execution: Execution | None = None
    """What was used and paid, as the worker's ledger has it; `None` where the turn did not begin."""
    warnings: tuple[str, ...] = ()
    retries: tuple[Failed, ...] = ()
    error: Failure | None = None


def work_id(work: Work, take: str) -> str:
    """The id of the work: what has the same one has the same answer. `take` tells apart what is asked anew.

    Where the model must run counts, too: what waits was handed over by what was said then.
    """
    keys = [request_key(request, server=work.server) for request in (work.request, *work.fallbacks)]
    asked = "/".join((*keys, work.inference_geo or ""))
    return f"{work.run}/{work.step}/{hashlib.sha256(asked.encode()).hexdigest()[:32]}/{take}"


# ------------------------------------------------------------ sealed


def sealed_work(sealer: "Sealer", id_: str, work: Work) -> bytes:
    """The work, as it is handed over."""
    return sealer.seal(f"work {id_}", msgspec.json.encode(work))


def opened_work(sealer: "Sealer", id_: str, sealed: bytes) -> Work:
    """The work that was handed over. Raises `EngineError` for what is not ours, or not under this id."""
    return msgspec.json.decode(_opened(sealer, "work", id_, sealed), type=Work)


def sealed_outcome(sealer: "Sealer", id_: str, outcome: Outcome) -> bytes:
    """The outcome, as it comes back."""
    return sealer.seal(f"outcome {id_}", msgspec.json.encode(outcome))


def opened_outcome(sealer: "Sealer", id_: str, sealed: bytes) -> Outcome:
    """The outcome that came back. Raises `EngineError`, as above."""
    return msgspec.json.decode(_opened(sealer, "outcome", id_, sealed), type=Outcome)


def _opened(sealer: "Sealer", what: str, id_: str, sealed: bytes) -> "bytes | memoryview":
    try:
        return sealer.unseal(f"{what} {id_}", sealed)
    except ForgedError as error:
        raise EngineError(
            f"the {what} {id_!r} is not signed by us, so it is not used; give CLAUDE_CACHE_SECRET the same value"
            " wherever runs are started and workers work, and see who else writes to that database",
            work=id_,
        ) from error
    except UnreadableError as error:
        raise EngineError(
            f"the {what} {id_!r} cannot be read: {error}; use one version and one setting of cache.encrypt everywhere",
            work=id_,
        ) from error


# ------------------------------------------------------------ errors and retries, there and back


def failure_of(error: ClaudeForceError) -> Failure:
    """The error, as it crosses the border; what its headers said about limits stays behind."""
    facts = {name: _packed(value) for name, value in vars(error).items() if name != "limits"}
    return Failure(kind=type(error).__name__, message=str(error.args[0]) if error.args else "", facts=facts)


def error_of(failure: Failure) -> ClaudeForceError:
    """The error that it was, of the same class and with the same facts."""
    kind = getattr(errors, failure.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, ClaudeForceError)):
        return EngineError(f"a worker of another version failed with {failure.kind}: {failure.message}")
    return kind(failure.message, **{name: _unpacked(v) for name, v in failure.facts.items() if hasattr(kind, name)})


def _packed(value: object) -> object:
    if isinstance(value, ClaudeForceError):
        return {"error": msgspec.to_builtins(failure_of(value))}
    if isinstance(value, Decimal):
        return {"usd": str(value)}
    return value if isinstance(value, str | int | float | None) else [str(part) for part in _each(value)]


def _each(value: object) -> "Iterable[object]":
    return value if isinstance(value, tuple | list) else (value,)


def _unpacked(value: object) -> object:
    if isinstance(value, dict):
        if "usd" in value:
            return Decimal(value["usd"])
        return error_of(msgspec.convert(value["error"], Failure))
    return tuple(value) if isinstance(value, list) else value


def failed(retry: Retry) -> Failed:
    """A retry, as it crosses the border."""
    error = retry.error if isinstance(retry.error, ClaudeForceError) else ClaudeForceError(str(retry.error))
    return Failed(attempt=retry.attempt, max_attempts=retry.max_attempts, wait_s=retry.wait_s, error=failure_of(error))


def retry_of(one: Failed) -> Retry:
    """The retry that it was."""
    return Retry(attempt=one.attempt, max_attempts=one.max_attempts, wait_s=one.wait_s, error=error_of(one.error))
