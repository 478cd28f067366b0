"""The sync face: `AgentOrchestrator`, and `Project`, which puts the house together for both faces.

The logic of a turn is in `engine.turn`; here parts are built, called, and their results returned.
"""

import functools
import math
import os
import threading
import warnings
import weakref
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypedDict, TypeVar, Unpack, get_args

import msgspec

from claude_force.base.briefing import NO_SKILLS, LoadedSkills
from claude_force.base.clock import SystemClock
from claude_force.base.config import Config, Settings, load_settings, project_of, server_url
from claude_force.base.endpoints import DEFAULT_ENDPOINT, in_use
from claude_force.base.errors import ConfigError, InputError, TaskError
from claude_force.base.models import CURRENT
from claude_force.base.pricing import Prices
from claude_force.base.servers import is_on_this_machine
from claude_force.engine.faces import Blocking, run_now
from claude_force.engine.key import SIMULATED_SERVER
from claude_force.engine.parts import Parts, Watch
from claude_force.engine.request import Task
from claude_force.engine.traffic import Traffic
from claude_force.engine.turn import run_turn
from claude_force.insight.spans import find_spans
from claude_force.library.materials import read_material
from claude_force.library.project import (
    agent_library,
    batches_file,
    briefed_agents,
    budgets_file,
    engine_folder,
    memory_file,
    runs_file,
    skill_library,
    worker_file,
)
from claude_force.performance_tracker import PerformanceTracker, metrics_folder
from claude_force.response_cache import KeptReplies, ResponseCache, cache_folder

if TYPE_CHECKING:
    import anthropic

    from claude_force.agent_memory import AgentMemory, Recollection
    from claude_force.async_orchestrator import AsyncAgentOrchestrator
    from claude_force.base.endpoints import Endpoint
    from claude_force.base.errors import ClaudeForceError
    from claude_force.base.models import Tier
    from claude_force.base.ports import OnRetry, OnText, UseCache
    from claude_force.base.records import AgentDefinition, AgentResult, Effort, Material
    from claude_force.base.results import WorkflowResult
    from claude_force.engine.batching import Batching
    from claude_force.engine.sending import OnOutcome, OnStatus
    from claude_force.insight.choosing import Chooser
    from claude_force.insight.rollup import OnProgress, Rollup
    from claude_force.semantic_selector import AgentMatch, SemanticSelector
    from claude_force.stores.budgets import Accounts, Budgets
    from claude_force.stores.documents import SharedDocuments
    from claude_force.stores.runs import RunStore
    from claude_force.stores.seal import Sealer
    from claude_force.transports.live import LiveTransport
    from claude_force.transports.simulator import Simulator
    from claude_force.workers.durable import Address, Shift
    from claude_force.workers.handing import Hands
    from claude_force.workers.worker import Worker
    from claude_force.workflows.events import OnEvent

T = TypeVar("T")
EngineName = Literal["built-in", "durable"]
"""Who makes the turns of a run: this process, or workers that are given them through a database."""
DEFAULT_ENGINE = "sqlite:///.claude/engine.db"


def aliases_of(environment: Mapping[str, str]) -> dict[str, str]:
    """What the environment says that the family names stand for."""
    names = {family: environment.get(f"ANTHROPIC_DEFAULT_{family.upper()}_MODEL") for family in CURRENT}
    return {family: name for family, name in names.items() if name}


class _MadeOnce(functools.cached_property[T]):
    """A `cached_property` of a `Project` that only one thread makes: since Python 3.12, two could make one each."""

    def __get__(self, project: "Project", owner: type["Project"] | None = None) -> T:  # type: ignore[override]
        with project._making:  # noqa: SLF001 - its own module
            return super().__get__(project, owner)


