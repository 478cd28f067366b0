"""The two faces promise the same: parameters, defaults, and words."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from claude_force import AgentOrchestrator, AsyncAgentOrchestrator
from claude_force.orchestrator import CallOptions


def options(function: object) -> dict[str, object]:
    """The keyword-only parameters of a function, with their defaults."""
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type] # any callable
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_methods_that_pass_options_on_know_all_of_them() -> None:
    """`CallOptions` has every option of `execute_agent`, so none is lost on the way."""
    assert CallOptions.__annotations__.keys() == options(AgentOrchestrator.execute_agent).keys()


async def test_a_misspelt_option_is_an_error(project: Path) -> None:
    """Whichever method is told of it."""
    misspelt: Any = {"use_memory": False, "modle": "opus"}
    async with AsyncAgentOrchestrator(project_dir=project, offline=True) as subject:
        for call in (
            subject.execute_agent("reviewer", "x", **misspelt),
            subject.execute_multiple([("reviewer", "x")], **misspelt),
        ):
            with pytest.raises(TypeError, match="unexpected keyword argument 'modle'"):
                await call


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
