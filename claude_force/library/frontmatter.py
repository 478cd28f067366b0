"""The front matter of a Markdown file, read the way people write it.

`read_document` takes the bytes of an agent or skill file apart: the YAML between two dashed lines, and the body below.
Strict YAML would lose one real file in twenty-five (mostly to a description that holds a colon), so YAML that does not
parse is repaired, key by key, in the two stages of `_Repair`. No repair is silent: each leaves a warning that names
the line, the key and the fix. What cannot be repaired is a `FrontMatterError` with line and reason.

This module touches no disk, runs nothing, and does not know what the keys mean: that is for its callers (`agents`).
"""

import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import msgspec

from claude_force.library.remarks import ErrorKind, Remark

MAX_FILE_BYTES = 1024 * 1024  # five times the longest body that `agents` takes: more is no prompt, but a mistake
MAX_FRONT_MATTER_CHARS = 64 * 1024  # ten times the longest description among 9,980 real files
MAX_DEPTH = (
    32  # real files reach 6; libyaml's composer overflows the C stack, and with it the process, at some thousands
)

# Text, because a start must not compile what it does not use: `re` compiles a pattern once, when it is used.
_KEY_LINE = r"([A-Za-z_][\w.-]*)[ \t]*:(?:[ \t]+(.*))?$"
_CLOSING = r"-{3,}\s*$"
_BLOCK_HEADER = r"[|>][-+0-9]*\s*(?:#.*)?$"
_LEADING_TAB = r" *\t[ \t]*"
_CUT_OFF = re.compile(r"[ \t]+#")
_NOT_IN_YAML = "[^\t\n -~\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"  # 5 ms to compile
_TO_ESCAPE = '["\\\\]|[^ -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]'
# A line whose meaning needs no YAML: a word, a colon, and words, none of which YAML takes for anything but text.
_PLAIN_LINE = re.compile(
    r"([A-Za-z_][A-Za-z0-9_-]*): +([A-Za-z](?:[A-Za-z0-9 _.,;/()'\"+=?!-]*[A-Za-z0-9.,;)'\"?!])?) *"
)
_NO_TEXT_IN_YAML = frozenset(["yes", "no", "true", "false", "on", "off", "null", "y", "n"])
_QUOTES = "\"'"
_TEXT_TAG = "tag:yaml.org,2002:str"
_DATE_TAG = "tag:yaml.org,2002:timestamp"


class Document(msgspec.Struct, frozen=True):
    r"""A file taken apart.

    Example:
        >>> document = read_document(b"---\nname: scout\n---\nYou look ahead.", known_keys={"name"})
        >>> document.meta, document.body
        ({'name': 'scout'}, 'You look ahead.')
    """

    meta: dict[str, Any]
    """The front matter; empty where there is none. Keys are text; dates stay text, too."""
    body: str
    """All below the front matter, with a newline between lines, otherwise untouched."""
    has_front_matter: bool
    warnings: tuple[Remark, ...]
    """What was repaired or looks like a mistake, each with line, key and fix."""
    front: tuple[str, ...] = ()
    """The front matter's lines as they were read: repaired, and blank where the line above has what they said."""
    first_line: int = 0
    """Where in the file they start, from 1."""


class FrontMatterError(ValueError):
    """The file cannot be taken apart: `reason` says why and what to do, `line` (from 1) where, if it is one line."""

    def __init__(self, reason: str, line: int | None = None, kind: ErrorKind = "bad-yaml") -> None:
        super().__init__(reason, line, kind)
        self.reason = reason
        self.line = line
        self.kind = kind

    def __str__(self) -> str:
        return self.reason if self.line is None else f"line {self.line}: {self.reason}"


class _YamlError(FrontMatterError):
    """The YAML does not parse: the one fault that is worth a repair."""


