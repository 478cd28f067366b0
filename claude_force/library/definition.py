"""One file's bytes, turned into an `AgentDefinition`: its fields, its name, and whether it is an agent at all.

Files are read leniently: what can be understood is used, and each guess is a warning of the definition. A file that
cannot be used becomes an `AgentFileError`, and documentation that lies beside agents becomes `None`. Nothing that a
file contains is ever run, and no disk is touched. How front matter is read and repaired: `frontmatter`; which of
several files counts: `agents`.
"""

import re
from typing import TYPE_CHECKING, Any, get_args

from claude_force.base.errors import AgentFileError
from claude_force.base.records import AgentDefinition, Effort
from claude_force.library.fields import (
    USUAL_DESCRIPTION_CHARS,
    Fields,
    first_paragraph,
    without_blank_edges,
)
from claude_force.library.frontmatter import Document, FrontMatterError, read_document

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.base.briefing import Source

MAX_NAME_CHARS = 128  # longer than any file name part needs; the convention ends at 64
USUAL_NAME_CHARS = 64  # what the agent skills standard allows
MAX_BODY_CHARS = 200_000  # about 50,000 tokens, a quarter of the smallest context window, paid with every call

Outcome = AgentDefinition | AgentFileError | None
"""What a file turned out to be; `None` is documentation."""

# ------------------------------------------------------------ is it an agent?

_DOCUMENTATION = frozenset(
    {"readme", "claude", "agents", "gemini", "changelog", "contributing", "code_of_conduct", "license"}
)
_NAME_LINE = re.compile(rb"^[ \t]*name[ \t]*:([^\r\n]+)", re.MULTILINE)


def read_definition(data: bytes, *, path: "Path", source: "Source") -> Outcome:
    """What the bytes of the file at `path` define."""
    try:
        document = read_document(data, known_keys=KNOWN_KEYS)
    except FrontMatterError as error:
        name_line = _NAME_LINE.search(data)
        if name_line is None and _is_documentation(path):
            return None
        name = name_line[1].decode(errors="replace").strip(" \t\"'") if name_line else None
        return file_error(path, error.reason, line=error.line, agent=name, kind=error.kind)
    return _definition(document, path=path, source=source)


def file_error(
    path: "Path",
    reason: str,
    *,
    line: int | None = None,
    agent: str | None = None,
    kind: str = "unreadable",
) -> AgentFileError:
    """The error for a file that cannot be used; unless `agent` is given, the file's name is the agent's."""
    where = str(path) if line is None else f"{path}:{line}"
    return AgentFileError(
        f"{where!r} cannot be used as an agent: {reason}",
        agent=agent or (path.stem if path.suffix == ".md" else ""),
        path=str(path),
        line=line,
        reason=reason,
        kind=kind,
    )


def _is_documentation(path: "Path") -> bool:
    return path.name.partition(".")[0].casefold() in _DOCUMENTATION


def _definition(document: Document, *, path: "Path", source: "Source") -> Outcome:
    fields = _AgentFields(document)
    name, description = fields.text("name"), fields.text("description")
    if name is None and (_is_documentation(path) or (document.meta and not KNOWN_KEYS & document.meta.keys())):
        return None
    prompt = without_blank_edges(document.body)
    identity = name or path.stem
    if fault := prompt_fault(prompt):
        return file_error(path, fault, agent=identity, kind="too-large" if prompt else "empty")
    if fault := name_fault(identity):
        return file_error(path, fault, agent=identity, kind="bad-name")
    if not document.has_front_matter:
        fields.warn(
            "there is no front matter, so the file's name and first paragraph describe it; add 'description'",
            "no-front-matter",
        )
    elif name is None:
        fields.warn(f"there is no 'name', so the file's name was taken; write 'name: {identity}'", "no-name")
    if document.has_front_matter and description is None:
        fields.warn(
            "there is no 'description', so the first paragraph was taken; Claude Code skips such a file: add one",
            "no-description",
        )
    description = description or first_paragraph(prompt)
    _warn_of_habits(fields, identity, description)
    return AgentDefinition(
        name=identity,
        description=description,
        prompt=prompt,
        path=path,
        source=source,
        model=fields.model(),
        fallback_models=fields.names("fallback_models") or (),
        effort=fields.choice("effort", get_args(Effort)),
        inference_geo=fields.text("inference_geo"),
        tools=fields.tools(),
        disallowed_tools=fields.names("disallowedTools") or (),
        skills=fields.names("skills") or (),
        keywords=fields.names("keywords") or (),
        examples=fields.texts("examples"),
        permission_mode=fields.choice("permissionMode", _PERMISSION_MODES),
        max_turns=fields.count("maxTurns"),
        memory=fields.choice("memory", ("user", "project", "local")),
        color=fields.text("color"),
        extra=fields.extra(),
        warnings=tuple(fields.warnings),
    )


def prompt_fault(prompt: str) -> str | None:
    """Why this cannot be the instructions of an agent or a skill; `None` where it can."""
    if not prompt:
        return "it holds no instructions; write them below the front matter"
    if len(prompt) > MAX_BODY_CHARS:
        return f"its instructions are longer than {MAX_BODY_CHARS:,} characters; move reference material into files"
    return None


