"""A tasks file, from the first line to the last: read, checked, asked, each answer written down as it comes."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_force.apps.console import is_terminal, note, print_json, print_json_line, say_caching, say_savings
from claude_force.apps.progress import StatusTeller
from claude_force.apps.tally import Tally, shown
from claude_force.apps.task_file import (
    FileTask,
    ResultLine,
    ResultsFile,
    known_results,
    read_tasks,
    result_line,
    unanswered,
)
from claude_force.apps.task_plan import PlannedTask, plan_tasks
from claude_force.async_orchestrator import AsyncAgentOrchestrator
from claude_force.base.errors import CacheError, ClaudeForceError, InputError, TasksFileError
from claude_force.engine.faces import Blocking, run_now
from claude_force.engine.sending import BatchWatch
from claude_force.library.materials import read_material
from claude_force.orchestrator import AgentTask, CallOptions, Project

if TYPE_CHECKING:
    from claude_force.base.records import AgentResult, Retry


class BatchOptions(NamedTuple):
    """How a tasks file is done as a message batch."""

    waits: bool
    live_fallback: bool


Keep = Callable[[ResultLine], None]

_warn = partial(note, kind="warning")

# Nobody reads more than these before a batch begins; every result has its own.
MOST_WARNINGS = 20


def run_tasks_file(
    project: Project,
    tasks_file: str,
    *,
    agent: str,
    output: Path | None,
    files: tuple[str, ...],
    options: CallOptions,
    max_concurrent: int | None,
    as_json: bool,
    batch: "BatchOptions | None" = None,
) -> int:
    """Ask all tasks of the file that have no answer in `output` yet; gives the exit code.

    Without `output`, results go to stdout. Nothing is sent before the whole file was checked.
    """
    if output is not None and tasks_file != "-" and _is_same(output, tasks_file):
        raise TasksFileError(f"{tasks_file!r} is the tasks file; give --output another name", path=tasks_file)
    if output is None and sys.stdout is None:
        raise InputError("standard output is closed, so the answers would be lost; give --output")
    options["materials"] = tuple(map(read_material, files))  # once, and not for every task
    tasks = _checked(project, tasks_file, agent, options)
    with ResultsFile(output) if output is not None else nullcontext() as results:
        to_ask = tasks if results is None else unanswered(tasks, results.known)
        tally = Tally(total=len(to_ask), before=len(tasks) - len(to_ask))
        _say_start(tally, tasks, results)
        keep = _print if results is None else results.append
        if batch is not None and not batch.waits:
            ids = _leave_batch(project, to_ask, options)
            if as_json:
                print_json({"batches": ids})
            return 0
        orchestrator = AsyncAgentOrchestrator.of(project, max_concurrent=max_concurrent)
        with _told(tally, output), shown(tally, is_alone=output is not None or not is_terminal(sys.stdout)) as show:
            if batch is not None:
                _ask_batch(project, to_ask, options, keep, tally, show, live_fallback=batch.live_fallback)
            else:
                asyncio.run(_ask(orchestrator, to_ask, options, keep, tally, show))
    if as_json:
        print_json(_facts(tally))
    return tally.exit_code


def plan_tasks_file(
    project: Project,
    tasks_file: str,
    *,
    agent: str,
    output: Path | None,
    files: tuple[str, ...],
    options: CallOptions,
    max_cost_usd: float | None,
    exact: bool,
    as_json: bool,
) -> None:
    """Say what `run_tasks_file` would do and cost."""
    options["materials"] = tuple(map(read_material, files))
    tasks = _checked(project, tasks_file, agent, options)
    to_ask = tasks if output is None else unanswered(tasks, known_results(output))
    if len(to_ask) < len(tasks):
        note(f"{len(tasks) - len(to_ask)} of {len(tasks)} tasks are done already; {len(to_ask)} would be asked")
    planned = [PlannedTask(task.number, task.id, task.call) for task in to_ask]
    plan_tasks(project, planned, options, max_cost_usd=max_cost_usd, exact=exact, as_json=as_json, warns=False)


def warm_cache(
    tasks_file: str,
    *,
    agent: str,
    max_concurrent: int | None,
    max_cost_usd: float | None,
    config_path: Path | None,
    offline: bool,
    as_json: bool,
) -> int:
    """Ask all tasks of the file whose answers are not in the cache yet; gives the exit code.

    Nothing is sent before the whole file was checked.
    """
    project = Project(config_path, offline=offline, max_cost_usd=max_cost_usd)
    tasks = _checked(project, tasks_file, agent, CallOptions())
    missing = _missing(project, tasks)
    tally = Tally(total=len(missing), before=len(tasks) - len(missing))
    orchestrator = AsyncAgentOrchestrator.of(project, max_concurrent=max_concurrent)
    given = 0  # by the cache after all: a task that stands there twice, or that another process has asked

    def count(line: ResultLine) -> None:
        nonlocal given
        given += bool(line.status == "done" and line.result and line.result["cached"])

    try:
        with shown(tally, is_alone=True) as show:
            asyncio.run(_ask(orchestrator, missing, CallOptions(), count, tally, show))
    finally:
        _say_warmed(tally, given)
    if as_json:
        print_json(_warmed(tally, given))
    return tally.exit_code


def _checked(project: Project, tasks_file: str, agent: str, options: CallOptions) -> list[FileTask]:
    """The tasks of the file. What the user should know before anything is sent has been said."""
    tasks, warnings = read_tasks(
        _content(tasks_file),
        path=None if tasks_file == "-" else tasks_file,
        agent=agent,
        parts=project.parts,
        common=options,
        chooser=project.chooser.frozen() if project.auto_model else None,
    )
    if not tasks:
        note(f"no tasks in {'standard input' if tasks_file == '-' else repr(tasks_file)}", kind="warning")
    for warning in warnings[:MOST_WARNINGS]:
        note(warning, kind="warning")
    if len(warnings) > MOST_WARNINGS:
        note(f"and {len(warnings) - MOST_WARNINGS} more; each result has its own", kind="warning")
    return tasks


async def _ask(
    orchestrator: AsyncAgentOrchestrator,
    tasks: Iterable[FileTask],
    options: CallOptions,
    keep: Keep,
    tally: Tally,
    show: Callable[[], None],
) -> None:
    def count(_: "Retry") -> None:
        tally.retries += 1
        show()

    options["on_retry"] = count
    drawn = tasks if isinstance(tasks, list) else []

    def calls() -> Iterator[AgentTask]:
        for task in tasks:
            drawn.append(task)
            yield task.call

    # From a list, the batch knows from its beginning which tasks share an agent.
    outcomes = orchestrator.as_completed([task.call for task in tasks] if drawn is tasks else calls(), **options)
    async with orchestrator, aclosing(outcomes):
        async for number, result in outcomes:
            line = result_line(drawn[number], result)
            tally.add(line, result)  # first: it is paid, even if its line cannot be written
            keep(line)
            show()


def _ask_batch(
    project: Project,
    tasks: list[FileTask],
    options: CallOptions,
    keep: Keep,
    tally: Tally,
    show: Callable[[], None],
    *,
    live_fallback: bool,
) -> None:
    def end(number: int, outcome: "AgentResult | ClaudeForceError") -> None:
        line = result_line(tasks[number], outcome)
        tally.add(line, outcome)
        keep(line)
        show()

    watch = BatchWatch(StatusTeller(), end, _warn)
    asked = project.tasks([task.call for task in tasks], options)
    work = project.batching.execute(Blocking(lambda: project.live), asked, live_fallback=live_fallback, watch=watch)
    try:
        run_now(work)
    except KeyboardInterrupt:
        note("what was sent goes on at the server; the same command, or `claude-force batch collect`, takes it up")
        raise


def _leave_batch(project: Project, tasks: list[FileTask], options: CallOptions) -> list[str]:
    """Send what is missing, and wait for nothing; gives the batches' ids, as `batch list` shows them."""
    asked = project.tasks([task.call for task in tasks], options)
    watch = BatchWatch(StatusTeller(), on_warning=_warn)
    own_ids = run_now(project.batching.submit(Blocking(lambda: project.live), asked, watch=watch))
    ids = [project.batching.record(id_).batch_id or id_ for id_ in own_ids]
    for id_ in ids:
        note(f"`claude-force batch collect {id_}`, or the same command without --no-wait, goes on")
    note(f"{len(ids)} batch(es) at work", kind="done")
    return ids