class Project:
    """What both faces work with, each part made when it is first needed: settings, ledger, parts, address."""

    def __init__(
        self,
        config_path: str | os.PathLike[str] | None = None,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        project_dir: str | os.PathLike[str] | None = None,
        offline: bool = False,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        enable_tracking: bool = True,
        enable_cache: bool = True,
        cache_ttl_hours: float | None = None,
        cache_max_size_mb: float | None = None,
        max_cost_usd: float | None = None,
        auto_model: bool | None = None,
        min_tier: "Tier | None" = None,
        max_tier: "Tier | None" = None,
    ) -> None:
        if max_cost_usd is not None and not 0 < max_cost_usd < math.inf:
            raise InputError(f"max_cost_usd is {max_cost_usd!r}; give US dollars above 0, such as 0.50")
        self._max_cost_usd = None if max_cost_usd is None else Decimal(str(max_cost_usd))
        self.start = Path(project_dir) if project_dir is not None else project_of(config_path)
        self._config_path = config_path
        self._address = (api_key, base_url)
        self._offline = offline
        self._timeout_seconds = timeout_seconds
        self._max_retries = max_retries
        self._enable_tracking = enable_tracking
        self._enable_cache = enable_cache
        self._cache_ttl_hours = cache_ttl_hours
        self._cache_max_size_mb = cache_max_size_mb
        self._auto_model = auto_model
        self._tiers = (min_tier, max_tier)
        self._making = threading.RLock()  # so that two threads in their first call make one of each part
        self._simulator: Simulator | None = None
        _ALIVE.add(self)

    @_MadeOnce
    def settings(self) -> Settings:
        """The configuration, and where it came from. Raises `ConfigError`."""
        return load_settings(self._config_path, start=self.start)

    @_MadeOnce
    def tracker(self) -> PerformanceTracker:
        """The ledger of executions."""
        enabled = self._enable_tracking and self.settings.config.tracking.enabled
        return PerformanceTracker(metrics_folder(self.start), enabled=enabled)

    def roll_up(self, *, dry_run: bool = False, on_progress: "OnProgress | None" = None) -> "Rollup | None":
        """Make figures of days of the ledger's old lines, as the config says."""
        from claude_force.insight.rollup import roll_up  # noqa: PLC0415 - once a day

        metrics = self.settings.config.metrics
        return roll_up(
            self.tracker.path,
            now=SystemClock().now(),
            keep_days=metrics.keep_days,
            old_detail=metrics.old_detail,
            dry_run=dry_run,
            on_progress=on_progress,
        )

    @_MadeOnce
    def cache(self) -> ResponseCache:
        """The response cache."""
        config = self.settings.config
        return self.make_cache(enabled=self._enable_cache and config.cache.enabled and config.features.cache_enabled)

    @_MadeOnce
    def memory(self) -> "AgentMemory":
        """What agents did before."""
        from claude_force.agent_memory import AgentMemory  # noqa: PLC0415 - most calls remember nothing

        return AgentMemory(memory_file(self.start))

    @_MadeOnce
    def recollection(self) -> "Recollection":
        """The same, as the engine asks for it."""
        from claude_force.agent_memory import Recollection  # noqa: PLC0415 - as above

        return Recollection(self.memory, self.settings.config.memory, is_claude=not self._server)

    @_MadeOnce
    def selector(self) -> "SemanticSelector":
        """Which agent fits a task."""
        from claude_force.semantic_selector import SemanticSelector  # noqa: PLC0415 - most calls name an agent

        return SemanticSelector(self._config_path, project_dir=self.start, simulated=self._offline)

    @_MadeOnce
    def runs(self) -> "RunStore":
        """The journal of workflow runs."""
        from claude_force.stores.runs import RunStore  # noqa: PLC0415 - a single call has none

        return RunStore(runs_file(self.start))

    @_MadeOnce
    def budgets(self) -> "Budgets":
        """What may be spent, as the config says."""
        from claude_force.stores.budgets import BudgetFile, Budgets  # noqa: PLC0415 - only a limit needs it

        world = "simulator: " if self._offline else ""  # every other server is paid from the same purse
        accounts: Accounts = BudgetFile(budgets_file(self.start))
        if self.shared is not None:
            from claude_force.stores.shared_budgets import SharedAccounts  # noqa: PLC0415 - most share nothing

            accounts = SharedAccounts(self.shared)
        budgets = Budgets(accounts, self.settings.config.budgets, world)
        if self._max_cost_usd is None:
            return budgets
        return budgets.limited(f"call {os.urandom(8).hex()}", self._max_cost_usd, "max_cost_usd")

    @_MadeOnce
    def shared(self) -> "SharedDocuments | None":
        """What is shared with other machines, if anything is. Raises `ConfigError`."""
        url = server_url(self.settings.config, "shared.url", os.environ)
        if url is None or self._offline:  # a simulator is nobody else's
            return None
        from claude_force.stores.documents import shared_documents  # noqa: PLC0415 - most share nothing

        return shared_documents(url)

    @_MadeOnce
    def live(self) -> "LiveTransport":
        """The way to Claude that blocks."""
        from claude_force.transports.live import LiveTransport  # noqa: PLC0415 - the cache may answer all

        api_key, base_url = self.address()
        return LiveTransport(api_key=api_key, base_url=base_url)

    @_MadeOnce
    def batching(self) -> "Batching":
        """What message batches need."""
        from claude_force.engine.batching import Batching  # noqa: PLC0415 - most calls are none
        from claude_force.stores.batches import BatchFile  # noqa: PLC0415
        from claude_force.stores.seal import Sealer  # noqa: PLC0415
        from claude_force.stores.secret import own_secrets  # noqa: PLC0415
        from claude_force.transports.batches import LiveBatches  # noqa: PLC0415

        path = batches_file(self.start)
        if self._offline:  # no batch outlives the simulator that it was sent to
            import tempfile  # noqa: PLC0415

            folder = tempfile.TemporaryDirectory(prefix="claude-force-")
            weakref.finalize(self, folder.cleanup)
            path = Path(folder.name) / path.name
        return Batching(
            parts=self.parts,
            servers=lambda endpoint: LiveBatches(lambda: self.live, endpoint),
            store=BatchFile(path, lambda: Sealer(own_secrets(os.environ), encrypt=self.settings.config.cache.encrypt)),
            budget=self.budgets if self._has_budget else None,
            accounts=self.budgets,
            booked=self.tracker.batch_entries,
        )

    @_MadeOnce
    def engine(self) -> "Address":
        """Where the durable engine is. Raises `ConfigError`."""
        from claude_force.workers.durable import Address  # noqa: PLC0415 - most runs are made here

        url = server_url(self.settings.config, "engine.url", os.environ) or DEFAULT_ENGINE
        return Address(url, folder=engine_folder(self.start))

    @_MadeOnce
    def _engine_sealer(self) -> "Sealer":
        from claude_force.stores.seal import Sealer  # noqa: PLC0415 - as above
        from claude_force.stores.secret import VARIABLE, given_secrets, own_secrets  # noqa: PLC0415

        if self.engine.file is not None:
            secrets = own_secrets(os.environ)
        elif not (secrets := given_secrets(None, os.environ.get(VARIABLE))):
            raise ConfigError(
                f"{self.engine.shown!r} may be used from many machines, so what goes through it is signed by a secret"
                f" that all of them have; set {VARIABLE}, for example to what `openssl rand -hex 32` says"
            )
        return Sealer(secrets, encrypt=self.settings.config.cache.encrypt)

    def hands(self, engine: EngineName, *, size: int, is_batch: bool) -> "Hands | None":
        """Who makes the turns of one run, this many at once; `None`: this process. Raises the `InputError` family."""
        if engine not in get_args(EngineName):
            raise InputError(f"engine is {engine!r}; give one of {', '.join(get_args(EngineName))}")
        if engine == "built-in":
            return None
        if is_batch:
            raise InputError("a batch is made by the server, and not by workers; leave batch or engine out")
        from claude_force.workers.durable import Queue, queue_of  # noqa: PLC0415 - as above
        from claude_force.workers.handing import Hands  # noqa: PLC0415

        shift = self.shift(concurrency=size) if self.engine.file is not None else None
        hint = f"start `claude-force worker` for {self.engine.shown!r}, or more of them where all are busy"
        return Hands(Queue(self.engine, queue_of(self._server), shift=shift), self._engine_sealer, hint=hint)

    def shift(self, *, concurrency: int, drain_s: float | None = None) -> "Shift":
        """The time that this process works for the durable engine. Raises `ConfigError`."""
        from claude_force.async_orchestrator import work_of  # noqa: PLC0415 - loads asyncio
        from claude_force.workers.durable import Shift, queue_of  # noqa: PLC0415 - as above

        return Shift(
            self.engine,
            work_of(self),
            queue=queue_of(self._server),
            concurrency=concurrency,
            max_concurrent=self.settings.config.engine.max_concurrent,
            **({} if drain_s is None else {"drain_s": drain_s}),
        )

    @_MadeOnce
    def worker(self) -> "Worker":
        """Who does what others hand over, with the parts of this machine."""
        from claude_force.workers.worker import Worker  # noqa: PLC0415 - as above

        budgets = msgspec.structs.replace(self.budgets, more=())  # limits on calls are of who hands over
        return Worker(
            msgspec.structs.replace(self.parts, budget=budgets if self._has_limits else None),
            sealer=self._engine_sealer,
            seals=self.cache,
            budgets=budgets,
            journal=worker_file(self.start),
        )

    def asked(self, agent_name: str, task: str, options: "CallOptions") -> Task:
        """What a call asks for, in the engine's words; reads the files that it names. Raises `InputError`s."""
        files = map(read_material, each(options.get("files", ())))
        skills = self.load_skills(options.get("skills", NO_SKILLS))
        return task_of(agent_name, task, options, materials=(*files, *options.get("materials", ())), skills=skills)

    def tasks(self, tasks: "Iterable[AgentTask | tuple[str, str]]", options: "CallOptions") -> list[Task]:
        """What these ask for in a batch."""
        made = [self.asked(each.agent_name, each.task, options | each.options) for each in starmap(AgentTask, tasks)]
        if any(task.use_memory for task in made):
            raise TaskError("a batch recalls nothing; leave use_memory out, or make calls")
        return made

    def load_skills(self, wanted: "Iterable[str] | LoadedSkills") -> LoadedSkills:
        """What a call asks for, read from the disk unless that was done. Raises the `SkillError` family."""
        return wanted if isinstance(wanted, LoadedSkills) else skill_library(self.start).load(wanted)

    @property
    def auto_model(self) -> bool:
        """Whether a model is chosen where nobody names one."""
        return self.settings.config.routing.enabled if self._auto_model is None else self._auto_model

    @_MadeOnce
    def chooser(self) -> "Chooser":
        """Who chooses it, or would; between the tiers of the arguments, else of the config. Raises `InputError`."""
        from claude_force.insight.choosing import Chooser  # noqa: PLC0415 - most calls need no router

        bounds = self.settings.config.routing
        least, most = self._tiers
        bounds = msgspec.structs.replace(bounds, min_tier=least or bounds.min_tier, max_tier=most or bounds.max_tier)
        if bounds.fault:
            raise InputError(bounds.fault)
        return Chooser(bounds, aliases_of(self._environment), self.tracker.path, simulated=self._offline)

    @property
    def _has_budget(self) -> bool:
        return self._max_cost_usd is not None or self._has_limits

    @property
    def _has_limits(self) -> bool:
        limits = self.settings.config.budgets
        return bool(limits.per_day_usd is not None or limits.per_agent_per_day_usd)

    def make_cache(self, *, enabled: bool) -> ResponseCache:
        """A response cache with the limits of the arguments, else of the config."""
        cache = self.settings.config.cache
        return ResponseCache(
            cache_folder(self.start),
            cache.ttl_hours if self._cache_ttl_hours is None else self._cache_ttl_hours,
            cache.max_size_mb if self._cache_max_size_mb is None else self._cache_max_size_mb,
            enabled=enabled,
            exclude_agents=cache.exclude_agents,
            agent_ttl_hours=cache.agent_ttl_hours,
            encrypt=cache.encrypt,
            url=server_url(self.settings.config, "cache.url", os.environ),
        )

    @_MadeOnce
    def parts(self) -> Parts:
        """The parts of a turn; the environment is read here, once."""
        config, clock, environment = self.settings.config, SystemClock(), self._environment
        defaults = config.defaults
        defaults = msgspec.structs.replace(
            defaults,
            model=defaults.model or environment.get("ANTHROPIC_MODEL") or None,
            timeout_seconds=defaults.timeout_seconds if self._timeout_seconds is None else self._timeout_seconds,
            max_retries=defaults.max_retries if self._max_retries is None else self._max_retries,
        )
        return Parts(
            agents=briefed_agents(self.settings, start=self.start),
            prices=Prices(config.prices()),
            ledger=self.tracker,
            clock=clock,
            traffic=Traffic(
                clock,
                failure_threshold=config.breaker.failure_threshold,
                timeout_s=config.breaker.timeout_seconds,
                shared=self.shared,
                server=self._server,
            ),
            config=msgspec.structs.replace(config, defaults=defaults, endpoints=self.endpoints),
            cache=KeptReplies(self.cache, takes_simulated=self._takes_simulated) if self.cache.enabled else None,
            budget=self.budgets if self._has_budget else None,
            memory=lambda: self.recollection,
            choose=self.chooser.choose if self.auto_model else None,
            server=self._server,
            aliases=aliases_of(environment),
            find_spans=find_spans,
        )

    @property
    def endpoints(self) -> "list[Endpoint]":
        """The ways to Claude that are in use: none where an argument or the environment says where it is."""
        is_said = self._offline or any(self._address)
        return [] if is_said else in_use(self.settings.config.endpoints, os.environ)

    @property
    def _takes_simulated(self) -> bool:
        """Whether a simulator's word is wanted: by name, or where all endpoints are on this machine, to try them."""
        tried = self.endpoints
        is_tried = bool(tried) and all(is_on_this_machine(endpoint.base_url or "") for endpoint in tried)
        return bool(self._server) or is_tried

    @property
    def first_endpoint(self) -> "Endpoint":
        """The way of what goes by one alone."""
        return next(iter(self.endpoints), DEFAULT_ENDPOINT)

    @property
    def _environment(self) -> Mapping[str, str]:
        """The models of another server, which the environment may name, are none of the simulator's."""
        return {} if self._offline else os.environ

    @property
    def _server(self) -> str:
        """Who answers, as it goes into the key of a request: without what only says who asks.

        All endpoints count as Claude itself, so none that comes or goes costs an answer that is kept.
        """
        if self._offline:
            return SIMULATED_SERVER
        url = self._address[1] or os.environ.get("ANTHROPIC_BASE_URL")
        if not url:
            return ""
        from urllib.parse import urlsplit  # noqa: PLC0415 - most ask Claude itself

        address = urlsplit(url)
        return f"{address.netloc.rpartition('@')[2]}{address.path.rstrip('/')}"

    def address(self) -> tuple[str | None, str | None]:
        """API key and base URL to call with; offline, those of a simulator that this starts."""
        if not self._offline:
            return self._address
        with self._making:
            if self._simulator is None:
                from claude_force.transports.simulator import Simulator  # noqa: PLC0415 - only --offline needs a server

                self._simulator = Simulator(max_recorded=0).start()
                weakref.finalize(self, self._simulator.stop)
            return "offline", self._simulator.base_url

    def close(self) -> None:
        """Close connections and files, and stop the simulator, if there are any; a later call has them anew."""
        with self._making:
            simulator, self._simulator = self._simulator, None
            made: dict[str, Any] = self.__dict__.copy()
            self.__dict__.pop("live", None)
        to_close = [made.get(name) for name in ("live", "worker", "runs", "shared")]
        to_close += [made["batching"].store] if "batching" in made else []
        to_close += [made["budgets"].accounts] if "budgets" in made else []
        for part in to_close:
            if part is not None:
                part.close()
        if simulator is not None:
            simulator.stop()


