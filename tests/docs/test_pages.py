"""The pages are true: links lead somewhere, what is generated is fresh, and reference pages leave nothing out."""

import importlib.util
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import click
import msgspec
import pytest

import claude_force
from claude_force.base import errors
from claude_force.base.config import Config
from claude_force.engine import breaker
from claude_force.library import definition, disk, fields, frontmatter
from claude_force.orchestrator import Face, WorkflowOptions
from claude_force.performance_tracker import ExecutionLine

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^ *(```+).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `([^`]+)` \| [^|]+ \| (?:`(.*?)`|required) \|", re.MULTILINE)


def load_generator() -> Any:
    """`docs/generate.py`, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()
COMMANDS = [pytest.param(path, command, id=path) for path, command, _ in generate.walk_commands()]


def read(name: str) -> str:
    """The text of a page."""
    return (ROOT / name).read_text(encoding="utf-8")


# ---------------------------------------------------------------- links


def pages() -> list[Path]:
    """Every Markdown file that people write here."""
    folders = ("docs", ".claude", ".github")
    return sorted([*ROOT.glob("*.md"), *(page for folder in folders for page in (ROOT / folder).rglob("*.md"))])


def prose(page: Path) -> str:
    """A page without its blocks: what stands in them is no link and no heading."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ +(.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    """Every link to a file of this repository leads to one, and to a heading that is there."""
    for link in LINK.findall(re.sub(r"`[^`\n]+`", "code", prose(page))):
        if not re.match(r"\w+:", link):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


# ---------------------------------------------------------------- generated


@pytest.mark.parametrize("name", generate.generated())
def test_generated_files_are_fresh(name: str) -> None:
    """What is made from the code is as the code is; `python docs/generate.py` makes it anew."""
    assert generate.made(name) == read(name), f"{name} is stale: run `python docs/generate.py`"


# ---------------------------------------------------------------- reference pages leave nothing out


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_commands(path: str, command: click.Command) -> None:
    """Every command says what it does, shows an example, and is in the reference."""
    assert command.help
    assert isinstance(command, click.Group) or "Example" in (command.epilog or "")
    assert f"\n## {path}\n" in read("docs/reference/cli.md")


def keys(kind: Any = Config, path: str = "") -> Iterator[tuple[str, str]]:
    """Every key of the configuration, with its default as JSON; nothing where it is required."""
    for field in msgspec.structs.fields(kind):
        where = f"{path}{field.encode_name}"
        inner = msgspec.inspect.type_info(field.type)
        if isinstance(inner, msgspec.inspect.StructType):
            yield from keys(inner.cls, f"{where}.")
            continue
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        if isinstance(inner, msgspec.inspect.ListType) and isinstance(inner.item_type, msgspec.inspect.StructType):
            yield where, "[...]"
            yield from keys(inner.item_type.cls, f"{where}[].")
            continue
        yield where, "" if field.required else json.dumps(default)
        if isinstance(inner, msgspec.inspect.DictType) and isinstance(inner.value_type, msgspec.inspect.StructType):
            name = "NAME" if where == "agents" else "MODEL"
            yield from keys(inner.value_type.cls, f"{where}.{name}.")


def test_configuration() -> None:
    """Every key of `claude.json` is in the reference with its default, and no other."""
    assert sorted(ROW.findall(read("docs/reference/configuration.md"))) == sorted(keys())


def test_default_alerts() -> None:
    """The rules that apply without any in the config are those of the reference."""
    (shown,) = re.findall(
        r"^## Alerts.*?```json\n(.*?)```", read("docs/reference/configuration.md"), re.MULTILINE | re.DOTALL
    )
    assert msgspec.json.decode(shown, type=Config).alerts == Config().alerts


def parameters() -> set[str]:
    """What can be given to an orchestrator and to `execute_agent`."""
    awaited = claude_force.AsyncAgentOrchestrator
    methods = (claude_force.AgentOrchestrator, claude_force.AgentOrchestrator.execute_agent, awaited)
    return {name for method in methods for name in inspect.signature(method).parameters} - {"self"}


def members(kind: type) -> set[str]:
    """What a class offers."""
    return {name for name in vars(kind) if not name.startswith("_")}


_UNKNOWN = dict.fromkeys(("UseCache", "OnEvent"), object)
NAMES = {
    "the public names": set(claude_force.__all__) - {"__version__"},
    "the parameters": parameters(),
    "the fields of a result": set(claude_force.AgentResult.__slots__) | {"is_whole", "to_dict"},
    "the fields of usage": set(claude_force.Usage.__slots__) | {"prompt_tokens", "total_tokens"},
    "the members of an orchestrator": members(claude_force.AgentOrchestrator) | members(Face),
    "the members of the async face": members(claude_force.AsyncAgentOrchestrator) - {"of", "max_concurrent"},
    "the members of a dag": members(claude_force.WorkflowDAG),
    "the options of a run": {"on_error", *get_type_hints(WorkflowOptions, localns=_UNKNOWN)},
    "the fields of a workflow's result": members(claude_force.WorkflowResult),
    "the fields of a step's result": members(claude_force.StepResult),
    "the fields of an event": members(claude_force.RunEvent),
    "the parameters of a breaker": set(inspect.signature(breaker.CircuitBreaker).parameters),
    "the members of a breaker": (members(breaker.CircuitBreaker) | members(breaker.Snapshot)) - {"settle"},
    "the members of a permit": members(breaker.Permit) - {"entry"},  # what only breaker and permit tell each other
    "the members of the cache": members(claude_force.ResponseCache),
    "the parameters of the cache": set(inspect.signature(claude_force.ResponseCache).parameters),
    "the fields of an entry": set(claude_force.CacheEntry.__struct_fields__),
    "the fields of a check": {*claude_force.CacheCheck.__struct_fields__, "is_clean"},
    "the figures of the cache": set(claude_force.ResponseCache(enabled=False).get_stats()),
    "the members of a memory": members(claude_force.AgentMemory),
    "the members of a skills manager": members(claude_force.ProgressiveSkillsManager),
    "the fields of a skill": set(claude_force.Skill.__struct_fields__) | {"summary"},
    "the fields of a choice of skills": set(claude_force.SkillChoice.__struct_fields__),
    "the fields of a session": set(claude_force.Session.__struct_fields__),
    "the fields of a line": set(ExecutionLine.__struct_fields__),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_python(names: set[str]) -> None:
    """Every public name is in the reference."""
    words = set(re.findall(r"\w+", read("docs/reference/python.md")))
    assert sorted(names - words) == []


def test_agent_fields() -> None:
    """Every field that an agent file can have is on the page about agent files."""
    words = set(re.findall(r"`(\w+)`", read("docs/how-to/agents.md")))
    assert sorted(set(definition._FIELDS) - words) == []


LIMITS = {
    "body": f"{definition.MAX_BODY_CHARS:,} characters",
    "file": f"{frontmatter.MAX_FILE_BYTES:,} bytes",
    "front matter": f"{frontmatter.MAX_FRONT_MATTER_CHARS:,} characters, {frontmatter.MAX_DEPTH} levels",
    "name": f"{definition.MAX_NAME_CHARS} characters | error; a warning from {definition.USUAL_NAME_CHARS} |",
    "description": f"{fields.USUAL_DESCRIPTION_CHARS:,} characters",
    "tree": f"{disk.MAX_FILES:,} agent files, {disk.MAX_FOLDERS:,} folders",
}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_agent_limits(limit: str) -> None:
    """The limits on the page about agent files are those of the code."""
    assert limit in read("docs/how-to/agents.md")


BRANCHES = {errors.ClaudeForceError, errors.AgentError, errors.SkillError, errors.ApiError, errors.AnswerError}
"""Of which only what is below them is raised."""


def test_troubleshooting() -> None:
    """Every error that is raised is on the page about trouble, once, with what a command exits with."""
    rows = re.findall(r"^\| `(\w+Error)` \| (\d) \| .+ \|$", read("docs/how-to/troubleshooting.md"), re.MULTILINE)
    kinds = set(generate._family(errors.ClaudeForceError)) - BRANCHES
    assert sorted(rows) == sorted((kind.__name__, str(kind.exit_code)) for kind in kinds)
