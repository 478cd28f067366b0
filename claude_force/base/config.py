"""The configuration: what `.claude/claude.json` may say, where it is looked for, and how an old one is upgraded.

- Which file? `--config` or `config_path`; else `.claude/claude.json` here or in a parent up to the repository root;
  else `~/.claude/claude.json`; else the built-in defaults.
- What if it is wrong? One `ConfigError` with *every* fault: the key's path, what is wrong, the nearest valid name.
- What if it is old? It is upgraded in memory always, on disk only by `claude-force config migrate`.

It never holds a key, and a project's file no address that your credentials would be sent to.
"""

import errno
import itertools
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from claude_force.base.alerts import DEFAULT_ALERTS, AlertRule
from claude_force.base.endpoints import Endpoint, endpoint_faults
from claude_force.base.errors import ConfigError, InputError
from claude_force.base.models import TIERS, Tier
from claude_force.base.pricing import ModelPrice
from claude_force.base.records import Effort
from claude_force.base.sections import Section, faults, nearest
from claude_force.base.servers import is_on_this_machine, shown_url

SCHEMA_VERSION = "2.3"

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Of a config; 10,000 steps of workflows have about 2 MB."""

# A day: more is a mistake, and clocks and sockets overflow somewhere above.
MAX_TIMEOUT_S = 86_400.0

Positive = Annotated[int, msgspec.Meta(gt=0)]
PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]
Rate = Annotated[float, msgspec.Meta(ge=0)]


class AgentEntry(Section, frozen=True):
    """An agent that is named in the config instead of being found in `.claude/agents`."""

    path: Annotated[str, msgspec.Meta(pattern=r"^[^\x00]+$")]
    """The agent's file, relative to the folder of the config file."""
    keywords: list[str] = msgspec.field(default_factory=list)


class Defaults(Section, frozen=True):
    """What a call uses unless it, or the agent's file, says otherwise."""

    model: str | None = None
    effort: Effort | None = None
    max_tokens: Positive = 16_000
    """Room for thinking and answer; below 21,333, above which the API wants a stream."""
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_TIMEOUT_S)] = 600.0
    """For one whole turn, with its retries and waits: as long as the SDK waits for one answer."""
    attempt_timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_TIMEOUT_S)] | None = None
    """For each attempt; without it, an attempt has all the time that its turn has left."""
    fallback_models: list[str] = msgspec.field(default_factory=list)
    """Asked in this order where a model is overloaded or fails on its side."""
    max_retries: Annotated[int, msgspec.Meta(ge=0, le=20)] = 3


class Limits(Section, frozen=True):
    """How much text is accepted before anything is sent, in characters."""

    max_task_chars: Positive = 200_000
    """About 50,000 tokens: more is a file by mistake."""
    max_material_chars: Positive = 3_000_000
    """Files and piped input together; about a context window of 1M tokens."""


class Security(Section, frozen=True):
    """What happens when material looks like a prompt injection."""

    injection: Literal["warn", "refuse", "off"] = "warn"


class Performance(Section, frozen=True):
    """Many agents at once."""

    async_enabled: bool = True
    max_concurrent_agents: Positive = 10


class Breaker(Section, frozen=True):
    """The circuit breaker of each model."""

    failure_threshold: Positive = 5
    """So many failures in a row open it."""
    timeout_seconds: PositiveFloat = 60.0
    """Until one request may try again."""


class Cache(Section, frozen=True):
    """The response cache."""

    enabled: bool = True
    ttl_hours: PositiveFloat = 24.0
    max_size_mb: PositiveFloat = 100.0
    exclude_agents: list[str] = msgspec.field(default_factory=list)
    agent_ttl_hours: dict[str, PositiveFloat] = msgspec.field(default_factory=dict)
    """Where an agent's answers age sooner, or later."""
    encrypt: bool = False
    """On disk; needs the `encryption` extra."""
    warm_fan_out: bool = True
    """Of turns that share a long prefix, one goes first, so that the others read it from Claude's prompt cache."""
    url: str | None = None
    """Of a Redis or Valkey that keeps the answers for many machines, in place of this disk."""


class Routing(Section, frozen=True):
    """A model for each task, where neither the call or step nor the agent's file names one."""

    enabled: bool = False
    min_tier: Tier = "haiku"
    """No cheaper one is chosen."""
    max_tier: Tier = "opus"
    """No dearer one is."""

    @property
    def fault(self) -> str | None:
        """What is wrong where no tier lies between the two."""
        if TIERS.index(self.min_tier) <= TIERS.index(self.max_tier):
            return None
        return f"min_tier is {self.min_tier!r} and max_tier {self.max_tier!r}, which leaves none; exchange them"


