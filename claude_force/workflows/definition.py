"""A workflow as people write it: `Workflow`, its `WorkflowStep`s, and how a file or a dict becomes one.

Here is what each key means. What is wrong *between* steps (cycles, names that lead nowhere) is found in `checks`.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from claude_force.base.config import MAX_TIMEOUT_S, Positive, PositiveFloat
from claude_force.base.errors import WorkflowError
from claude_force.base.records import Effort
from claude_force.base.sections import Section, faults, nearest
from claude_force.workflows.template import placeholders

Seconds = Annotated[float, msgspec.Meta(gt=0, le=MAX_TIMEOUT_S)]
InputType = Literal["string", "integer", "number", "boolean", "list", "object"]
OnFailure = Literal["fail", "skip", "continue"]

ID = r"^[A-Za-z0-9_][A-Za-z0-9_-]*\Z"  # with $, a line may end before it


class AtLeast(Section, frozen=True):
    """`join`: so many of the dependencies suffice."""

    at_least: Positive


class ForEach(Section, frozen=True):
    """`for_each`: the step is done once for each item of a list."""

    items: str
    """A placeholder for a list: of an input, or a JSON list that a step answered."""
    max_concurrent: Positive | None = None
    """So many items at once, at most."""


class Fallback(Section, frozen=True):
    """`fallback`: who is asked where the step fails; what is left out stays as it is."""

    agent: str | None = None
    model: str | None = None


class When(Section, frozen=True):
    """`when`: the condition under which a step is done. All that is given must hold.

    It looks at an input, or at one of the step's dependencies.
    """

    input: str | None = None
    step: str | None = None
    status: Literal["done", "failed", "skipped"] | None = None
    """Of the step; `done` includes what the cache answered."""
    equals: str | int | float | bool | None = None
    """The input's value; the step's text without white space around it."""
    contains: str | None = None
    lacks: str | None = None


class WorkflowStep(msgspec.Struct, forbid_unknown_fields=True):
    """One agent, one task, and when it is its turn.

    Example:
        >>> WorkflowStep("review", "code-reviewer", "Review {{ inputs.diff }}", ["linter"]).join
        'all'
    """

    not_in_files: ClassVar[frozenset[str]] = frozenset({"result", "completed"})

    id: Annotated[str, msgspec.Meta(pattern=ID)]
    """The agent's name, if nothing is given."""
    agent: str
    task: str
    """May name `{{ inputs.NAME }}`, `{{ steps.ID.output }}` and, with `for_each`, `{{ item }}`."""
    dependencies: list[str] = msgspec.field(default_factory=list)
    model: str | None = None
    effort: Effort | None = None
    max_tokens: Positive | None = None
    timeout_seconds: Seconds | None = None
    """For the step with its retries; of `for_each`, for each item."""
    retries: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    cache: bool | Literal["refresh"] = True
    """Whether it may be answered from the response cache; `"refresh"` asks anew and keeps that."""
    on_failure: OnFailure = "fail"
    """`fail` ends the run; `skip` leaves out those that need it; `continue` lets them run, and tells them."""
    fallback: Fallback | None = None
    join: Literal["all", "any"] | AtLeast = "all"
    """How many of its dependencies must have answered."""
    when: When | None = None
    for_each: str | ForEach | None = None
    output: Literal["text", "json"] = "text"
    schema: dict[str, Any] | None = None
    """Of `"output": "json"`: a JSON Schema that the answer must fit."""
    result: str | None = None
    """The answer, once there is one."""
    completed: bool = False
    """Whether it has an answer."""

    @property
    def items(self) -> ForEach | None:
        """`for_each`, written out."""
        return ForEach(items=self.for_each) if isinstance(self.for_each, str) else self.for_each

    @property
    def source(self) -> str | None:
        """The step whose answer is the list that it is done for."""
        places = placeholders(self.items.items) if self.items else ()
        return next((place.name for place in places if place.kind == "output"), None)

    @property
    def needed(self) -> int:
        """How many of its dependencies must have answered."""
        if isinstance(self.join, AtLeast):
            return self.join.at_least
        return min(1, len(self.dependencies)) if self.join == "any" else len(self.dependencies)


class InputSpec(Section, frozen=True):
    """One input of a workflow."""

    type: InputType = "string"
    required: bool = False
    default: Any = None
    description: str = ""