def read_document(data: bytes, *, known_keys: Collection[str]) -> Document:
    """The front matter and body of a file, or a `FrontMatterError`.

    Args:
        data: The file as it lies on the disk.
        known_keys: Keys that the caller understands; in a broken file they end the value above them.
    """
    warnings: list[Remark] = []
    lines = _dedented(_decoded(data, warnings).split("\n"), warnings)
    opening = next((i for i, line in enumerate(lines) if line.strip()), None)
    if opening is None or lines[opening].rstrip() != "---":
        return Document(meta={}, body="\n".join(lines), has_front_matter=False, warnings=tuple(warnings))
    closing = next((i for i in range(opening + 1, len(lines)) if re.match(_CLOSING, lines[i])), None)
    if closing is None:
        raise FrontMatterError(
            "'---' opens a front matter that nothing closes; add '---' below its keys", opening + 1, "unclosed"
        )
    front = _Front(lines[opening + 1 : closing], first_line=opening + 2)
    if len(front.source) > MAX_FRONT_MATTER_CHARS:
        raise FrontMatterError(
            f"the front matter is longer than {MAX_FRONT_MATTER_CHARS:,} characters; move text into the body",
            opening + 1,
            "too-large",
        )
    meta, front = _mapping(_printable(front, warnings), known_keys, warnings)
    return Document(
        meta=meta,
        body="\n".join(lines[closing + 1 :]),
        has_front_matter=True,
        warnings=tuple(warnings),
        front=tuple(front.lines),
        first_line=front.first_line,
    )


def read_yaml(data: bytes) -> dict[str, Any]:
    """The mapping that a whole file of YAML holds: no aliases, no depths, dates as text, and no repairs.

    Raises `FrontMatterError`.
    """
    warnings: list[Remark] = []
    front = _Front(_decoded(data, warnings).split("\n"), first_line=1)
    try:
        meta = _load(front, warnings)
    except _YamlError as error:
        raise FrontMatterError(f"it is no valid YAML ({error.reason})", error.line) from error
    if warnings:
        raise FrontMatterError(warnings[0])
    return meta


class _Front(msgspec.Struct, frozen=True):
    """Lines of YAML that know where in the file they stand."""

    lines: list[str]
    first_line: int

    @property
    def source(self) -> str:
        return "\n".join(self.lines)

    def part(self, start: int, end: int) -> "_Front":
        return _Front(self.lines[start:end], self.first_line + start)


