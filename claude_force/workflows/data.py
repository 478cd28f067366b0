"""What a step is told: its task with the values in place, what its dependencies answered, and what is missing. Pure.

- A value of one line stands in its place as it is; a longer one is fenced there (`engine.untrusted`), for it is data.
  A task that is nothing but one input is that input, word for word: it is the user's own instruction.
- The answer of a dependency that the task does not name comes before it, in a fenced block with the step's name; but
  a step that is done for each item of an answer has its item, and not all of them.
- An answer that is longer than `MAX_OUTPUT_CHARS` is cut in its middle, and says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from claude_force.base.errors import WorkflowError
from claude_force.base.records import Material
from claude_force.base.results import StepResult
from claude_force.engine.untrusted import NOTICE, fence
from claude_force.workflows.definition import When, WorkflowStep
from claude_force.workflows.template import Placeholder, filled, placeholders, walk

MAX_OUTPUT_CHARS = 60_000
"""About 15,000 tokens: longer than any review, and three of them leave room in a task."""
_HEAD = 2 / 3  # what a text says first is worth more than how it ends

NO_ITEM = object()
"""In place of an item, where there is none: `None` may be one."""


@dataclass(slots=True)
class Told:
    """The task of a step, ready for its agent."""

    text: str = ""
    materials: tuple[Material, ...] = ()
    """Answers that the task does not name."""
    inserted: list[Material] = field(default_factory=list)
    """Values within the text; those of several lines are fenced there."""
    notes: list[str] = field(default_factory=list)
    """What was cut."""


def told(
    step: WorkflowStep,
    inputs: Mapping[str, Any],
    results: Mapping[str, StepResult],
    *,
    item: object = NO_ITEM,
    lists: Sequence[str] = (),
) -> Told:
    """What this step is told. `lists` are the steps whose answer is a list of answers.

    Raises `WorkflowError` where a path into a value leads nowhere: nothing was sent for it.
    """
    made = Told()
    named = [*placeholders(step.task)]
    is_plain = len(named) == 1 and named[0].kind == "input" and not filled(step.task, lambda _: "").strip()

    def value_of(place: Placeholder) -> str:
        if place.kind == "status":
            # Whoever paid for the answer: a second run must not ask something else than the first.
            return "done" if results[place.name].has_answer else results[place.name].status
        if place.kind == "output":
            return _output(made, place, results[place.name], place.name in lists)
        value = _walked(inputs[place.name] if place.kind == "input" else item, place)
        text = value if isinstance(value, str) else _json(value)
        return text if is_plain else _in_place(made, Material(place.source, text, kind=place.kind))

    text = filled(step.task, value_of)
    shown = {place.name for place in named if place.kind == "output"}
    blocks = [
        _cut(made, material)
        for dependency in step.dependencies
        if dependency not in {*shown, step.source} and _is_there(results[dependency], dependency in lists)
        for material in _answers(dependency, results[dependency], dependency in lists)
    ]
    if any("\n" in material.text for material in made.inserted) and not blocks:
        text = f"{NOTICE}\n\n{text}"
    made.text = text + _missing(results[dependency] for dependency in step.dependencies)
    made.materials = tuple(blocks)
    return made


def list_of(place: Placeholder, inputs: Mapping[str, Any], results: Mapping[str, StepResult]) -> list[Any]:
    """The items of a `for_each`. Raises `WorkflowError` where it is no list."""
    value = inputs[place.name] if place.kind == "input" else _parsed(results[place.name])
    value = _walked(value, place)
    if not isinstance(value, list):
        raise WorkflowError(
            f"for_each: {place.source!r} is {type(value).__name__}, not a list; have the step answer a JSON list"
            ' ("output": "json")'
        )
    return value


def holds(when: When, inputs: Mapping[str, Any], results: Mapping[str, StepResult]) -> bool:
    """Whether a condition is met."""
    if when.step is None:
        value = inputs[when.input or ""]
        text = value if isinstance(value, str) else _json(value)
        is_equal = when.equals in (value, text)
    else:
        result = results[when.step]
        status = "done" if result.has_answer else "failed" if result.status == "failed" else "skipped"
        if when.status is not None and when.status != status:
            return False
        text = result.text or ""
        is_equal = text.strip() == (when.equals if isinstance(when.equals, str) else _json(when.equals))
    return (
        (when.equals is None or is_equal)
        and (when.contains is None or when.contains in text)
        and (when.lacks is None or when.lacks not in text)
    )


def _output(made: Told, place: Placeholder, result: StepResult, is_list: bool) -> str:  # noqa: FBT001 - one caller
    if not _is_there(result, is_list):
        return f"(no answer from {result.id!r}: {result.status})"
    if place.path:
        value = _walked(_parsed(result), place)
        return _in_place(made, Material(place.name, value if isinstance(value, str) else _json(value), kind="step"))
    return "\n\n".join(_in_place(made, material) for material in _answers(place.name, result, is_list))


def _is_there(result: StepResult, is_list: bool) -> bool:  # noqa: FBT001 - two callers
    """Whether there is something to tell: of a list, some answers may be there where others failed."""
    return result.has_answer or (is_list and result.text is not None)


def _answers(step_id: str, result: StepResult, is_list: bool) -> list[Material]:  # noqa: FBT001 - two callers
    """The answer, or each of them, with its name."""
    text = result.text or ""
    if not is_list:
        return [Material(step_id, text, kind="step")]
    answers = enumerate(msgspec.json.decode(text))
    return [
        Material(f"{step_id}[{number}]", answer if isinstance(answer, str) else _json(answer), kind="step")
        for number, answer in answers
        if answer is not None
    ]


def _in_place(made: Told, material: Material) -> str:
    material = _cut(made, material)
    made.inserted.append(material)
    if "\n" not in material.text:
        return material.text
    return f"\n{fence(material)}\n"


def _cut(made: Told, material: Material) -> Material:
    """Without its middle, if it is too long. What the user gave is left whole: they are told if it is too long."""
    excess = len(material.text) - MAX_OUTPUT_CHARS
    if material.kind == "input" or excess <= 0:
        return material
    head = int(MAX_OUTPUT_CHARS * _HEAD)
    mark = f"\n[... {excess:,} characters left out here ...]\n"
    made.notes.append(f"{material.name!r} is {len(material.text):,} characters long; {excess:,} of them are left out")
    return Material(material.name, material.text[:head] + mark + material.text[head + excess :], kind=material.kind)


def _missing(results: Iterable[StepResult]) -> str:
    """A sentence for whoever sums up: what is not there, and why."""
    gaps = [
        f"- {result.id}: {result.status}{f' ({result.reason})' if result.reason else ''}"
        for result in results
        if not result.has_answer
    ]
    if not gaps:
        return ""
    listed = "\n".join(gaps)
    return f"\n\nThere is no answer from these steps, so say what that leaves open:\n{listed}"


def _parsed(result: StepResult) -> Any:  # noqa: ANN401 - as JSON has it
    if result.text is None:
        raise WorkflowError(f"there is no answer from {result.id!r} ({result.status})")
    try:
        return msgspec.json.decode(result.text)
    except msgspec.DecodeError as error:
        raise WorkflowError(
            f'the answer of {result.id!r} is no JSON ({error}); give that step "output": "json" and a schema'
        ) from error


def _walked(value: Any, place: Placeholder) -> Any:  # noqa: ANN401 - as JSON has it
    if place.kind == "output" and not place.path:
        return value
    try:
        return walk(value, place.path)
    except LookupError as error:
        raise WorkflowError(f"{place.source!r}: {error.args[0]}; a placeholder names it") from error


def _json(value: Any) -> str:  # noqa: ANN401 - as JSON has it
    return msgspec.json.encode(value).decode()
