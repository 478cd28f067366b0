"""The two faces promise the same: parameters, defaults, and words."""

import inspect
import typing

import pytest

from claude_force import AgentOrchestrator, AsyncAgentOrchestrator
from claude_force.orchestrator import CallOptions, prepare


def options(function: object) -> dict[str, object]:
    """The keyword-only parameters of a function, with their defaults."""
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type] # any callable
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_execute_agent_takes_the_same() -> None:
    """Names, order, kinds, types and defaults are those of the sync method; the async one only awaits."""
    sync, awaited = (
        inspect.signature(AgentOrchestrator.execute_agent),
        inspect.signature(AsyncAgentOrchestrator.execute_agent),
    )
    assert [(p.name, p.kind, p.default, str(p.annotation)) for p in sync.parameters.values()] == [
        (p.name, p.kind, p.default, str(p.annotation)) for p in awaited.parameters.values()
    ]
    assert inspect.iscoroutinefunction(AsyncAgentOrchestrator.execute_agent)


def test_methods_that_pass_options_on_know_all_of_them() -> None:
    """`CallOptions` and `prepare` have every option of `execute_agent`, so none is lost on the way."""
    names = set(options(AgentOrchestrator.execute_agent))
    assert set(typing.get_type_hints(CallOptions, localns=_names()).keys()) == names
    assert names - {"files"} == set(options(prepare))  # files are read on the way, by each face in its manner


def _names() -> dict[str, object]:
    names = ("Material", "Effort", "OnText", "OnRetry", "UseCache")
    return dict.fromkeys(names, object)


@pytest.mark.parametrize("name", ["execute_agent", "execute_multiple"])
def test_the_async_methods_of_the_sync_class_are_those_of_the_async_one(name: str) -> None:
    """`AgentOrchestrator.x_async` takes what `AsyncAgentOrchestrator.x` takes, and says that it is the same."""
    delegate = getattr(AgentOrchestrator, f"{name}_async")
    target = getattr(AsyncAgentOrchestrator, name)
    mine, its = (inspect.signature(function).parameters for function in (delegate, target))
    assert [each for each in mine if each not in its] in ([], ["options"])
    assert all(mine[each].default == its[each].default for each in mine if each in its)
    assert (delegate.__doc__ or "").startswith("Same as ")


def test_the_awaited_method_points_to_the_one_it_mirrors() -> None:
    """What is promised is written once: the twin's words say where."""
    assert (AsyncAgentOrchestrator.execute_agent.__doc__ or "").startswith(
        "Same as `AgentOrchestrator.execute_agent`, awaited."
    )