_ALIVE: "weakref.WeakSet[Project]" = weakref.WeakSet()


def _after_fork() -> None:
    """A child must not wait for turns of its parent's threads, which are not in it: it counts its own."""
    for project in _ALIVE:
        project.__dict__.pop("parts", None)
        project._making = threading.RLock()  # noqa: SLF001 - its own module


os.register_at_fork(after_in_child=_after_fork)


class Face:
    """What both faces show of the project that they work with."""

    _project: Project

    @property
    def config(self) -> Config:
        """The configuration."""
        return self._project.settings.config

    @property
    def performance_tracker(self) -> PerformanceTracker:
        """The ledger of executions."""
        return self._project.tracker

    @property
    def agent_memory(self) -> "AgentMemory":
        """What agents did before, as far as calls with `use_memory` have kept it."""
        return self._project.memory

    @property
    def response_cache(self) -> ResponseCache:
        """The cache that is asked before each call."""
        return self._project.cache


class AgentOrchestrator(Face):
    """Runs the agents of a project, one call at a time; works in any thread, and inside a running event loop.

    `project_dir` (by default the folder of the project that `config_path` lies in, else the current one) decides which
    config and which agents apply.
    `api_key` and `base_url` are what the SDK finds unless given. `offline=True` asks the simulator instead of Claude:
    a loopback server that is started at the first call and whose every answer is marked as simulated.
    `max_cost_usd` is the most that all its calls may cost together: one that could pass it is not sent, and is a
    `BudgetError`. Limits of the config (`budgets`) hold beside it, for all processes of the project.

    Example:
        >>> import claude_force
        >>> with claude_force.AgentOrchestrator(offline=True) as orchestrator:
        ...     result = orchestrator.execute_agent("python-expert", "What is a frozen dataclass?")
        >>> result.agent_name, result.simulated, result.is_whole
        ('python-expert', True, True)
    """

    def __init__(
        self,
        config_path: str | os.PathLike[str] | None = None,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        project_dir: str | os.PathLike[str] | None = None,
        offline: bool = False,
        enable_cache: bool = True,
        max_cost_usd: float | None = None,
    ) -> None:
        project = Project(
            config_path,
            api_key,
            base_url=base_url,
            project_dir=project_dir,
            offline=offline,
            enable_cache=enable_cache,
            max_cost_usd=max_cost_usd,
        )
        self._begin(project)

    @classmethod
    def of(cls, project: Project) -> Self:
        """The face of a project that there is already."""
        self = cls.__new__(cls)
        self._begin(project)
        return self

    def _begin(self, project: Project) -> None:
        self._project = project
        self._awaited: AsyncAgentOrchestrator | None = None
        self._making = threading.Lock()  # so that two threads in their first call make one async face

    # ------------------------------------------------------------ doing

    def execute_agent(
        self,
        agent_name: str,
        task: str,
        *,
        files: "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]" = (),
        materials: Iterable["Material"] = (),
        model: str | None = None,
        effort: "Effort | None" = None,
        max_tokens: int | None = None,
        timeout_seconds: float | None = None,
        attempt_timeout_seconds: float | None = None,
        fallback_models: Iterable[str] | None = None,
        use_memory: bool | None = None,
        use_cache: "UseCache" = None,
        temperature: float | None = None,
        on_text: "OnText | None" = None,
        on_retry: "OnRetry | None" = None,
        on_warning: "OnText | None" = None,
        output_schema: Mapping[str, Any] | None = None,
        skills: "Iterable[str] | LoadedSkills" = NO_SKILLS,
        project_context: bool | None = None,
        inference_geo: str | None = None,
    ) -> "AgentResult":
        """The agent's answer: a `str` that also carries model, usage and cost.

        `files` (paths of text files) and `materials` are what the task is about; they reach the model as fenced data.
        `timeout_seconds` covers the whole turn, with its retries and waits; `attempt_timeout_seconds` each attempt of
        it. `fallback_models` are asked, in their order, where the model is overloaded or fails on its side. With
        `on_text`, the answer is streamed to it. An answer that `max_tokens` cut is returned, with `is_whole` false.
        `temperature` is accepted for old callers and ignored: the API has no such parameter any more.

        What was answered before is taken from the cache, and of identical requests in the air at once, one is sent:
        the others get its answer, `cached`, for nothing. `use_cache=False` asks anew, and `"refresh"` also keeps that.

        With `use_memory`, what this agent did before and is like the task goes into the prompt, as fenced data, and how
        the call ends is kept for later ones; `None` is as the config says (`memory.enabled`).

        With `output_schema`, a JSON schema, the answer is JSON that fits it, and its value is in `data`. One that does
        not fit is asked for again, and in the end an `InvalidOutputError`; so is one that `max_tokens` cut, at once.

        `skills` are given in full beside those that the task seems to need: names, or `name:path` for a file of the
        skill as well. `project_context` says whether the agent is told what the project's `CLAUDE.md` files say; `None`
        is as the config says.

        `inference_geo` is where the model must run, in the API's words, such as `"us"`; the agent's file and the config
        may say so, too. An answer that is there already is given wherever it was made.

        Raises the `ClaudeForceError` family; bad input is an `InputError` and costs nothing.
        """
        options = CallOptions(
            files=files,
            materials=materials,
            model=model,
            effort=effort,
            max_tokens=max_tokens,
            timeout_seconds=timeout_seconds,
            attempt_timeout_seconds=attempt_timeout_seconds,
            fallback_models=fallback_models,
            use_memory=use_memory,
            use_cache=use_cache,
            temperature=temperature,
            on_text=on_text,
            on_retry=on_retry,
            on_warning=on_warning,
            output_schema=output_schema,
            skills=skills,
            project_context=project_context,
            inference_geo=inference_geo,
        )
        asked, outside = self._project.asked(agent_name, task, options), Blocking(lambda: self._project.live)
        return run_now(run_turn(outside, self._project.parts, asked, watch_of(options)))

    async def execute_agent_async(self, agent_name: str, task: str, **options: Unpack["CallOptions"]) -> "AgentResult":
        """Same as `execute_agent`, awaited."""
        return await self.async_face.execute_agent(agent_name, task, **options)

    def execute_batch(
        self,
        tasks: "Iterable[AgentTask | tuple[str, str]]",
        *,
        on_error: Literal["raise", "return"] = "raise",
        live_fallback: bool = False,
        on_status: "OnStatus | None" = None,
        on_outcome: "OnOutcome | None" = None,
        **options: Unpack["CallOptions"],
    ) -> "list[AgentResult | ClaudeForceError]":
        """The results of many (agent, task) pairs, in their order, for half the price: as a message batch.

        Waits until the batch has ended, which takes minutes, or hours, and 24 at the most. Whatever ends the wait, a
        Ctrl-C or a crash, the batch goes on, and the same call takes it up: nothing is sent twice. What the cache has
        is not sent, nor is the same twice in one batch. `options` are those of `execute_agent`, for all; time-outs
        and `on_text` say nothing here.

        With `on_error="raise"` the first error, in the order of the tasks, is raised once all are collected and kept;
        with `"return"` errors stand in their tasks' places. `live_fallback=True` asks what the batch left unanswered,
        or could not answer for trouble on the server's side, as an ordinary call, at the full price. `on_status` hears
        how the batch stands at each look, `on_outcome` of each task's place and result.
        """
        from claude_force.engine.batching import settled  # noqa: PLC0415 - most calls are none
        from claude_force.engine.sending import BatchWatch  # noqa: PLC0415 - as above

        project, watch = self._project, BatchWatch(on_status, on_outcome, options.pop("on_warning", None))
        asked, outside = project.tasks(tasks, options), Blocking(lambda: project.live)
        work = project.batching.execute(outside, asked, live_fallback=live_fallback, watch=watch)
        return settled(run_now(work), on_error)

    async def execute_multiple_async(
        self,
        tasks: "Iterable[AgentTask | tuple[str, str]]",
        *,
        on_error: Literal["raise", "return"] = "raise",
        **options: Unpack["CallOptions"],
    ) -> "list[AgentResult | ClaudeForceError]":
        """Same as `AsyncAgentOrchestrator.execute_multiple`."""
        return await self.async_face.execute_multiple(tasks, on_error=on_error, **options)

    def execute_workflow(
        self,
        workflow: "str | Mapping[str, Any] | None",
        inputs: "Mapping[str, Any] | None" = None,
        *,
        on_error: Literal["raise", "return"] = "raise",
        resume: str | None = None,
        force: Iterable[str] = (),
        use_cache: "UseCache" = None,
        max_cost_usd: float | None = None,
        on_event: "OnEvent | None" = None,
        batch: bool = False,
        live_fallback: bool = False,
        engine: EngineName = "built-in",
    ) -> "WorkflowResult":
        """Run a workflow, one step at a time, each after those that it depends on.

        `workflow` is a name (of the config, or a file in `.claude/workflows`) or a dict. A fault in it, or in `inputs`,
        is a `WorkflowError` that lists all of them, and costs nothing.

        A run that did not come to its end is a `RunError`, whose `result` has all that was done; with
        `on_error="return"`, that result is returned. `resume` takes a run up again, by its id or `"last"`: what it has
        paid for is not asked again, whatever was edited meanwhile; `force` names steps that are. `use_cache` is as for
        `execute_agent`, for every step; `max_cost_usd` overrides the workflow's own limit. `on_event` is told what
        happens, as it happens.

        `batch=True` does it for half the price: all that is ready is one message batch, which takes minutes or hours,
        and then what that has made ready is the next one. Time-outs and bounds on what is under way say nothing there.
        What ends the run leaves the batch running, and taking the run up with `batch=True` finds it. `live_fallback` is
        as for `execute_batch`.

        `engine="durable"` hands each step to workers, through the database that `engine.url` names: what they do goes
        on whatever becomes of this process, and taking the run up with `engine="durable"` finds it. Through a file,
        this process works as well. No text is streamed, and an `EngineError` says what is wrong with the engine.
        """
        from claude_force.workflows.crew import Alone  # noqa: PLC0415 - only a workflow needs the room
        from claude_force.workflows.run import RunOptions  # noqa: PLC0415
        from claude_force.workflows.start import prepare_run  # noqa: PLC0415

        run = prepare_run(
            self._project,
            Alone(Blocking(lambda: self._project.live)),
            workflow,
            inputs,
            resume=resume,
            max_cost_usd=max_cost_usd,
            options=RunOptions(
                use_cache=use_cache,
                force=frozenset(force),
                on_event=on_event,
                batching=self._project.batching if batch else None,
                live_fallback=live_fallback,
                hands=self._project.hands(engine, size=1, is_batch=batch),
            ),
        )
        return run_now(run.outcome(on_error=on_error))

    async def execute_workflow_async(
        self,
        workflow: "str | Mapping[str, Any] | None",
        inputs: "Mapping[str, Any] | None" = None,
        *,
        on_error: Literal["raise", "return"] = "raise",
        **options: Unpack["WorkflowOptions"],
    ) -> "WorkflowResult":
        """Same as `AsyncAgentOrchestrator.execute_workflow`."""
        return await self.async_face.execute_workflow(workflow, inputs, on_error=on_error, **options)

    def list_workflows(self) -> list[str]:
        """The name of every workflow that can be run."""
        from claude_force.library.workflows import WorkflowLibrary  # noqa: PLC0415 - only a workflow needs it

        return list(WorkflowLibrary(self.settings, start=self._project.start).names())

    def roll_up_metrics(self, *, dry_run: bool = False) -> "Rollup | None":
        """Make figures of days of what the ledger has of executions before `metrics.keep_days`, so that it stays small.

        Totals stay what they are. Returns what was done, or would be with `dry_run`; `None` where another process is at
        it. May be called at any time, also while others execute. Raises `MetricsError`, and `OSError` for a full disk.
        """
        return self._project.roll_up(dry_run=dry_run)

    def list_agents(self) -> list["AgentDefinition"]:
        """Every agent that can be called, by name."""
        return agent_library(self.settings, start=self._project.start).load_all()

    def recommend_agents(self, task: str, top_k: int = 3) -> list["AgentMatch"]:
        """The agents that fit this task best, with reasons, the best first; none where probably none fits.

        Nothing is sent. Raises `InputError`.
        """
        return self._project.selector.select_agents(task, top_k)

    # ------------------------------------------------------------ parts, made when they are needed

    @property
    def settings(self) -> Settings:
        """The configuration, and where it came from. Raises `ConfigError`."""
        return self._project.settings

    @property
    def client(self) -> "anthropic.Anthropic":
        """The SDK's client that the calls go through, of several endpoints the first; its own retries are off."""
        return self._project.live.client_of(self._project.first_endpoint)

    @property
    def async_face(self) -> "AsyncAgentOrchestrator":
        """The async face that shares config, cache, ledger and limits with this one."""
        with self._making:
            if self._awaited is None:
                from claude_force.async_orchestrator import AsyncAgentOrchestrator  # noqa: PLC0415 - loads asyncio

                self._awaited = AsyncAgentOrchestrator.of(self._project)
            return self._awaited

    # ------------------------------------------------------------ ending

    def close(self) -> None:
        """Close connections, and the simulator if there is one; a later call opens them anew.

        What the `*_async` methods opened is closed with the event loop that ran them.
        """
        self._project.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CallOptions(TypedDict, total=False):
    """The keyword arguments of `execute_agent`, for methods that pass them on."""

    files: "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"
    materials: Iterable["Material"]
    model: str | None
    effort: "Effort | None"
    max_tokens: int | None
    timeout_seconds: float | None
    attempt_timeout_seconds: float | None
    fallback_models: Iterable[str] | None
    use_memory: bool | None
    use_cache: "UseCache"
    temperature: float | None
    on_text: "OnText | None"
    on_retry: "OnRetry | None"
    on_warning: "OnText | None"
    output_schema: Mapping[str, Any] | None
    skills: "Iterable[str] | LoadedSkills"
    project_context: bool | None
    inference_geo: str | None


