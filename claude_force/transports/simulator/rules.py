"""What the Messages API accepts, checked as the API checks it: the first thing that is wrong is answered.

Paths in messages are written as the API writes them (`messages.0.content.1.text: Field required`). Checked is what an
orchestrator of text agents can get wrong; the inside of images, documents and server tools is taken as given.
"""

import re
from typing import TYPE_CHECKING, Any, NoReturn

from claude_force.transports.simulator.catalogue import EFFORTS, SimulatedModel, find_model
from claude_force.transports.simulator.prompt import prompt_tokens
from claude_force.transports.simulator.schema import check_schema
from claude_force.transports.simulator.script import ApiFault, RejectedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

Json = Any

MAX_CACHE_MARKERS = 4
MAX_MESSAGES = 100_000
MIN_THINKING_BUDGET = 1024

_COUNTED_FIELDS = frozenset(
    {"messages", "model", "cache_control", "output_config", "speed", "system", "thinking", "tool_choice", "tools"}
)
_FIELDS = _COUNTED_FIELDS | {
    "container",
    "diagnostics",
    "inference_geo",
    "max_tokens",
    "metadata",
    "service_tier",
    "stop_sequences",
    "stream",
}
_SAMPLING_FIELDS = ("temperature", "top_p", "top_k")
_TEXT_FIELDS = frozenset({"type", "text", "cache_control", "citations"})
_BLOCK_TYPES = frozenset(
    {
        "text",
        "image",
        "document",
        "search_result",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "container_upload",
    }
)
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def check_request(request: Json, *, is_count: bool = False) -> SimulatedModel:
    """The model that is asked, if the request is one that the API would take; `is_count` is for `count_tokens`."""
    if not isinstance(request, dict):
        _refuse("the request body must be a JSON object")
    _check_fields(request, is_count=is_count)
    model = check_model(request["model"])
    if not is_count:
        _check_max_tokens(request["max_tokens"], model)
    _check_messages(request["messages"], model)
    _check_content(request.get("system", ""), "system", types={"text"}, may_be_empty=True)
    _check_tools(request, model)
    _check_markers(request)
    _check_thinking(request, model)
    _check_output_config(request.get("output_config", {}), model)
    _check_small_fields(request)
    tokens = prompt_tokens(request)
    if tokens > model.max_input_tokens:
        _refuse(f"prompt is too long: {tokens} tokens > {model.max_input_tokens} maximum")
    return model


def check_model(model_id: Json) -> SimulatedModel:
    """The model of that id, or a 404: it is unknown, or retired."""
    if not isinstance(model_id, str):
        _refuse("model: Input should be a valid string")
    model = find_model(model_id)
    if model is None:
        raise RejectedError(ApiFault(404, message=f"model: {model_id}"))
    return model


def _refuse(message: str) -> NoReturn:
    raise RejectedError(ApiFault(400, message=message))


def _check_fields(request: "Mapping[str, Json]", *, is_count: bool) -> None:
    for name in ("model", "messages") if is_count else ("model", "max_tokens", "messages"):
        if name not in request:
            _refuse(f"{name}: Field required")
    known = _COUNTED_FIELDS if is_count else _FIELDS
    for name in request:
        if name in _SAMPLING_FIELDS:
            _refuse(f"{name}: sampling parameters are not supported by this API version")
        if name not in known:
            _refuse(f"{name}: Extra inputs are not permitted")


def _check_max_tokens(value: Json, model: SimulatedModel) -> None:
    if type(value) is not int:
        _refuse("max_tokens: Input should be a valid integer")
    if value < 0:
        _refuse("max_tokens: Input should be greater than or equal to 0")
    if value > model.max_tokens:
        _refuse(
            f"max_tokens: {value} > {model.max_tokens}, which is the maximum allowed number of output tokens"
            f" for {model.id}"
        )


def _check_messages(messages: Json, model: SimulatedModel) -> None:
    if not isinstance(messages, list):
        _refuse("messages: Input should be a valid list")
    if not messages:
        _refuse("messages: at least one message is required")
    if len(messages) > MAX_MESSAGES:
        _refuse(f"messages: List should have at most {MAX_MESSAGES} items")
    for index, message in enumerate(messages):
        path = f"messages.{index}"
        _check_object(message, path, required=("role", "content"))
        _check_one_of(message["role"], f"{path}.role", ("user", "assistant", "system"))
        _check_content(message["content"], f"{path}.content", types=_BLOCK_TYPES)
    if messages[0]["role"] != "user":
        _refuse('messages: first message must use the "user" role')
    if messages[-1]["role"] == "assistant" and not model.takes_prefill:
        _refuse("This model does not support assistant message prefill. The conversation must end with a user message.")


def _check_content(content: Json, path: str, *, types: "Collection[str]", may_be_empty: bool = False) -> None:
    if isinstance(content, str):
        if not content.strip() and not may_be_empty:
            _refuse(f"{path}: messages must have non-empty content")
        return
    if not isinstance(content, list):
        _refuse(f"{path}: Input should be a valid string or a valid list")
    if not content and not may_be_empty:
        _refuse(f"{path}: messages must have non-empty content")
    for index, block in enumerate(content):
        _check_block(block, f"{path}.{index}", types)


def _check_block(block: Json, path: str, types: "Collection[str]") -> None:
    _check_object(block, path, required=("type",))
    if not isinstance(block["type"], str) or block["type"] not in types:
        _refuse(f"{path}: Input tag {block['type']!r} found using 'type' does not match any of the expected tags")
    if block["type"] != "text":
        return
    _check_object(block, f"{path}.text", required=("text",), allowed=_TEXT_FIELDS)
    if not isinstance(block["text"], str):
        _refuse(f"{path}.text.text: Input should be a valid string")
    if not block["text"].strip():
        _refuse(f"{path}: text content blocks must contain non-whitespace text")


def _check_tools(request: "Mapping[str, Json]", model: SimulatedModel) -> None:
    tools = request.get("tools", [])
    if not isinstance(tools, list):
        _refuse("tools: Input should be a valid list")
    names: list[str] = []
    for index, tool in enumerate(tools):
        path = f"tools.{index}"
        _check_object(tool, path, required=("name",))
        if tool.get("type") in (None, "custom"):
            _check_object(tool, path, required=("input_schema",))
        if not isinstance(tool["name"], str) or not _TOOL_NAME.fullmatch(tool["name"]):
            _refuse(f"{path}.name: String should match pattern '^{_TOOL_NAME.pattern}$'")
        if tool["name"] in names:
            _refuse("tools: Tool names must be unique.")
        names.append(tool["name"])
    if "tool_choice" in request:
        _check_tool_choice(request["tool_choice"], names, model)


def _check_tool_choice(choice: Json, names: "Collection[str]", model: SimulatedModel) -> None:
    _check_object(
        choice, "tool_choice", required=("type",), allowed=frozenset({"type", "name", "disable_parallel_tool_use"})
    )
    kind = choice["type"]
    _check_one_of(kind, "tool_choice.type", ("auto", "any", "tool", "none"))
    if kind not in ("any", "tool"):
        return
    if not model.takes_forced_tools:
        _refuse(f"tool_choice: type {kind!r} is not supported by {model.id}; use 'auto' or 'none'")
    if not names:
        _refuse(f"tool_choice.{kind} may only be specified while providing tools")
    if kind == "tool" and choice.get("name") not in names:
        _refuse(f"Tool {choice.get('name')!r} not found in provided tools")


def _check_markers(request: "Mapping[str, Json]") -> None:
    found = [(path, block["cache_control"]) for path, block in _markable(request) if block.get("cache_control")]
    for path, marker in found:
        _check_object(marker, f"{path}.cache_control", required=("type",), allowed=frozenset({"type", "ttl"}))
        _check_one_of(marker["type"], f"{path}.cache_control.type", ("ephemeral",))
        _check_one_of(marker.get("ttl", "5m"), f"{path}.cache_control.ttl", ("5m", "1h"))
    if len(found) > MAX_CACHE_MARKERS:
        _refuse(f"A maximum of {MAX_CACHE_MARKERS} blocks with cache_control may be provided. Found {len(found)}.")
    ttls = [marker.get("ttl", "5m") for _, marker in found]
    if "1h" in ttls[ttls.index("5m") :] if "5m" in ttls else False:
        _refuse("cache_control: a ttl='1h' block must not come after a ttl='5m' block")