def _decoded(data: bytes, warnings: list[Remark]) -> str:
    if len(data) > MAX_FILE_BYTES:
        raise FrontMatterError(
            f"the file is larger than {MAX_FILE_BYTES:,} bytes; keep to the instructions", kind="too-large"
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FrontMatterError("the file is UTF-16; save it as UTF-8", kind="not-text")
    if (at := data.find(b"\0")) >= 0:
        raise FrontMatterError(
            "the file holds NUL bytes, so it is no text; save it as UTF-8", data.count(b"\n", 0, at) + 1, "not-text"
        )
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        # Windows-1252 is what editors write that do not write UTF-8, and it has Latin-1's letters in the same places.
        text = data.decode("cp1252", errors="replace")
        line = data.count(b"\n", 0, error.start) + 1
        read_as = f"line {line}: the file is not UTF-8 and was read as Windows-1252; save it as UTF-8"
        warnings.append(Remark(read_as, "encoding"))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _dedented(lines: list[str], warnings: list[Remark]) -> list[str]:
    """The lines without the indentation that all of them share, where it hides a front matter."""
    first = next((line for line in lines if line.strip()), "")
    indent = first[: len(first) - len(first.lstrip())]
    if not indent or first.strip() != "---" or any(line.strip() and not line.startswith(indent) for line in lines):
        return lines
    taken_off = "the whole file is indented; the indentation was taken off, move its lines to the left margin"
    warnings.append(Remark(taken_off, "indented"))
    return [line.removeprefix(indent) for line in lines]


def _printable(front: _Front, warnings: list[Remark]) -> _Front:
    """The lines without characters that YAML refuses everywhere, such as the remains of a wrong encoding."""
    if all(line.isascii() and line.isprintable() for line in front.lines):
        return front
    not_in_yaml = re.compile(_NOT_IN_YAML)
    bad = [i for i, line in enumerate(front.lines) if not_in_yaml.search(line)]
    if not bad:
        return front
    warnings.append(
        Remark(
            f"line {front.first_line + bad[0]}: the front matter holds control characters, which were replaced by "
            "'\ufffd'; type them anew",
            "control-characters",
        )
    )
    return _Front([not_in_yaml.sub("\ufffd", line) for line in front.lines], front.first_line)


def _plain_mapping(front: _Front) -> dict[str, Any] | None:
    """What plain lines say, as YAML would read them; `None` where a line is not plain.

    Importing a YAML parser takes 20 ms, a fifth of a command that the cache answers, and most files do not need one.
    """
    found = [_PLAIN_LINE.fullmatch(line) for line in front.lines]
    meta = {match[1]: match[2] for match in found if match}
    words = {word.lower() for pair in meta.items() for word in pair}
    return meta if len(meta) == len(front.lines) > 0 and not words & _NO_TEXT_IN_YAML else None


def _mapping(front: _Front, known_keys: Collection[str], warnings: list[Remark]) -> tuple[dict[str, Any], _Front]:
    """What the front matter says, and the lines that say so, repaired if they must be."""
    if (plain := _plain_mapping(front)) is not None:
        return plain, front
    try:
        return _load(front, warnings), front
    except _YamlError as fault:
        try:
            repaired = _Repair(front, known_keys, warnings).repaired()
            return _load(repaired, warnings), repaired
        except _YamlError:
            # The first fault, because it is about the text that its author wrote.
            raise FrontMatterError(
                f"the front matter is no valid YAML ({fault.reason}); put its values in quotes", fault.line
            ) from None


class _Repair:
    """The same lines, as many of them, in which every value that YAML cannot read is quoted.

    A *block* is a line `key: ...` at the left margin and what follows up to the next such line. Blocks that load alone
    stay as they are. Of the others:

    1. A block of one line has its value quoted: `description: note: well`, `tools: *`, `argument-hint: [a] [b]`.
    2. Any other grows up to the next key that is known and not yet seen, and is quoted as one text. So `user:` and
       `Context:` stay inside the description whose lines nobody indented. Where stage 1 quoted a known key, an unknown
       one below it that is broken, too, shows that the text went on: then it is the known one that grows.
    """

    def __init__(self, front: _Front, known_keys: Collection[str], warnings: list[Remark]) -> None:
        self._front = _Front(_without_tabs(front, warnings), front.first_line)
        self._known = known_keys
        self._warnings = warnings
        self._keys = [match and match[1] for match in map(re.compile(_KEY_LINE).match, self._front.lines)]
        self._lines = list(self._front.lines)

    def repaired(self) -> _Front:
        """All blocks, one after the other."""
        seen: set[str] = set()
        quoted: int | None = None  # where stage 1 quoted the last known key
        start = self._next_key(0)
        while start < len(self._keys):
            key = self._keys[start] or ""
            end = self._next_key(start + 1)
            seen.add(key)
            fault = _fault(self._front.part(start, end))
            if fault and quoted is not None and key not in self._known:
                end = self._next_key(end, unseen_by=seen)
                self._warnings.pop()  # that of stage 1: its fix is not enough
                self._quote_lines(quoted, end, fault)
            elif fault and self._is_one_line(start, end):
                self._quote_line(start, end, fault)
            elif fault:
                end = self._next_key(end, unseen_by=seen)
                self._quote_lines(start, end, fault)
            if key in self._known:
                quoted = start if fault else None
            start = end
        return _Front(self._lines, self._front.first_line)

    def _next_key(self, start: int, *, unseen_by: Collection[str] | None = None) -> int:
        """The next line with a key; given what was seen, the next one that is known and not among it."""
        for i in range(start, len(self._keys)):
            key = self._keys[i]
            if key and (unseen_by is None or (key in self._known and key not in unseen_by)):
                return i
        return len(self._keys)

    def _is_one_line(self, start: int, end: int) -> bool:
        """Whether the whole value stands beside its key: no block header, no open quote, nothing below."""
        value = self._front.lines[start].partition(":")[2].strip() or "|"
        is_open = re.match(_BLOCK_HEADER, value) or (value[0] in _QUOTES and value.count(value[0]) % 2 == 1)
        return not is_open and not any(line.strip() for line in self._front.lines[start + 1 : end])

    def _quote_line(self, start: int, end: int, fault: str) -> None:
        self._warnings.append(
            Remark(
                f"line {self._front.first_line + start}: the value of {self._keys[start]!r} is no valid YAML ({fault}) "
                "and was read as text; put it in quotes",
                "needs-quotes",
            )
        )
        self._quote(start, end)

    def _quote_lines(self, start: int, end: int, fault: str) -> None:
        if _fault(self._front.part(start, end)) is None:
            # A quoted text or a list that held a line like `Context: ...`: whole again, it is valid.
            self._lines[start:end] = self._front.lines[start:end]
            return
        key, first_line = self._keys[start], self._front.first_line
        self._warnings.append(
            Remark(
                f"line {first_line + start}: the value of {key!r} up to line {first_line + end - 1} is no valid YAML "
                f"({fault}) and was read as one text; write '{key}: |' and indent the lines below it",
                "not-indented",
            )
        )
        self._quote(start, end)

    def _quote(self, start: int, end: int) -> None:
        self._lines[start] = f"{self._keys[start]}: {_quoted(_value(self._front.lines[start:end]))}"
        self._lines[start + 1 : end] = [""] * (end - start - 1)  # line numbers stay true


def _without_tabs(front: _Front, warnings: list[Remark]) -> list[str]:
    """The lines, indented by spaces."""
    if tabbed := [i for i, line in enumerate(front.lines) if re.match(_LEADING_TAB, line)]:
        warnings.append(
            Remark(
                f"line {front.first_line + tabbed[0]}: YAML does not take tabs as indentation, so each was read as two "
                "spaces; indent with spaces",
                "tabs",
            )
        )
    return [re.sub(_LEADING_TAB, lambda m: m[0].replace("\t", "  "), line, count=1) for line in front.lines]


def _fault(block: _Front) -> str | None:
    """Why these lines cannot be loaded alone; `None` where they can."""
    try:
        _load(block, [])
    except _YamlError as fault:
        return fault.reason
    return None


def _value(lines: list[str]) -> str:
    """The text that a broken block was meant to be."""
    import textwrap  # noqa: PLC0415 - broken files only

    head = lines[0].partition(":")[2].strip()
    rest = textwrap.dedent("\n".join(lines[1:]))
    text = f"{'' if re.match(_BLOCK_HEADER, head) else head}\n{rest}".strip()
    is_quoted = len(text) > 1 and text[0] in _QUOTES and text.find(text[0], 1) == len(text) - 1
    return text[1:-1] if is_quoted else text


_SHORT_ESCAPES = {"\n": r"\n", "\t": r"\t", '"': r"\"", "\\": r"\\"}


def _quoted(text: str) -> str:
    """The text in double quotes, on one line."""
    escaped = re.sub(_TO_ESCAPE, lambda match: _SHORT_ESCAPES.get(match[0], f"\\U{ord(match[0]):08x}"), text)
    return f'"{escaped}"'


def written(key: str, text: str) -> str:
    """The line that says so in a front matter: in quotes, unless all who read it take it for plain text."""
    line = f"{key}: {text}"
    return line if _plain_mapping(_Front([line], 1)) == {key: text} else f"{key}: {_quoted(text)}"


@cache
def _loader() -> Any:  # noqa: ANN401 - PyYAML's own loaders have no common type
    """PyYAML's safe loader (in C, if it was built), which leaves dates as text.

    Dates as text: what a caller keeps must go into JSON, and `2024-99-99` must not cost an agent.
    """
    import yaml  # noqa: PLC0415 - 20 ms that only a file with front matter has to pay

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if tag != _DATE_TAG]
        for first, rules in base.yaml_implicit_resolvers.items()
    }
    return type("_Loader", (base,), {"yaml_implicit_resolvers": resolvers})


