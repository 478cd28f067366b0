"""The Messages API: from a request to the plan of its response. No sockets and no waiting; called by one thread.

The order of questions: known path, method, credentials, API version, readable body, accepted request, rate limits, and
only then the script. So a request that the API would refuse never uses up a scripted answer.
"""

from collections import deque
from collections.abc import Callable
from json import JSONDecoder
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from claude_force.base.usage import Usage
from claude_force.transports.simulator.batches import Batches
from claude_force.transports.simulator.catalogue import MODELS, find_model
from claude_force.transports.simulator.chance import Dice, DiceBox
from claude_force.transports.simulator.limits import Allowance, ApiLimits
from claude_force.transports.simulator.message import default_answer, make_message
from claude_force.transports.simulator.plans import (
    Plan,
    Timing,
    error_body,
    error_plan,
    fault_plan,
    json_plan,
    message_plan,
    stream_plan,
    text_plan,
)
from claude_force.transports.simulator.prompt import PromptCache, encode, prompt_tokens
from claude_force.transports.simulator.rules import check_model, check_request
from claude_force.transports.simulator.script import (
    ApiFault,
    Fault,
    Hang,
    Latency,
    RejectedError,
    Script,
    SeenRequest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.base.clock import Clock
    from claude_force.transports.simulator.catalogue import SimulatedModel
    from claude_force.transports.simulator.prompt import Reading
    from claude_force.transports.simulator.wire import HttpRequest

ORGANIZATION_ID = "00000000-0000-4000-8000-000000000000"
SIMULATED_HEADER = "x-claude-force-simulated"
INVALID_KEY = "invalid"
"""The one key that is refused."""
MAX_PAGE = 1000


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decode = JSONDecoder(parse_constant=_refuse_constant).decode


class Body(NamedTuple):
    """What was sent."""

    value: Any
    what_decides: bytes = b""
    problem: str | None = None
    """Why it could not be read."""


class Call(NamedTuple):
    """What a route needs to answer."""

    seen: SeenRequest
    http: "HttpRequest"
    dice: Dice
    headers: dict[str, str]
    id: str
    """The part of the path that stands for an object; empty where there is none."""


Handler = Callable[[Call], Plan | dict[str, Any]]
"""What answers a route: with a plan, or with JSON."""


class MessagesApi:
    """Answers requests. State: script, prompt cache, limits, batches, and the last requests seen."""

    def __init__(
        self,
        script: Script,
        latency: Latency,
        *,
        limits: ApiLimits,
        seed: int,
        clock: "Clock",
        max_recorded: int,
        batch_polls: int,
    ) -> None:
        self.script = script
        self.seen: deque[SeenRequest] = deque(maxlen=max_recorded)
        self._latency = latency
        self._clock = clock
        self._dice_box = DiceBox(seed)
        self._cache = PromptCache()
        self._allowances = {model: Allowance(model, limits, clock) for model in MODELS}
        self._untouched = Allowance("", limits, clock)
        batches = Batches(clock, self._batch_result, polls=batch_polls)
        self.batch_usage: Mapping[str, Usage] = {}
        """What was billed for batches, by model; replaced and never changed, so that any thread may read it."""
        self._count = 0
        self._routes: Mapping[str, Mapping[str, Handler]] = {
            "/v1/messages": {"POST": self._create_message},
            "/v1/messages/count_tokens": {"POST": _count_tokens},
            "/v1/models": {"GET": _list_models},
            "/v1/models/{id}": {"GET": lambda call: check_model(call.id).to_json()},
            "/v1/messages/batches": {
                "POST": lambda call: batches.create(call.seen.body, call.dice.name("msgbatch")),
                "GET": lambda call: _page(batches.show_all(), parse_qs(call.http.query)),
            },
            "/v1/messages/batches/{id}": {
                "GET": lambda call: batches.show(call.id),
                "DELETE": lambda call: batches.delete(call.id),
            },
            "/v1/messages/batches/{id}/cancel": {"POST": lambda call: batches.cancel(call.id)},
            "/v1/messages/batches/{id}/results": {
                "GET": lambda call: text_plan(200, batches.results(call.id), "application/x-jsonl", call.headers)
            },
        }

    def route_of(self, path: str) -> tuple[str, str]:
        """The path with `{id}` in place of an object's id, and the id; an unknown path is `"unknown"`."""
        if path in self._routes:
            return path, ""
        for start in ("/v1/models/", "/v1/messages/batches/"):
            id_, slash, rest = path.removeprefix(start).partition("/")
            route = f"{start}{{id}}{slash}{rest}"
            if path.startswith(start) and id_ and route in self._routes:
                return route, id_
        return "unknown", ""

    def answer(self, http: "HttpRequest") -> Plan:
        """The response to a request."""
        route, id_ = self.route_of(http.path)
        body = _read_json(http.body)
        dice = self._dice_box.dice_for(http.method, http.path, body.what_decides)
        headers = self._headers(dice)
        self._count += 1
        seen = SeenRequest(
            number=self._count, method=http.method, path=http.path, headers=http.headers, body=body.value
        )
        self.seen.append(seen)
        try:
            handler = _admit(http, self._routes.get(route), body.problem)
            if route != "/v1/messages":
                rule = self.script.rule_for(seen, dice.roll)
                if rule and isinstance(rule.then, Fault):
                    return fault_plan(rule.then, headers)
            found = handler(Call(seen, http, dice, headers, id_))
            return found if isinstance(found, Plan) else json_plan(200, found, headers)
        except RejectedError as rejected:
            fault = rejected.fault
        except RecursionError:
            fault = ApiFault(400, message="the request is nested too deeply")
        except Exception as error:  # noqa: BLE001 - the outermost edge: a test's own function may raise anything
            fault = ApiFault(500, message=f"the simulator's script raised {error!r}")
        if route == "/v1/messages":
            model = find_model(seen.model)
            headers |= (self._allowances[model.id] if model else self._untouched).headers()
        return error_plan(fault, headers)

    def refuse(self, fault: ApiFault) -> Plan:
        """The response to something that was not even a request."""
        return error_plan(fault, self._headers(self._dice_box.dice_for("", "", b"")) | {"connection": "close"})

    def _headers(self, dice: Dice) -> dict[str, str]:
        return {
            "request-id": dice.name("req"),
            "anthropic-organization-id": ORGANIZATION_ID,
            SIMULATED_HEADER: "true",
        }

    def _create_message(self, call: Call) -> Plan:
        request = call.seen.body
        model = check_request(request)
        reading = self._read_prompt(request, model)
        allowance = self._allowances[model.id]
        allowance.admit(reading.usage)
        headers = call.headers | allowance.headers()
        choice = self.script.choose(call.seen, call.dice.roll)
        if choice.fault and not choice.fault.spoils_answer:
            plan = fault_plan(choice.fault, headers)
            plan.is_gated = True
            return plan
        answer = choice.answer or default_answer(request, model=model.id, fingerprint=call.dice.fingerprint)
        message = make_message(answer, request, id_=call.dice.name("msg"), model=model.id, prompt=reading.usage)
        first_s = self._latency.first_token_s(call.dice.roll) if answer.latency_s is None else answer.latency_s
        timing = Timing(first_s, self._latency.per_token_s)
        if request.get("stream"):
            plan = stream_plan(message, choice.fault, timing, headers, can_chunk=call.http.can_chunk)
        else:
            plan = message_plan(message, choice.fault, timing, headers)
        plan.is_gated = True

        def begin() -> None:
            self._cache.keep(reading, now_s=self._clock.monotonic())
            allowance.settle(reading.usage, message.usage)

        if plan.status == 200:  # noqa: PLR2004 - an error is not billed
            plan.billed = (model.id, message.usage)
            plan.on_begin = begin
        return plan

    def _read_prompt(self, request: "Mapping[str, Any]", model: "SimulatedModel") -> "Reading":
        now_s = self._clock.monotonic()
        return self._cache.read(request, model=model.id, min_tokens=model.min_cacheable_tokens, now_s=now_s)

    def _batch_result(self, request: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """The result of one request of a batch."""
        dice = self._dice_box.dice_for("POST", "/v1/messages", _what_decides(request))
        try:
            model = check_request(request)
            seen = SeenRequest(number=self._count, method="POST", path="/v1/messages", headers={}, body=request)
        except RejectedError as rejected:
            return {"type": "errored", "error": error_body(rejected.fault, dice.name("req"))}
        choice = self.script.choose(seen, dice.roll)
        if isinstance(choice.fault, ApiFault):
            return {"type": "errored", "error": error_body(choice.fault, dice.name("req"))}
        if isinstance(choice.fault, Hang):
            return {"type": "expired"}
        answer = choice.answer or default_answer(request, model=model.id, fingerprint=dice.fingerprint)
        reading = self._read_prompt(request, model)
        self._cache.keep(reading, now_s=self._clock.monotonic())
        message = make_message(
            answer, request, id_=dice.name("msg"), model=model.id, prompt=reading.usage, service_tier="batch"
        )
        billed = self.batch_usage.get(model.id, Usage()) + message.usage
        self.batch_usage = {**self.batch_usage, model.id: billed}
        return {"type": "succeeded", "message": message.to_json()}


def _count_tokens(call: Call) -> dict[str, Any]:
    check_request(call.seen.body, is_count=True)
    return {"input_tokens": prompt_tokens(call.seen.body)}


def _list_models(call: Call) -> dict[str, Any]:
    query = parse_qs(call.http.query)
    stages = {*query.get("lifecycle", ()), *query.get("lifecycle[]", ())} or {"active", "deprecated"}
    return _page([body for model in MODELS.values() if (body := model.to_json())["lifecycle"] in stages], query)


def _read_json(data: bytes) -> Body:
    if not data:
        return Body(None)
    try:
        value = _decode(data.decode())
        return Body(value, _what_decides(value))
    except (ValueError, RecursionError) as error:
        return Body(None, problem=f"The request body is not valid JSON: {error}")


def _what_decides(request: Any) -> bytes:  # noqa: ANN401 - JSON
    """All of a request that decides its answer: whether it is streamed does not.

    Half a surrogate pair passes the parser, but is no text: a `ValueError` here.
    """
    if isinstance(request, dict):
        request = {key: value for key, value in request.items() if key != "stream"}
    return encode(request).encode()


def _admit(http: "HttpRequest", methods: "Mapping[str, Handler] | None", problem: str | None) -> "Handler":
    """What answers this request, if it may ask at all; `problem` is what is wrong with its body."""
    if methods is None:
        raise RejectedError(ApiFault(404, message=f"Not found: {http.path}"))
    if http.method not in methods:
        allowed = ", ".join(methods)
        raise RejectedError(
            ApiFault(405, message=f"Method {http.method} is not allowed; use {allowed}", headers={"allow": allowed})
        )
    bearer = http.headers.get("authorization", "")
    key = http.headers.get("x-api-key") or (bearer[7:] if bearer[:7].lower() == "bearer " else "")
    if not key.strip():
        raise RejectedError(ApiFault(401, message="x-api-key or authorization header is required"))
    if key.strip() == INVALID_KEY:
        raise RejectedError(ApiFault(401, message="invalid x-api-key"))
    if "anthropic-version" not in http.headers:
        raise RejectedError(ApiFault(400, message="anthropic-version: header is required"))
    if problem:
        raise RejectedError(ApiFault(400, message=problem))
    return methods[http.method]


def _page(items: list[dict[str, Any]], query: "Mapping[str, list[str]]") -> dict[str, Any]:
    """One page of a list, as `limit`, `after_id` and `before_id` ask."""
    wanted = query.get("limit", ["20"])[0]
    if not wanted.isdecimal() or not 1 <= int(wanted) <= MAX_PAGE:
        raise RejectedError(ApiFault(400, message=f"limit: Input should be from 1 to {MAX_PAGE}"))
    ids = [item["id"] for item in items]
    after, before = query.get("after_id", [""])[0], query.get("before_id", [""])[0]
    start = ids.index(after) + 1 if after in ids else 0
    end = ids.index(before) if before in ids else len(items)
    page = items[start:end][: int(wanted)] if not before else items[start:end][-int(wanted) :]
    has_more = len(items[start:end]) > len(page)
    return {
        "data": page,
        "has_more": has_more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }
