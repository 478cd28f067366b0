"""The Messages API's reply to one request: its content, its usage, and the same as a stream of events.

Here is also what an offline user sees: `default_answer`.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from claude_force.base.usage import Usage
from claude_force.transports.simulator.prompt import CHARS_PER_TOKEN, count_tokens, encode, texts
from claude_force.transports.simulator.schema import smallest_instance
from claude_force.transports.simulator.script import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SIMULATED_LINE = "[simulated answer: no model was asked]"
QUOTED_CHARS = 200
CHARS_PER_DELTA = 24  # about six tokens: real streams send a handful at a time
SIGNATURE = "simulated"


@dataclass(frozen=True, slots=True)
class Message:
    """A finished reply, ready to be written."""

    id: str
    model: str
    content: tuple[dict[str, str], ...]
    stop_reason: str
    stop_sequence: str | None
    stop_details: "Mapping[str, str | None] | None"
    usage: Usage
    service_tier: str = "standard"

    def to_json(self) -> dict[str, Any]:
        """The body of a plain reply."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": self.content,
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "stop_details": self.stop_details,
            "usage": self._usage() | self._output_usage(),
        }

    def events(self) -> "Iterator[tuple[int, bytes]]":
        """The stream: how many tokens of output had to be made for each event, and its bytes."""
        opening = self.to_json() | {"content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
        opening["usage"] = self._usage() | {"output_tokens": min(1, self.usage.output_tokens)}
        yield 0, event("message_start", message=opening)
        for index, block in enumerate(self.content):
            kind = block["type"]
            empty = {**block, kind: ""} | ({"signature": ""} if kind == "thinking" else {})
            yield 0, event("content_block_start", index=index, content_block=empty)
            if index == 0:
                yield 0, event("ping")
            for piece in _pieces(block[kind]):
                delta = {"type": f"{kind}_delta", kind: piece}
                yield count_tokens(piece), event("content_block_delta", index=index, delta=delta)
            if kind == "thinking":
                delta = {"type": "signature_delta", "signature": block["signature"]}
                yield 0, event("content_block_delta", index=index, delta=delta)
            yield 0, event("content_block_stop", index=index)
        ending = {name: getattr(self, name) for name in ("stop_reason", "stop_sequence", "stop_details")}
        usage = self._usage()
        counts = {name: usage[name] for name in usage if name.endswith("input_tokens")}
        yield 0, event("message_delta", delta=ending, usage=counts | self._output_usage())
        yield 0, event("message_stop")

    def _usage(self) -> dict[str, Any]:
        usage = self.usage
        return {
            "input_tokens": usage.input_tokens,
            "cache_creation_input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
            "cache_read_input_tokens": usage.cache_read_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
                "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
            },
            "service_tier": self.service_tier,
        } | ({"inference_geo": usage.inference_geo} if usage.inference_geo else {})

    def _output_usage(self) -> dict[str, Any]:
        counts: dict[str, Any] = {"output_tokens": self.usage.output_tokens}
        if self.usage.thinking_tokens is not None:
            counts["output_tokens_details"] = {"thinking_tokens": self.usage.thinking_tokens}
        return counts


def event(kind: str, **fields: object) -> bytes:
    """One server-sent event."""
    return f"event: {kind}\ndata: {encode({'type': kind, **fields})}\n\n".encode()


def make_message(
    answer: Answer, request: "Mapping[str, Any]", *, id_: str, model: str, prompt: Usage, service_tier: str = "standard"
) -> Message:
    """The reply that carries an answer, cut to what the request allows; `prompt` is the usage without output."""
    thinking = answer.thinking or ""
    room = CHARS_PER_TOKEN * max(0, request["max_tokens"] - count_tokens(thinking))
    stop_reason, stop_sequence = answer.stop_reason, None
    text, found = _cut_at_stop(answer.text, request.get("stop_sequences", ()))
    if found is not None:
        stop_reason, stop_sequence = "stop_sequence", found
    if len(text) > room or not request["max_tokens"]:
        text, stop_reason, stop_sequence = text[:room], "max_tokens", None
    if answer.refusal:
        stop_reason, stop_sequence = "refusal", None
    return Message(
        id=id_,
        model=model,
        content=_content(thinking[: CHARS_PER_TOKEN * request["max_tokens"]], text, request),
        stop_reason=stop_reason,
        stop_sequence=stop_sequence,
        stop_details=_stop_details(answer),
        usage=answer.usage or _with_output(prompt, thinking, text, request.get("inference_geo")),
        service_tier=service_tier,
    )


def default_answer(request: "Mapping[str, Any]", *, model: str, fingerprint: str) -> Answer:
    """What a simulator answers unless told otherwise: plain about itself, and enough to see that all parts arrived."""
    config = request.get("output_config", {})
    if config.get("format"):
        return Answer(encode(smallest_instance(config["format"]["schema"])))
    system = texts(request.get("system"))
    prompt = [text for message in request["messages"] for text in texts(message["content"])]
    task = prompt[-1] if prompt else ""
    said = task.partition("\n<material-")[0]  # what it fences, the next step of a workflow would take for a forgery
    quoted = " ".join(said[: 2 * QUOTED_CHARS].split())[:QUOTED_CHARS]
    effort = f" with effort {config['effort']}" if config.get("effort") else ""
    lines = [
        SIMULATED_LINE,
        "",
        f"Model: {model}{effort}",
        f"Task ({len(task):,} characters): {quoted}{'...' if len(task) > len(quoted) else ''}",
        f"Material: {_sizes(prompt[:-1])}",
        f"System prompt: {_sizes(system)}",
        f"Fingerprint: {fingerprint} (the same request gets the same one)",
    ]
    return Answer("\n".join(lines))


def _stop_details(answer: Answer) -> dict[str, str | None] | None:
    why = answer.refusal
    return {"type": "refusal", "category": why.category, "explanation": why.explanation} if why else None


def _sizes(parts: list[str]) -> str:
    return f"{sum(map(len, parts)):,} characters in {len(parts)} block{'s' * (len(parts) != 1)}" if parts else "none"


def _cut_at_stop(text: str, stops: "tuple[str, ...] | list[str]") -> tuple[str, str | None]:
    """The text up to the first stop sequence, and which one that was."""
    found = [(text.index(stop), stop) for stop in stops if stop in text]
    return (text[: min(found)[0]], min(found)[1]) if found else (text, None)


def _content(thinking: str, text: str, request: "Mapping[str, Any]") -> tuple[dict[str, str], ...]:
    blocks = []
    if thinking:
        shown = "" if request.get("thinking", {}).get("display") == "omitted" else thinking
        blocks.append({"type": "thinking", "thinking": shown, "signature": SIGNATURE})
    if text:
        blocks.append({"type": "text", "text": text})
    return tuple(blocks)


def _with_output(prompt: Usage, thinking: str, text: str, geo: str | None) -> Usage:
    thought = count_tokens(thinking)
    tokens = thought + count_tokens(text)
    return replace(prompt, output_tokens=tokens, thinking_tokens=thought or None, inference_geo=geo)


def _pieces(text: str) -> "Iterator[str]":
    return (text[start : start + CHARS_PER_DELTA] for start in range(0, len(text), CHARS_PER_DELTA))
