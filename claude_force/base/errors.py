"""Every error that claude-force raises, in one family.

```
ClaudeForceError                       exit code 1
├── InputError                         2   what was given cannot be used; nothing was sent
│   ├── TaskError                          the task or its material is empty, too long or unreadable
│   ├── TasksFileError                     a tasks file, or its results file; `problems` lists every fault
│   ├── ConfigError                        the configuration is wrong; `problems` lists every fault
│   ├── WorkflowError                      a workflow, or what it was given, is wrong; `problems` lists every fault
│   ├── RunNotFoundError                   no run of that id, or none that could be taken up
│   ├── BatchNotFoundError                 no message batch of that id, or its answers are gone
│   ├── AgentError                         an agent cannot be used
│   │   ├── AgentNotFoundError             no agent of that name; `nearest` has suggestions
│   │   ├── AgentNameError                 the name is a path, or holds characters that a name may not have
│   │   └── AgentFileError                 the agent's file cannot be read
│   ├── SkillError                         a skill, or a file of it, cannot be used
│   │   ├── SkillNotFoundError             no skill of that name; `nearest` has suggestions
│   │   └── SkillFileError                 the skill's file cannot be read
│   └── InjectionError                     material looks like a prompt injection and the config says refuse
├── ApiError                           1   the API, or the way to it, failed; `attempts` were made
│   ├── InvalidRequestError            1   400, 422: the API did not accept the request
│   ├── RequestTooLargeError           2   413: more than the API takes in one request
│   ├── ModelNotFoundError             2   404 for a model: unknown or retired (terminal)
│   ├── CredentialsError               3   no credentials, or refused ones: 401, 403 (terminal)
│   ├── AccountLimitError              4   402, a spent limit, an empty balance (terminal)
│   ├── RateLimitError                 5   429 that passes with time
│   ├── OverloadedError                5   529, 503: the API is overloaded
│   ├── ServerError                    1   another 5xx, or 408 and 409
│   ├── ConnectionFailedError          1   nothing answers, or the connection broke
│   ├── TimedOutError                  1   one attempt took longer than it may
│   ├── CircuitOpenError               5   not sent: a circuit breaker is open after too many failures
│   └── ProtocolError                  1   the server answers, but not as a Messages API does
├── CacheError                         1   the response cache on disk cannot be used, and somebody asked for it by name
├── AgentMemoryError                   1   the memory of sessions cannot be used, and somebody asked for it by name
├── MetricsError                       1   what was kept of past executions cannot be used
├── JournalError                       1   the journal of runs cannot be used, and somebody asked for it by name
├── BatchError                         1   a message batch cannot be put down, sent or collected
│   └── BatchEntryError                1   the batch ended before this request was answered: expired or cancelled
├── NotRunError                        1   never sent, because another task's terminal error ended the batch
├── BudgetError                        4   never sent, because it could have passed the limit that was given
├── EngineError                        1   a step cannot be handed to workers, or what came back cannot be used
├── RunError                           1   a workflow did not come to its end; `result` has all that was done
├── DeadlineError                      1   the time given is over; 5 when rate limits or overload used it up
└── AnswerError                        1   an answer came, but it is none
    ├── RefusalError                   6   the model declined
    ├── CutAnswerError                 1   the answer ended before its end (retried)
    ├── InvalidOutputError             1   the answer does not fit its schema (retried); `problems` says where
    └── EmptyAnswerError               1   the answer has no text
```

Catch the family, a branch, or one leaf. Facts are fields, so nobody has to parse a message. All survive pickle.
*Terminal* errors (`is_terminal`) fail every further call too, so a run that meets one sends nothing more.
"""

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from decimal import Decimal

    from claude_force.base.records import RateLimits


class ClaudeForceError(Exception):
    """The root of the family: `str(error)` says what happened, to what, and what to do next.

    Facts are given by keyword and become fields; a fact that the class does not declare is a `TypeError`.
    """

    exit_code: int = 1
    """What the command line exits with."""
    is_terminal: ClassVar[bool] = False

    def __init__(self, message: str = "", **facts: Any) -> None:  # noqa: ANN401 - each class declares its facts' types
        super().__init__(message)
        for name, value in facts.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no fact {name!r}")
            setattr(self, name, value)

    def __reduce__(self) -> tuple[type["ClaudeForceError"], tuple[Any, ...], dict[str, Any]]:
        return type(self), self.args, self.__dict__


