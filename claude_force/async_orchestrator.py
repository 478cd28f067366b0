"""The async face: `AsyncAgentOrchestrator`. The same turns as the sync one, awaited, many at once.

A *lane* is what belongs to one event loop: its connections and its free places. It is made at the first call in a loop
and closed with it, so one orchestrator can serve several loops, in turn or in several threads at once.
"""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, Unpack

import aiofiles
import msgspec

from claude_force.base.briefing import NO_SKILLS, LoadedSkills
from claude_force.base.endpoints import serving
from claude_force.base.errors import ApiError, ClaudeForceError, InputError, NotRunError
from claude_force.base.records import AgentResult
from claude_force.engine.faces import Awaiting, run_now
from claude_force.engine.retry import wait_s
from claude_force.engine.turn import run_turn
from claude_force.library.materials import MAX_BYTES, readable_name, text_material, unreadable
from claude_force.orchestrator import AgentTask, CallOptions, Face, Project, WorkflowOptions, each, task_of, watch_of
from claude_force.transports.live import AsyncLiveTransport, LiveTransport, ThreadedTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    import anthropic

    from claude_force.base.config import Config, Settings
    from claude_force.base.ports import CountingTransport, UseCache
    from claude_force.base.records import AgentDefinition, Material, Request
    from claude_force.base.results import WorkflowResult
    from claude_force.engine.request import Others
    from claude_force.engine.sending import OnOutcome, OnStatus
    from claude_force.orchestrator import EngineName
    from claude_force.semantic_selector import AgentMatch
    from claude_force.workers.durable import Do
    from claude_force.workflows.crew import MakeTurn
    from claude_force.workflows.events import OnEvent
    from claude_force.workflows.plan import Plan
    from claude_force.workflows.run import Run
    from claude_force.workflows.unit import Unit


class Outcome(NamedTuple):
    """How one task of many ended."""

    number: int
    """Its place in the input, from 0."""
    result: AgentResult | ClaudeForceError


class _Kin:
    """Of which agent and model a batch asks for different things: those calls share the beginning of their prompts."""

    def __init__(self, tasks: Iterable[AgentTask | tuple[str, str]]) -> None:
        self._first: dict[tuple[str, object], AgentTask | None] = {}
        """The first task of each; `None` once there is another one, which no shared answer will do for."""
        self._left: Counter[tuple[str, object]] = Counter()
        """How many are known to come."""
        if isinstance(tasks, Collection):  # of what is drawn as it is needed, nobody knows what comes
            for task in tasks:
                with suppress(TypeError):  # what is no task is said when its turn comes
                    self._left[self._see(AgentTask(*task))] += 1

    def draw(self, task: AgentTask) -> None:
        """This one is next."""
        self._left[self._see(task)] -= 1

    def others(self, task: AgentTask) -> "Others":
        """Who shares the beginning of this task's prompt."""
        key = self._key(task)
        if self._first[key] is not None:
            return "none"
        return "to_come" if self._left[key] > 0 else "here"

    def _see(self, task: AgentTask) -> tuple[str, object]:
        key = self._key(task)
        first = self._first.setdefault(key, task)
        if first is not None and first != task:
            self._first[key] = None
        return key

    @staticmethod
    def _key(task: AgentTask) -> tuple[str, object]:
        own: object = task.options
        return task.agent_name, own.get("model") if isinstance(own, Mapping) else None


class _Lane(NamedTuple):
    outside: Awaiting
    transport: "CountingTransport"
    places: asyncio.Semaphore
    keeper: AsyncGenerator[None]
    """Suspended until the loop ends; the loop closes its generators, and with this one the connections."""


