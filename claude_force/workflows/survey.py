"""All workflows of a project with what is wrong with them: nothing here raises for a workflow that is broken."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_force.base.errors import WorkflowError
from claude_force.library.workflows import WorkflowLibrary
from claude_force.workflows.start import read_checked

if TYPE_CHECKING:
    from claude_force.workflows.plan import Plan
    from claude_force.workflows.start import Shop


class Surveyed(NamedTuple):
    """One workflow, sound or not."""

    name: str
    path: Path | None
    plan: "Plan | None"
    """With faults, what could be read; `None` where that is nothing."""
    problems: tuple[str, ...]

    @property
    def description(self) -> str:
        """What it says of itself."""
        return self.plan.workflow.description if self.plan else ""

    def to_dict(self) -> dict[str, Any]:
        """The facts, ready for JSON."""
        return {
            "name": self.name,
            "path": None if self.path is None else str(self.path),
            "description": self.description,
            "steps": list(self.plan.steps) if self.plan else [],
            "problems": list(self.problems),
        }


def survey(shop: "Shop", names: Iterable[str] = ()) -> list[Surveyed]:
    """The workflows of these names; without any, all that there are."""
    library = WorkflowLibrary(shop.settings, start=shop.start)
    known = library.names()
    return [_surveyed(shop, library, name, known.get(name)) for name in names or known]


def _surveyed(shop: "Shop", library: WorkflowLibrary, name: str, path: Path | None) -> Surveyed:
    try:
        found = library.find(name)
    except WorkflowError as error:
        return Surveyed(name, path, None, error.problems or (str(error),))
    plan, problems = read_checked(shop, found.raw, name)
    return Surveyed(name, found.path, plan, tuple(problems))
