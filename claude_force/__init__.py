"""make for Claude agents: run the `.claude/agents` you already have, from Python and the shell.

Importing this costs almost nothing: each public name below is imported from its module when it is first used (PEP 562).
"""

TYPE_CHECKING = False  # `typing` costs 10 ms, and every type checker knows this name
if TYPE_CHECKING:
    from claude_force.agent_memory import AgentMemory, Session
    from claude_force.async_orchestrator import AsyncAgentOrchestrator
    from claude_force.base.batches import BatchStatus
    from claude_force.base.briefing import LoadedSkills, Skill, SkillChoice, SkillResource
    from claude_force.base.config import migrate_config
    from claude_force.base.errors import (
        AccountLimitError,
        AgentError,
        AgentFileError,
        AgentMemoryError,
        AgentNameError,
        AgentNotFoundError,
        AnswerError,
        ApiError,
        BatchEntryError,
        BatchError,
        BatchNotFoundError,
        BudgetError,
        CacheError,
        CircuitOpenError,
        ClaudeForceError,
        ConfigError,
        ConnectionFailedError,
        CredentialsError,
        CutAnswerError,
        DeadlineError,
        EmptyAnswerError,
        EngineError,
        InjectionError,
        InputError,
        InvalidOutputError,
        InvalidRequestError,
        JournalError,
        MetricsError,
        ModelNotFoundError,
        NotRunError,
        OverloadedError,
        ProtocolError,
        RateLimitError,
        RefusalError,
        RequestTooLargeError,
        RunError,
        RunNotFoundError,
        ServerError,
        SkillError,
        SkillFileError,
        SkillNotFoundError,
        TaskError,
        TasksFileError,
        TimedOutError,
        WorkflowError,
    )
    from claude_force.base.records import AgentDefinition, AgentResult, Material
    from claude_force.base.results import StepResult, WorkflowResult
    from claude_force.base.usage import Usage
    from claude_force.engine.breaker import CircuitBreaker
    from claude_force.engine.cascade import CascadeResult
    from claude_force.hybrid_orchestrator import CostEstimate, HybridOrchestrator, ModelRecommendation
    from claude_force.insight.logs import JsonFormatter
    from claude_force.insight.rollup import Rollup
    from claude_force.orchestrator import AgentOrchestrator, AgentTask
    from claude_force.performance_tracker import PerformanceTracker
    from claude_force.response_cache import CacheCheck, CacheEntry, ResponseCache
    from claude_force.semantic_selector import AgentMatch, SemanticSelector
    from claude_force.skills_manager import ProgressiveSkillsManager
    from claude_force.workflow_dag import WorkflowDAG, WorkflowStep
    from claude_force.workflows.events import RunEvent

__version__ = "2.3.0"

__all__ = [
    "AccountLimitError",
    "AgentDefinition",
    "AgentError",
    "AgentFileError",
    "AgentMatch",
    "AgentMemory",
    "AgentMemoryError",
    "AgentNameError",
    "AgentNotFoundError",
    "AgentOrchestrator",
    "AgentResult",
    "AgentTask",
    "AnswerError",
    "ApiError",
    "AsyncAgentOrchestrator",
    "BatchEntryError",
    "BatchError",
    "BatchNotFoundError",
    "BatchStatus",
    "BudgetError",
    "CacheCheck",
    "CacheEntry",
    "CacheError",
    "CascadeResult",
    "CircuitBreaker",
    "CircuitOpenError",
    "ClaudeForceError",
    "ConfigError",
    "ConnectionFailedError",
    "CostEstimate",
    "CredentialsError",
    "CutAnswerError",
    "DeadlineError",
    "EmptyAnswerError",
    "EngineError",
    "HybridOrchestrator",
    "InjectionError",
    "InputError",
    "InvalidOutputError",
    "InvalidRequestError",
    "JournalError",
    "JsonFormatter",
    "LoadedSkills",
    "Material",
    "MetricsError",
    "ModelNotFoundError",
    "ModelRecommendation",
    "NotRunError",
    "OverloadedError",
    "PerformanceTracker",
    "ProgressiveSkillsManager",
    "ProtocolError",
    "RateLimitError",
    "RefusalError",
    "RequestTooLargeError",
    "ResponseCache",
    "Rollup",
    "RunError",
    "RunEvent",
    "RunNotFoundError",
    "SemanticSelector",
    "ServerError",
    "Session",
    "Skill",
    "SkillChoice",
    "SkillError",
    "SkillFileError",
    "SkillNotFoundError",
    "SkillResource",
    "StepResult",
    "TaskError",
    "TasksFileError",
    "TimedOutError",
    "Usage",
    "WorkflowDAG",
    "WorkflowError",
    "WorkflowResult",
    "WorkflowStep",
    "__version__",
    "migrate_config",
]

_HOMES = {
    "AgentDefinition": "base.records",
    "AgentMatch": "semantic_selector",
    "AgentOrchestrator": "orchestrator",
    "AgentResult": "base.records",
    "AgentTask": "orchestrator",
    "AsyncAgentOrchestrator": "async_orchestrator",
    "BatchStatus": "base.batches",
    "CacheCheck": "response_cache",
    "CacheEntry": "response_cache",
    "CascadeResult": "engine.cascade",
    "CircuitBreaker": "engine.breaker",
    "CostEstimate": "hybrid_orchestrator",
    "HybridOrchestrator": "hybrid_orchestrator",
    "JsonFormatter": "insight.logs",
    "LoadedSkills": "base.briefing",
    "Material": "base.records",
    "ModelRecommendation": "hybrid_orchestrator",
    "PerformanceTracker": "performance_tracker",
    "AgentMemory": "agent_memory",
    "Session": "agent_memory",
    "ResponseCache": "response_cache",
    "Rollup": "insight.rollup",
    "RunEvent": "workflows.events",
    "Skill": "base.briefing",
    "SkillChoice": "base.briefing",
    "SkillResource": "base.briefing",
    "ProgressiveSkillsManager": "skills_manager",
    "SemanticSelector": "semantic_selector",
    "StepResult": "base.results",
    "Usage": "base.usage",
    "WorkflowDAG": "workflow_dag",
    "WorkflowResult": "base.results",
    "WorkflowStep": "workflow_dag",
    "migrate_config": "base.config",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - what is not used is not paid for

    home = "base.errors" if name.endswith("Error") else _HOMES[name]
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
