"""Skills: folders with a `SKILL.md`, found by name, read leniently, and which one counts where several have it.

A skill *is* its folder's name. Which folder wins, when two have the same name, is decided as it is for agents:

1. the nearest project folder, seen from where the user stands, then its parents; in each, `.claude/skills` comes before
   `.agents/skills`,
2. the user's own `skills` folder, then `~/.agents/skills`,
3. inside one of them: the first path in sorted order.

A skill that cannot be used is a `SkillFileError`; if its name is asked for, that is raised, never a farther one taken.
Nothing of a skill is run: no script, no `` !`command` ``, and no `$ARGUMENTS` is replaced. How front matter is read
and repaired: `frontmatter`. Any other folder can be read by giving it as a `Folder`.
"""

import copy
import os
import re
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.briefing import LoadedSkills, Skill, SkillResource
from claude_force.base.config import home_folder, project_folders
from claude_force.base.errors import SkillError, SkillFileError, SkillNotFoundError
from claude_force.library.agents import SETTLED_NS
from claude_force.library.definition import name_fault, prompt_fault
from claude_force.library.disk import MAX_FILES, File, Folder, Unusable, Walk, read_text, resolved, skills_in
from claude_force.library.fields import (
    USUAL_DESCRIPTION_CHARS,
    Fields,
    first_paragraph,
    plain,
    tool_names,
    without_blank_edges,
)
from claude_force.library.frontmatter import Document, FrontMatterError, read_document
from claude_force.library.remarks import ErrorKind, Remark, Shadowed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from claude_force.base.briefing import Source

MAX_SKILL_FOLDERS = 2 * MAX_FILES  # each skill is a folder of its own, and most collections have one for each group
MAX_RESOURCE_BYTES = 256 * 1024  # some 65,000 tokens: more is no reference to be read, but data
USUAL_BODY_LINES = 500  # what the standard advises; likewise the next two
USUAL_NAME_CHARS = 64
USUAL_COMPATIBILITY_CHARS = 500


class SkillLibrary:
    """Finds skills by name. Every call looks at the disk again, and reads what has changed; threads may share it.

    Example:
        >>> library = SkillLibrary(skill_folders(Path(), home=Path.home() / ".claude"))
        >>> [skill.name for skill in library.load_all()] == sorted(skill.name for skill in library.load_all())
        True
    """

    def __init__(self, folders: "Sequence[Folder]") -> None:
        """`folders` go in order of precedence, as `skill_folders` gives them."""
        self._folders = tuple(folders)
        self._kept: dict[Path, tuple[File, Skill | SkillFileError]] = {}

    def find(self, name: str) -> Skill:
        """The skill of that name. Raises `SkillNotFoundError`, or `SkillFileError` where it cannot be used."""
        (found,) = self.look_up([name])
        if isinstance(found, SkillError):
            raise found
        return found

    def look_up(self, names: "Iterable[str]") -> "list[Skill | SkillError]":
        """For each name its skill, or what `find` would raise, in one walk."""
        first: dict[str, File | Unusable] = {}
        for file in self._files():
            first.setdefault(_name_of(file), file)
        # Copied, because a kept error is shared, and a raised one collects tracebacks.
        return [copy.copy(self._read(first[name])) if name in first else _not_found(name, first) for name in names]

    def load_all(self) -> list[Skill]:
        """All usable skills, sorted by name."""
        return sorted(self._survey().skills.values(), key=lambda skill: skill.name)

    def problems(self) -> list[SkillFileError]:
        """Files and folders that cannot be used, in the order in which they are searched."""
        return self._survey().problems

    def shadowed(self) -> list[Shadowed]:
        """Skills that another one of the same name hides."""
        return self._survey().shadowed

    def load(self, names: "Iterable[str]") -> LoadedSkills:
        """The skills and files that somebody asks for: `NAME`, or `NAME:PATH` for a file as well.

        Raises the `SkillError` family.
        """
        skills, resources = dict[str, Skill](), dict[tuple[str, str], SkillResource]()
        for wanted in (names,) if isinstance(names, str) else names:
            name, _, path = wanted.partition(":")
            skill = skills[name] = skills.get(name) or self.find(name)
            if path:
                resources[name, path] = read_resource(skill, path)
        return LoadedSkills(skills=tuple(skills.values()), resources=tuple(resources.values()))

    def _survey(self) -> "_Survey":
        survey = _Survey()
        for file in self._files():
            survey.add(_name_of(file), self._read(file))
        return survey

    def _read(self, file: File | Unusable) -> Skill | SkillFileError:
        """What it says; a file that is as it was, and old enough not to have changed unseen, is not read again."""
        if isinstance(file, Unusable):
            return skill_error(file.path, file.reason, name=_name_of(file))
        kept = self._kept.get(file.path)
        if kept is not None and kept[0] == file:
            return kept[1]
        data = file.data()
        if isinstance(data, Unusable):  # not kept: rights can change without a trace in the file
            return skill_error(data.path, data.reason, name=_name_of(file))
        found = read_skill(data, path=file.path, source=file.source)
        if time.time_ns() - file.modified_ns > SETTLED_NS:
            self._kept[file.path] = (file, found)
        return found

    def _files(self) -> "Iterator[File | Unusable]":
        walk = Walk(skills_in, what="skill", max_folders=MAX_SKILL_FOLDERS)
        for folder in self._folders:
            yield from walk.files(folder)