class _Crew:
    """Many steps of a run at once, in one event loop. Implements `workflows.crew.Crew`."""

    def __init__(self, outside: Awaiting, places: asyncio.Semaphore, size: int) -> None:
        self.size = size
        self.outside = outside
        self._places = places
        self._tasks: set[asyncio.Task[Unit]] = set()
        self._ended: asyncio.Queue[asyncio.Task[Unit]] = asyncio.Queue()

    def start(self, work: Coroutine[Any, Any, "Unit"]) -> None:
        """See `Crew.start`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended.put_nowait)

    async def ended(self) -> "Unit":
        """See `Crew.ended`."""
        task = await self._ended.get()
        self._tasks.discard(task)
        return task.result()

    async def turn(self, make: "MakeTurn") -> AgentResult:
        """See `Crew.turn`."""
        async with self._places:
            return await make()

    async def cancel(self) -> None:
        """See `Crew.cancel`."""
        await cancelled(*self._tasks)


class AsyncAgentOrchestrator(Face):
    """Runs many agents at once; the arguments win over the config.

    At most `max_concurrent` turns are under way in an event loop; the others wait, and their `timeout_seconds` starts
    when their turn does. An async context manager; without it, connections are closed with the loop.

    Example:
        >>> import asyncio, claude_force
        >>> async def main():
        ...     async with claude_force.AsyncAgentOrchestrator(offline=True) as orchestrator:
        ...         tasks = [("python-expert", "What is a list?"), ("python-expert", "What is a tuple?")]
        ...         return await orchestrator.execute_multiple(tasks)
        >>> [result.is_whole for result in asyncio.run(main())]
        [True, True]
    """

    def __init__(
        self,
        config_path: str | os.PathLike[str] | None = None,
        api_key: str | None = None,
        max_concurrent: int = 10,
        timeout_seconds: float = 120,
        max_retries: int = 3,
        enable_cache: bool = True,  # noqa: FBT001, FBT002 - promised so
        cache_ttl_hours: float | None = None,
        cache_max_size_mb: float | None = None,
        enable_tracking: bool = True,  # noqa: FBT001, FBT002 - promised so
        *,
        base_url: str | None = None,
        project_dir: str | os.PathLike[str] | None = None,
        offline: bool = False,
        max_cost_usd: float | None = None,
    ) -> None:
        project = Project(
            config_path,
            api_key,
            base_url=base_url,
            project_dir=project_dir,
            offline=offline,
            timeout_seconds=timeout_seconds,
            max_retries=max_retries,
            enable_tracking=enable_tracking,
            enable_cache=enable_cache,
            cache_ttl_hours=cache_ttl_hours,
            cache_max_size_mb=cache_max_size_mb,
            max_cost_usd=max_cost_usd,
        )
        self._begin(project, max_concurrent)

    @classmethod
    def of(cls, project: Project, *, max_concurrent: int | None = None) -> Self:
        """The async face of a project that a sync face already works with; `None`: as its config says."""
        self = cls.__new__(cls)
        self._begin(project, max_concurrent)
        return self

    def _begin(self, project: Project, max_concurrent: int | None) -> None:
        _check_size(max_concurrent)
        self._project = project
        self._max_concurrent = max_concurrent
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane] = {}
        self._making = threading.Lock()  # protects `_lanes`: loops may run in several threads

    # ------------------------------------------------------------ doing

    async def execute_agent(self, agent_name: str, task: str, **options: Unpack[CallOptions]) -> AgentResult:
        """Same as `AgentOrchestrator.execute_agent`, awaited. Cancelling it closes its connection at once."""
        return await self._execute(agent_name, task, options)

    async def _execute(
        self, agent_name: str, task: str, options: CallOptions, *, others: "Callable[[], Others] | None" = None
    ) -> AgentResult:
        """One call; `others` says of one of many who shares the beginning of its prompt."""
        files = [await _read_material(file) for file in each(options.get("files", ()))]
        skills = options.get("skills", NO_SKILLS)
        if not isinstance(skills, LoadedSkills):
            skills = await asyncio.to_thread(self._project.load_skills, skills)
        materials = (*files, *options.get("materials", ()))
        asked = task_of(agent_name, task, options, materials=materials, skills=skills)
        if others is not None:
            asked = msgspec.structs.replace(asked, others=others)
        lane = self._lane()
        async with lane.places:
            return await run_turn(lane.outside, self._project.parts, asked, watch_of(options))

    async def execute_multiple(
        self,
        tasks: Iterable[AgentTask | tuple[str, str]],
        *,
        on_error: Literal["raise", "return"] = "raise",
        **options: Unpack[CallOptions],
    ) -> list[AgentResult | ClaudeForceError]:
        """The results of many (agent, task) pairs, in their order; `options` are those of `execute_agent`, for all.

        A task with options of its own is an `AgentTask`; they win.

        With `on_error="raise"` the first error ends the batch: nothing further is sent, what is in flight is finished
        and accounted for, then the error is raised. With `"return"` errors stand in their tasks' places. A terminal
        error (credentials, a spent limit, a retired model) ends the batch in both: the rest is `NotRunError`.
        """
        ended: dict[int, AgentResult | ClaudeForceError] = {}
        first: ClaudeForceError | None = None
        async for number, result in self._outcomes(tasks, stops_at_any_error=on_error == "raise", options=options):
            ended[number] = result
            if first is None and isinstance(result, ClaudeForceError):
                first = result
        if on_error == "raise" and first is not None:
            raise first
        return [ended[number] for number in range(len(ended))]

    async def execute_batch(
        self,
        tasks: Iterable[AgentTask | tuple[str, str]],
        *,
        on_error: Literal["raise", "return"] = "raise",
        live_fallback: bool = False,
        on_status: "OnStatus | None" = None,
        on_outcome: "OnOutcome | None" = None,
        **options: Unpack[CallOptions],
    ) -> list[AgentResult | ClaudeForceError]:
        """Same as `AgentOrchestrator.execute_batch`, awaited. Cancelling it leaves the batch running."""
        from claude_force.engine.batching import settled  # noqa: PLC0415 - most calls are none
        from claude_force.engine.sending import BatchWatch  # noqa: PLC0415 - as above

        project, watch = self._project, BatchWatch(on_status, on_outcome, options.pop("on_warning", None))
        asked = await asyncio.to_thread(project.tasks, tasks, options)
        outside = self._lane().outside
        return settled(
            await project.batching.execute(outside, asked, live_fallback=live_fallback, watch=watch), on_error
        )

    def as_completed(
        self, tasks: Iterable[AgentTask | tuple[str, str]], **options: Unpack[CallOptions]
    ) -> AsyncGenerator[Outcome]:
        """Each task's outcome as soon as it is there; errors as `execute_multiple(on_error="return")` has them.

        `tasks` may be a generator: it is drawn from as places become free. Leaving the loop cancels what is in flight;
        a cancellation from outside does so, too, but first gives what had already ended, as it is paid for.
        """
        return self._outcomes(tasks, stops_at_any_error=False, options=options)

    async def execute_workflow(
        self,
        workflow: "str | Mapping[str, Any] | None",
        inputs: "Mapping[str, Any] | None" = None,
        *,
        on_error: Literal["raise", "return"] = "raise",
        **options: Unpack[WorkflowOptions],
    ) -> "WorkflowResult":
        """Same as `AgentOrchestrator.execute_workflow`, awaited, but what is ready runs at once.

        A step starts the moment its own dependencies are done; of those that are ready, the one with the longest way to
        the end comes first. `max_concurrent` bounds how many are under way: by default the workflow's bound, else the
        orchestrator's; with 1, steps run in the order of the file. Cancelling it cancels the steps that are in flight,
        and what was paid for is in the journal.
        """
        return await self.workflow_run(workflow, inputs, **options).outcome(on_error=on_error)

    def workflow_plan(self, workflow: "str | Mapping[str, Any]") -> "Plan":
        """The checked plan of a workflow. Raises one `WorkflowError` with every fault."""
        from claude_force.workflows.start import read_plan  # noqa: PLC0415 - only a workflow needs the room

        return read_plan(self._project, workflow)

    def workflow_run(
        self,
        workflow: "str | Mapping[str, Any] | None",
        inputs: "Mapping[str, Any] | None" = None,
        *,
        resume: str | None = None,
        force: Iterable[str] = (),
        use_cache: "UseCache" = None,
        max_cost_usd: float | None = None,
        max_concurrent: int | None = None,
        on_event: "OnEvent | None" = None,
        batch: bool = False,
        live_fallback: bool = False,
        engine: "EngineName" = "built-in",
        with_text: bool = False,
    ) -> "Run":
        """A run that is checked and in the journal, ready to be executed in the running loop; it can be stopped."""
        from claude_force.workflows.run import RunOptions  # noqa: PLC0415 - only a workflow needs the room
        from claude_force.workflows.start import prepare_run  # noqa: PLC0415

        features = self.config.features
        _check_size(max_concurrent)
        size = self.max_concurrent if max_concurrent is None else min(max_concurrent, self.max_concurrent)
        lane = self._lane()
        size = size if features.parallel_workflows_enabled else 1
        crew = _Crew(lane.outside, lane.places, size)
        options = RunOptions(
            use_cache=use_cache,
            force=frozenset(force),
            on_event=on_event,
            with_text=with_text,
            batching=self._project.batching if batch else None,
            live_fallback=live_fallback,
            hands=self._project.hands(engine, size=size, is_batch=batch),
        )
        return prepare_run(
            self._project, crew, workflow, inputs, resume=resume, max_cost_usd=max_cost_usd, options=options
        )

    async def count_tokens(self, requests: "Mapping[str, Request]") -> dict[str, int]:
        """How many tokens each prompt has, by the name that it was given: the API's own count, which costs nothing.

        Failures that may pass are tried again, as for a call; the first other one is raised, and ends the rest.
        """
        lane, waiting, found = self._lane(), iter(requests.items()), dict[str, int]()

        async def work() -> None:
            for name, request in waiting:
                async with lane.places:
                    found[name] = await self._counted(lane, request)

        workers = [asyncio.create_task(work()) for _ in range(min(self.max_concurrent, len(requests)))]
        try:
            await asyncio.gather(*workers)
        finally:
            await cancelled(*workers)
        return found

    async def _counted(self, lane: _Lane, request: "Request") -> int:
        config, clock = self._project.parts.config, self._project.parts.clock
        defaults, ends_s = config.defaults, clock.monotonic() + config.defaults.timeout_seconds
        endpoint, attempt = serving(config.endpoints, config.inference_geo)[0], 1
        while True:
            try:
                left_s = ends_s - clock.monotonic()
                return await lane.transport.count_tokens(request, timeout_s=left_s, endpoint=endpoint)
            except ApiError as error:
                left_s, roll = ends_s - clock.monotonic(), clock.roll()
                wait = wait_s(error, attempt=attempt, max_retries=defaults.max_retries, left_s=left_s, roll=roll)
                if wait is None:
                    raise
            await lane.outside.pause(wait)
            attempt += 1

    async def stream(self, agent_name: str, task: str, **options: Unpack[CallOptions]) -> AsyncGenerator[str]:
        """The answer's text as it arrives, piece by piece, and at the end the finished `AgentResult`.

        After an `on_retry` the answer starts again from its beginning. Leaving the loop early cancels the call.
        """
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        options["on_text"] = pieces.put_nowait
        turn = asyncio.create_task(self.execute_agent(agent_name, task, **options))
        turn.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield await turn
        finally:
            await cancelled(turn)

    async def _outcomes(
        self, tasks: Iterable[AgentTask | tuple[str, str]], *, stops_at_any_error: bool, options: CallOptions
    ) -> AsyncGenerator[Outcome]:
        kin = _Kin(tasks)
        # Drawn from one by one: ten thousand tasks are never ten thousand coroutines.
        waiting = ((number, AgentTask(*item)) for number, item in enumerate(tasks))
        outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()
        endings: list[ClaudeForceError] = []  # errors that end the batch, the first one first

        async def work() -> None:
            try:
                for number, task in waiting:
                    kin.draw(task)
                    result = await self._attempt(task, options, endings, kin, stops_at_any_error=stops_at_any_error)
                    outcomes.put_nowait(Outcome(number, result))
                    if (me := asyncio.current_task()) and me.cancelling():  # an answer came to its end all the same
                        return
            finally:
                waiting.close()  # whatever ended one worker, nothing more is sent: no defect is paid for twice

        workers = [asyncio.create_task(work()) for _ in range(self.max_concurrent)]
        for worker in workers:
            worker.add_done_callback(lambda _: outcomes.put_nowait(None))
        try:
            for _ in workers:
                while (outcome := await outcomes.get()) is not None:
                    yield outcome
            await asyncio.gather(*workers)  # a defect of ours, or of the iterable, is raised here
        except asyncio.CancelledError:
            with suppress(asyncio.CancelledError):  # a second one
                await cancelled(*workers)
            for outcome in _rest(outcomes):
                yield outcome
            raise
        finally:
            await cancelled(*workers)

    async def _attempt(
        self,
        task: AgentTask,
        options: CallOptions,
        endings: list[ClaudeForceError],
        kin: "_Kin",
        *,
        stops_at_any_error: bool,
    ) -> AgentResult | ClaudeForceError:
        """How one task of a batch ends; an error that ends the batch is added to `endings`."""
        if endings:
            await asyncio.sleep(0)  # who loops over the outcomes hears of it before the tasks, or the memory, end
            return _not_run(task.agent_name, endings[0])
        try:
            others = partial(kin.others, task)
            return await self._execute(task.agent_name, task.task, options | task.options, others=others)
        except ClaudeForceError as error:
            if error.is_terminal or stops_at_any_error:
                endings.append(error)
            return error

    async def recommend_agents(self, task: str, top_k: int = 3) -> "list[AgentMatch]":
        """Same as `AgentOrchestrator.recommend_agents`, awaited."""
        return await asyncio.to_thread(lambda: self._project.selector.select_agents(task, top_k))

    # ------------------------------------------------------------ parts, made when they are needed

    @property
    def max_concurrent(self) -> int:
        """How many turns are under way at once, at the most."""
        config = self._project.settings.config
        if not (config.features.async_enabled and config.performance.async_enabled):
            return 1
        return self._max_concurrent or config.performance.max_concurrent_agents

    @property
    def async_client(self) -> "anthropic.AsyncAnthropic":
        """The SDK's client for the running event loop, of which it must be asked; its own retries are off.

        Of several endpoints it is that of the first.
        """
        transport = self._lane().transport
        if not isinstance(transport, AsyncLiveTransport):
            raise RuntimeError(  # noqa: TRY004 - nobody gave a wrong type
                "features.async_enabled is false, so calls go through the sync client; set it to true"
            )
        return transport.client_of(self._project.first_endpoint)

    async def load_config(self) -> "Config":
        """The configuration, read without blocking the loop."""
        settings: Settings = await asyncio.to_thread(lambda: self._project.settings)
        return settings.config

    async def load_agent_definition(self, name: str) -> "AgentDefinition":
        """The agent of that name, read without blocking the loop."""
        return await asyncio.to_thread(lambda: self._project.parts.agents.find(name))

    def _lane(self) -> _Lane:
        """That of the running loop, made at the first question."""
        loop = asyncio.get_running_loop()
        with self._making:
            if loop not in self._lanes:
                transport, places = self._transport(), asyncio.Semaphore(self.max_concurrent)
                outside = Awaiting(transport)
                keeper = self._keep(loop, outside, transport)
                run_now(keeper.asend(None))  # only one that has begun is closed with the loop
                self._lanes[loop] = _Lane(outside, transport, places, keeper)
            return self._lanes[loop]

    def _transport(self) -> "CountingTransport":
        api_key, base_url = self._project.address()
        if self.config.features.async_enabled and self.config.performance.async_enabled:
            return AsyncLiveTransport(api_key=api_key, base_url=base_url)
        return ThreadedTransport(LiveTransport(api_key=api_key, base_url=base_url))

    async def _keep(
        self, loop: asyncio.AbstractEventLoop, outside: Awaiting, transport: "CountingTransport"
    ) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            with self._making:
                self._lanes.pop(loop, None)
            await outside.drain()
            await transport.aclose()

    # ------------------------------------------------------------ ending

    async def aclose(self) -> None:
        """Close this loop's connections, and the simulator if there is one; a later call opens them anew."""
        lane = self._lanes.get(asyncio.get_running_loop())
        if lane is not None:
            await lane.keeper.aclose()
        self._project.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def work_of(project: Project) -> "Do":
    """Does the work of the durable engine, in the event loop that asks."""
    face = AsyncAgentOrchestrator.of(project)

    async def do(id_: str, sealed: bytes) -> bytes:
        return await project.worker.do(face._lane().outside, id_, sealed)  # noqa: SLF001 - its own module

    return do


