"""What `execute` would do and cost, for one task or a file of them: `plan_tasks`. It writes nothing.

How the figures are estimated is told in `insight.estimate`.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from claude_force.apps.console import note, price, print_json, print_table, say_choice
from claude_force.apps.plan_view import count_prompts, print_savings, say_unsent, total
from claude_force.base.pricing import total_usd
from claude_force.insight.estimate import Counts, TurnEstimate, estimate_task, savings_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from claude_force.orchestrator import AgentTask, CallOptions, Project


class PlannedTask(NamedTuple):
    """One task: its line in the file, from 1, its id, and what is asked."""

    number: int
    id: str | int | None
    call: "AgentTask"


class _Planned(NamedTuple):
    task: PlannedTask
    found: TurnEstimate
    is_repeated: bool
    """The same stands before it, whose answer it gets."""

    @property
    def cache(self) -> str:
        return "repeated" if self.is_repeated else "cached" if self.found.kept else "asked"

    def to_dict(self) -> dict[str, Any]:
        found = self.found
        return {
            "number": self.task.number,
            "id": self.task.id,
            "agent": self.task.call.agent_name,
            "model": found.request.model,
            "choice": msgspec.to_builtins(found.choice),
            "cache": self.cache,
            "prompt_tokens": found.prompt_tokens,
            "counted": found.is_counted,
            "output_tokens": found.output_tokens,
            "is_guess": found.is_guess,
            "min_usd": _float(found.min_usd),
            "expected_usd": _float(found.expected_usd),
            "max_usd": _float(found.max_usd),
            "skills": list(found.skills),
            "context": {"files": list(found.context), "tokens": found.context_tokens},
            "warnings": list(found.warnings),
        }


def plan_tasks(
    project: "Project",
    tasks: "Sequence[PlannedTask]",
    options: "CallOptions",
    *,
    max_cost_usd: float | None,
    exact: bool,
    as_json: bool,
    warns: bool = True,
) -> None:
    """Show what they would cost with these options; with `exact`, their prompts are counted by the API.

    Unless it `warns`, what is wrong with the prompts has been said.
    """
    planned = _planned(project, tasks, options, {})
    counts: Counts = {}
    if exact:
        counts = count_prompts(project, {each.found.key: each.found.request for each in planned if not each.found.kept})
        planned = _planned(project, tasks, options, counts)
    turns = [each.found for each in planned if not each.is_repeated]
    for warning in dict.fromkeys(warning for turn in turns for warning in turn.warnings) if warns else ():
        note(warning, kind="warning")
    savings = savings_of(project.parts, turns, is_routed=project.auto_model)
    sums = {
        "minimum": [each.found.min_usd for each in planned],
        "expected": [each.found.expected_usd for each in planned],
        "maximum": [each.found.max_usd for each in planned],
    }
    expected_usd = total_usd(sums["expected"])
    if as_json:
        facts = {
            "tasks": [each.to_dict() for each in planned],
            "min_usd": _float(total_usd(sums["minimum"])),
            "expected_usd": _float(expected_usd),
            "max_usd": _float(total_usd(sums["maximum"])),
            "savings": savings.to_dict(),
        }
        print_json(facts)
        return
    print_table(("agent", "model", "cache", "tasks", "tokens in", "out", "min", "expected", "max"), _rows(planned))
    for name, costs in sums.items():
        click.echo(f"{name:<10}{total(costs)}")
    print_savings(savings, is_routed=project.auto_model)
    if len(planned) == 1 and (choice := planned[0].found.choice):
        say_choice(choice)
    _say_briefing(turns)
    if any(each.found.is_guess for each in planned):
        note("answers whose length nobody knows yet (~) are guessed; earlier calls make the forecast better")
    if max_cost_usd is not None and expected_usd is not None and expected_usd > Decimal(str(max_cost_usd)):
        note(f"--max-usd {max_cost_usd:g} is less than what is expected, so not all would be sent", kind="warning")
    say_unsent(exact=exact)


def _planned(
    project: "Project", tasks: "Iterable[PlannedTask]", options: "CallOptions", counts: Counts
) -> list[_Planned]:
    parts, chooser, seen = project.parts, project.chooser.frozen(), set[str]()
    planned = []
    for task in tasks:
        asked = project.asked(task.call.agent_name, task.call.task, options | task.call.options)
        found = estimate_task(parts, asked, chooser=chooser, is_routed=project.auto_model, counts=counts)
        is_shared = parts.cache is not None and asked.use_cache not in {False, "refresh"}
        is_repeated = is_shared and found.key in seen and found.kept is None
        planned.append(_Planned(task, found.free() if is_repeated else found, is_repeated))
        seen.add(found.key)
    return planned


def _say_briefing(turns: "Sequence[TurnEstimate]") -> None:
    """What is in the prompts beside agents and tasks."""
    skills = sorted({name for turn in turns for name in turn.skills})
    context = list(dict.fromkeys(name for turn in turns for name in turn.context))
    if skills:
        note(", ".join(skills), kind="skills")
    if context:
        tokens = max(turn.context_tokens for turn in turns)
        note(f"{', '.join(context)} (about {tokens:,} tokens a prompt)", kind="project context")


def _rows(planned: "Iterable[_Planned]") -> list[tuple[str, ...]]:
    """A row for all tasks of an agent that ask the same model, or are answered alike."""
    groups: dict[tuple[str, str, str], list[TurnEstimate]] = {}
    for each in planned:
        group = each.task.call.agent_name, each.found.request.model, each.cache
        groups.setdefault(group, []).append(each.found)
    return [
        (
            *group,
            f"{len(found):,}",
            f"{sum(turn.prompt_tokens for turn in found):,}",
            f"{'~' if any(turn.is_guess for turn in found) else ''}{sum(turn.output_tokens for turn in found):,}",
            price(total_usd(turn.min_usd for turn in found)),
            price(total_usd(turn.expected_usd for turn in found)),
            price(total_usd(turn.max_usd for turn in found)),
        )
        for group, found in groups.items()
    ]


def _float(usd: Decimal | None) -> float | None:
    return None if usd is None else float(usd)