class _Survey(msgspec.Struct):
    skills: dict[str, Skill] = msgspec.field(default_factory=dict)
    problems: list[SkillFileError] = msgspec.field(default_factory=list)
    shadowed: list[Shadowed] = msgspec.field(default_factory=list)
    _broken: set[str] = msgspec.field(default_factory=set)
    """Names whose first file cannot be used: no farther one takes its place."""

    def add(self, name: str, found: Skill | SkillFileError) -> None:
        if isinstance(found, SkillFileError):
            self.problems.append(found)
            if name not in self.skills:
                self._broken.add(name)
        elif name not in self._broken:
            used = self.skills.setdefault(name, found)
            if used is not found:
                self.shadowed.append(Shadowed(what="skill", name=name, used=used.path, hidden=found.path))


def _not_found(name: str, known: "Iterable[str]") -> SkillNotFoundError:
    import difflib  # noqa: PLC0415 - only a wrong name pays for it

    near = tuple(difflib.get_close_matches(name, list(known)))
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return SkillNotFoundError(
        f"no skill is named {name!r}; {hint}`claude-force skills list` shows all of them", skill=name, nearest=near
    )


def skill_folders(start: Path, *, home: Path) -> list[Folder]:
    """The skill folders that count in the folder `start`, in order of precedence; `home` is the user's Claude folder.

    As for agents, those of the project reach up to the repository's root, and outside of one only `start` counts.
    """
    places = project_folders(start)
    own = [Folder(path=folder, source="user", root=folder) for folder in (home / "skills", home_folder() / _AGENTS)]
    mine = {resolved(folder.path) for folder in own}  # the home folder may be a project, too
    project = [
        Folder(path=path, source="project", root=places[-1])
        for place in places
        for path in (place / ".claude" / "skills", place / _AGENTS)
        if resolved(path) not in mine
    ]
    return [folder for folder in (*project, *own) if os.path.isdir(folder.path)]  # noqa: PTH112 - Path.is_dir() may raise


_AGENTS = Path(".agents", "skills")


def read_resource(skill: Skill, path: str) -> SkillResource:
    """A text file of the skill's folder. Raises `SkillError` for every other path, and for what is no text."""
    relative = PurePosixPath(path)
    folder = skill.path.parent
    if relative.is_absolute() or ".." in relative.parts or "\\" in path or not path.isprintable():
        fault: str | Unusable = "it is no path inside the skill's folder; give one such as 'references/locks.md'"
    else:
        text = read_text(folder / relative, root=folder, most_bytes=MAX_RESOURCE_BYTES)
        if isinstance(text, str):
            return SkillResource(skill=skill.name, path=str(relative), text=text)
        fault = text.reason
    raise SkillError(f"cannot read {path!r} of skill {skill.name!r}: {fault}", skill=skill.name)


def resources_of(skill: Skill) -> list[str]:
    """The files beside the skill's own, as `read_resource` takes them; hidden ones are left out."""
    found = []
    for folder, folders, names in os.walk(skill.path.parent):  # follows no links
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "node_modules")
        paths = (Path(folder, name) for name in sorted(names) if not name.startswith("."))
        found += [path.relative_to(skill.path.parent).as_posix() for path in paths if path != skill.path]
        if len(found) > MAX_FILES:
            break
    return found


# ------------------------------------------------------------ one file

_STANDARD_KEYS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
_CLAUDE_KEYS = ("when_to_use", "argument-hint", "arguments", "disable-model-invocation", "user-invocable",
                "disallowed-tools", "model", "effort", "context", "agent", "background", "hooks", "paths",
                "shell")  # fmt: skip
_OWN_KEYS = ("keywords",)
KNOWN_KEYS = frozenset({*_STANDARD_KEYS, *_CLAUDE_KEYS, *_OWN_KEYS})
_READ_KEYS = frozenset({*_STANDARD_KEYS, *_OWN_KEYS, "when_to_use", "disable-model-invocation"})
_STANDARD_NAME = r"[^\W_]+(-[^\W_]+)*"  # as text: `re` compiles a pattern once, when it is used