def _load(front: _Front, warnings: list[Remark]) -> dict[str, Any]:
    """The mapping that the lines hold, by YAML's rules alone."""
    import yaml  # noqa: PLC0415 - as in `_loader`

    try:
        _refuse_bombs(front)
        loader = _loader()(front.source)
        try:
            root = loader.get_single_node()
            if root is None:
                return {}
            found = list(_checked(root, front))
            meta: dict[str, Any] = loader.construct_document(root)
        finally:
            loader.dispose()
    except FrontMatterError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        last_line = front.first_line + max(len(front.lines) - 1, 0)  # YAML may report the line after the last
        if "nesting depth" in str(reason):  # libyaml may see it before we do
            raise _too_deep(front.first_line) from error
        raise _YamlError(str(reason), mark and min(front.first_line + mark.line, last_line)) from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # What PyYAML lets through: `!!int x`, `!!bool x`, a number of 5,000 digits.
        raise _YamlError(f"a value is not what its tag says ({error!r})", front.first_line) from error
    warnings.extend(found)
    return meta


def _too_deep(line: int) -> FrontMatterError:
    return FrontMatterError(f"the front matter is nested more than {MAX_DEPTH} levels deep; flatten it", line)


def _refuse_bombs(front: _Front) -> None:
    """Refuse anchors, whose aliases can grow without bounds, and depths that would overflow the stack.

    Done on the stream of events, which costs no recursion: composing first would already be too late.
    """
    import yaml  # noqa: PLC0415 - as in `_loader`

    depth = 0
    event: Any  # the stubs know no anchor
    for event in yaml.parse(front.source, Loader=_loader()):
        line = front.first_line + event.start_mark.line
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _too_deep(line)
        if not isinstance(event, yaml.AliasEvent) and getattr(event, "anchor", None):
            raise FrontMatterError(
                f"'&{event.anchor}' is a YAML anchor, which is not taken; write the value out, or put it in quotes",
                line,
            )


