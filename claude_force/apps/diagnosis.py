"""What `claude-force doctor` finds: what is there, what is wrong, and how to mend it."""

import os
import platform
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from claude_force import __version__
from claude_force.base.config import server_url
from claude_force.base.endpoints import DEFAULT_ENDPOINT, in_use
from claude_force.base.errors import ConfigError
from claude_force.engine.briefing import context_block
from claude_force.insight.estimate import tokens_of
from claude_force.insight.health import Check, Status, check_config, check_credentials, check_folder, check_shared
from claude_force.library.project import agent_library, project_context, skill_library
from claude_force.performance_tracker import metrics_folder
from claude_force.response_cache import ResponseCache
from claude_force.semantic_selector import SemanticSelector
from claude_force.stores.entries import StoreAwayError
from claude_force.stores.redis import RedisServer
from claude_force.stores.secret import VARIABLE, own_secrets, secret_path

if TYPE_CHECKING:
    from claude_force.base.config import Settings

State = Literal["ok", "warning", "error"]


class Finding(NamedTuple):
    """One line of the diagnosis."""

    subject: str
    state: State
    detail: str
    fix: str = ""


def diagnose(config_path: Path | None, *, start: Path) -> Iterator[Finding]:
    """Look at everything that a run needs; changes nothing, and asks no server but that of the cache."""
    yield from _versions()
    settings, config = check_config(config_path, start=start)
    yield _finding(config)
    yield from _agents(settings, start)
    yield from _skills(start)
    yield from _context(settings, start)
    yield from _cache_server(settings)
    yield Finding("selection", "ok", f"by {SemanticSelector(config_path, project_dir=start).method}")
    yield from _ways(settings)
    yield _finding(check_folder("metrics", metrics_folder(start)))
    yield _secret()
    if (shared := check_shared(settings)) is not None:
        yield _finding(shared)


_STATES: dict[Status, State] = {"ok": "ok", "degraded": "warning", "failing": "error"}


def _ways(settings: "Settings") -> Iterator[Finding]:
    """How Claude is reached."""
    used, named = in_use(settings.config.endpoints, os.environ), settings.config.endpoints
    yield from map(_finding, map(check_credentials, used or [DEFAULT_ENDPOINT]))
    if named and not used:
        detail = f"{', '.join(each.name for each in named)}: not in use, as ANTHROPIC_BASE_URL says where Claude is"
        yield Finding("endpoints", "warning", detail, "unset it to use them")


def _finding(check: Check) -> Finding:
    """What a health check found, too."""
    return Finding(check.name, _STATES[check.status], check.detail, check.fix)


def _versions() -> Iterator[Finding]:
    yield Finding(
        "version", "ok", f"claude-force {__version__}, Python {platform.python_version()} on {platform.system()}"
    )
    for package in ("anthropic", "genai-prices"):
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(package, "error", "not installed", "pip install --force-reinstall claude-force")


def _agents(settings: "Settings", start: Path) -> Iterator[Finding]:
    library = agent_library(settings, start=start)
    agents, problems = library.load_all(), library.problems()
    if not agents:
        yield Finding("agents", "warning", "none found", "`claude-force init` writes a starter set")
    else:
        warned = sum(bool(agent.warnings) for agent in agents)
        detail = f"{len(agents)} found" + (f", {warned} with warnings" if warned else "")
        yield Finding("agents", "ok", detail, "`claude-force agents validate` lists the warnings" if warned else "")
    for problem in problems:
        yield Finding("agents", "error", str(problem), "mend or remove the file")


def _cache_server(settings: "Settings") -> Iterator[Finding]:
    """Whether the server answers that keeps answers for many machines, where there is one."""
    url = server_url(settings.config, "cache.url", os.environ)
    if url is None:
        return
    try:
        ResponseCache(url=url).close()  # whether there is a secret
        with closing(RedisServer(url)) as server:
            problem = server.unbounded()
    except ConfigError as error:
        yield Finding("cache", "error", str(error))
    except StoreAwayError as error:
        yield Finding("cache", "warning", str(error), "until it does, each machine pays for its own answers")
    else:
        yield Finding("cache", "warning" if problem else "ok", problem or f"on {server.shown}")


def _secret() -> Finding:
    """Whether what is kept can be signed."""
    path, is_given = secret_path(), bool(os.environ.get(VARIABLE))
    try:
        if is_given or os.path.lexists(path):  # or it would be made
            own_secrets(os.environ)
            return Finding("secret", "ok", f"from {VARIABLE if is_given else path}")
    except ConfigError as error:  # with a bad one of the environment nothing runs; else nothing is kept
        return Finding("secret", "error" if is_given else "warning", str(error))
    folder = check_folder("secret", path.parent)
    if folder.fix:
        return Finding("secret", "warning", folder.detail, f"{folder.fix}, or set {VARIABLE}")
    return Finding("secret", "ok", f"{path} is made when it is needed")


def _skills(start: Path) -> Iterator[Finding]:
    library = skill_library(start)
    if skills := library.load_all():
        yield Finding("skills", "ok", f"{len(skills)} found")
    for problem in library.problems():
        yield Finding("skills", "error", str(problem), "mend or remove the file")


def _context(settings: "Settings", start: Path) -> Iterator[Finding]:
    """What the project says to its agents."""
    found = project_context(start)
    if not settings.config.project_context:
        yield Finding("context", "ok", "switched off by project_context")
        return
    if found.files:
        names, tokens = ", ".join(file.name for file in found.files), tokens_of(context_block(found.files))
        yield Finding("context", "ok", f"{names}: about {tokens:,} tokens in each prompt")
    for warning in found.warnings:
        yield Finding("context", "warning", warning, "or set project_context to false")