class Budgets(Section, frozen=True):
    """What may be spent, in US dollars, by all processes of the project together. Not given: no limit."""

    per_day_usd: PositiveFloat | None = None
    """A day is one of UTC."""
    per_agent_per_day_usd: dict[str, PositiveFloat] = msgspec.field(default_factory=dict)
    per_run_usd: PositiveFloat | None = None
    """For each run of a workflow, with all that it is taken up again."""

    def within(self, other: "Budgets") -> "Budgets":
        """These, where the other's are not lower."""
        mine, theirs = self.per_agent_per_day_usd, other.per_agent_per_day_usd
        return Budgets(
            per_day_usd=_lower(self.per_day_usd, other.per_day_usd),
            per_agent_per_day_usd=mine
            | {agent: limit for agent, limit in theirs.items() if limit < mine.get(agent, math.inf)},
            per_run_usd=_lower(self.per_run_usd, other.per_run_usd),
        )


def _lower(one: float | None, two: float | None) -> float | None:
    return min((limit for limit in (one, two) if limit is not None), default=None)


class Shared(Section, frozen=True):
    """Rate limits, budgets and circuit breakers that many machines share."""

    url: str | None = None
    """Of a Redis, a Valkey or a Postgres that keeps them."""


class Engine(Section, frozen=True):
    """Who does the steps of a run."""

    url: str | None = None
    """Of the SQLite file or the Postgres through which workers are given them; needs the `durable` extra."""
    max_concurrent: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """How many all workers together have under way, as each of them reads it; `None`: only each one's own bound."""


class Memory(Section, frozen=True):
    """What agents did before, kept in `.claude/agent_memory.db` and put beside tasks that are like it."""

    enabled: bool = False
    """Also for calls that do not say `use_memory`."""
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1_500
    """Of all past work in a prompt; an estimate."""
    max_sessions: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    """How many past tasks, at most."""
    min_relevance: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.4
    """The share of a task's words, the rare ones counting more, that past work must have."""


class Tracking(Section, frozen=True):
    """The line per execution in `.claude/metrics`."""

    enabled: bool = True


class Metrics(Section, frozen=True):
    """What becomes of those lines when they are old."""

    keep_days: Annotated[int, msgspec.Meta(ge=30, le=36_500)] = 30
    """Not fewer: a message batch can be collected for 29 days, and its lines say what was counted already."""
    old_detail: Literal["drop", "compress"] = "drop"
    """What becomes of the lines once each day has its figures."""
    auto_rollup: bool = True
    """Whether the command line does it by itself, once a day at most."""


class Features(Section, frozen=True):
    """Switches that turn a part off at once."""

    async_enabled: bool = True
    cache_enabled: bool = True
    parallel_workflows_enabled: bool = True


class Price(Section, frozen=True):
    """US dollars per million tokens; overrides the price list for one model id."""

    input: Rate
    output: Rate
    cache_read: Rate | None = None
    cache_write_5m: Rate | None = None
    cache_write_1h: Rate | None = None


