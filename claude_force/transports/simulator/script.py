"""What a simulator is told to do: answers, how long they take, and what goes wrong on the way.

Everything but `Script` is a value that users write down in their tests. `Script` decides which of them a request gets:

1. the first `Rule` that fits the request,
2. else the next of the `faults` (and of what `Simulator.script` added), in order of arrival,
3. else the `answer`: one for all, a list in order of arrival, or a function of the request.

`None` in any of these places means "as if nothing had been said here". Nothing in this module does I/O.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from claude_force.transports.simulator.prompt import texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.base.usage import Usage

ERROR_TYPES: "Mapping[int, str]" = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        408: "timeout_error",
        409: "conflict_error",
        413: "request_too_large",
        429: "rate_limit_error",
        500: "api_error",
        503: "overloaded_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
)
"""The `error.type` that the API gives with a status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRequest:
    """A request as the simulator received it."""

    number: int
    """Counted from 1, over all paths, in order of arrival."""
    method: str
    path: str
    """Without the query."""
    headers: "Mapping[str, str]"
    """Names in lower case."""
    body: Any
    """The parsed JSON; `None` where there is none, or where it could not be read."""

    @property
    def model(self) -> str:
        """The model that was asked; empty where the request names none."""
        return str(self.body.get("model", "")) if isinstance(self.body, dict) else ""

    @property
    def system(self) -> str:
        """The whole system prompt."""
        return "\n".join(texts(self.body.get("system"))) if isinstance(self.body, dict) else ""

    @property
    def prompt(self) -> str:
        """The text of all messages."""
        messages = self.body.get("messages") if isinstance(self.body, dict) else None
        found = [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
        return "\n".join(text for message in found for text in texts(message.get("content")))


@dataclass(frozen=True, slots=True)
class Refusal:
    """The model declines: why, in the API's words."""

    category: str | None = None
    """Such as `"cyber"` or `"bio"`."""
    explanation: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the simulated model answers.

    As with the API, `max_tokens` and `stop_sequences` of the request cut the text, and say so in the stop reason.

    Example:
        >>> Answer("Looks good.", thinking="Let me see.").stop_reason
        'end_turn'
    """

    text: str
    thinking: str | None = None
    """Makes a thinking block, which stands before the text."""
    stop_reason: str = "end_turn"
    usage: "Usage | None" = None
    """`None`: estimated from the texts, with the simulated prompt cache."""
    latency_s: float | None = None
    """Seconds until the answer begins; `None`: as the simulator's `Latency` says."""
    refusal: Refusal | None = None
    """Makes the stop reason `"refusal"`; the text, if any, is what came before it."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long answers take, as fixed by the seed: the same request takes the same time in every run.

    A plain request is answered when its last token is there; a stream begins with the first and keeps the pace.

    Example:
        >>> Latency(0.5).first_token_s(lambda name: 0.25)
        0.5
        >>> Latency(0.5, kind="uniform", spread=0.2).first_token_s(lambda name: 0.0)
        0.4
    """

    seconds: float = 0.0
    """Until the first token: exactly, on average (uniform), or in the middle (lognormal)."""
    per_token_s: float = 0.0
    """For each token of output."""
    kind: Literal["fixed", "uniform", "lognormal"] = "fixed"
    spread: float = 0.0
    """Uniform: the share by which it varies. Lognormal: sigma; with 0.5, one in 20 takes 2.3 times as long or more."""

    def first_token_s(self, roll: Callable[[str], float]) -> float:
        """Seconds until the first token; `roll` is the request's own chance."""
        if self.kind == "uniform":
            return self.seconds * (1 + self.spread * (2 * roll("latency") - 1))
        if self.kind == "lognormal":  # Box-Muller; `1 - roll` is never 0, which has no logarithm
            distance = math.sqrt(-2 * math.log(1 - roll("latency")))
            return self.seconds * math.exp(self.spread * distance * math.cos(2 * math.pi * roll("angle")))
        return self.seconds


class Fault:
    """Something that goes wrong; the classes below say what. Each works on streams and on plain requests."""

    __slots__ = ()
    spoils_answer: ClassVar[bool] = False
    """True where an answer is made (and billed) and then spoiled; False where none is made at all."""


@dataclass(frozen=True, slots=True)
class ApiFault(Fault):
    """The API says no, with a status and its error body."""

    status: int
    type: str | None = None
    """`None`: the type that belongs to the status."""
    message: str = "simulated"
    error_code: str | None = None
    """Goes to `error.details.error_code`, such as `"enforced_spend_limit_reached"`."""
    retry_after: float | str | None = None
    """The header of that name: seconds, or any text that a confused server may send."""
    headers: "Mapping[str, str]" = field(default_factory=dict)
    """More response headers, such as `x-should-retry`."""

    @property
    def error_type(self) -> str:
        """What the body gives as `error.type`."""
        return self.type or ERROR_TYPES.get(self.status, "api_error" if self.status >= 500 else "invalid_request_error")  # noqa: PLR2004 - HTTP's own border


class RejectedError(Exception):
    """An `ApiFault` on its way to the client that caused it; never leaves the simulator."""

    def __init__(self, fault: ApiFault) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class CutStream(Fault):
    """The connection closes in the middle of the answer; a plain answer is cut in half.

    A clean close looks like a regular end: the SDK reports nothing, and the message has no stop reason.
    """

    spoils_answer: ClassVar[bool] = True
    after_events: int = 4
    """How many events are sent; `message_start` is the first."""
    clean: bool = True


@dataclass(frozen=True, slots=True)
class MidStreamError(Fault):
    """A stream that began with status 200 ends in an `error` event; a plain request gets the type's own status."""

    spoils_answer: ClassVar[bool] = True
    type: str = "overloaded_error"
    after_events: int = 4
    message: str = "simulated"

    @property
    def as_api_fault(self) -> ApiFault:
        """The same trouble for a request that is not streamed."""
        statuses = {kind: status for status, kind in ERROR_TYPES.items()}
        return ApiFault(statuses.get(self.type, 500), self.type, self.message)


@dataclass(frozen=True, slots=True)
class Stall(Fault):
    """The server falls silent with the connection open."""

    spoils_answer: ClassVar[bool] = True
    after_events: int | None = None
    """How many events are sent before; `None`: not even the headers. A plain answer stops in its middle."""
    seconds: float | None = None
    """Then the rest follows; `None`: never."""


@dataclass(frozen=True, slots=True)
class Hang(Fault):
    """The request is taken, and nothing is ever answered; it is not billed. In a batch, it expires."""


@dataclass(frozen=True, slots=True)
class Disconnect(Fault):
    """The connection closes before a byte of a response."""


@dataclass(frozen=True, slots=True)
class BadJson(Fault):
    """Status 200, but the JSON is broken: the whole body of a plain answer, one event of a stream."""

    spoils_answer: ClassVar[bool] = True
    after_events: int = 4


@dataclass(frozen=True, slots=True)
class NotMessages(Fault):
    """Something that is no Messages API answers: a proxy's page, a login form."""

    status: int = 200
    body: str = "<html><body>This is not the API.</body></html>"
    content_type: str = "text/html; charset=utf-8"


Step = str | Answer | Fault | None
"""What one request gets; `None` leaves it to whoever is asked next, and in the end to the default answer."""
AnswerSource = Step | Sequence[Step] | Callable[[SeenRequest], Step]


@dataclass(frozen=True, slots=True)
class Rule:
    """What requests of a certain kind get, whenever they come. Rules hold for every path, not for messages alone.

    Example:
        >>> rule = Rule(ApiFault(529), when=lambda request: "python" in request.prompt, times=2)
    """

    then: Step
    when: Callable[[SeenRequest], bool] | None = None
    """`None`: every request to `/v1/messages`."""
    probability: float = 1.0
    """Of those that fit; which of them is fixed by the seed."""
    times: int | None = None
    """How often at most."""


class Roll(Protocol):
    """A request's own chance: the same name gives the same number."""

    def __call__(self, name: str, /) -> float:
        """A number in [0, 1)."""


class Choice(NamedTuple):
    """What a request gets: an answer (`None` is the default one) and what goes wrong with it."""

    answer: Answer | None
    fault: Fault | None


class Script:
    """Decides what each request gets. Called by the server's thread only, but for `add`, which is atomic."""

    def __init__(self, answer: AnswerSource, faults: Sequence[Step], rules: Sequence[Rule]) -> None:
        self._answer = answer
        self._given = 0
        self._steps: deque[Step] = deque(faults)
        self._rules = [(rule, [0]) for rule in rules]

    def add(self, *steps: Step) -> None:
        """Append what the next requests get."""
        self._steps.extend(steps)

    def rule_for(self, request: SeenRequest, roll: Roll) -> Rule | None:
        """The first rule that fits; it counts as used."""
        for position, (rule, used) in enumerate(self._rules):
            if rule.times is not None and used[0] >= rule.times:
                continue
            fits = request.path == "/v1/messages" if rule.when is None else rule.when(request)
            if fits and roll(f"rule {position}") < rule.probability:
                used[0] += 1
                return rule
        return None

    def choose(self, request: SeenRequest, roll: Roll) -> Choice:
        """What this request for an answer gets."""
        rule = self.rule_for(request, roll)
        step = rule.then if rule else None
        if step is None and self._steps:
            step = self._steps.popleft()
        fault = step if isinstance(step, Fault) else None
        if fault and not fault.spoils_answer:
            return Choice(None, fault)
        if step is None or fault:
            step = self._next_answer(request, is_spoiled=fault is not None)
        if isinstance(step, Fault):
            return Choice(None, step)
        return Choice(Answer(step) if isinstance(step, str) else step, fault)

    def _next_answer(self, request: SeenRequest, *, is_spoiled: bool) -> Step:
        """From the `answer` of the simulator; a spoiled answer is not taken off the list: the retry gets it."""
        source = self._answer
        if callable(source):
            return source(request)
        if source is None or isinstance(source, str | Answer | Fault):
            return source
        if self._given >= len(source):
            return ApiFault(
                500,
                message=f"the simulator's list of {len(source)} answers is used up; give more, or a function",
            )
        step = source[self._given]
        self._given += not is_spoiled
        return step
