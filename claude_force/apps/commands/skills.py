"""`claude-force skills`: what there is, what it says, what is wrong with it, and what choosing by task saves."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import asdict

from claude_force.apps.collection import collection_options, show_one, validate_collection
from claude_force.apps.commands.execute import complete_agent
from claude_force.apps.console import (
    beginning,
    completions,
    config_option,
    example,
    json_option,
    note,
    print_json,
    print_table,
    print_text,
)
from claude_force.base.config import current_folder
from claude_force.insight.estimate import tokens_of
from claude_force.library.collection import SKILLS
from claude_force.library.project import skill_library
from claude_force.library.skills import read_resource, resources_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from claude_force.base.briefing import Skill


def complete_skill(_: click.Context, __: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Skills' names."""
    return completions((skill.name for skill in skill_library(current_folder()).load_all()), incomplete)


@click.group()
def command() -> None:
    """See and check skills, and what choosing them by task saves."""


@command.command("list", epilog=example("claude-force skills list"))
@json_option
def list_(as_json: bool) -> None:
    """List the skills of the project and the user."""
    library = skill_library(current_folder())
    skills = library.load_all()
    if as_json:
        print_json([_facts(skill) for skill in skills])
        return
    rows = [(skill.name, f"{tokens_of(skill.body):,}", skill.source, beginning(skill.summary)) for skill in skills]
    print_table(("skill", "tokens", "from", "what it is about"), rows)
    if not skills:
        note("no skills here; `claude-force init` writes a starter set, or put folders into .claude/skills")
    if problems := library.problems():
        note(f"{len(problems)} skill(s) cannot be used; `claude-force skills validate` says why", kind="warning")


@command.command(
    epilog=example(
        "claude-force skills show sql-review",
        "claude-force skills show sql-review --resource references/postgresql-locks.md",
    )
)
@click.argument("skill", shell_complete=complete_skill, help="The skill's name.")
@click.option("--resource", help="Print this file of the skill's folder instead.")
@json_option
def show(skill: str, resource: str | None, as_json: bool) -> None:
    """Show one skill: its settings, its files, and its text. Nothing of it is run."""
    found = skill_library(current_folder()).find(skill)
    if resource is not None:
        read = read_resource(found, resource)
        if as_json:
            print_json(read)
        else:
            print_text(read.text)
        return
    facts = _facts(found) | {"resources": resources_of(found)}
    if as_json:
        print_json(facts | {"body": found.body})
        return
    show_one(facts, found.warnings, found.body)


@command.command(
    epilog=example(
        "claude-force skills validate --json", "claude-force skills validate drafts/ --fix --output repaired/"
    )
)
@collection_options
@json_option
def validate(paths: tuple[Path, ...], strict: bool, fix: bool, output: Path | None, as_json: bool) -> None:
    """Check every skill: what cannot be used, what is not as the standard has it, what is hidden.

    The exit code is 1 if a skill cannot be used; warnings alone are fine, unless --strict is given.

    With --fix, nothing is changed in place: the copy has every SKILL.md that can be used, its text byte for byte.
    """
    code = validate_collection(
        paths,
        SKILLS,
        lambda: skill_library(current_folder()),
        strict=strict,
        fix=fix,
        output=output,
        as_json=as_json,
    )
    raise SystemExit(code)


@command.command(epilog=example('claude-force skills report code-reviewer "Is this migration safe?" -f 0042.sql'))
@click.argument("agent", shell_complete=complete_agent, help="The agent whose skills it is about.")
@click.argument("task", help="What it would be asked.")
@click.option("-f", "--file", "files", multiple=True, help="A text file that the task is about; may be repeated.")
@click.option("--exact", is_flag=True, help="Have the API count the tokens, which is free.")
@click.option("--offline", is_flag=True, help="With --exact: the built-in simulator counts.")
@config_option
@json_option
def report(
    agent: str,
    task: str,
    files: tuple[str, ...],
    exact: bool,
    offline: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Say which of an agent's skills a task needs, and what that saves against giving it all of them."""
    from claude_force.apps.plan_view import count_prompts  # noqa: PLC0415 - the other commands send nothing
    from claude_force.insight.skills import compare  # noqa: PLC0415
    from claude_force.orchestrator import Project  # noqa: PLC0415

    project = Project(config_path, offline=offline)
    found = compare(project.parts, project.asked(agent, task, {"files": files}), project.parts.agents.find(agent))
    seen = found.report(agent, count_prompts(project, found.keyed()) if exact else {})
    for warning in seen.warnings:
        note(warning, kind="warning")
    if as_json:
        print_json(seen.to_dict())
        return
    rows = [
        (
            choice.name,
            "in full" if choice.is_chosen else "named",
            f"{seen.skill_tokens[choice.name]:,}",
            "; ".join(choice.reasons),
        )
        for choice in seen.choices
    ]
    print_table(("skill", "given", "tokens", "why"), rows)
    if not rows:
        note(f"the file of {agent!r} names no skills; add 'skills: [...]' to its front matter", kind="warning")
    click.echo(f"all     {seen.all_tokens:,} tokens")
    click.echo(f"chosen  {seen.chosen_tokens:,} tokens")
    click.echo(f"saved   {seen.saved_tokens:,} tokens ({seen.saved_share:.0%} of the prompt)")
    if project.settings.config.preload_skills:
        note("preload_skills is true, so all of them are given; set it to false to save that")


def _facts(skill: "Skill") -> dict[str, Any]:
    """All but the body, in JSON's types."""
    facts = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(skill).items()}
    del facts["body"]
    return facts | {"path": str(skill.path), "tokens": tokens_of(skill.body)}
