"""A model for each task, then as ever: `HybridOrchestrator`, an `AgentOrchestrator` that asks a router.

Whoever names a model is obeyed: the call or the workflow's step, else the agent's file. Where nobody does, the router
decides (`engine/router.py`), before `defaults.model` of the config.
"""

import os
from decimal import Decimal
from typing import TYPE_CHECKING, Unpack

import msgspec

from claude_force.base.config import Routing
from claude_force.base.errors import InputError
from claude_force.base.models import TIERS, resolve_model, tier_of
from claude_force.base.records import ModelRecommendation
from claude_force.engine.cascade import CascadeResult, Judge, run_cascade
from claude_force.engine.faces import Blocking, run_now
from claude_force.engine.request import check_task, named_model
from claude_force.orchestrator import AgentOrchestrator, CallOptions, Project, watch_of

if TYPE_CHECKING:
    from claude_force.base.models import Tier
    from claude_force.base.records import AgentDefinition
    from claude_force.engine.cascade import Check
    from claude_force.engine.parts import Watch
    from claude_force.engine.request import Task

__all__ = ["CostEstimate", "HybridOrchestrator", "ModelRecommendation"]


class CostEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What an execution would cost. Money is `None` where the model has no price: unpriced, never free."""

    recommendation: ModelRecommendation
    prompt_tokens: int
    """Estimated; 0 where the cache has the answer."""
    output_tokens: int
    is_guess: bool
    """Whether nothing is known of how long this agent's answers are."""
    cached: bool
    """Whether the answer was paid for before."""
    expected_usd: Decimal | None
    """Asked once, with nothing cached at the API."""
    max_usd: Decimal | None
    """The most that it can cost: every retry and fallback model, each billed in full."""


