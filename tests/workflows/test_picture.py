"""A plan as a picture: every step once, whatever the format, and nothing in it that a reader's program obeys."""

import re
from html import unescape
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.errors import WorkflowError
from claude_force.base.results import StepResult, StepStatus
from claude_force.workflows.definition import AtLeast, ForEach, Workflow, WorkflowStep
from claude_force.workflows.layout import laid_out
from claude_force.workflows.picture import PictureFormat, picture
from claude_force.workflows.plan import Plan

SVG = "{http://www.w3.org/2000/svg}"


def plan(*steps: WorkflowStep, name: str = "demo") -> Plan:
    """The plan of these steps."""
    return Plan(Workflow(steps=list(steps)), name)


def step(step_id: str, *dependencies: str, agent: str = "a") -> WorkflowStep:
    """A step that waits for these."""
    return WorkflowStep(step_id, agent, "Do it.", list(dependencies))


def parsed(drawn: str) -> ET.Element:
    """An SVG as a tree."""
    return ET.fromstring(drawn)  # noqa: S314 - it is our own


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any graph, with steps in any order of the file."""
    size = draw(st.integers(1, 14))
    steps = [
        step(f"step-{n}", *[f"step-{d}" for d in sorted(draw(st.sets(st.integers(0, n - 1), max_size=4)) if n else ())])
        for n in range(size)
    ]
    return plan(*draw(st.permutations(steps)))


def shown(kind: PictureFormat, drawn: str) -> list[str]:
    """The steps of a picture, as its reader finds them."""
    if kind == "text":
        return [re.sub(r"[●─│├┤┴┼╰╯ ]+", "", line[: line.index("  a")]) for line in drawn.splitlines()]
    if kind == "mermaid":
        return re.findall(r'^  s\d+\["(step-\d+)', drawn, re.MULTILINE)
    if kind == "dot":
        return re.findall(r'^  "(step-\d+)" \[', drawn, re.MULTILINE)
    return [found.text or "" for found in parsed(drawn).iter(f"{SVG}text") if found.get("class") == "name"]


@pytest.mark.parametrize("kind", ["text", "mermaid", "dot", "svg"])
@given(drawn=plans())
def test_every_step_stands_there_once(kind: PictureFormat, drawn: Plan) -> None:
    """In each format; and each dependency is a line, or is named."""
    made = picture(drawn, kind)
    assert sorted(shown(kind, made)) == sorted(drawn.steps)
    edges = sum(len(step.dependencies) for step in drawn.steps.values())
    lines = {"text": "", "mermaid": " --> ", "dot": " -> ", "svg": "marker-end"}[kind]
    if kind == "text":
        assert made.count("after") == sum(bool(step.dependencies) for step in drawn.steps.values())
    else:
        assert made.count(lines) == edges


@given(drawn=plans())
def test_nothing_overlaps(drawn: Plan) -> None:
    """In a drawing, points of a layer have room between them, and each step lies below all that it waits for."""
    layout = laid_out(drawn, dict.fromkeys(drawn.steps, 100.0))
    for layer in layout.layers:
        places = [layout.x[point] for point in layer]
        widths = [100.0 if layout.depth[point[0]] == point[1] else 0.0 for point in layer]
        for left, right, one, other in zip(places, places[1:], widths, widths[1:], strict=False):
            assert right - left > (one + other) / 2
    for found in drawn.steps.values():
        assert all(layout.depth[name] < layout.depth[found.id] for name in found.dependencies)


def test_text() -> None:
    """A person sees what waits for what: side by side, joined, passed behind."""
    drawn = plan(step("a", agent="a"), step("b"), step("c", "a"), step("d", "a", "b", "c"))
    assert picture(drawn, "text") == (
        "●     a\n"
        "│ ●   b  a\n"
        "├─│─● c  a · after a\n"
        "●─┴─╯ d  a · after a, b, c\n"
    )  # fmt: skip


def test_what_is_special_is_said() -> None:
    """Lists, conditions and joins stand beside a step; what need not be waited for is dashed."""
    first, second = step("a"), step("b")
    last = WorkflowStep("c", "x", "t", ["a", "b"], join=AtLeast(at_least=1), for_each=ForEach(items="{{ inputs.f }}"))
    drawn = plan(first, second, last)
    assert "c  x · for each of inputs.f · 1 of 2 suffice · after a, b" in picture(drawn, "text")
    assert picture(drawn, "mermaid").count("-.->") == 2
    assert picture(drawn, "dot").count("[style=dashed]") == 2
    assert picture(drawn, "svg").count('class="line dashed"') == 2


@pytest.mark.parametrize("status", ["done", "cached", "failed", "skipped", "cancelled", "not_run"])
@pytest.mark.parametrize("kind", ["text", "mermaid", "dot", "svg"])
def test_how_a_step_ended(kind: PictureFormat, status: StepStatus) -> None:
    """Is written there, so that nobody has to tell colours apart."""
    results = {"a": StepResult(id="a", agent="a", status=status)}
    assert status.replace("_", " ") in picture(plan(step("a"), step("b", "a")), kind, results)


NASTY = '"></svg><script>alert(1)</script>\\N {}[]#;&'


@pytest.mark.parametrize("kind", ["mermaid", "dot", "svg"])
def test_names_are_only_shown(kind: PictureFormat) -> None:
    """Whatever an agent or a workflow is called, it is text."""
    made = picture(plan(step("a", agent=NASTY), name=NASTY), kind)
    assert "<script>" not in made or kind == "dot"
    if kind == "svg":
        root = parsed(made)
        assert {found.tag.removeprefix(SVG) for found in root.iter()} <= {
            "svg", "title", "style", "defs", "marker", "path", "rect", "g", "text",
        }  # fmt: skip
        assert "http" not in made.replace("http://www.w3.org/2000/svg", "")
    elif kind == "dot":
        assert '\\"></svg>' in made
        assert "\\\\N" in made
    else:
        (label,) = re.findall(r'\["(.*)"\]', made)
        assert unescape(re.sub(r"#(\d+);", r"&#\1;", label)) == f"a<br/>{NASTY}"


def test_ten_thousand_steps() -> None:
    """Are drawn; where lines would run through too many layers, the drawing is refused with a way out."""
    wide = [
        step(f"s{n}", *([f"s{n - 100}", f"s{(n * 7) % 100 + n // 100 * 100 - 100}"] if n >= 100 else []))
        for n in range(10_000)
    ]
    wide = [step(found.id, *dict.fromkeys(found.dependencies)) for found in wide]
    for kind in ("text", "mermaid", "dot", "svg"):
        assert len(picture(plan(*wide), kind)) > 100_000
    chain = [step(f"s{n}", *({f"s{n - 1}", f"s{n % 50}"} if n >= 50 else {})) for n in range(10_000)]
    with pytest.raises(WorkflowError, match=r"too large for a drawing .* use --format dot or text"):
        picture(plan(*chain), "svg")
