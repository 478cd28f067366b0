"""How it is shown what is wrong with agents or skills: what cannot be used, what was repaired, what is hidden."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import click
from msgspec.structs import asdict

from claude_force.apps.console import note, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.base.errors import AgentFileError, SkillFileError
    from claude_force.library.agents import ShadowedAgent
    from claude_force.library.skills import ShadowedSkill

# A hostile or a very broken tree can hold thousands; nobody reads them on a screen.
MOST_WARNINGS = 200
PLACES = {"agent": ".claude/agents", "skill": ".claude/skills"}


class Checked(Protocol):
    """An agent or a skill."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def path(self) -> Path | None:
        """Its file."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not as it should be."""


def show_findings(
    kind: Literal["agent", "skill"],
    usable: "Sequence[Checked]",
    problems: "Sequence[AgentFileError | SkillFileError]",
    hidden: "Sequence[ShadowedAgent | ShadowedSkill]",
    *,
    as_json: bool,
) -> int:
    """Print them; gives the exit code, which is 1 if a file cannot be used."""
    warnings = [(each, warning) for each in usable for warning in each.warnings]
    if as_json:
        print_json(
            {
                "usable": [each.name for each in usable],
                "problems": [{"path": p.path, "line": p.line, "reason": p.reason} for p in problems],
                "warnings": [{kind: each.name, "path": each.path, "warning": text} for each, text in warnings],
                "hidden": [asdict(shadow) for shadow in hidden],
            }
        )
        return 1 if problems else 0
    for problem in problems:
        note(str(problem), kind="error")
    for each, text in warnings[:MOST_WARNINGS]:
        note(f"{each.path}: {text}", kind="warning")
    if len(warnings) > MOST_WARNINGS:
        note(f"and {len(warnings) - MOST_WARNINGS} more; --json has all of them", kind="warning")
    for shadow in hidden:
        note(str(shadow), kind="warning")
    if not usable and not problems:
        note(f"no {kind} files there; give a folder that holds some, such as {PLACES[kind]}", kind="warning")
    click.echo(f"{len(usable)} usable, {len(problems)} not, {len(warnings) + len(hidden)} warnings")
    return 1 if problems else 0