class Config(Section, frozen=True):
    """All of `.claude/claude.json`."""

    schema_url: str | None = msgspec.field(name="$schema", default=None)
    version: str = SCHEMA_VERSION
    name: str = ""
    description: str = ""
    agents: dict[str, AgentEntry] = msgspec.field(default_factory=dict)
    workflows: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    defaults: Defaults = Defaults()
    limits: Limits = Limits()
    security: Security = Security()
    performance: Performance = Performance()
    breaker: Breaker = Breaker()
    cache: Cache = Cache()
    routing: Routing = Routing()
    memory: Memory = Memory()
    budgets: Budgets = Budgets()
    shared: Shared = Shared()
    engine: Engine = Engine()
    tracking: Tracking = Tracking()
    metrics: Metrics = Metrics()
    features: Features = Features()
    alerts: list[AlertRule] = msgspec.field(default_factory=lambda: list(DEFAULT_ALERTS))
    pricing: dict[str, Price] = msgspec.field(default_factory=dict)
    preload_skills: bool = False
    """Give an agent all skills that its file names, whatever the task."""
    endpoints: list[Endpoint] = msgspec.field(default_factory=list)
    """Several ways to Claude; only believed in a file of the user's own."""
    inference_geo: str | None = None
    """Where models must run, in the API's words, such as `us`; `None`: as the workspace says."""
    project_context: bool = True
    """Give agents what the project's `CLAUDE.md` files say."""

    def servers(self) -> dict[str, str]:
        """The addresses of servers that it names, by key."""
        urls = {"cache.url": self.cache.url, "shared.url": self.shared.url, "engine.url": self.engine.url}
        return {key: url for key, url in urls.items() if url is not None}

    def shown(self) -> "Config":
        """The same for people to see, who may pass it on: addresses of servers say nothing of who asks."""
        named = {key: url for key, url in self.servers().items() if {"@", "?"} & set(url)}
        sections = {key.removesuffix(".url"): shown_url(url) for key, url in named.items()}
        return msgspec.structs.replace(
            self, **{name: msgspec.structs.replace(getattr(self, name), url=url) for name, url in sections.items()}
        )

    def prices(self) -> dict[str, ModelPrice]:
        """The price overrides, ready for `Prices`."""
        return {
            model: ModelPrice(
                input=Decimal(str(price.input)),  # by way of text: 0.1 is meant as a tenth, not as the nearest float
                output=Decimal(str(price.output)),
                cache_read=_decimal(price.cache_read),
                cache_write_5m=_decimal(price.cache_write_5m),
                cache_write_1h=_decimal(price.cache_write_1h),
            )
            for model, price in self.pricing.items()
        }


def _decimal(rate: float | None) -> Decimal | None:
    return None if rate is None else Decimal(str(rate))


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration together with where it came from."""

    config: Config = Config()
    path: Path | None = None
    """The file; `None` where the built-in defaults are used."""
    migrations: tuple[str, ...] = ()
    """What was upgraded in memory, one sentence each."""

    @property
    def folder(self) -> Path | None:
        """The folder that relative paths in the file start from."""
        return self.path.parent if self.path else None


def find_config(start: Path, *, home: Path) -> Path | None:
    """The config file that applies in the folder `start`, or `None`.

    Parents are searched up to the repository root (the folder with `.git`); outside a repository, `start` alone.
    """
    own = home / "claude.json"
    places = (folder / ".claude" / "claude.json" for folder in project_folders(start))
    return next((path for path in places if _is_something(path)), own if os.path.lexists(own) else None)


def claude_folder(start: Path) -> Path | None:
    """The nearest `.claude` of the project that `start` lies in, or `None`."""
    places = (folder / ".claude" for folder in project_folders(start))
    return next((path for path in places if os.path.isdir(path)), None)  # noqa: PTH112 - Path.is_dir() may raise


def project_folders(start: Path) -> list[Path]:
    """`start` and its parents up to the repository root; `start` alone outside a repository."""
    here = Path(os.path.realpath(start))  # `..` or a link must not make another folder the parent
    folders = [here, *here.parents]
    root = next((number for number, folder in enumerate(folders) if os.path.lexists(folder / ".git")), 0)
    return folders[: root + 1]


def project_of(config_path: str | os.PathLike[str] | None) -> Path:
    """The folder of the project that this config belongs to; without one, the current folder."""
    if config_path is None:
        return current_folder()
    folder = Path(config_path).absolute().parent
    return folder.parent if folder.name == ".claude" else folder


def _is_something(path: Path) -> bool:
    """Whether a project has this file in any form: what cannot be read is then said, not passed over in silence."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def current_folder() -> Path:
    """Where we are. Raises `InputError` where that was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise InputError("the current folder is gone; change to one that exists") from error


def user_folder() -> Path:
    """Claude's folder of this user: `$CLAUDE_CONFIG_DIR` or `~/.claude`."""
    return Path(os.environ.get("CLAUDE_CONFIG_DIR") or home_folder() / ".claude")


