"""Past work in a turn: what is like the task goes into the prompt, and how it ended is kept for the next ones.

What is recalled is chosen by the request *without* it: a session of the very same request is left out. So the same call
again, with nothing new to recall, is the same request again, and the cache has its answer.
"""

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.errors import AnswerError
from claude_force.engine.key import request_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from claude_force.base.ports import Memory
    from claude_force.base.records import AgentResult
    from claude_force.engine.outside import Outside
    from claude_force.engine.parts import Parts
    from claude_force.engine.request import Prepared, Task


def memory_of(parts: "Parts", task: "Task") -> "Memory | None":
    """The memory that this turn uses, if it uses one; a step of a run never does, or taking it up would pay again."""
    wanted = parts.config.memory.enabled if task.use_memory is None else task.use_memory
    return parts.memory() if wanted and parts.memory and task.run_id is None else None


async def remembering(
    outside: "Outside",
    parts: "Parts",
    memory: "Memory",
    asked: "tuple[Task, Prepared]",
    *,
    prepare: "Callable[[Task], Prepared]",
    run: "Callable[[Task, Prepared], Awaitable[AgentResult]]",
) -> "AgentResult":
    """Run the turn with what is recalled, and keep how it ended: an answer, or why there was none."""
    task, prepared = asked
    key = request_key(prepared.request, server=parts.server)
    past = await outside.call(partial(memory.recall, task.text, agent=task.agent_name, key=key))
    if past:
        task = msgspec.structs.replace(task, materials=(*task.materials, *past))
        prepared = prepare(task)
    keep = partial(memory.keep, task.text, agent=task.agent_name, key=key)
    try:
        result = await run(task, prepared)
    except AnswerError as error:
        await outside.finish(partial(keep, f"{type(error).__name__}: {error.args[0]}", success=False, simulated=False))
        raise
    if not result.cached:  # else it is there already
        await outside.finish(partial(keep, str(result), success=result.is_whole, simulated=result.simulated))
    return result
