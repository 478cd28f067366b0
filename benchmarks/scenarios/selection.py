"""Which agent is chosen for 147 labelled tasks and 61 agents: how often the right one, or rightly none; and how fast.

What the labels are worth: `benchmarks/selection/README.md`. By words, and by meaning as well where numpy and the model
are at hand. What history does is measured apart, with tasks that only a project's past can tell of.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from claude_force import AgentMatch, AgentMemory, SemanticSelector
from claude_force.base.records import AgentDefinition
from claude_force.library.agents import AgentLibrary
from claude_force.library.disk import Folder
from scenarios import medians_in_turn

ROOT = Path(__file__).parents[2]
SET = Path(__file__).parents[1] / "selection"
FOLDERS = (ROOT / ".claude" / "agents", SET / "agents")
TIMED_TASK = "Our nightly import loads some rows twice whenever it gets retried."


class LabelledTask(msgspec.Struct, frozen=True):
    """One line of the set."""

    task: str
    agent: str | None
    """The one that a person would ask; `None` where none of them is right."""


class RepeatedTask(msgspec.Struct, frozen=True):
    """One line of `history.jsonl`: what nobody knows who has not seen the past task."""

    agent: str
    past: str
    task: str


def run(iterations: int) -> dict[str, float]:
    """Shares in percent."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        words = SemanticSelector(project_dir=project, agents=read_agents(), semantic=False, learns=False)
        figures = _quality("words", words) | _learning("words", project, semantic=False)
        meaning = SemanticSelector(project_dir=project, agents=read_agents(), learns=False)
        if meaning.method.startswith("words and meaning"):
            figures |= _quality("meaning", meaning) | _learning("meaning", project, semantic=True)
        return figures | _times(iterations, project, words, meaning)


def read_agents() -> list[AgentDefinition]:
    """The 19 that ship, and those of the set."""
    return AgentLibrary([Folder(path=path, source="project", root=path) for path in FOLDERS]).load_all()


def read_tasks() -> list[LabelledTask]:
    """The whole set, in its order."""
    return [msgspec.json.decode(line, type=LabelledTask) for line in (SET / "tasks.jsonl").read_bytes().splitlines()]


def looked_at() -> list[LabelledTask]:
    """Those that may be looked at while the selector is changed."""
    return [task for number, task in enumerate(read_tasks()) if number % 3 != 2]  # noqa: PLR2004 - every third is held out


def held_out() -> list[LabelledTask]:
    """The others."""
    return read_tasks()[2::3]


def _quality(how: str, selector: SemanticSelector) -> dict[str, float]:
    figures: dict[str, float] = {}
    for which, tasks in (("looked at", looked_at()), ("held out", held_out())):
        figures |= {f"{how}, {figure}, {len(tasks)} tasks {which}": value for figure, value in _judged(selector, tasks)}
    return figures


def _judged(selector: SemanticSelector, tasks: Sequence[LabelledTask]) -> list[tuple[str, float]]:
    """How good the ranking is, and how well it knows when it knows nothing."""
    ranked = [(task, selector.select_agents(task.task, min_confidence=0)) for task in tasks]
    fits = [(task, matches) for task, matches in ranked if task.agent]
    refused = [task for task in tasks if not selector.select_agents(task.task)]
    right = sum(task.agent is None for task in refused)
    firsts = [matches[0] for _, matches in ranked if matches]
    return [
        ("first, %", _share(sum(_has(matches[:1], task) for task, matches in fits), len(fits))),
        ("among three, %", _share(sum(_has(matches, task) for task, matches in fits), len(fits))),
        ("refused rightly, precision, %", _share(right, len(refused))),
        ("refused rightly, recall, %", _share(right, sum(task.agent is None for task in tasks))),
        ("confidence of the first, mean, %", _share(sum(match.confidence for match in firsts), len(tasks))),
        ("first right of all tasks, %", _share(sum(_has(matches[:1], task) for task, matches in ranked), len(tasks))),
    ]


def _learning(how: str, project: Path, *, semantic: bool) -> dict[str, float]:
    """Tasks in a project's own words, before and after it has done one that is like each."""
    memory = AgentMemory(project / f"{how}.db", secret=b"of a benchmark, and nothing else")
    lines = (SET / "history.jsonl").read_bytes().splitlines()
    repeated = [msgspec.json.decode(line, type=RepeatedTask) for line in lines]
    selector = SemanticSelector(project_dir=project, agents=read_agents(), semantic=semantic, memory=memory)
    figures = {}
    for when in ("before", "after"):
        tasks = [LabelledTask(each.task, each.agent) for each in repeated]
        (_, figures[f"{how}, first, %, {len(tasks)} tasks {when} one like it was done"]), *_ = _judged(selector, tasks)
        for each in repeated:
            memory.store_session(each.agent, each.past, "Done.", success=True)
    memory.close()
    return figures


def _times(iterations: int, project: Path, words: SemanticSelector, meaning: SemanticSelector) -> dict[str, float]:
    code = (
        "import sys; sys.path.insert(0, {!r}); from scenarios.selection import read_agents; "
        "from claude_force import SemanticSelector; "
        "SemanticSelector(project_dir={!r}, agents=read_agents(), semantic={!r}, learns=False).select_agents({!r})"
    )

    def process(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    def cold(*, semantic: bool) -> None:
        process(code.format(str(Path(__file__).parents[1]), str(project), semantic, TIMED_TASK))

    def ready() -> list[AgentMatch]:
        selector = SemanticSelector(project_dir=project, agents=read_agents(), semantic=False, learns=False)
        return selector.select_agents(TIMED_TASK)

    has_model = meaning.method.startswith("words and meaning")
    seconds = medians_in_turn(
        iterations,
        bare=lambda: process("pass"),
        cold=lambda: cold(semantic=False),
        cold_meaning=lambda: cold(semantic=has_model),
        ready=ready,
        warm=lambda: words.select_agents(TIMED_TASK),
        warm_meaning=lambda: meaning.select_agents(TIMED_TASK),
    )
    figures = {
        "python -c pass, ms": seconds["bare"] * 1000,
        "words, a process with one question, times that": seconds["cold"] / seconds["bare"],
        "words, 61 files read and ready, ms": seconds["ready"] * 1000,
        "words, a question, ms": seconds["warm"] * 1000,
    }
    if has_model:
        figures |= {
            "meaning, a process with one question, vectors kept, times that": seconds["cold_meaning"] / seconds["bare"],
            "meaning, a question, ms": seconds["warm_meaning"] * 1000,
        }
    return figures


def _has(matches: Sequence[AgentMatch], task: LabelledTask) -> bool:
    return task.agent is not None and task.agent in [match.agent_name for match in matches]


def _share(part: float, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
