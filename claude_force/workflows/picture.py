"""A plan as a picture: text for a terminal, Mermaid and Graphviz for their tools, SVG for everywhere else. Pure.

Every step stands there once, with what it waits for. Where results are given, each step says how it ended. An SVG needs
no font, no script and no file beside it; where its steps lie is decided by `layout`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Literal

from claude_force.workflows.layout import laid_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.base.results import StepResult, StepStatus
    from claude_force.workflows.definition import WorkflowStep
    from claude_force.workflows.layout import Layout
    from claude_force.workflows.plan import Plan

PictureFormat = Literal["text", "mermaid", "dot", "svg"]

MAX_RAILS = 30
"""More lines side by side than this do not fit into a terminal, and nobody could follow them."""
MAX_NAMED = 4
"""So many dependencies are named beside their lines; the lines show the others."""

# Fill and line, readable on white and on black: the text within is black.
COLOURS: "dict[StepStatus, tuple[str, str]]" = {
    "done": ("#d1f4dc", "#1a7f37"),
    "cached": ("#d5e8ff", "#0969da"),
    "failed": ("#ffdcd9", "#cf222e"),
    "skipped": ("#eceff2", "#6e7781"),
    "cancelled": ("#fff1c2", "#9a6700"),
    "not_run": ("#eceff2", "#6e7781"),
}


def picture(plan: "Plan", kind: PictureFormat, results: "Mapping[str, StepResult] | None" = None) -> str:
    """The plan, drawn. Raises `WorkflowError` where an SVG would be too large to be looked at."""
    draw = {"text": text, "mermaid": mermaid, "dot": dot, "svg": svg}[kind]
    return draw(plan, results or {})


# ------------------------------------------------------------ text


def text(plan: "Plan", results: "Mapping[str, StepResult]") -> str:
    """A line for each step, each after those that it waits for, with lines from them as `git log --graph` has it."""
    rails = _rails(plan)
    width = max(map(len, rails), default=0)
    is_drawn = width <= 2 * MAX_RAILS
    names = max(map(len, plan.steps), default=0)
    lines = []
    for step_id, rail in zip(plan.order, rails, strict=True):
        step = plan.steps[step_id]
        words = [word for word in (_ending(step_id, results), *notes(step)) if word]
        if step.dependencies:
            words.append(f"after {_listed(step.dependencies, MAX_NAMED if is_drawn else len(step.dependencies))}")
        drawn = f"{rail:<{width}} " if is_drawn else ""
        lines.append(f"{drawn}{step_id:<{names}}  {' · '.join(words)}".rstrip())
    return "\n".join(lines) + "\n"


def _ending(step_id: str, results: "Mapping[str, StepResult]") -> str:
    return results[step_id].status.replace("_", " ") if step_id in results else ""


def _listed(names: list[str], most: int) -> str:
    more = len(names) - most
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:most])} and {more} more"


def notes(step: "WorkflowStep") -> Iterator[str]:
    """What is special about a step, in a few words."""
    if step.agent != step.id:
        yield step.agent
    if step.items:
        yield f"for each of {step.items.items.strip('{ }')}"
    if step.when:
        yield "when its condition holds"
    if step.join != "all":
        yield f"{step.needed} of {len(step.dependencies)} suffice"


@dataclass(slots=True)
class _Rails:
    """Columns, each with the step whose answer runs down there."""

    columns: list[str | None] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    """For each step, how many of those that depend on it are still to come."""

    def row(self, step: "WorkflowStep", dependents: int) -> str:
        """The line of one step."""
        places = {column: name for column, name in enumerate(self.columns) if name in set(step.dependencies)}
        for name in step.dependencies:
            self.left[name] -= 1
        ending = [column for column, name in places.items() if self.left[name or ""] == 0]
        own = ending[0] if ending else next((n for n, name in enumerate(self.columns) if name is None), None)
        if own is None:
            own = len(self.columns)
            self.columns.append(None)
        joined = [own, *places]
        marks = [self._mark(column, own=own, places=places, ending=ending) for column in range(len(self.columns))]
        drawn = "".join(
            mark + ("─" if min(joined) <= column < max(joined) else " ") for column, mark in enumerate(marks)
        )
        for column in ending:
            self.columns[column] = None
        self.columns[own] = step.id if dependents else None
        self.left[step.id] = dependents
        while self.columns and self.columns[-1] is None:
            self.columns.pop()
        return drawn.rstrip()

    def _mark(self, column: int, *, own: int, places: "Mapping[int, str | None]", ending: list[int]) -> str:
        if column == own:
            return "●"
        first, last = min([own, *places]), max([own, *places])
        if column in places:
            ends = column in ending
            if column == first:
                return "╰" if ends else "├"
            if column == last:
                return "╯" if ends else "┤"
            return "┴" if ends else "┼"
        if self.columns[column] is not None:
            return "│"  # a line that only passes, behind the other one
        return "─" if places and first < column < last else " "


def _rails(plan: "Plan") -> list[str]:
    rails, rows = _Rails(), []
    for step_id in plan.order:
        rows.append(rails.row(plan.steps[step_id], len(plan.dependents[step_id])))
        if len(rails.columns) > MAX_RAILS:  # it will not be drawn, and would take long
            return [" " * (2 * MAX_RAILS + 1)] * len(plan.order)
    return rows


# ------------------------------------------------------------ Mermaid and Graphviz


def mermaid(plan: "Plan", results: "Mapping[str, StepResult]") -> str:
    """A flowchart for Markdown. Steps have numbers as ids: a step may be called `end`."""
    number = {step: f"s{place}" for place, step in enumerate(plan.order)}
    lines = ["flowchart TD"]
    for step_id in plan.order:
        label = "<br/>".join(map(_entity, _label(plan.steps[step_id], results)))
        style = f":::{results[step_id].status}" if step_id in results else ""
        lines.append(f'  {number[step_id]}["{label}"]{style}')
    for step in plan.steps.values():
        arrow = "-->" if step.join == "all" else "-.->"
        lines += [f"  {number[name]} {arrow} {number[step.id]}" for name in step.dependencies]
    for status in sorted({result.status for result in results.values()}):
        fill, line = COLOURS[status]
        lines.append(f"  classDef {status} fill:{fill},stroke:{line},color:#1f2328")
    return "\n".join(lines) + "\n"


def _entity(text: str) -> str:
    """The text as Mermaid takes it: every character that could mean something by its number."""
    return "".join(char if char.isalnum() or char in " .,-_" else f"#{ord(char)};" for char in text)


def _label(step: "WorkflowStep", results: "Mapping[str, StepResult]") -> list[str]:
    return [line for line in (step.id, " · ".join(notes(step)), _ending(step.id, results)) if line]


def dot(plan: "Plan", results: "Mapping[str, StepResult]") -> str:
    """A graph for Graphviz."""
    lines = [
        f"digraph {_quoted(plan.name)} {{",
        '  bgcolor="transparent"',
        '  node [shape=box, style="rounded,filled", fillcolor="white", fontname="sans-serif"]',
        '  edge [color="#6e7781"]',
    ]
    for step_id in plan.order:
        facts = [f"label={_quoted(*_label(plan.steps[step_id], results))}"]
        if step_id in results:
            fill, line = COLOURS[results[step_id].status]
            facts += [f'fillcolor="{fill}"', f'color="{line}"']
        lines.append(f"  {_quoted(step_id)} [{', '.join(facts)}]")
    for step in plan.steps.values():
        style = "" if step.join == "all" else " [style=dashed]"
        lines += [f"  {_quoted(name)} -> {_quoted(step.id)}{style}" for name in step.dependencies]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(*lines: str) -> str:
    """Lines of a label: what Graphviz would obey is written so that it is shown."""
    return '"{}"'.format("\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines))


# ------------------------------------------------------------ SVG

_HEIGHT, _BETWEEN, _MARGIN = 46.0, 54.0, 28.0
_CHAR, _SMALL_CHAR = 7.85, 6.65  # pixels: monospace letters are 0.6 of their height wide, whatever the font
_LONGEST = 36  # characters in a box; the whole text shows when the pointer rests on it

_STYLE = """\
text { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; text-anchor: middle }
.page { fill: #ffffff }
.line { fill: none; stroke: #afb8c1; stroke-width: 1.5 }
.dashed { stroke-dasharray: 5 4 }
.tip { fill: #8c959f }
.box { fill: #f6f8fa; stroke: #8c959f; stroke-width: 1.2 }
.name { font-size: 13px; font-weight: 600; fill: #1f2328 }
.note { font-size: 11px; fill: #59636e }
.done { fill: #dafbe1; stroke: #1a7f37 }
.cached { fill: #ddf4ff; stroke: #0969da }
.failed { fill: #ffebe9; stroke: #cf222e }
.cancelled { fill: #fff8c5; stroke: #9a6700 }
.skipped, .not_run { stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 }
.line { stroke: #484f58 }
.tip { fill: #6e7681 }
.box { fill: #161b22; stroke: #6e7681 }
.name { fill: #f0f6fc }
.note { fill: #9198a1 }
.done { fill: #12261e; stroke: #3fb950 }
.cached { fill: #121d2f; stroke: #58a6ff }
.failed { fill: #25171c; stroke: #f85149 }
.cancelled { fill: #272115; stroke: #d29922 }
}"""


def svg(plan: "Plan", results: "Mapping[str, StepResult]") -> str:
    """A drawing, light or dark as its reader has it."""
    words = {step.id: (step.id, _small(step, results)) for step in plan.steps.values()}
    widths = {
        step_id: 32 + max(_CHAR * len(_short(name)), _SMALL_CHAR * len(_short(note)))
        for step_id, (name, note) in words.items()
    }
    layout = laid_out(plan, widths)
    width = layout.width + 2 * _MARGIN
    height = len(layout.layers) * (_HEIGHT + _BETWEEN) - _BETWEEN + 2 * _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img"',
        f' width="{width:.0f}" height="{height:.0f}">',
        f"<title>{escape(plan.name)}</title>",
        f"<style>\n{_STYLE}\n</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
        '<path class="tip" d="M0 0.5 L8 4 L0 7.5 Z"/></marker></defs>',
        '<rect class="page" width="100%" height="100%" rx="8"/>',
        *_lines(plan, layout),
    ]
    for step_id, layer in layout.depth.items():
        status = results[step_id].status if step_id in results else ""
        x, y = _MARGIN + layout.x[step_id, layer], _top(layer)
        lines.append(_box(x, y, widths[step_id], words[step_id], status))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _small(step: "WorkflowStep", results: "Mapping[str, StepResult]") -> str:
    return " · ".join(word for word in (_ending(step.id, results), *notes(step)) if word)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _top(layer: int) -> float:
    return _MARGIN + layer * (_HEIGHT + _BETWEEN)


def _box(x: float, y: float, width: float, words: tuple[str, str], status: str) -> str:
    name, note = words
    middle = y + _HEIGHT / 2 + (-3 if note else 4.5)
    small = f'<text class="note" x="{x:.1f}" y="{y + 35:.1f}">{escape(_short(note))}</text>' if note else ""
    return (
        f"<g><title>{escape(f'{name}: {note}' if note else name)}</title>"
        f'<rect class="{f"box {status}".strip()}" x="{x - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}"'
        f' height="{_HEIGHT:.0f}" rx="8"/>'
        f'<text class="name" x="{x:.1f}" y="{middle:.1f}">{escape(_short(name))}</text>{small}</g>'
    )


def _lines(plan: "Plan", layout: "Layout") -> Iterator[str]:
    """Curves from layer to layer; through a bend they run straight down."""
    for upper, lower in layout.lines:
        is_end = layout.depth[lower[0]] == lower[1]
        x, y = _MARGIN + layout.x[upper], _top(upper[1]) + _HEIGHT
        end_x, end_y = _MARGIN + layout.x[lower], _top(lower[1])
        half = (y + end_y) / 2
        path = f"M{x:.1f} {y:.1f} C{x:.1f} {half:.1f} {end_x:.1f} {half:.1f} {end_x:.1f} {end_y:.1f}"
        if not is_end:
            path += f" V{end_y + _HEIGHT:.1f}"
        kind = "line dashed" if is_end and plan.steps[lower[0]].join != "all" else "line"
        tip = ' marker-end="url(#tip)"' if is_end else ""
        yield f'<path class="{kind}" d="{path}"{tip}/>'