def _markable(request: "Mapping[str, Json]") -> "Iterator[tuple[str, Mapping[str, Json]]]":
    """Everything that can carry a marker, in the order of the prompt; the automatic one stands last."""
    yield from ((f"tools.{index}", tool) for index, tool in enumerate(request.get("tools") or ()))
    contents = [("system", request.get("system"))]
    contents += [(f"messages.{index}.content", message["content"]) for index, message in enumerate(request["messages"])]
    for path, content in contents:
        if isinstance(content, list):
            yield from ((f"{path}.{index}", block) for index, block in enumerate(content))
    yield "request", request


def _check_thinking(request: "Mapping[str, Json]", model: SimulatedModel) -> None:
    if "thinking" not in request:
        return
    thinking = request["thinking"]
    _check_object(thinking, "thinking", required=("type",), allowed=frozenset({"type", "budget_tokens", "display"}))
    kind = thinking["type"]
    _check_one_of(kind, "thinking.type", ("adaptive", "between_tools", "disabled", "enabled"))
    if kind not in model.thinking:
        _refuse(f"thinking.type: {kind!r} is not supported by {model.id}; use one of {sorted(model.thinking)}")
    if "display" in thinking:
        _check_one_of(thinking["display"], "thinking.display", ("summarized", "omitted", None))
    if kind != "enabled":
        if "budget_tokens" in thinking:
            _refuse(f"thinking.{kind}.budget_tokens: Extra inputs are not permitted")
        return
    budget = thinking.get("budget_tokens")
    if type(budget) is not int or budget < MIN_THINKING_BUDGET:
        _refuse(f"thinking.enabled.budget_tokens: Input should be greater than or equal to {MIN_THINKING_BUDGET}")
    if budget >= request.get("max_tokens", budget + 1):
        _refuse("`max_tokens` must be greater than `thinking.budget_tokens`")


def _check_output_config(config: Json, model: SimulatedModel) -> None:
    _check_object(config, "output_config", allowed=frozenset({"effort", "format"}))
    effort = config.get("effort")
    if effort is not None:
        _check_one_of(effort, "output_config.effort", EFFORTS)
        if not model.efforts:
            _refuse("This model does not support the effort parameter.")
        if effort not in model.efforts:
            _refuse(f"output_config.effort: {effort!r} is not supported by {model.id}; use one of {model.efforts}")
    wanted = config.get("format")
    if wanted is not None:
        path = "output_config.format"
        _check_object(wanted, path, required=("type", "schema"), allowed=frozenset({"type", "schema"}))
        _check_one_of(wanted["type"], f"{path}.type", ("json_schema",))
        problem = check_schema(wanted["schema"])
        if problem:
            _refuse(f"{path}.schema: {problem}")


def _check_small_fields(request: "Mapping[str, Json]") -> None:
    if type(request.get("stream", False)) is not bool:
        _refuse("stream: Input should be a valid boolean")
    _check_object(request.get("metadata", {}), "metadata", allowed=frozenset({"user_id"}))
    _check_one_of(request.get("service_tier", "auto"), "service_tier", ("auto", "standard_only"))
    _check_one_of(request.get("speed"), "speed", ("standard", "fast", None))
    stops = request.get("stop_sequences", [])
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        _refuse("stop_sequences: Input should be a valid list of strings")
    if not all(stop.strip() for stop in stops):
        _refuse("stop_sequences: each stop sequence must contain non-whitespace")


def _check_object(
    value: Json, path: str, *, required: tuple[str, ...] = (), allowed: frozenset[str] | None = None
) -> None:
    if not isinstance(value, dict):
        _refuse(f"{path}: Input should be an object")
    for name in required:
        if name not in value:
            _refuse(f"{path}.{name}: Field required")
    for name in value if allowed else ():
        if allowed and name not in allowed:
            _refuse(f"{path}.{name}: Extra inputs are not permitted")


def _check_one_of(value: Json, path: str, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        words = ", ".join(repr(word) for word in allowed if word is not None)
        _refuse(f"{path}: Input should be {words}")