def _check_size(max_concurrent: int | None) -> None:
    if max_concurrent is not None and max_concurrent < 1:
        raise InputError(f"max_concurrent is {max_concurrent!r}, which leaves no place to run; give 1 or more")


def _not_run(agent: str, cause: ClaudeForceError) -> NotRunError:
    return NotRunError(
        f"{agent!r} was not run: another task ended the batch ({cause.args[0]})",
        agent=agent,
        cause=cause,
        exit_code=cause.exit_code,
    )


def _rest(outcomes: asyncio.Queue[Outcome | None]) -> Iterator[Outcome]:
    """What is in the queue by now."""
    while not outcomes.empty():
        if (outcome := outcomes.get_nowait()) is not None:
            yield outcome


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait until all has ended, however; then raise a cancellation that came meanwhile."""
    cancellation: asyncio.CancelledError | None = None
    for task in tasks:
        task.cancel()
    while running := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            cancellation = error
    for task in tasks:
        _ = task.cancelled() or task.exception()  # seen, or asyncio would complain
    if cancellation is not None:
        raise cancellation


async def _read_material(path: str) -> "Material":
    name = readable_name(path)
    try:
        async with aiofiles.open(path, "rb") as file:
            return text_material(name, await file.read(MAX_BYTES + 1))
    except OSError as error:
        raise unreadable(name, error) from error
