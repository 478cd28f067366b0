"""`claude-force execute`: one agent, one task, and nothing but the answer on stdout. Many tasks: `apps.batch`."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, get_args

import click

from claude_force.apps.alerts import alerts_option
from claude_force.apps.auto_agent import choose_agent, is_auto
from claude_force.apps.console import (
    age,
    check_routing,
    completions,
    config_option,
    example,
    harmless,
    is_terminal,
    json_option,
    note,
    price,
    print_json,
    print_text,
    routing_options,
    say_choice,
    say_savings,
)
from claude_force.apps.schema_file import read_schema
from claude_force.apps.stdin import is_piped, read_stdin
from claude_force.apps.upkeep import roll_up_if_due
from claude_force.base.config import MAX_TIMEOUT_S, claude_folder, current_folder
from claude_force.base.errors import InputError, TaskError
from claude_force.base.records import Effort, Material
from claude_force.orchestrator import AgentOrchestrator, AgentTask, Project

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from claude_force.base.models import Tier
    from claude_force.base.records import AgentResult, Retry
    from claude_force.orchestrator import CallOptions


class _Call(TypedDict):
    """How the agent is asked, whatever the task."""

    model: str | None
    fallback_models: tuple[str, ...]
    skills: tuple[str, ...]
    no_project_context: bool
    effort: Effort | None
    max_tokens: int | None
    schema: str | None
    timeout_s: float | None
    attempt_timeout_s: float | None
    use_memory: bool | None
    no_cache: bool
    refresh: bool


class _Shown(TypedDict):
    """How a plan is made and shown."""

    max_cost_usd: float | None
    exact: bool
    as_json: bool


def complete_agent(_: click.Context, __: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Agents' file names: reading each file would be too slow for a key press."""
    folder = claude_folder(current_folder())
    return completions(sorted(path.stem for path in folder.glob("agents/**/*.md")) if folder else (), incomplete)


