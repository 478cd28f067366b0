"""What choosing skills by task saves, over our own agents and labelled tasks, and how often a needed one is missing.

What the labels are worth: `benchmarks/skills/README.md`. Tokens are of whole prompts (agent, skills, task, files),
estimated as `execute --plan` does; one figure is counted by the
endpoint that `--exact` asks, which is the simulator's here.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from claude_force.async_orchestrator import AsyncAgentOrchestrator
from claude_force.base.records import Material
from claude_force.engine.key import request_key
from claude_force.engine.request import Task
from claude_force.insight.skills import Comparison, SkillsReport, compare
from claude_force.orchestrator import Project
from scenarios import medians_in_turn

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "benchmarks" / "skills" / "tasks.jsonl"
LATER = ROOT / "benchmarks" / "skills" / "later.jsonl"
"""Written when the words and the figures of the choice stood."""


class LabelledTask(msgspec.Struct, frozen=True):
    """One line of the set."""

    agent: str
    task: str
    needs: tuple[str, ...]
    """The skills without which the answer would miss something."""
    files: dict[str, str] = msgspec.field(default_factory=dict)

    def compared(self, project: Project) -> Comparison:
        """The prompts that a call would have, with all skills, the chosen ones, and none."""
        materials = tuple(Material(name, text) for name, text in self.files.items())
        asked = Task(agent_name=self.agent, text=self.task, materials=materials, project_context=False)
        return compare(project.parts, asked, project.parts.agents.find(self.agent))


class Outcome(msgspec.Struct, frozen=True):
    """What became of it."""

    task: LabelledTask
    report: SkillsReport

    @property
    def chosen(self) -> set[str]:
        """Given in full."""
        return {choice.name for choice in self.report.choices if choice.is_chosen}


def run(iterations: int) -> dict[str, float]:
    """Shares in percent."""
    tasks = read_tasks(TASKS)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("agents", "skills"):
            shutil.copytree(ROOT / ".claude" / name, Path(folder) / ".claude" / name)
        with_agents = Project(project_dir=folder, offline=True, enable_tracking=False)
        compared = [task.compared(with_agents) for task in tasks]
        later = [Outcome(task, task.compared(with_agents).report(task.agent, {})) for task in read_tasks(LATER)]
        counts = asyncio.run(_counted(with_agents, compared))
        seconds = medians_in_turn(iterations, all=lambda: [task.compared(with_agents) for task in tasks])
        with_agents.close()
    estimated, counted = (
        [Outcome(task, found.report(task.agent, figures)) for task, found in zip(tasks, compared, strict=True)]
        for figures in ({}, counts)
    )
    known = [outcome for number, outcome in enumerate(estimated) if number % 3 != 2]  # noqa: PLR2004 - every third is held out
    held_out = estimated[2::3]
    ratios = [outcome.report.saved_share for outcome in estimated]
    return {
        f"recall of needed skills, {len(known)} tasks that were looked at, %": recall(known),
        f"recall of needed skills, {len(held_out)} tasks held out, %": recall(held_out),
        f"recall of needed skills, {len(later)} tasks written later, %": recall(later),
        "recall with all skills, %": recall(estimated, gives_all=True),
        "tasks that have all they need, %": 100 * sum({*o.task.needs} <= o.chosen for o in estimated) / len(tasks),
        "precision, %": _precision(estimated),
        "precision with all skills, %": _precision(estimated, gives_all=True),
        "skills in full, a task": sum(len(o.chosen) for o in estimated) / len(tasks),
        "skills listed, a task": sum(len(o.report.choices) for o in estimated) / len(tasks),
        "fewer prompt tokens, looked at, %": saved(known),
        "fewer prompt tokens, held out, %": saved(held_out),
        "fewer prompt tokens, written later, %": saved(later),
        "fewer prompt tokens, all but those, %": saved(estimated),
        "fewer prompt tokens, mean of the tasks, %": 100 * sum(ratios) / len(ratios),
        "fewer prompt tokens, as the simulator counts, %": saved(counted),
        "a comparison, ms": seconds["all"] / len(tasks) * 1e3,
    }


def read_tasks(path: Path) -> list[LabelledTask]:
    """A whole set, in its order."""
    return [msgspec.json.decode(line, type=LabelledTask) for line in path.read_bytes().splitlines()]


def recall(outcomes: Sequence[Outcome], *, gives_all: bool = False) -> float:
    """How many of the needed skills were given in full, in percent."""
    given = [len({*o.task.needs} & _given(o, gives_all=gives_all)) for o in outcomes]
    return 100 * sum(given) / sum(len(o.task.needs) for o in outcomes)


def saved(outcomes: Sequence[Outcome]) -> float:
    """How many tokens fewer all prompts have together, in percent."""
    return 100 * sum(o.report.saved_tokens for o in outcomes) / sum(o.report.all_tokens for o in outcomes)


def _precision(outcomes: Sequence[Outcome], *, gives_all: bool = False) -> float:
    given = [_given(o, gives_all=gives_all) for o in outcomes]
    needed = sum(len({*o.task.needs} & each) for o, each in zip(outcomes, given, strict=True))
    return 100 * needed / sum(map(len, given))


def _given(outcome: Outcome, *, gives_all: bool) -> set[str]:
    return {choice.name for choice in outcome.report.choices} if gives_all else outcome.chosen


async def _counted(project: Project, compared: Sequence[Comparison]) -> dict[str, int]:
    requests = {request_key(request): request for found in compared for request in found.requests.values()}
    async with AsyncAgentOrchestrator.of(project) as orchestrator:
        return await orchestrator.count_tokens(requests)