def collect_batches(project: Project, batch: str | None) -> "tuple[dict[str, int], ClaudeForceError | None]":
    """Wait for this batch, or for all that are not collected: how many, what became of them, and the first failure."""
    batching, outside = project.batching, Blocking(lambda: project.live)
    if batch is None:
        chosen = [record for record in batching.store.records(project.parts.server) if record.stage != "collected"]
    else:
        chosen = [batching.record(batch)]
    watch = BatchWatch(StatusTeller(), on_warning=_warn)
    counts = {"batches": 0, "answered": 0, "failed": 0}
    failures: list[ClaudeForceError] = []
    for record in chosen:
        try:
            answers = run_now(batching.see_through(outside, record.id, watch)).values()
        except ClaudeForceError as error:
            if batch is not None or error.is_terminal:
                raise
            note(f"{record.batch_id or record.id} is not collected: {error}", kind="error")  # the others may be
            failures.append(error)
            continue
        failed = [answer for answer in answers if isinstance(answer, ClaudeForceError)]
        failures += failed
        counts["batches"] += 1
        counts["answered"] += len(answers) - len(failed)
        counts["failed"] += len(failed)
    return counts, next(iter(failures), None)


def _is_same(output: Path, tasks_file: str) -> bool:
    try:
        return output.samefile(tasks_file)
    except OSError:  # one of them is not there yet, or cannot be read, which is said later
        return False