@click.command(
    epilog=example(
        'git diff | claude-force execute code-reviewer "Review this change." --model opus',
        'claude-force execute auto "our tests are flaky" --file tests/test_clock.py',
        "claude-force execute code-reviewer --tasks-file tasks.jsonl --output results.jsonl",
        """ls *.py | jq -R '{task: "Lint it.", files: .}' | claude-force execute linter --tasks-file -""",
    )
)
@click.argument(
    "agent",
    shell_complete=complete_agent,
    help="The agent's name; `agents list` shows them. `auto` is the one that fits the task.",
)
@click.argument("task", required=False, help="What to do; `-`, or nothing, reads it from standard input.")
@click.option("-f", "--file", "files", multiple=True, help="A text file that the task is about; may be repeated.")
@click.option("--model", help="haiku, sonnet, opus, fable, or a model's id.")
@click.option("--plan", "only_plans", is_flag=True, help="Say what it would do and cost; ask nothing.")
@click.option("--exact", is_flag=True, help="With --plan: have the API count the tokens, which is free.")
@routing_options
@click.option(
    "--fallback-model", "fallback_models", multiple=True, help="Asked where the model is overloaded; may be repeated."
)
@click.option(
    "--skill", "skills", multiple=True, help="Give this skill, NAME or NAME:FILE, whatever the task; may be repeated."
)
@click.option("--no-project-context", is_flag=True, help="Leave out what the project's CLAUDE.md files say.")
@click.option("--effort", type=click.Choice(get_args(Effort)), help="How hard the model should try.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="The most tokens of thinking and answer.")
@click.option("--schema", help="A JSON Schema file: the answer is JSON that fits it, or an error.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0, MAX_TIMEOUT_S, min_open=True), help="Seconds for the whole turn."
)
@click.option(
    "--attempt-timeout",
    "attempt_timeout_s",
    type=click.FloatRange(0, MAX_TIMEOUT_S, min_open=True),
    help="Seconds for each attempt of it.",
)
@click.option(
    "--tasks-file",
    type=click.Path(allow_dash=True),
    help="Do all tasks of this file, at once: one JSON string or object a line; `-` reads them from standard input.",
)
@click.option("--max-concurrent", type=click.IntRange(min=1), help="With --tasks-file: this many at once, at most.")
@click.option("--batch", is_flag=True, help="With --tasks-file: at half the price, in minutes or hours, as a batch.")
@click.option("--no-wait", is_flag=True, help="With --batch: send it, and leave; `batch collect` goes on.")
@click.option(
    "--live-fallback", is_flag=True, help="With --batch: ask at full price what the batch left without an answer."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --tasks-file: add a line for each result to this file, and leave out what is done in it already.",
)
@click.option(
    "--max-usd",
    "max_cost_usd",
    type=click.FloatRange(0, min_open=True),
    help="Never pay more: what could pass it is not sent, and the exit code is 4.",
)
@click.option("--use-memory/--no-memory", default=None, help="Recall what the agent did that is like it; keep the end.")
@click.option("--no-cache", is_flag=True, help="Ask, even if the same was answered before; keep nothing.")
@click.option("--refresh", is_flag=True, help="Ask, even if the same was answered before, and keep the new answer.")
@click.option("--async", "awaited", is_flag=True, help="Go through the async client.")
@click.option("--offline", is_flag=True, help="Ask the built-in simulator: no key, no cost, no real answer.")
@alerts_option
@config_option
@json_option
def command(
    agent: str,
    task: str | None,
    *,
    files: tuple[str, ...],
    only_plans: bool,
    exact: bool,
    auto_model: bool | None,
    min_tier: "Tier | None",
    max_tier: "Tier | None",
    tasks_file: str | None,
    max_concurrent: int | None,
    batch: bool,
    no_wait: bool,
    live_fallback: bool,
    output: Path | None,
    max_cost_usd: float | None,
    awaited: bool,
    offline: bool,
    config_path: Path | None,
    as_json: bool,
    **call: Unpack[_Call],
) -> None:
    """Run one agent on one task and print its answer.

    Text that is piped in is the task, or, where a task is given, material for it. On a terminal the answer appears as
    it is written.

    With --tasks-file, run it on many. Each result is a line of JSON, on standard output or in the --output file, and
    the same command goes on where an earlier one was stopped; with --json, a summary follows on standard output. An
    object may have the keys task, agent, id, files, model, effort and max_tokens.
    """
    if call["no_cache"] and call["refresh"]:
        raise click.UsageError("--refresh keeps the new answer, --no-cache does not; give one of them")
    _check_batch(
        is_batch=batch,
        waits=not no_wait,
        live_fallback=live_fallback,
        fits=tasks_file is not None and max_concurrent is None,
        only_plans=only_plans,
        offline=offline,
    )
    if exact and not only_plans:
        raise click.UsageError("--exact belongs to --plan; give that, too")
    if auto_model and call["model"] is not None:
        raise click.UsageError("--auto-model chooses the model, so it does not go with --model; leave one of them out")
    project = Project(
        config_path,
        offline=offline,
        max_cost_usd=max_cost_usd,
        auto_model=auto_model,
        min_tier=min_tier,
        max_tier=max_tier,
    )
    check_routing(project, min_tier, max_tier)
    options = _options(project, call)
    shown: _Shown = {"max_cost_usd": max_cost_usd, "exact": exact, "as_json": as_json}
    if tasks_file is None:
        if max_concurrent is not None or output is not None:
            raise click.UsageError("--max-concurrent and --output belong to --tasks-file; give that, too")
        options["files"] = files
        if only_plans:
            _plan(project, agent, task, options, **shown)
            return
        code = _execute(project, agent, task, options, awaited=awaited, as_json=as_json)
    else:
        from claude_force.apps.batch import (  # noqa: PLC0415 - one task does not pay for many
            BatchOptions,
            plan_tasks_file,
            run_tasks_file,
        )

        _check_tasks_file(project, agent, task)
        if only_plans:
            plan_tasks_file(project, tasks_file, agent=agent, output=output, files=files, options=options, **shown)
            return
        if as_json and output is None and not no_wait:
            text = "results are JSON already; --json adds a summary, which needs --output for the results"
            raise click.UsageError(text)
        code = run_tasks_file(
            project,
            tasks_file,
            agent=agent,
            output=output,
            files=files,
            options=options,
            max_concurrent=max_concurrent,
            as_json=as_json,
            batch=BatchOptions(waits=not no_wait, live_fallback=live_fallback) if batch else None,
        )
    roll_up_if_due(project)
    raise SystemExit(code)


def _options(project: Project, call: _Call) -> "CallOptions":
    """The same as a call of the orchestrator takes it."""
    return {
        "model": call["model"],
        "fallback_models": call["fallback_models"] or None,
        "effort": call["effort"],
        "max_tokens": call["max_tokens"],
        "timeout_seconds": call["timeout_s"],
        "attempt_timeout_seconds": call["attempt_timeout_s"],
        "use_memory": call["use_memory"],
        "use_cache": False if call["no_cache"] else "refresh" if call["refresh"] else None,
        "output_schema": None if call["schema"] is None else read_schema(call["schema"]),
        "skills": project.load_skills(call["skills"]),
        "project_context": False if call["no_project_context"] else None,
    }


def _check_tasks_file(project: Project, agent: str, task: str | None) -> None:
    """Whether the arguments go together with one."""
    if task is not None:
        raise click.UsageError("give a task or --tasks-file, not both")
    if is_auto(project, agent):
        raise click.UsageError("auto chooses for one task; name an agent here, and others in the lines of the file")


def _check_batch(
    *, is_batch: bool, waits: bool, live_fallback: bool, fits: bool, only_plans: bool, offline: bool
) -> None:
    """Whether the options of a batch go together."""
    if not is_batch:
        if live_fallback or not waits:
            raise click.UsageError("--no-wait and --live-fallback belong to --batch; give that, too")
        return
    if not fits:
        raise click.UsageError("--batch is for a --tasks-file, of which it sends all at once, without --max-concurrent")
    if only_plans:
        raise click.UsageError("--plan is about ordinary calls, and says what a batch would save; leave --batch out")
    if not waits and live_fallback:
        raise click.UsageError("who does not wait hears of no answer that is missing; leave --live-fallback out")
    if not waits and offline:
        raise click.UsageError("the built-in simulator ends with the command, so wait for it: leave --no-wait out")


def _execute(
    project: Project, agent: str, task: str | None, options: "CallOptions", *, awaited: bool, as_json: bool
) -> int:
    """One task: the answer on stdout, all else on stderr; gives the exit code."""
    task, options["materials"] = _from_stdin(task)
    if sys.stdout is None:
        raise InputError("standard output is closed, so the answer would be lost; redirect it to a file")
    match = choose_agent(project, task) if is_auto(project, agent) else None
    agent = match.agent_name if match else agent
    streams = is_terminal(sys.stdout) and not as_json
    screen = _Screen()
    options["on_text"] = screen.show if streams else None
    options["on_retry"] = screen.say_retry
    options["on_warning"] = partial(note, kind="warning")
    if project.auto_model:
        _say_model(project, agent, task, options)
    try:
        with AgentOrchestrator.of(project) as orchestrator:
            result = _run(orchestrator, agent, task, options, awaited=awaited)
    finally:
        screen.end_line()
    if as_json:
        print_json(result.to_dict() | ({"selection": match} if match else {}))
    elif not streams:
        print_text(result)
    _say_summary(result)
    if not result.is_whole:
        note(f"the answer is not whole ({result.stop_reason}); raise --max-tokens or give less material", kind="error")
        return 1
    return 0


def _plan(project: Project, agent: str, task: str | None, options: "CallOptions", **shown: Unpack[_Shown]) -> None:
    from claude_force.apps.task_plan import PlannedTask, plan_tasks  # noqa: PLC0415 - few calls are only planned

    text, options["materials"] = _from_stdin(task)
    agent = choose_agent(project, text).agent_name if is_auto(project, agent) else agent
    plan_tasks(project, [PlannedTask(1, None, AgentTask(agent, text))], options, **shown)


def _say_model(project: Project, agent: str, task: str, options: "CallOptions") -> None:
    """The model that will be asked, and why, on stderr."""
    from claude_force.hybrid_orchestrator import HybridOrchestrator  # noqa: PLC0415 - most calls need no router

    say_choice(HybridOrchestrator.of(project).recommend_model(task, agent, **options))


def _run(
    orchestrator: AgentOrchestrator, agent: str, task: str, options: "CallOptions", *, awaited: bool
) -> "AgentResult":
    if not awaited:
        return orchestrator.execute_agent(agent, task, **options)
    import asyncio  # noqa: PLC0415 - only --async pays for it

    return asyncio.run(orchestrator.execute_agent_async(agent, task, **options))


def _from_stdin(task: str | None) -> tuple[str, list[Material]]:
    """The task and the material that standard input adds to it."""
    if task is not None and task != "-":
        piped = read_stdin() if is_piped() else ""
        if not piped.strip():
            return task, []
        note(f"{len(piped):,} characters of standard input are material for the task; < /dev/null gives none")
        return task, [Material("stdin", piped, kind="input")]
    if sys.stdin is None or (task is None and sys.stdin.isatty()):
        raise TaskError("no task is given; write it after the agent's name, or pipe it in")
    return read_stdin(), []


class _Screen:
    """A terminal on which the answer appears piece by piece, and notes never in the middle of a line."""

    def __init__(self) -> None:
        self._in_line = False

    def show(self, text: str) -> None:
        """The next piece of the answer."""
        click.echo(harmless(text), nl=False)
        self._in_line = not text.endswith("\n")

    def end_line(self) -> None:
        """What comes next starts on a line of its own."""
        if self._in_line:
            click.echo()
            self._in_line = False

    def say_retry(self, retry: "Retry") -> None:
        """Another attempt will be made."""
        self.end_line()
        note(f"attempt {retry.attempt} of {retry.max_attempts}: {retry.error}; again in {retry.wait_s:.1f} s")


def _say_summary(result: "AgentResult") -> None:
    if result.simulated:
        note("simulated: no model was asked, nothing was paid")
    if result.cached:
        note(_cached(result))
        return
    if not is_terminal(sys.stderr):
        return
    tokens = "tokens unknown"
    if result.usage is not None:
        tokens = f"{result.usage.prompt_tokens:,} in, {result.usage.output_tokens:,} out"
    cost = price(result.cost_usd)
    cost = f"would cost {cost}" if result.simulated and result.cost_usd is not None else cost
    say_savings(result.savings, is_simulated=result.simulated)
    note(f"{result.model}, {tokens}, {cost}, {result.duration_ms / 1000:.1f} s", kind="done")


def _cached(result: "AgentResult") -> str:
    saved = "" if result.saved_usd is None or result.simulated else f", saved ${result.saved_usd:.4f}"
    return f"cached, {age(result.cache_age_seconds or 0.0)} old{saved}"