class Workflow(Section, frozen=True):
    """A workflow: its steps, what it must be given, and its bounds."""

    name: str = ""
    description: str = ""
    inputs: dict[str, InputSpec] = msgspec.field(default_factory=dict)
    steps: list[WorkflowStep] = msgspec.field(default_factory=list)
    timeout_seconds: Seconds | None = None
    """For the whole run."""
    max_concurrent: Positive | None = None
    """So many steps at once, at most; without it, as many as the config allows."""
    max_cost_usd: PositiveFloat | None = None
    """What the run may cost, in US dollars; a step that could pass it is not sent."""


def read_workflow(raw: Mapping[str, Any]) -> tuple[Workflow, list[str]]:
    """The workflow, and every fault of its form. With faults, the workflow has only the steps that could be read."""
    data = dict(raw)
    data.pop("$schema", None)
    steps = data.get("steps")
    named = [_named(step) for step in steps] if isinstance(steps, list) else []
    if isinstance(steps, list):
        data["steps"] = named
    with suppress(msgspec.ValidationError):  # the usual case, which takes a hundredth of the time
        if not any(WorkflowStep.not_in_files.intersection(step) for step in named if isinstance(step, dict)):
            return msgspec.convert(data, Workflow), []
    if problems := list(faults(data, Workflow)):
        readable = [found for step in named if (found := _readable(step))]
        inputs = data.get("inputs")
        return Workflow(
            steps=readable, inputs=dict.fromkeys(inputs if isinstance(inputs, dict) else (), _ANY)
        ), problems
    return msgspec.convert(data, Workflow), problems


_ANY = InputSpec(type="list")  # of which nothing more can be said to be wrong


def _readable(step: object) -> WorkflowStep | None:
    """As much of a step as can be read, so that those that depend on it are not wrong as well."""
    given = step if isinstance(step, dict) else {}
    for keys in (WorkflowStep.__struct_fields__, ("id", "agent", "task", "dependencies"), ("id", "agent", "task")):
        with suppress(msgspec.ValidationError):
            return msgspec.convert({key: given[key] for key in keys if key in given}, WorkflowStep)
    return None


def _named(step: object) -> object:
    """The step with the id that it has where it gives none: its agent's name."""
    if isinstance(step, dict) and step.get("id") is None and "agent" in step:
        return {**step, "id": step["agent"]}
    return step


def given_inputs(workflow: Workflow, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The value of every input, defaults included, and every fault. Text is read as the type says: it may be typed in.

    An input that is not required and not given is empty: text, list or object.
    """
    values: dict[str, Any] = {}
    problems = []
    for name, spec in workflow.inputs.items():
        if name in given:
            try:
                values[name] = _value(given[name], spec.type)
                if problem := not_json(values[name]):
                    problems.append(f"inputs.{name}: {problem}")
            except (ValueError, RecursionError, msgspec.MsgspecError):
                problems.append(f"inputs.{name}: expected {_WORDS[spec.type]}, got {_shown(given[name])}")
        elif spec.required and spec.default is None:
            why = f" ({spec.description})" if spec.description else ""
            problems.append(f"inputs.{name}: nothing gives it{why}")
        else:
            values[name] = _NOTHING.get(spec.type, "") if spec.default is None else spec.default
    problems += [
        f"inputs.{name}: the workflow has no such input{nearest(name, workflow.inputs)}"
        for name in given
        if name not in workflow.inputs
    ]
    return values, problems


def wrong_default(spec: InputSpec) -> str | None:
    """What the default should be, where it is something else."""
    try:
        if spec.default is not None:
            msgspec.convert(spec.default, _TYPES[spec.type], strict=True)
    except msgspec.ValidationError:
        return f"{_WORDS[spec.type]}, got {_shown(spec.default)}"
    return None


def not_json(value: object) -> str | None:
    """What keeps a value that came from Python out of the journal, if something does."""
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        return f"it cannot be written as JSON ({error})"
    return None


_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list (JSON, or one item a line)",
    "object": "a JSON object",
}
_NOTHING: Mapping[str, Any] = {"list": [], "object": {}}
_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "list": list[Any],
    "object": dict[str, Any],
}


def _value(given: Any, kind: InputType) -> Any:  # noqa: ANN401 - as JSON has it
    if kind == "list" and isinstance(given, str) and not given.lstrip().startswith("["):
        return [line for line in given.splitlines() if line.strip()]
    if isinstance(given, str) and kind != "string":
        return msgspec.json.decode(given, type=_TYPES[kind])
    return msgspec.convert(given, _TYPES[kind], strict=True)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a line of a terminal


def refuse(problems: list[str], name: str) -> None:
    """Raise one `WorkflowError` with all of them, if there are any."""
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise WorkflowError(
            f"workflow {name!r} has {len(problems)} fault(s):{listed}", workflow=name, problems=tuple(problems)
        )