_USUAL_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def _warn_of_habits(fields: "_AgentFields", name: str, description: str) -> None:
    if len(name) > USUAL_NAME_CHARS:
        fields.warn(f"the name is longer than {USUAL_NAME_CHARS} characters; shorten it", "unusual-name")
    if not _USUAL_NAME.fullmatch(name):
        fields.warn(
            f"the name {name!r} is unusual; lower-case letters, digits and hyphens work everywhere", "unusual-name"
        )
    if len(description) > USUAL_DESCRIPTION_CHARS:
        fields.warn(
            f"the description is longer than {USUAL_DESCRIPTION_CHARS:,} characters; move examples to the body",
            "long-description",
        )


# ------------------------------------------------------------ names

_SHELL_CHARS = frozenset(";&|<>$`\"'*?()[]{}!~")


def name_fault(name: str) -> str | None:
    """Why this cannot be an agent's name; `None` where it can."""
    shell_char = next((char for char in name if char in _SHELL_CHARS), None)
    faults = (
        (not name.strip(), "it is empty"),
        (len(name) > MAX_NAME_CHARS, f"it is longer than {MAX_NAME_CHARS} characters"),
        (name.startswith("-"), "it starts with '-', as options do"),
        (".." in name or any(char in name for char in ":/\\"), "it looks like a path or an address"),
        # Control characters, but also those that turn the direction of what a terminal shows.
        (not name.isprintable(), "it holds characters that cannot be seen"),
        (shell_char, f"it holds {shell_char!r}, which means something to a shell"),
    )
    return next((fault for is_there, fault in faults if is_there), None)


def name_from(*texts: str) -> str | None:
    """The first of the texts that makes a name, brought to the usual form if it can be."""
    usual = next(filter(None, map(_slug, texts)), None)
    return usual or next((text for text in texts if not name_fault(text)), None)


def _slug(text: str) -> str:
    """`SQL Reviewer` and `SqlReviewer` as `sql-reviewer`."""
    import unicodedata  # noqa: PLC0415 - a library of its own, which only a repair needs

    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", plain).lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:USUAL_NAME_CHARS].strip("-")


_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_ESCAPES = re.compile(rb"\\(?:[xuU]|\r|\n)")


def may_define(data: bytes, name: str, *, path: "Path") -> bool:
    """Whether a file can possibly define that name: a cheap look that may err on one side only.

    A name comes from the name of the file, or stands in it letter by letter, unless YAML's escapes spell it.
    """
    is_plain = _PLAIN_NAME.fullmatch(name) and not _ESCAPES.search(data)
    return not is_plain or path.stem == name or name.lower().encode() in data.lower()


# ------------------------------------------------------------ fields

_FIELDS = ("name", "description", "tools", "disallowedTools", "model", "permissionMode", "maxTurns", "skills",
           "memory", "effort", "color", "keywords", "examples", "fallback_models",
           "inference_geo")  # fmt: skip
_KEPT_FIELDS = ("mcpServers", "hooks", "background", "isolation", "initialPrompt")  # known, but without a place of ours
_MISSPELT_TOOLS = ("allowed-tools", "allowedTools")
KNOWN_KEYS = frozenset({*_FIELDS, *_KEPT_FIELDS, *_MISSPELT_TOOLS})
_PERMISSION_MODES = ("default", "manual", "acceptEdits", "auto", "dontAsk", "bypassPermissions", "plan")
# Text, because a start must not compile what it does not use: `re` compiles a pattern once, when it is used.
_TOOL = r"(?s)[A-Z]\w*(?:\(.*\))?|mcp__\S+|\*"
_MODEL = r"[A-Za-z0-9][\w.:/@\[\]-]*"


class _AgentFields(Fields):
    """Those that only agents have."""

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        for key in self.meta.keys() & _MISSPELT_TOOLS:
            self.warn(f"{key!r} is no field of an agent and has no effect; did you mean 'tools'?", "misspelt-field")

    def tools(self) -> tuple[str, ...] | None:
        """The allowed tools; `None` for all."""
        tools = self.names("tools")
        if tools is None or "*" in tools:
            return None
        if foreign := [tool for tool in tools if not re.fullmatch(_TOOL, tool)]:
            self.warn(
                f"'tools' has names that are none of Claude's tools: {', '.join(foreign)}; use names such as 'Read'",
                "unknown-tool",
            )
        return tools

    def model(self) -> str | None:
        """The model as written; `None` for `inherit`."""
        model = self.text("model")
        if model is None or model.lower() == "inherit":
            return None
        if not re.fullmatch(_MODEL, model):
            self.warn(f"{model!r} is no model's id; write an alias such as 'sonnet', or an id", "unknown-model")
        return model

    def extra(self) -> dict[str, Any]:
        """Every key without a place of its own, as it is; only `background` is brought to a truth value."""
        extra = {key: value for key, value in self.meta.items() if key not in _FIELDS}
        if (background := self.switch("background")) is not None:
            extra["background"] = background
        return extra