class InputError(ClaudeForceError):
    """What was given cannot be used; nothing was sent, nothing was paid."""

    exit_code = 2


class TaskError(InputError):
    """The task, or material given with it, is empty, too long, or holds characters that text may not have."""

    source: str = "task"
    """What is wrong: `"task"`, or the name of the material."""
    length_chars: int | None = None
    limit_chars: int | None = None


class TasksFileError(InputError):
    """A file of tasks, or the file that their results go to, cannot be used."""

    path: str | None = None
    """The file; `None` for standard input."""
    problems: tuple[str, ...] = ()
    """Every fault found, each with its line."""


class ConfigError(InputError):
    """The configuration is wrong."""

    path: str | None = None
    """The file, if there is one."""
    problems: tuple[str, ...] = ()
    """Every fault found, each with the path of its key."""


class WorkflowError(InputError, ValueError):
    """A workflow is wrong, or what it was given; nothing was sent."""

    workflow: str = ""
    problems: tuple[str, ...] = ()
    """Every fault found."""


class RunNotFoundError(InputError):
    """There is no such run."""

    run_id: str = ""


class BatchNotFoundError(InputError):
    """There is no such message batch, here or on the server, or its answers are not kept any more."""

    batch_id: str = ""


class AgentError(InputError):
    """An agent cannot be used."""

    agent: str = ""


class AgentNotFoundError(AgentError):
    """There is no agent of that name."""

    nearest: tuple[str, ...] = ()
    """Names of agents that exist and look alike, best first."""


class AgentNameError(AgentError):
    """The name is a path, or holds shell or control characters."""


class AgentFileError(AgentError):
    """The agent's file cannot be read."""

    path: str = ""
    line: int | None = None
    """Counted from 1."""
    reason: str = ""
    kind: str = ""
    """What `agents validate` counts it as, such as "bad-yaml"."""


class SkillError(InputError):
    """A skill, or a file of it, cannot be used."""

    skill: str = ""


class SkillNotFoundError(SkillError):
    """No skill has that name."""

    nearest: tuple[str, ...] = ()
    """Names of skills that look like it."""


class SkillFileError(SkillError):
    """A skill's file cannot be used; `reason` says why and what to do."""

    path: str = ""
    line: int | None = None
    reason: str = ""
    kind: str = ""
    """What `skills validate` counts it as, such as "bad-yaml"."""


class InjectionError(InputError):
    """Material looks like a prompt injection, and the configuration says to refuse it."""

    source: str = ""
    findings: tuple[str, ...] = ()


class ApiError(ClaudeForceError):
    """The API, or the way to it, failed."""

    status: int | None = None
    """The HTTP status; 200 where a stream failed after it had begun; `None` where no response came."""
    kind: str | None = None
    """`error.type` of the API's body, such as `"overloaded_error"`."""
    error_code: str | None = None
    """`error.details.error_code` of the API's body."""
    request_id: str | None = None
    retry_after_s: float | None = None
    """How long the server asked to wait, in seconds."""
    should_retry: bool | None = None
    """What the server's `x-should-retry` header says, if it says anything."""
    model: str | None = None
    endpoint: str | None = None
    """Which of several endpoints it was, by name."""
    limits: "RateLimits | None" = None
    """What the response said about rate limits."""
    attempts: int = 1
    """How many requests were sent for this turn."""
    has_begun: bool = False
    """Whether an answer had begun to arrive: then it is billed, and nobody said how much."""
    may_have_arrived: bool = False
    """Whether the request was sent, and no refusal came back: then it may have been worked on, and be billed."""

    def __str__(self) -> str:
        where = f" (at the endpoint {self.endpoint!r})" if self.endpoint else ""
        tries = f" (gave up after {self.attempts} attempts)" if self.attempts > 1 else ""
        return super().__str__() + where + tries


class InvalidRequestError(ApiError):
    """400 or 422: the API did not accept the request."""


class RequestTooLargeError(ApiError):
    """413: the request has more bytes than the API takes."""

    exit_code = 2


class ModelNotFoundError(ApiError):
    """404: the model is unknown or retired."""

    exit_code = 2
    is_terminal = True


