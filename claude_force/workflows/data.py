"""What a step is told: its task with the values in place, what its dependencies answered, and what is missing. Pure.

- A value of one line stands in its place as it is; a longer one is fenced there (`engine.untrusted`), for it is data.
  A task that is nothing but one input is that input, word for word: it is the user's own instruction.
- The answer of a dependency that the task does not name comes before it, in a fenced block with the step's name; but
  a step that is done for each item of an answer has its item, and not all of them.
- Answers that would fill half of what a task may hold come before it as well, and their place says where they are.
- An answer that is longer than `MAX_OUTPUT_CHARS`, or than its share of what material may hold, is cut in its middle,
  and says so: so no step is refused for the answers that were paid for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from claude_force.base.errors import WorkflowError
from claude_force.base.records import Material
from claude_force.base.results import StepResult
from claude_force.engine.untrusted import NOTICE, fence
from claude_force.workflows.definition import When, WorkflowStep
from claude_force.workflows.template import Placeholder, filled, placeholders, walk

if TYPE_CHECKING:
    from claude_force.base.config import Limits

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
    most_chars: int = MAX_OUTPUT_CHARS
    """Of one answer."""


def told(
    step: WorkflowStep,
    inputs: Mapping[str, Any],
    results: Mapping[str, StepResult],
    *,
    limits: "Limits",
    item: object = NO_ITEM,
    lists: Sequence[str] = (),
) -> Told:
    """What this step is told. `lists` are the steps whose answer is a list of answers.

    Raises `WorkflowError` where a path into a value leads nowhere: nothing was sent for it.
    """
    named = [*placeholders(step.task)]
    is_plain = len(named) == 1 and named[0].kind == "input" and not filled(step.task, lambda _: "").strip()
    whole = {place.name for place in named if place.kind == "output" and not place.path}
    shown = {place.name for place in named if place.kind == "output"}
    answers = {
        name: _answers(name, results[name], is_list=name in lists)
        for name in step.dependencies
        if name in whole or name not in {*shown, step.source}
    }
    count = sum(map(len, answers.values()))
    made = Told(most_chars=min(MAX_OUTPUT_CHARS, limits.max_material_chars // (2 * max(1, count))))
    in_place_chars = sum(len(material.text) for name in whole for material in answers[name])
    is_moved = in_place_chars > limits.max_task_chars // 2

    def answer_of(place: Placeholder) -> str:
        result = results[place.name]
        if not result.has_answer and not (answers.get(place.name) and not place.path):
            return f"(no answer from {result.id!r}: {result.status})"
        if place.path:
            value = _walked(_parsed(result), place)
            return _in_place(made, Material(place.name, value if isinstance(value, str) else _json(value), kind="step"))
        if is_moved and answers[place.name]:
            return f"(the answer of {place.name!r} is in a block above)"
        return "\n\n".join(_in_place(made, material) for material in answers[place.name])

    def value_of(place: Placeholder) -> str:
        if place.kind == "output":
            return answer_of(place)
        if place.kind == "status":
            # Whoever paid for the answer: a second run must not ask something else than the first.
            return "done" if results[place.name].has_answer else results[place.name].status
        is_given = place.kind == "input" or step.source is None  # an item of an input is the user's as well
        value = _walked(inputs[place.name] if place.kind == "input" else item, place)
        text = value if isinstance(value, str) else _json(value)
        return text if is_plain else _in_place(made, Material(place.source, text, kind="input" if is_given else "item"))

    text = filled(step.task, value_of)
    blocks = [
        _cut(made, material) for name, found in answers.items() if is_moved or name not in whole for material in found
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


def _answers(step_id: str, result: StepResult, *, is_list: bool) -> list[Material]:
    """The answer, or each of them, with its name; of a list, some may be there where others failed."""
    if result.text is None or not (result.has_answer or is_list):
        return []
    if not is_list:
        return [Material(step_id, result.text, kind="step")]
    answers = enumerate(msgspec.json.decode(result.text))
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
    excess = len(material.text) - made.most_chars
    if material.kind == "input" or excess <= 0:
        return material
    head = int(made.most_chars * _HEAD)
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
    except (msgspec.DecodeError, RecursionError) as error:  # it may be nested as deeply as it likes
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