class HybridOrchestrator(AgentOrchestrator):
    """An `AgentOrchestrator` that chooses the cheapest model that is good enough, between two tiers.

    A call, a step or an agent file that names a model is obeyed, whatever `min_tier` and `max_tier` say.

    Example:
        >>> from claude_force import HybridOrchestrator
        >>> with HybridOrchestrator(offline=True) as orchestrator:
        ...     for task in ("Fix the typo in the title.", "Design the architecture of a payment service."):
        ...         print(orchestrator.recommend_model(task).tier)
        haiku
        opus
    """

    def __init__(
        self,
        config_path: str | os.PathLike[str] | None = None,
        api_key: str | None = None,
        *,
        min_tier: "Tier | None" = None,
        max_tier: "Tier | None" = None,
        base_url: str | None = None,
        project_dir: str | os.PathLike[str] | None = None,
        offline: bool = False,
        enable_cache: bool = True,
        max_cost_usd: float | None = None,
    ) -> None:
        for name, tier in (("min_tier", min_tier), ("max_tier", max_tier)):
            if tier is not None and tier not in TIERS:
                raise InputError(f"{name} is {tier!r}; give one of {', '.join(TIERS)}")
        if min_tier and max_tier and (fault := Routing(min_tier=min_tier, max_tier=max_tier).fault):
            raise InputError(fault)
        project = Project(
            config_path,
            api_key,
            base_url=base_url,
            project_dir=project_dir,
            offline=offline,
            enable_cache=enable_cache,
            max_cost_usd=max_cost_usd,
            auto_model=True,
            min_tier=min_tier,
            max_tier=max_tier,
        )
        self._begin(project)

    # ------------------------------------------------------------ doing

    def execute_cascade(
        self,
        agent_name: str,
        task: str,
        *,
        check: "Check | str | None" = None,
        min_confidence: float = 0.7,
        **options: Unpack[CallOptions],
    ) -> CascadeResult:
        """Ask the cheapest model that is allowed, and the next only where its answer does not pass.

        `check` is a function of the answer, or the name of an agent that rates it: below `min_confidence` it does not
        pass. The agent that answers may rate itself. Without a check, `output_schema` is the check. Where a model is
        named, it alone is asked. What all attempts and ratings cost is in the result, and each is in the ledger.

        If even the last answer does not pass, it is returned, with `passed` false. Other errors, such as an overload,
        are raised at once; what was answered by then is in the cache.
        """
        asked, watch, models, how = self._cascade(agent_name, task, check, min_confidence, options)
        outside = Blocking(lambda: self._project.live)
        return run_now(run_cascade(outside, self._project.parts, asked, watch, models=models, check=how))

    async def execute_cascade_async(
        self,
        agent_name: str,
        task: str,
        *,
        check: "Check | str | None" = None,
        min_confidence: float = 0.7,
        **options: Unpack[CallOptions],
    ) -> CascadeResult:
        """Same as `execute_cascade`, awaited."""
        import asyncio  # noqa: PLC0415 - the sync class alone loads no loop

        asked, watch, models, how = await asyncio.to_thread(
            self._cascade, agent_name, task, check, min_confidence, options
        )
        lane = self.async_face._lane()  # noqa: SLF001 - of our own family
        async with lane.places:
            return await run_cascade(lane.outside, self._project.parts, asked, watch, models=models, check=how)

    # ------------------------------------------------------------ telling before

    def recommend_model(
        self, task: str, agent: str | None = None, **options: Unpack[CallOptions]
    ) -> ModelRecommendation:
        """The model that `execute_agent` would ask with these options. Nothing is sent.

        Without an agent, the task alone counts. Raises `InputError` as `execute_agent` does.
        """
        asked = self._project.asked("" if agent is None else agent, task, options)
        return self._recommendation(asked, None if agent is None else self._find(agent))

    def estimate_cost(self, task: str, agent: str, **options: Unpack[CallOptions]) -> CostEstimate:
        """What `execute_agent` would cost with these options. Nothing is sent; raises `InputError` as it does."""
        from claude_force.insight.estimate import estimate_task  # noqa: PLC0415 - only who asks pays for it

        asked = self._project.asked(agent, task, options)
        recommendation = self._recommendation(asked, self._find(agent))
        found = estimate_task(
            self._project.parts, asked, chooser=self._project.chooser.frozen(), is_routed=True, counts={}
        )
        return CostEstimate(
            recommendation=recommendation,
            prompt_tokens=found.prompt_tokens,
            output_tokens=found.output_tokens,
            is_guess=found.is_guess,
            cached=found.kept is not None,
            expected_usd=found.expected_usd,
            max_usd=found.max_usd,
        )

    # ------------------------------------------------------------ choosing

    def _recommendation(self, asked: "Task", agent: "AgentDefinition | None") -> ModelRecommendation:
        parts = self._project.parts
        check_task(asked, parts.config.limits)
        named = named_model(asked, agent)
        if named is None:
            return self._project.chooser.choose(asked, agent)
        effort = asked.effort or (agent.effort if agent else None) or parts.config.defaults.effort
        who = "the call" if asked.model == named else f"the file of {asked.agent_name!r}"
        return ModelRecommendation(
            model=resolve_model(named, parts.aliases).id,
            tier=tier_of(named),
            effort=effort,
            score=None,
            reasons=(f"{who} names {named!r}",),
        )

    def _cascade(
        self, agent_name: str, task: str, check: "Check | str | None", min_confidence: float, options: CallOptions
    ) -> "tuple[Task, Watch, tuple[str, ...], Check | Judge | None]":
        """What is asked, who looks on, by which models, and how an answer is checked. Raises `InputError`."""
        if check is None and options.get("output_schema") is None:
            raise InputError("a cascade needs to know what is good enough; give check or output_schema")
        if not 0 <= min_confidence <= 1:
            raise InputError(f"min_confidence is {min_confidence!r}; give a number from 0 to 1")
        asked, agent = self._project.asked(agent_name, task, options), self._find(agent_name)
        check_task(asked, self.config.limits)
        if isinstance(check, str):
            self._find(check)  # a judge that is not there is said before anything is paid
        named = named_model(asked, agent)
        how = Judge(check, min_confidence) if isinstance(check, str) else check
        return asked, watch_of(options), (named,) if named else self._project.chooser.tiers, how

    def _find(self, agent: str) -> "AgentDefinition":
        agents = self._project.parts.agents
        return agents.recall(agent) or agents.find(agent)
