"""Reading the prompt of a request: its texts, its size in tokens, and what the prompt cache has of it.

**The token rule.** Every 4 characters begun of a text block are one token; any other block counts the same way over its
compact JSON. This is an estimate (real tokenizers differ by model and language), but the same on every machine.

**The cache rule.** A `cache_control` marker keeps everything up to its block, for 5 minutes or an hour, once the
response to that request has begun. A later request of the same model reads the longest kept prefix that is exactly
its own, looking back at most 20 blocks from each marker. Reading renews an entry. Prefixes below the model's minimum
are not kept. Effort, thinking, tool choice and output format are part of a prefix that reaches into the messages.
"""

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from json import JSONEncoder
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_force.base.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHARS_PER_TOKEN = 4
LOOK_BACK_BLOCKS = 20
TTL_S = {"5m": 300.0, "1h": 3600.0}
MAX_ENTRIES = 10_000  # far more than one test or demo makes; keeps a simulator that runs for weeks small

encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def texts(content: object) -> list[str]:
    """The texts of a `content` or `system` field, which may be one string or a list of blocks."""
    if isinstance(content, str):
        return [content]
    blocks = content if isinstance(content, list) else []
    return [block["text"] for block in blocks if isinstance(block, dict) and isinstance(block.get("text"), str)]


def count_tokens(text: str) -> int:
    """The estimate for one text."""
    return -(-len(text) // CHARS_PER_TOKEN)


class Block(NamedTuple):
    """One part of a prompt, in the order in which the model reads it."""

    place: str
    """`"tools"`, `"system"`, or the role of the message."""
    content: str
    ttl: str | None
    """Set where a cache marker follows."""


def blocks(request: "Mapping[str, Any]") -> "Iterator[Block]":
    """The prompt of a request: tools, then system, then messages."""
    for tool in request.get("tools") or ():
        yield _block("tools", tool)
    yield from _blocks("system", request.get("system") or ())
    for message in request["messages"]:
        yield from _blocks(message["role"], message["content"])


def prompt_tokens(request: "Mapping[str, Any]") -> int:
    """The estimate for the whole prompt."""
    return sum(count_tokens(block.content) for block in blocks(request))


def _blocks(place: str, content: Any) -> "Iterator[Block]":  # noqa: ANN401 - JSON
    if isinstance(content, str):
        yield Block(place, content, None)
    else:
        for block in content:
            yield _block(place, block)


def _block(place: str, block: "Mapping[str, Any]") -> Block:
    marker = block.get("cache_control")
    ttl = marker.get("ttl", "5m") if marker else None
    if block.get("type") == "text":
        return Block(place, block["text"], ttl)
    return Block(place, encode({key: value for key, value in block.items() if key != "cache_control"}), ttl)


@dataclass(slots=True)
class _Entry:
    expires_at: float
    ttl: str


@dataclass(frozen=True, slots=True)
class Reading:
    """How a prompt divides into read, written and plain tokens, and what is to be kept once the response begins."""

    usage: Usage
    """Without output."""
    to_keep: tuple[tuple[bytes, str], ...] = ()
    """Prefix and ttl."""


class PromptCache:
    """The prompt cache of one workspace. Called by the server's thread only; the caller says what time it is."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def read(self, request: "Mapping[str, Any]", *, model: str, min_tokens: int, now_s: float) -> Reading:
        """Divide a prompt; nothing is kept yet."""
        parts = list(blocks(request))
        sizes = [count_tokens(part.content) for part in parts]
        ttls = [part.ttl for part in parts]
        automatic = request.get("cache_control")
        if automatic and ttls[-1] is None:
            ttls[-1] = automatic.get("ttl", "5m")
        if not any(ttls):
            return Reading(Usage(input_tokens=sum(sizes)))
        return self._divide(_prefixes(request, model, parts), sizes, ttls, min_tokens=min_tokens, now_s=now_s)

    def keep(self, reading: Reading, *, now_s: float) -> None:
        """The response has begun: from now on others can read what this request wrote."""
        for prefix, ttl in reading.to_keep:
            self._entries[prefix] = _Entry(now_s + TTL_S[ttl], ttl)
            self._entries.move_to_end(prefix)
        while len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def _divide(
        self, prefixes: list[bytes], sizes: list[int], ttls: list[str | None], *, min_tokens: int, now_s: float
    ) -> Reading:
        total = [sum(sizes[: end + 1]) for end in range(len(sizes))]
        markers = [(end, ttl) for end, ttl in enumerate(ttls) if ttl]
        seen = {end - back for end, _ in markers for back in range(LOOK_BACK_BLOCKS) if end >= back}
        hits = [end for end in seen if self._is_kept(prefixes[end], now_s)]
        read_end = max(hits, default=-1)
        read = done = total[read_end] if hits else 0
        written = {"5m": 0, "1h": 0}
        to_keep = [(prefixes[end], self._entries[prefixes[end]].ttl) for end in hits]
        for end, ttl in markers:
            if end > read_end and total[end] >= min_tokens:
                written[ttl] += total[end] - done
                done = total[end]
                to_keep.append((prefixes[end], ttl))
        usage = Usage(
            input_tokens=total[-1] - done,
            cache_read_tokens=read,
            cache_write_5m_tokens=written["5m"],
            cache_write_1h_tokens=written["1h"],
        )
        return Reading(usage, tuple(to_keep))

    def _is_kept(self, prefix: bytes, now_s: float) -> bool:
        entry = self._entries.get(prefix)
        return entry is not None and now_s < entry.expires_at


def _prefixes(request: "Mapping[str, Any]", model: str, parts: list[Block]) -> list[bytes]:
    """A fingerprint of the prompt up to each block."""
    running = blake2b(model.encode(), digest_size=16)
    is_in_messages = False
    prefixes = []
    for part in parts:
        if not is_in_messages and part.place not in {"tools", "system"}:
            is_in_messages = True
            running.update(encode([request.get(key) for key in ("thinking", "output_config", "tool_choice")]).encode())
        running.update(f"\0{part.place}\0{len(part.content)}\0{part.content}".encode())
        prefixes.append(running.digest())
    return prefixes
