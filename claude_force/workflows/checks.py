"""What is wrong with a workflow, all at once, before anything is sent: names that lead nowhere, circles, dead steps."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from claude_force.base.errors import AgentError, TaskError
from claude_force.base.sections import nearest
from claude_force.engine.output import schema_text
from claude_force.workflows.definition import When, Workflow, WorkflowStep, wrong_default
from claude_force.workflows.plan import cycles
from claude_force.workflows.template import Placeholder, filled, placeholders

FindAgent = Callable[[str], object]
"""Gives the agent of that name, or raises `AgentError`."""


_PLACEHOLDERS = (
    "there are {{ inputs.NAME }}, {{ steps.ID.output }} and {{ item }}, and \\{{ means the braces themselves"
)


def problems_of(workflow: Workflow, *, find_agent: FindAgent | None = None) -> list[str]:
    """Every fault of the workflow. Without `find_agent`, agents are not looked for."""
    if not workflow.steps:
        return ["steps: there are none; give at least one"]
    steps = {step.id: step for step in workflow.steps}
    problems = [f"steps.{step}: {count} steps have this id" for step, count in _counted(workflow) if count > 1]
    for step in workflow.steps:
        found = (*_dependencies(step, steps), *_joins(step), *_words(step, workflow, steps), *_forms(step))
        problems += [f"steps.{step.id}.{problem}" for problem in found]
    problems += [
        f"inputs.{name}.default: expected {problem}"
        for name, spec in workflow.inputs.items()
        if (problem := wrong_default(spec))
    ]
    problems += [f"steps: {' -> '.join(cycle)} is a circle" for cycle in cycles(_known(workflow, steps))]
    return problems + (_agents(workflow, find_agent) if find_agent else [])


def _counted(workflow: Workflow) -> Iterator[tuple[str, int]]:
    return iter(Counter(step.id for step in workflow.steps).items())


def _known(workflow: Workflow, steps: Mapping[str, WorkflowStep]) -> Iterator[WorkflowStep]:
    """The steps, with those dependencies that there are."""
    for step in workflow.steps:
        yield WorkflowStep(step.id, step.agent, step.task, [d for d in step.dependencies if d in steps])


def _dependencies(step: WorkflowStep, steps: Mapping[str, WorkflowStep]) -> Iterator[str]:
    for dependency, count in Counter(step.dependencies).items():
        if dependency not in steps:
            yield f"dependencies: there is no step {dependency!r}{nearest(dependency, steps)}"
        if count > 1:
            yield f"dependencies: {dependency!r} stands there {count} times"


def _joins(step: WorkflowStep) -> Iterator[str]:
    if step.join != "all" and not step.dependencies:
        yield "join: it has no dependencies to wait for; leave it out"
    elif step.needed > len(step.dependencies):
        yield f"join: it can never start: it waits for {step.needed} of {len(step.dependencies)} dependencies"


def _words(step: WorkflowStep, workflow: Workflow, steps: Mapping[str, WorkflowStep]) -> Iterator[str]:
    """Placeholders and conditions that look at nothing."""
    for found in placeholders(step.task):
        if problem := _placeholder(found, step, workflow, steps):
            yield f"task: {problem}"
    if step.items:
        named = list(placeholders(step.items.items))
        is_one = len(named) == 1 and not filled(step.items.items, lambda _: "").strip()
        if not is_one or named[0].kind not in {"input", "output"}:
            yield 'for_each: give one placeholder for a list, such as "{{ inputs.files }}"'
        elif problem := _placeholder(named[0], step, workflow, steps):
            yield f"for_each: {problem}"
        elif named[0].kind == "input" and not named[0].path and workflow.inputs[named[0].name].type != "list":
            yield f'for_each: input {named[0].name!r} is no list; give it "type": "list"'
    if step.when:
        yield from (f"when: {problem}" for problem in _condition(step.when, step, workflow, steps))


def _placeholder(
    found: Placeholder, step: WorkflowStep, workflow: Workflow, steps: Mapping[str, WorkflowStep]
) -> str | None:
    match found.kind:
        case "input" if found.name not in workflow.inputs:
            return f"there is no input {found.name!r}{nearest(found.name, workflow.inputs)}; declare it under `inputs`"
        case "output" | "status" if found.name not in steps:
            return f"there is no step {found.name!r}{nearest(found.name, steps)}"
        case "output" | "status" if found.name not in step.dependencies:
            return f"step {found.name!r} is named, but not among the dependencies; add it there"
        case "item" if step.items is None:
            return "{{ item }} needs `for_each`"
        case "unknown":
            return f"{{{{ {found.name} }}}} is no placeholder; {_PLACEHOLDERS}"
        case _:
            return None


def _condition(when: When, step: WorkflowStep, workflow: Workflow, steps: Mapping[str, WorkflowStep]) -> Iterator[str]:
    if (when.input is None) == (when.step is None):
        yield "give either an input or a step to look at"
    if all(word is None for word in (when.status, when.equals, when.contains, when.lacks)):
        yield "give what must hold: status, equals, contains or lacks"
    if when.input is not None:
        if when.input not in workflow.inputs:
            yield f"there is no input {when.input!r}{nearest(when.input, workflow.inputs)}"
        if when.status is not None:
            yield "an input has no status"
    elif when.step is not None:
        if when.step not in steps:
            yield f"there is no step {when.step!r}{nearest(when.step, steps)}"
        elif when.step not in step.dependencies:
            yield f"step {when.step!r} is not among the dependencies; add it there"
        elif when.status == "failed" and steps[when.step].on_failure == "fail":
            yield f"it can never hold: the run ends where {when.step!r} fails; give that on_failure: continue"


def _forms(step: WorkflowStep) -> Iterator[str]:
    if step.fallback and step.fallback.agent is None and step.fallback.model is None:
        yield "fallback: give another agent or model"
    if (step.schema is not None) != (step.output == "json"):
        yield 'output: "json" needs a schema, and a schema needs "output": "json"'
    if step.schema is not None:
        try:
            schema_text(step.schema)
        except TaskError as error:
            yield f"schema: {error}"


def _agents(workflow: Workflow, find_agent: FindAgent) -> list[str]:
    wanted: dict[str, list[str]] = {}
    for step in workflow.steps:
        for name in {step.agent, *([step.fallback.agent] if step.fallback and step.fallback.agent else [])}:
            wanted.setdefault(name, []).append(step.id)
    problems = []
    for name, ids in wanted.items():
        try:
            find_agent(name)
        except AgentError as error:
            problems.append(f"steps.{ids[0]}.agent: {error}" + (f" (and {len(ids) - 1} more steps)" if ids[1:] else ""))
    return problems
