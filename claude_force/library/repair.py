"""Files put in order: a front matter repaired, or one written where there is none.

A repair writes down what the reader understood, and touches no more: lines that are in order, and all below the front
matter, stay byte for byte. Each step is read again before it counts, and one that would change what any other key says
is not taken. So what is left of the warnings is what only a person can decide.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from claude_force.base.errors import AgentFileError, SkillFileError
from claude_force.library.collection import Examined, Format, Outcome, Problem, error, kinds_of, problems_of
from claude_force.library.definition import name_from
from claude_force.library.fields import first_sentence, tool_names
from claude_force.library.frontmatter import Document, FrontMatterError, read_document, written

_BOM = b"\xef\xbb\xbf"
# As text: `re` compiles a pattern once, when it is used. The first one is a line with its end, as the reader counts.
_LINE = rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+"
_KEY = rb"([A-Za-z_][\w.-]*)[ \t]*:(?:[ \t\r\n]|$)"
_HEADING = r"(?m)^#+ +(.+)$"


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """A usable file, with what was done to make it so."""

    path: Path
    data: bytes
    name: str
    fixed: tuple[Problem, ...] = ()
    """What was wrong, and is not any more."""
    left: tuple[Problem, ...] = ()
    """What is still wrong, for a person to decide."""


def repair(file: Examined, format_: Format) -> Repaired | Problem | None:
    """The file, with its front matter repaired as far as it can be.

    A `Problem` where it cannot be used even then, or has no front matter; `None` for documentation.
    """
    data, outcome = file.data, file.outcome
    tried: set[str] = set()
    while kind := next((kind for kind in kinds_of(outcome) if kind in _FIXES.keys() - tried), None):
        tried.add(kind)
        document = read_document(data, known_keys=format_.keys)
        if not document.has_front_matter:
            break
        front = _Front(data, document)
        _FIXES[kind](front, outcome, format_.own_name(file.path))
        if front.says_as_expected(format_):
            data = front.data()
            outcome = format_.read(data, file.path)
    return _result(file, data, outcome)


def convert(
    file: Examined, format_: Format, *, name: str | None = None, keywords: tuple[str, ...] = ()
) -> Repaired | Problem | None:
    """The file with a front matter, written where it has none and repaired where it has one.

    The name is the given one, else it is made of the file's or of its first heading; the description is its first
    sentence.
    """
    if "no-front-matter" not in kinds_of(file.outcome) and not _has_bad_name_only(file, format_):
        return repair(file, format_)
    document = read_document(file.data, known_keys=format_.keys)
    body = document.body.encode() if document.warnings else file.data.removeprefix(_BOM)
    heading = re.search(_HEADING, document.body)
    name = name or name_from(file.path.stem, heading[1] if heading else "")
    if name is None:
        return error(file.path, "bad-name", "neither its name nor its heading makes a name; rename the file")
    named = format_.read(_with_front(body, name=name), file.path)
    if named is None or isinstance(named, AgentFileError | SkillFileError):
        return _result(file, file.data, named)
    fields = {"name": name, "description": first_sentence(named.description)}
    if keywords:
        fields["keywords"] = ", ".join(keywords)
    data = _with_front(body, **fields)
    return _result(file, data, format_.read(data, file.path))


def _has_bad_name_only(file: Examined, format_: Format) -> bool:
    is_bad = kinds_of(file.outcome) == ["bad-name"]
    return is_bad and not read_document(file.data, known_keys=format_.keys).has_front_matter


def _with_front(body: bytes, **fields: str) -> bytes:
    lines = "\n".join(written(key, text) for key, text in fields.items())
    return f"---\n{lines}\n---\n\n".encode() + body


def _result(file: Examined, data: bytes, outcome: Outcome) -> Repaired | Problem | None:
    if outcome is None:
        return None
    left = problems_of(file.path, outcome)
    if isinstance(outcome, AgentFileError | SkillFileError):
        return left[0]
    kinds = {problem.kind for problem in left}
    if "no-front-matter" in kinds:
        return error(file.path, "no-front-matter", "it has no front matter to repair; `agents import` writes one")
    fixed = tuple(problem for problem in problems_of(file.path, file.outcome) if problem.kind not in kinds)
    return Repaired(path=file.path, data=data, name=outcome.name, fixed=fixed, left=tuple(left))


# ------------------------------------------------------------ the lines of a front matter


class _Front:
    """The lines of a file, and what its front matter has to say when they are read again."""

    def __init__(self, data: bytes, document: Document) -> None:
        lines: list[bytes] = re.findall(_LINE, data)
        start = document.first_line - 1
        end = start + len(document.front)
        self.document = document
        self.expected: dict[str, Any] = dict(document.meta)
        self.lines = lines[start:end]
        self._before, self._after, self._original = lines[:start], lines[end:], data
        self._codec = "cp1252" if any(warning.kind == "encoding" for warning in document.warnings) else "utf-8"
        self._end = _end_of(lines[start - 1])

    def data(self) -> bytes:
        """The file."""
        return b"".join((*self._before, *self.lines, *self._after))

    def says_as_expected(self, format_: Format) -> bool:
        """Whether something was changed, and nothing but what was meant to be."""
        if self.data() == self._original:
            return False
        try:
            document = read_document(self.data(), known_keys=format_.keys)
        except FrontMatterError:
            return False
        return document.has_front_matter and document.meta == self.expected

    def line(self, text: str) -> bytes:
        """A new line."""
        return text.encode(self._codec, "replace") + self._end

    def write_as_read(self) -> None:
        """Each line as the reader took it; what it took together is one line."""
        kept = []
        for raw, text in zip(self.lines, self.document.front, strict=True):
            if text or not raw.strip():
                kept.append(text.encode(self._codec, "replace") + _end_of(raw))
        self.lines = kept

    def put(self, key: str, value: str, *, instead_of: str | None = None, at: int = 0) -> None:
        """Have the key say so, where it or the other one stands, or as a new line."""
        old = instead_of or key
        block = self._blocks().get(old, [range(at, at)])[-1]
        self.lines[block.start : block.stop] = [self.line(written(key, value))]
        self.expected.pop(old, None)
        self.expected[key] = value

    def rename(self, old: str, new: str) -> None:
        """Give a key another name, and leave its value as it is."""
        for block in self._blocks().get(old, []):
            line = self.lines[block.start]
            self.lines[block.start] = new.encode() + line[len(old.encode()) :]
        self.expected[new] = self.expected.pop(old)

    def keep_last(self) -> None:
        """Of keys that stand there more than once, the last one, which counts."""
        dropped = {number for blocks in self._blocks().values() for block in blocks[:-1] for number in block}
        self.lines = [line for number, line in enumerate(self.lines) if number not in dropped]

    def after(self, key: str) -> int:
        """The number of the line below what belongs to the key."""
        return self._blocks().get(key, [range(0)])[-1].stop

    def _blocks(self) -> dict[str, list[range]]:
        """The keys at the left margin, each with the lines that belong to it: the indented ones below, and items."""
        found: dict[str, list[range]] = {}
        for start, line in enumerate(self.lines):
            if match := re.match(_KEY, line):
                stop = start + 1
                for number, below in enumerate(self.lines[start + 1 :], start + 1):
                    if below[:1] in {b" ", b"\t", b"-"}:
                        stop = number + 1
                    elif below.strip():
                        break
                found.setdefault(match[1].decode(), []).append(range(start, stop))
        return found


def _end_of(line: bytes) -> bytes:
    return line[len(line.rstrip(b"\r\n")) :]


# ------------------------------------------------------------ what is done about which kind


def _write_as_read(front: _Front, _outcome: Outcome, _own_name: str | None) -> None:
    front.write_as_read()


def _keep_last(front: _Front, _outcome: Outcome, _own_name: str | None) -> None:
    front.keep_last()


def _name(front: _Front, _outcome: Outcome, own_name: str | None) -> None:
    if own_name:
        front.put("name", own_name)


def _describe(front: _Front, outcome: Outcome, _own_name: str | None) -> None:
    if outcome is not None and not isinstance(outcome, AgentFileError | SkillFileError):
        front.put("description", outcome.description, at=front.after("name"))


def _spell_tools(front: _Front, _outcome: Outcome, _own_name: str | None) -> None:
    """`allowed-tools` is what skills and commands have; there, blanks may stand between the names."""
    misspelt = [key for key in ("allowed-tools", "allowedTools") if key in front.expected]
    if len(misspelt) != 1 or "tools" in front.expected:
        return
    value = front.expected[misspelt[0]]
    if isinstance(value, str):
        front.put("tools", ", ".join(tool_names(value)), instead_of=misspelt[0])
    else:
        front.rename(misspelt[0], "tools")


_FIXES: dict[str, Callable[[_Front, Outcome, str | None], None]] = {
    "needs-quotes": _write_as_read,
    "not-indented": _write_as_read,
    "tabs": _write_as_read,
    "control-characters": _write_as_read,
    "duplicate-key": _keep_last,
    "bad-name": _name,
    "no-name": _name,
    "other-name": _name,
    "no-description": _describe,
    "misspelt-field": _spell_tools,
}
