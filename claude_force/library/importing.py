"""Agents of other layouts, brought into that of Claude Code: each a file with a front matter.

`plain` is any tree of Markdown files. `claude-force-v2` is what claude-force 1 and 2 kept: a `claude.json` whose
`agents` name a file without front matter, its domains, and a contract, which followed the file in every prompt. Its
workflows are not of interest here: `claude-force config migrate` brings them along.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from claude_force.base.config import read_config
from claude_force.base.errors import ConfigError
from claude_force.library.collection import AGENTS, Examined, Problem, error, examine, looked_at
from claude_force.library.definition import name_fault
from claude_force.library.disk import Folder, Unusable, read_text
from claude_force.library.frontmatter import MAX_FILE_BYTES
from claude_force.library.repair import Repaired, convert

Layout = Literal["plain", "claude-force-v2"]


def imported(folder: Path, layout: Layout) -> Iterator[Repaired | Problem]:
    """Each agent of the folder as a proper file, or why it is none; documentation is left out.

    Raises `ConfigError` where the layout needs a `claude.json` and there is none that can be read.
    """
    found = (
        _of_v2(folder) if layout == "claude-force-v2" else (convert(file, AGENTS) for file in examine([folder], AGENTS))
    )
    return (result for result in found if result is not None)


_Path = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]+$")]


class _Entry(msgspec.Struct, frozen=True):
    """An agent in the `claude.json` of claude-force 1 and 2. All else that stands there had no effect on it."""

    file: _Path
    contract: _Path | None = None
    domains: tuple[str, ...] = ()


def _of_v2(folder: Path) -> Iterator[Repaired | Problem | None]:
    inner = folder / ".claude"
    base = inner if (inner / "claude.json").exists() else folder
    agents = read_config(base / "claude.json").get("agents") or {}
    if not isinstance(agents, dict):
        path = str(base / "claude.json")
        raise ConfigError(f"'agents' of {path!r} is no object; write a name and a file for each", path=path)
    walk = AGENTS.walk()
    for name, raw in agents.items():
        try:
            entry = msgspec.convert(raw, _Entry)
        except msgspec.ValidationError as fault:
            text = f"agent {name!r} is written in a way that claude-force 2 did not read ({fault}); give it a 'file'"
            yield error(base / "claude.json", "wrong-value", text)
            continue
        yield _named(looked_at(walk.file(base / entry.file, root=base), AGENTS), name, entry, base)
    # What lies beside them and is named by nobody comes after them, and what was named is not given twice.
    beside = Folder(path=base / "agents", root=base, source="project")
    for file in walk.files(beside) if beside.path.exists() else ():
        yield convert(looked_at(file, AGENTS), AGENTS)


def _named(file: Examined, name: str, entry: _Entry, base: Path) -> Repaired | Problem | None:
    if fault := name_fault(name):
        return error(file.path, "bad-name", f"the config calls it {name!r}, which is no name: {fault}; rename it")
    written = base / (entry.contract or "")
    if entry.contract and file.data and os.path.exists(written):  # noqa: PTH110 - it was optional; Path's may raise
        contract = read_text(written, root=base, most_bytes=MAX_FILE_BYTES)
        if isinstance(contract, Unusable):
            return error(contract.path, "unreadable", contract.reason)
        data = file.data.rstrip() + b"\n\n" + contract.strip().encode() + b"\n"
        file = msgspec.structs.replace(file, data=data, outcome=AGENTS.read(data, file.path))
    return convert(file, AGENTS, name=name, keywords=entry.domains)
