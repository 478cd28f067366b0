"""`claude-force agents`: what can be called, what it says, and what is wrong with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from msgspec.structs import asdict

from claude_force.apps.collection import (
    collection_options,
    conflicts,
    counted,
    note_problems,
    show_one,
    shown,
    validate_collection,
    write_imported,
)
from claude_force.apps.commands.execute import complete_agent
from claude_force.apps.console import config_option, example, harmless, json_option, note, print_json, print_table
from claude_force.apps.stdin import read_stdin
from claude_force.base.briefing import NO_SKILLS
from claude_force.base.config import current_folder, load_settings
from claude_force.engine.briefing import brief
from claude_force.insight.estimate import tokens_of
from claude_force.library.collection import AGENTS, Problem
from claude_force.library.fields import first_sentence
from claude_force.library.importing import Layout, imported
from claude_force.library.project import agent_library, briefed_agents
from claude_force.library.repair import Repaired
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_force.base.records import AgentDefinition
    from claude_force.semantic_selector import Explanation


@click.group()
def command() -> None:
    """See and check the agents that can be called."""


@command.command("list", epilog=example("claude-force agents list --json | python -m json.tool"))
@config_option
@json_option
def list_(config_path: Path | None, as_json: bool) -> None:
    """List the agents of the config, the project and the user."""
    library = agent_library(load_settings(config_path), start=current_folder())
    agents = library.load_all()
    if as_json:
        print_json([_facts(agent) for agent in agents])
        return
    rows = [(agent.name, agent.model or "default", agent.source, first_sentence(agent.description)) for agent in agents]
    print_table(("agent", "model", "from", "when to call it"), rows)
    if not agents:
        note("no agents here; `claude-force init` writes a starter set, or put files into .claude/agents")
    if problems := library.problems():
        note(f"{len(problems)} file(s) cannot be used; `claude-force agents validate` says why", kind="warning")


@command.command(epilog=example("claude-force agents show python-expert"))
@click.argument("agent", shell_complete=complete_agent, help="The agent's name.")
@config_option
@json_option
def show(agent: str, config_path: Path | None, as_json: bool) -> None:
    """Show one agent: its settings, where it comes from, and its prompt."""
    settings = load_settings(config_path)
    found = briefed_agents(settings, start=current_folder()).find(agent)
    told = brief(found, settings.config, task="", materials=(), given=NO_SKILLS, project_context=None)
    context = {"files": list(told.context_names), "tokens": tokens_of(*told.system[:-1])}
    if as_json:
        print_json(_facts(found) | {"context": context, "prompt": found.prompt})
        return
    facts = _facts(found)
    if told.context_names:
        facts["context"] = f"{', '.join(told.context_names)} ({context['tokens']:,} tokens)"
    show_one(facts, (*found.warnings, *told.warnings), found.prompt)


@command.command(
    epilog=example(
        "claude-force agents validate drafts/ --strict",
        "claude-force agents validate drafts/ --fix --output repaired/",
    )
)
@collection_options
@config_option
@json_option
def validate(
    paths: tuple[Path, ...], strict: bool, fix: bool, output: Path | None, config_path: Path | None, as_json: bool
) -> None:
    """Check every agent file: what cannot be used, what had to be repaired, what is hidden.

    The exit code is 1 if a file cannot be used; warnings alone are fine, unless --strict is given.

    With --fix, nothing is changed in place: the copy has every agent that can be used, its text byte for byte.
    """
    code = validate_collection(
        paths,
        AGENTS,
        lambda: agent_library(load_settings(config_path), start=current_folder()),
        strict=strict,
        fix=fix,
        output=output,
        as_json=as_json,
    )
    raise SystemExit(code)


@command.command(epilog=example('claude-force agents recommend "our tests are flaky" --explain'))
@click.argument("task", help="What is to be done; `-` reads it from standard input.")
@click.option("--top-k", type=click.IntRange(min=1), default=3, show_default=True, help="So many, at most.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    help="Each that is at least so likely the right one. [default: none where probably none fits]",
)
@click.option("--explain", is_flag=True, help="Say what speaks for each, of the nearest also where none fits.")
@config_option
@json_option
def recommend(
    *, task: str, top_k: int, min_confidence: float | None, explain: bool, config_path: Path | None, as_json: bool
) -> None:
    """Say which agents fit a task, how likely each is the right one, and why."""
    selector = Project(config_path).selector
    task = read_stdin() if task == "-" else task
    matches = selector.select_agents(task, top_k, min_confidence=min_confidence)
    if explain:
        nearest = matches or selector.select_agents(task, top_k, min_confidence=0)
        found = [selector.explain_selection(task, match.agent_name) for match in nearest]
        if as_json:
            print_json({"method": selector.method, "fits": bool(matches), "agents": found})
            return
        note(selector.method, kind="by")
        for explanation in found:
            click.echo("\n".join(_explained(explanation)))
    elif as_json:
        print_json(matches)
        return
    else:
        rows = [(match.agent_name, f"{match.confidence:.2f}", "; ".join(match.reasons)) for match in matches]
        print_table(("agent", "confidence", "why"), rows)
    if not matches:
        note("probably none of the agents fits this task; --min-confidence 0 gives the nearest")


def _explained(explanation: "Explanation") -> "Iterator[str]":
    """Evidence, the most first, a line each."""
    place = f"{explanation.rank} of {explanation.agents}"
    yield harmless(
        f"{explanation.agent_name}  {explanation.confidence:.2f}  {place}, evidence {explanation.evidence:.2f}"
    )
    for word, evidence in explanation.words.items():
        yield f"  {evidence:5.2f}  the word {harmless(word)}"
    for rest, what in ((explanation.meaning, "meaning"), (explanation.history, "history")):
        if rest:
            yield f"  {rest:5.2f}  {what}"


@command.command(
    "import",
    epilog=example(
        "claude-force agents import prompts/ --dry-run",
        "claude-force agents import ../old-project --from claude-force-v2",
    ),
)
@click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where the files are now."
)
@click.option(
    "--to",
    "target",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".claude", "agents"),
    show_default=True,
    help="Where the agents go.",
)
@click.option(
    "--from",
    "layout",
    type=click.Choice(get_args(Layout)),
    default="plain",
    show_default=True,
    help="How the files are kept now.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be written; write nothing.")
@click.option("--force", is_flag=True, help="Replace files that are there and differ.")
@json_option
def import_(folder: Path, target: Path, layout: Layout, dry_run: bool, force: bool, as_json: bool) -> None:
    """Make agents of Markdown files: each gets a front matter with a name and a description.

    The name is made of the file's name or its heading, the description is its first sentence; its text stays as it is.

    Where something is in the way, nothing is written; the exit code is 1 then, and if a file makes no agent.
    """
    results = list(counted(imported(folder, layout), "files"))
    agents = [result for result in results if isinstance(result, Repaired)]
    problems = [result for result in results if isinstance(result, Problem)]
    in_the_way = conflicts(agents, target, force=force)
    written = 0 if dry_run or in_the_way else write_imported(agents, target, force=force)
    if as_json:
        places = [{"agent": agent.name, "from": agent.path, "to": target / f"{agent.name}.md"} for agent in agents]
        print_json({"written": written, "agents": places, "conflicts": in_the_way, "problems": problems})
    else:
        print_table(
            ("agent", "from", "to"), [(one.name, shown(one.path), shown(target / f"{one.name}.md")) for one in agents]
        )
        note_problems(in_the_way + problems)
        click.echo(f"{written} written, {len(in_the_way)} conflicts, {len(problems)} left out")
        if not results:
            note("no Markdown files there that could be agents", kind="warning")
    raise SystemExit(1 if in_the_way or problems else 0)


def _facts(agent: "AgentDefinition") -> dict[str, Any]:
    """All but what it is told, in JSON's types."""
    facts = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(agent).items()}
    return {name: value for name, value in facts.items() if name not in {"prompt", "briefing"}} | {
        "path": agent.path and str(agent.path)
    }
