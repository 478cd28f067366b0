"""`claude-force agents`: what can be called, what it says, and what is wrong with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import asdict

from claude_force.apps.commands.execute import complete_agent
from claude_force.apps.console import config_option, example, harmless, json_option, note, print_json, print_table
from claude_force.base.config import current_folder, load_settings
from claude_force.library.agents import AgentFolder, AgentLibrary
from claude_force.library.project import agent_library

if TYPE_CHECKING:
    from claude_force.base.records import AgentDefinition

# A hostile or a very broken tree can hold thousands; nobody reads them on a screen.
MOST_WARNINGS = 200


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
    rows = [(agent.name, agent.model or "default", agent.source, _first_sentence(agent)) for agent in agents]
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
    found = agent_library(load_settings(config_path), start=current_folder()).find(agent)
    if as_json:
        print_json(_facts(found) | {"prompt": found.prompt})
        return
    for name, value in _facts(found).items():
        if value not in (None, "", [], {}) and name != "warnings":
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            click.echo(f"{name}: {harmless(text)}")
    for warning in found.warnings:
        note(warning, kind="warning")
    click.echo(f"\n{harmless(found.prompt)}")


@command.command(epilog=example("claude-force agents validate .claude/agents"))
@click.argument(
    "folder",
    required=False,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Check the files of this folder instead.",
)
@config_option
@json_option
def validate(folder: Path | None, config_path: Path | None, as_json: bool) -> None:
    """Check every agent file: what cannot be used, what had to be repaired, what is hidden.

    The exit code is 1 if a file cannot be used; warnings alone are fine.
    """
    if folder is None:
        library = agent_library(load_settings(config_path), start=current_folder())
    else:
        library = AgentLibrary([AgentFolder(path=folder, source="project", root=folder)])
    agents, problems = library.load_all(), library.problems()
    warnings = [(agent, warning) for agent in agents for warning in agent.warnings]
    hidden = library.shadowed()
    if as_json:
        print_json(
            {
                "usable": [agent.name for agent in agents],
                "problems": [{"path": p.path, "line": p.line, "reason": p.reason} for p in problems],
                "warnings": [{"agent": agent.name, "path": agent.path, "warning": text} for agent, text in warnings],
                "hidden": [asdict(shadow) for shadow in hidden],
            }
        )
    else:
        for problem in problems:
            note(str(problem), kind="error")
        for agent, text in warnings[:MOST_WARNINGS]:
            note(f"{agent.path}: {text}", kind="warning")
        if len(warnings) > MOST_WARNINGS:
            note(f"and {len(warnings) - MOST_WARNINGS} more; --json has all of them", kind="warning")
        for shadow in hidden:
            note(str(shadow), kind="warning")
        if not agents and not problems:
            note("no agent files there; give a folder that holds some, such as .claude/agents", kind="warning")
        click.echo(f"{len(agents)} usable, {len(problems)} not, {len(warnings) + len(hidden)} warnings")
    raise SystemExit(1 if problems else 0)


def _facts(agent: "AgentDefinition") -> dict[str, Any]:
    """All but the prompt, in JSON's types."""
    facts = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(agent).items()}
    return {name: value for name, value in facts.items() if name != "prompt"} | {"path": agent.path and str(agent.path)}


def _first_sentence(agent: "AgentDefinition") -> str:
    """What fits into a table."""
    text = " ".join(agent.description.split())
    head, dot, _ = text.partition(". ")
    return head + dot.strip()