def _content(tasks_file: str) -> bytes:
    if tasks_file == "-":
        if sys.stdin is None:
            raise TasksFileError("standard input is closed, so there are no tasks; give a file")
        return sys.stdin.buffer.read()
    try:
        return Path(tasks_file).read_bytes()
    except OSError as error:
        said = f"cannot read {tasks_file!r}: {error.strerror}; give a file with one JSON value a line"
        raise TasksFileError(said, path=tasks_file) from error


def _print(line: ResultLine) -> None:
    print_json_line(line.to_json())


# ---------------------------------------------------------------- the cache


def _missing(project: Project, tasks: list[FileTask]) -> list[FileTask]:
    """The tasks without an answer in the cache. Raises `InputError` or `CacheError` where none would be kept."""
    cache = project.parts.cache
    if cache is None:
        raise InputError("the cache is off, so no answer would be kept; set cache.enabled and features.cache_enabled")
    for task in tasks:
        if task.call.agent_name in project.cache.exclude_agents:
            name = task.call.agent_name
            raise InputError(f"answers of {name!r} are not kept (line {task.number}); see cache.exclude_agents")
    figures = project.cache.get_stats()
    if not figures["on_disk"]:
        place = figures["path"]
        raise CacheError(f"no answer can be kept in {place!r}; `claude-force doctor` says why", path=place)
    return [task for task in tasks if cache.find(task.key, agent=task.call.agent_name, counts=False) is None]


# ---------------------------------------------------------------- what is said


def _say_start(tally: Tally, tasks: list[FileTask], results: ResultsFile | None) -> None:
    if results is None:
        return
    if tally.before:
        note(f"{tally.before} of {len(tasks)} tasks are done already; {tally.total} are asked")
    asked = {task.hash for task in tasks}
    if others := sum(status == "done" for key, status in results.known.items() if key not in asked):
        note(
            f"{str(results.path)!r} holds {others} answer(s) to something else, or to tasks whose line, agent, files or"
            " options have changed since; they stay there"
        )


@contextmanager
def _told(tally: Tally, output: Path | None) -> Iterator[None]:
    """Whatever ends the batch, the user hears how far it came, and how to go on."""
    try:
        yield
    finally:
        _say_end(tally, output)


def _say_failure(tally: Tally) -> None:
    if tally.simulated:
        note("simulated: no model was asked, nothing was paid")
    if (failure := tally.first_failure) is not None and failure.error is not None:
        note(f"line {failure.number}: {failure.error.type}: {failure.error.message}", kind="error")
    if (unsent := tally.over_budget) is not None and unsent.error is not None:
        note(f"line {unsent.number}: {unsent.error.type}: {unsent.error.message}", kind="error")
    if tally.ending is not None:
        note("that error would meet every task, so nothing more was sent", kind="error")


def _say_end(tally: Tally, output: Path | None) -> None:
    _say_failure(tally)
    done = f"{tally.done} done" + (f" and {tally.before} before" if tally.before else "")
    missing = tally.total - tally.done - tally.failed
    seconds = time.monotonic() - tally.started
    say_caching(tally.prompt_caching)
    say_savings(tally.savings, is_simulated=bool(tally.simulated))
    note(f"{done}, {tally.failed} failed, {missing} not run, {tally.cost()}, {seconds:.1f} s", kind="done")
    if tally.done < tally.total:
        note(
            f"the same command goes on: it asks again for all that is not done in {str(output)!r}"
            if output is not None
            else "with --output FILE, the same command could go on from here"
        )


def _say_warmed(tally: Tally, given: int) -> None:
    _say_failure(tally)
    facts = _warmed(tally, given)
    say_caching(tally.prompt_caching)
    say_savings(tally.savings, is_simulated=bool(tally.simulated))
    counts = "{kept} were kept already, {asked} asked, {failed} failed, {not_run} not run".format_map(facts)
    note(f"{counts}, {tally.cost()}", kind="done")


def _warmed(tally: Tally, given: int) -> dict[str, Any]:
    """What became of the tasks; those that failed are among those that were asked."""
    facts = _facts(tally) | {"not_run": tally.total - tally.done - tally.failed}
    del facts["done"], facts["done_before"]
    return {"kept": tally.before + given, "asked": tally.done - given + tally.failed} | facts


def _facts(tally: Tally) -> dict[str, Any]:
    """The summary for a machine."""
    return {
        "done": tally.done,
        "done_before": tally.before,
        "failed": tally.failed,
        "not_run": tally.not_run,
        "retries": tally.retries,
        "cost_usd": float(tally.cost_usd),
        "unpriced": tally.unpriced,
        "prompt_caching": tally.prompt_caching.to_dict(),
        "simulated": tally.simulated,
        "duration_s": round(time.monotonic() - tally.started, 3),
        "exit_code": tally.exit_code,
        "error": tally.ending or next((line.error for line in (tally.over_budget, tally.first_failure) if line), None),
    }