def home_folder() -> Path:
    """This user's home; for one without it a place where no folder can be, so that there is nothing of their own."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises for a user without one
    return Path(os.devnull if home.startswith("~") else home)


def load_settings(config_path: str | os.PathLike[str] | None = None, *, start: Path | None = None) -> Settings:
    """Find, read, upgrade and validate the configuration. Raises `ConfigError`."""
    home = user_folder()
    path = Path(config_path) if config_path is not None else find_config(start or current_folder(), home=home)
    if path is None:
        return Settings()
    raw = read_config(path)
    migrated = migrate_config(raw)
    config = validate_config(migrated, path=path)
    own = home / "claude.json"
    if config_path is None and os.path.realpath(path) != os.path.realpath(own):  # the home may be a link
        _check_project(config, path)
        mine = validate_config(migrate_config(read_config(own)), path=own) if os.path.lexists(own) else Config()
        # The user's own hold in every project: no file that came with one may lift a limit.
        config = msgspec.structs.replace(
            config,
            endpoints=mine.endpoints,
            pricing=config.pricing | mine.pricing,
            budgets=config.budgets.within(mine.budgets),
        )
    return Settings(config=config, path=path, migrations=describe_migration(raw, migrated))


def _check_project(config: Config, path: Path) -> None:
    """Raise `ConfigError` for what a file that came with a repository must not say.

    That is to which machine the user's work goes, and what Claude costs: who says nothing lifts every limit.
    """
    own = "your own ~/.claude/claude.json, or name this file yourself with --config"
    problems = tuple(
        f"{key}: a project's file may only name this machine, as it comes with the repository; set"
        f" {server_variable(key)}, or name this file yourself with --config"
        for key, url in config.servers().items()
        if not is_on_this_machine(url)
    )
    if config.endpoints:
        problems = (*problems, f"endpoints: your keys go there, so a project's file may name none; put them into {own}")
    problems += tuple(
        f"pricing.{model}: your limits count by it, so no project's file may say what Claude costs; put it into {own}"
        for model in config.pricing
        if model.startswith("claude-")
    )
    if problems:
        _raise_faults(problems, path)


def server_variable(key: str) -> str:
    """The environment variable that goes before this key of the config: `CLAUDE_CACHE_URL` for `cache.url`."""
    return f"CLAUDE_{key.replace('.', '_').upper()}"


def server_url(config: Config, key: str, environment: Mapping[str, str]) -> str | None:
    """The address under this key, such as `cache.url`: of the environment, else of the config; `None`: no server."""
    return environment.get(server_variable(key)) or config.servers().get(key)


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in the file, unchecked. Raises `ConfigError`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe, or a device, that a repository brought along
            raise OSError(errno.EINVAL, "it is no regular file")  # noqa: TRY301 - as if the system had said so
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {MAX_FILE_BYTES >> 20} MB")  # noqa: TRY301 - as above
        data = msgspec.json.decode(text.removeprefix(b"\xef\xbb\xbf"))
    except FileNotFoundError as error:
        raise ConfigError(f"no config file at {str(path)!r}; `claude-force init` writes one", path=str(path)) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"cannot read {str(path)!r}: {reason}; check the path and its rights", path=str(path)
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{str(path)!r} is not JSON: {error}; mend it, or replace it with `claude-force init --force`",
            path=str(path),
        ) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{str(path)!r} holds no JSON object; it must start with {{", path=str(path))
    return data


def validate_config(data: Mapping[str, Any], *, path: Path | None = None) -> Config:
    """The checked configuration. Raises one `ConfigError` that lists every fault."""
    crossed = (*_crossed_tiers(data.get("routing")), *_crossed_alerts(data), *_crossed_endpoints(data))
    if problems := (*faults(dict(data), Config), *crossed):
        _raise_faults(problems, path)
    return msgspec.convert(data, Config)


def _crossed_tiers(data: object) -> Iterator[str]:
    with suppress(msgspec.ValidationError):  # which is among the faults already
        if fault := msgspec.convert(data or {}, Routing).fault:
            yield f"routing: {fault}"


def _crossed_alerts(data: Mapping[str, Any]) -> Iterator[str]:
    with suppress(msgspec.ValidationError):
        rules = msgspec.convert(data.get("alerts") or [], list[AlertRule])
        yield from (f"alerts[{number}]: {rule.fault}" for number, rule in enumerate(rules) if rule.fault)
        names = Counter(rule.name for rule in rules)
        yield from (f"alerts: {count} have the name {name!r}" for name, count in names.items() if count > 1)


def _crossed_endpoints(data: Mapping[str, Any]) -> Iterator[str]:
    with suppress(msgspec.ValidationError):
        yield from endpoint_faults(msgspec.convert(data.get("endpoints") or [], list[Endpoint]))


def _raise_faults(problems: tuple[str, ...], path: Path | None) -> NoReturn:
    file = str(path) if path else None
    listed = "".join(f"\n  {problem}" for problem in problems)
    message = f"{file or 'the configuration'!r} has {len(problems)} fault(s):{listed}"
    raise ConfigError(message, path=file, problems=problems)


def check_files(settings: Settings) -> None:
    """Raise `ConfigError` for files that the configuration names and that are not there.

    Not part of loading: one stale entry must not keep the other agents from running.
    """
    folder = settings.folder or Path()
    problems = tuple(
        f"agents.{name}.path: no file {entry.path!r}{nearest(Path(entry.path).name, _listing(folder / entry.path))}"
        for name, entry in settings.config.agents.items()
        if not os.path.isfile(folder / entry.path)  # noqa: PTH113 - Path.is_file() may raise
    )
    if problems:
        _raise_faults(problems, settings.path)


def _listing(path: Path) -> list[str]:
    try:
        return [neighbour.name for neighbour in path.parent.iterdir()]
    except OSError:
        return []


def config_schema() -> dict[str, Any]:
    """JSON Schema of the configuration, for editors."""
    schema = msgspec.json.schema(Config)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "claude-force configuration", **schema}


# ---------------------------------------------------------------- migration

# What claude-force 1 and 2 wrote and nothing reads any more.
_DROPPED_SECTIONS = frozenset({"governance", "skills_integration", "paths", "rules"})


def migrate_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as this version writes it: what is missing is added, what is named differently is renamed.

    The argument is not changed, and a configuration that is up to date comes back equal. Unknown keys stay where they
    are, for `validate_config` to judge. Shapes that are upgraded: agents given as `{"file": ...}` or as a plain path,
    workflows given as a list or an arrow-separated string of agent names (each step then works on what the one before
    it made), and configurations without the newer sections.
    """
    new = {key: value for key, value in config.items() if key not in _DROPPED_SECTIONS}
    if isinstance(new.get("agents"), dict):
        new["agents"] = {name: _migrate_agent(entry) for name, entry in new["agents"].items()}
    if isinstance(new.get("workflows"), dict):
        new["workflows"] = {name: _migrate_workflow(name, value) for name, value in new["workflows"].items()}
    if _is_old(config):
        new["version"] = SCHEMA_VERSION
    defaults = msgspec.to_builtins(Config())
    for section in ("performance", "cache", "features", "preload_skills"):
        new.setdefault(section, defaults[section])
    return new