def _name_of(file: File | Unusable) -> str:
    return file.path.parent.name if file.path.suffix == ".md" else file.path.name


def read_skill(data: bytes, *, path: Path, source: "Source") -> Skill | SkillFileError:
    """What the bytes of the `SKILL.md` at `path` say."""
    name = path.absolute().parent.name
    try:
        document = read_document(data, known_keys=KNOWN_KEYS)
    except FrontMatterError as error:
        return skill_error(path, error.reason, name=name, line=error.line, kind=error.kind)
    body = without_blank_edges(document.body)
    if fault := prompt_fault(body):
        return skill_error(path, fault, name=name, kind="too-large" if body else "empty")
    if fault := name_fault(name):
        return skill_error(path, fault, name=name, kind="bad-name")
    fields = Fields(document)
    description = fields.text("description")
    if description is None:
        fields.warn(
            "there is no 'description', so the first paragraph was taken; other clients skip such a skill",
            "no-description",
        )
    metadata = _metadata(fields)
    keywords = Fields(msgspec.structs.replace(document, meta=dict(metadata), warnings=())).names("keywords")
    skill = Skill(
        name=name,
        description=description or first_paragraph(body),
        body=body,
        path=path,
        source=source,
        when_to_use=fields.text("when_to_use"),
        keywords=(*(fields.names("keywords") or ()), *(keywords or ())),
        allowed_tools=_tools(fields),
        disable_model_invocation=fields.switch("disable-model-invocation") or False,
        license=fields.text("license"),
        compatibility=fields.text("compatibility"),
        metadata=metadata,
        extra={key: value for key, value in document.meta.items() if key not in _READ_KEYS},
    )
    return msgspec.structs.replace(skill, warnings=(*fields.warnings, *_deviations(skill, document)))


def skill_error(
    path: Path, reason: str, *, name: str, line: int | None = None, kind: ErrorKind = "unreadable"
) -> SkillFileError:
    """The error for a file that cannot be used."""
    where = str(path) if line is None else f"{path}:{line}"
    message = f"{where!r} cannot be used as a skill: {reason}"
    return SkillFileError(message, skill=name, path=str(path), line=line, reason=reason, kind=kind)


def _metadata(fields: Fields) -> dict[str, str]:
    value = fields.meta.get("metadata") or {}
    if not isinstance(value, dict):
        fields.warn("'metadata' is no mapping and was left out; write 'key: value' lines below it")
        return {}
    return {str(key): text for key, item in value.items() if (text := plain(item)) is not None}


def _tools(fields: Fields) -> tuple[str, ...]:
    """Between blanks, as the standard has them, or commas, or as a list."""
    value = fields.meta.get("allowed-tools")
    texts = [plain(item) for item in (value if isinstance(value, list) else [value])]
    return tuple(tool for text in texts if text for tool in tool_names(text))


def _deviations(skill: Skill, document: Document) -> "Iterator[Remark]":
    """Where it is not as https://agentskills.io/specification has it."""
    written = document.meta.get("name")
    if not document.has_front_matter:
        yield Remark("there is no front matter and no 'name', so the folder's counts; write both", "no-front-matter")
    elif written is None:
        yield Remark(f"there is no 'name', so the folder's counts; write 'name: {skill.name}'", "no-name")
    elif written != skill.name:
        text = f"the name {written!r} is not that of its folder, {skill.name!r}, which counts; use one for both"
        yield Remark(text, "other-name")
    is_usual = re.fullmatch(_STANDARD_NAME, skill.name) and skill.name == skill.name.lower()
    if not is_usual or len(skill.name) > USUAL_NAME_CHARS:
        text = f"the name {skill.name!r} is not of the standard; use up to 64 lower-case letters, digits and hyphens"
        yield Remark(text, "unusual-name")
    if len(skill.description) > USUAL_DESCRIPTION_CHARS:
        text = f"the description is longer than {USUAL_DESCRIPTION_CHARS:,} characters; move a part into the body"
        yield Remark(text, "long-description")
    if len(skill.compatibility or "") > USUAL_COMPATIBILITY_CHARS:
        yield Remark(
            f"'compatibility' is longer than {USUAL_COMPATIBILITY_CHARS} characters; shorten it", "wrong-value"
        )
    if isinstance(document.meta.get("allowed-tools"), list):
        yield Remark("'allowed-tools' is a list; the standard wants the names with blanks between", "wrong-value")
    if skill.body.count("\n") >= USUAL_BODY_LINES:
        text = f"the body has more than {USUAL_BODY_LINES} lines; move details into files that it names"
        yield Remark(text, "long-body")
    if others := [key for key in document.meta if key not in _STANDARD_KEYS]:
        text = f"{', '.join(map(repr, others))}: no key of the standard; Claude Code may know it, others refuse it"
        yield Remark(text, "unknown-key")