class WorkflowOptions(TypedDict, total=False):
    """The keyword arguments of `execute_workflow` beside `on_error`, for methods that pass them on."""

    resume: str | None
    force: Iterable[str]
    use_cache: "UseCache"
    max_cost_usd: float | None
    max_concurrent: int | None
    on_event: "OnEvent | None"
    batch: bool
    live_fallback: bool
    engine: EngineName


class AgentTask(NamedTuple):
    """One task of many, with options of its own; without them a plain (agent, task) pair will do.

    Example:
        >>> AgentTask("code-reviewer", "Review it.", {"files": "cli.py", "effort": "low"}).options["effort"]
        'low'
    """

    agent_name: str
    task: str
    options: CallOptions = CallOptions()
    """Keyword arguments of `execute_agent` for this task alone."""


def each(files: "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]") -> tuple[str, ...]:
    """The paths; one alone is a path, and not the letters of one."""
    if files == ():  # as most calls have it; asking for a path's protocol takes a microsecond
        return ()
    return (os.fspath(files),) if isinstance(files, str | os.PathLike) else tuple(os.fspath(file) for file in files)


def task_of(
    agent_name: str, task: str, options: CallOptions, *, materials: tuple["Material", ...], skills: LoadedSkills
) -> Task:
    """What a call of either face asks for, in the engine's words; its files and skills have been read."""
    if unknown := options.keys() - CallOptions.__annotations__.keys():
        raise TypeError(f"execute_agent() got an unexpected keyword argument {min(unknown)!r}")
    if options.get("temperature") is not None:
        _warn_of_temperature()
    for name, value in (("agent_name", agent_name), ("task", task)):
        if not isinstance(value, str):
            raise TaskError(f"{name} is {type(value).__name__}; give a str")
    fallback_models = options.get("fallback_models")
    return Task(
        agent_name=agent_name,
        text=task,
        materials=materials,
        model=options.get("model"),
        effort=options.get("effort"),
        max_tokens=options.get("max_tokens"),
        timeout_s=options.get("timeout_seconds"),
        attempt_timeout_s=options.get("attempt_timeout_seconds"),
        fallback_models=None if fallback_models is None else _models(fallback_models),
        use_memory=options.get("use_memory"),
        use_cache=options.get("use_cache"),
        output_schema=options.get("output_schema"),
        skills=skills,
        project_context=options.get("project_context"),
        inference_geo=options.get("inference_geo"),
    )


def watch_of(options: CallOptions) -> Watch:
    """Who looks on."""
    return Watch(options.get("on_text"), options.get("on_retry"), options.get("on_warning"))


def _models(names: Iterable[str]) -> tuple[str, ...]:
    """The names; one alone is a name, and not the letters of one."""
    return (names,) if isinstance(names, str) else tuple(names)


@functools.cache  # once in a process is enough
def _warn_of_temperature() -> None:
    warnings.warn(
        "temperature is ignored: the API takes no sampling parameters any more; steer with effort=",
        DeprecationWarning,
        stacklevel=5,
    )