def describe_migration(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """What `migrate_config` had to change, one sentence a change; empty where it only wrote out defaults."""
    said = [f"{key}: dropped, nothing reads it" for key in old if key not in new]
    for section in ("agents", "workflows"):
        before, after = old.get(section), new.get(section)
        if isinstance(before, dict) and isinstance(after, dict):
            said += [f"{section}.{name}: rewritten in the newer form" for name in before if before[name] != after[name]]
    if old.get("version") != new.get("version"):
        said.append(f"version: {old.get('version', 'none')} is now {new.get('version')}")
    return tuple(said)


def _is_old(config: Mapping[str, Any]) -> bool:
    """True for the version numbers of claude-force 1 and 2; a newer or odd one is left for validation to see."""
    version = config.get("version")
    return isinstance(version, str) and re.fullmatch(r"1(\..*)?|2(\.[0-2](\..*)?)?", version) is not None


def _migrate_agent(entry: Any) -> Any:  # noqa: ANN401 - unchecked JSON
    if isinstance(entry, str):
        return {"path": entry}
    if not isinstance(entry, dict) or "file" not in entry:
        return entry
    keywords = entry.get("keywords", entry.get("domains"))
    return {"path": entry.get("path", entry["file"])} | ({} if keywords is None else {"keywords": keywords})


def _migrate_workflow(name: str, value: Any) -> Any:  # noqa: ANN401 - unchecked JSON
    agents = [part.strip() for part in re.split(r"->|→|,", value)] if isinstance(value, str) else value
    if not isinstance(agents, list) or not all(isinstance(agent, str) and agent for agent in agents):
        return value
    ids: list[str] = []
    for agent in agents:
        ids.append(next(word for word in _numbered(agent) if word not in ids))
    steps = [
        {"id": step, "agent": agent, "task": "{{ inputs.task }}", "dependencies": ids[i - 1 : i] if i else []}
        for i, (step, agent) in enumerate(zip(ids, agents, strict=True))
    ]
    return {"name": name, "inputs": {"task": {"type": "string", "required": True}}, "steps": steps}


def _numbered(word: str) -> Iterator[str]:
    yield word
    yield from (f"{word}-{number}" for number in itertools.count(2))