def _checked(root: Any, front: _Front) -> Iterator[Remark]:  # noqa: ANN401 - a tree of PyYAML's nodes
    """Warnings about a tree that YAML accepts, after a check that it is a mapping with words as keys."""
    import yaml  # noqa: PLC0415 - as in `_loader`

    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "plain text"
        raise FrontMatterError(f"the front matter is {kind}; write 'key: value' lines", front.first_line)
    source = front.source
    for key, value in root.value:
        line = front.first_line + key.start_mark.line
        if not isinstance(key, yaml.ScalarNode):
            raise _YamlError("a key is a list or a mapping, where a word belongs", line)
        key.tag = _TEXT_TAG  # `on:` and `1:` are words here, and `<<:` merges nothing
        is_plain = isinstance(value, yaml.ScalarNode) and not value.style
        if is_plain and _CUT_OFF.match(source, value.end_mark.index):
            line = front.first_line + value.end_mark.line
            yield Remark(
                f"line {line}: YAML takes the ' #' in {key.value!r} as the start of a comment and leaves it out; put "
                "the value in quotes if it belongs there",
                "cut-off",
            )
    nodes: list[Any] = [root]
    for node in nodes:  # grows while it is walked
        if isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key.value in names:
                    line = front.first_line + key.start_mark.line
                    again = f"line {line}: the key {key.value!r} stands there again, and the last one counts; keep one"
                    yield Remark(again, "duplicate-key")
                names.add(key.value)
            nodes += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