class CredentialsError(ApiError):
    """There are no credentials, or the API refused them (401, 403)."""

    exit_code = 3
    is_terminal = True


class AccountLimitError(ApiError):
    """The account cannot pay or may not spend more: 402, or a spend limit that was reached."""

    exit_code = 4
    is_terminal = True


class RateLimitError(ApiError):
    """429 that passes with time."""

    exit_code = 5


class OverloadedError(ApiError):
    """529 or 503: the API is overloaded."""

    exit_code = 5


class ServerError(ApiError):
    """The API failed on its side: 500, 502, 504, 408, 409."""


class ConnectionFailedError(ApiError):
    """Nothing answers at the address, or the connection broke before an answer."""


class TimedOutError(ApiError):
    """One attempt took longer than it may; the turn may have time for another."""


class CircuitOpenError(ApiError):
    """Nothing was sent: a circuit breaker refuses calls, as those before failed. `retry_after_s` is until the next."""

    exit_code = 5
    attempts = 0
    name: str = ""
    """The breaker's name."""


class ProtocolError(ApiError):
    """The server answered with something that is no Messages API reply."""


class CacheError(ClaudeForceError):
    """The response cache on disk cannot be read or written. A turn never raises it: it goes on without the cache."""

    path: str = ""
    """Its folder."""


class AgentMemoryError(ClaudeForceError):
    """The memory of sessions cannot be used: its file is damaged, foreign, locked, or on a full disk."""

    path: str = ""


class MetricsError(ClaudeForceError):
    """What was kept of past executions is damaged, or of a newer version. No execution ever raises it."""

    path: str = ""


class JournalError(ClaudeForceError):
    """The journal of runs cannot be read or written. A run never raises it: it goes on without the journal."""

    path: str = ""


class BatchError(ClaudeForceError):
    """A message batch cannot be put down, sent or collected."""

    batch_id: str | None = None
    """The server's id, where it is known."""


class BatchEntryError(BatchError):
    """The batch ended before this request was answered; it costs nothing, unless it is `"missing"`."""

    end: str = ""
    """`"expired"`, `"canceled"`, or `"missing"` where the server says nothing of it, so what it costs is not known."""


class BudgetError(ClaudeForceError):
    """Not sent: it could have cost more than what is left of a limit. What was paid for is kept."""

    exit_code = 4
    limit_usd: "Decimal | None" = None
    spent_usd: "Decimal | None" = None
    needed_usd: "Decimal | None" = None
    """What it could have cost at the most."""


class EngineError(ClaudeForceError):
    """A step of a run cannot be handed to workers, or what came back from there cannot be used."""

    work: str = ""
    """The id under which it was handed over; empty where it is about all of them."""


class RunError(ClaudeForceError):
    """A workflow did not come to its end. Its exit code is that of the first cause."""

    result: Any = None
    """A `WorkflowResult`: all that was done, and how each step ended."""


class NotRunError(ClaudeForceError):
    """The task was never sent: a terminal error of another one ended the batch, and this would have met it, too."""

    agent: str = ""
    cause: ClaudeForceError | None = None
    """What ended the batch; its exit code is this one's."""


class DeadlineError(ClaudeForceError):
    """The time given for the turn, with its retries and waits, is over."""

    timeout_s: float = 0.0
    elapsed_s: float = 0.0
    attempts: int = 0
    last_error: ClaudeForceError | None = None


class AnswerError(ClaudeForceError):
    """An answer came, but it is none."""

    agent: str = ""
    model: str | None = None
    request_id: str | None = None
    stop_reason: str | None = None
    attempts: int = 1


class RefusalError(AnswerError):
    """The model declined to answer."""

    exit_code = 6
    category: str | None = None
    """The API's policy category, such as `"cyber"`."""
    explanation: str | None = None


class CutAnswerError(AnswerError):
    """The answer ended before its end: a stream without a stop reason, or a turn that was left open."""

    text: str = ""
    """What had arrived."""


class InvalidOutputError(AnswerError):
    """The answer is no JSON, or does not fit the schema that was asked for."""

    text: str = ""
    """The answer as it came."""
    problems: tuple[str, ...] = ()
    """What does not fit, each with its JSON path, such as `$.steps[2]`; the first 20."""


class EmptyAnswerError(AnswerError):
    """The answer has no text."""
