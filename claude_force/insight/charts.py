"""Small charts as SVG, to be put into a page: bars and lines over time, and a bar for a share. Pure.

They stretch to the width that the page gives them, so they hold no text but names and the figures that a pointer, or a
screen reader, is told; their colours are the page's, by class.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

HEIGHT = 100.0
_GAP = 0.18
"""Between two bars, of the width of one."""


class Bar(NamedTuple):
    """A bar of one or two parts, from the bottom up."""

    value: float
    on_top: float
    said: str
    """What it stands for, with its figures."""


def bars(name: str, values: Sequence[Bar]) -> str:
    """A bar for each value; the highest reaches to the top."""
    most = max((bar.value + bar.on_top for bar in values), default=0) or 1
    drawn = "".join(_bar(number, bar, HEIGHT / most) for number, bar in enumerate(values))
    return _svg(name, len(values), drawn)


def _bar(number: int, bar: Bar, scale: float) -> str:
    below, above = bar.value * scale, bar.on_top * scale
    parts = [("low", HEIGHT - below, below), ("top", HEIGHT - below - above, above)]
    rects = "".join(
        f'<rect class="{part}" x="{number + _GAP / 2:.2f}" y="{y:.2f}" width="{1 - _GAP:.2f}" height="{height:.2f}"/>'
        for part, y, height in parts
        if height
    )
    # The whole height is there for the pointer.
    hit = f'<rect class="hit" x="{number}" y="0" width="1" height="{HEIGHT:.0f}"/>'
    return f"<g><title>{escape(bar.said)}</title>{rects}{hit}</g>"


def lines(name: str, values: Sequence[Sequence[float | None]], said: Sequence[str]) -> str:
    """A line for each of the series, broken where a value is missing; `said` is told of each place."""
    count = len(said)
    most = max((value for series in values for value in series if value is not None), default=0) or 1
    drawn = "".join(
        f'<path class="line line{number}" d="{_path(series, HEIGHT * 0.98 / most)}"/>'
        for number, series in enumerate(values)
    )
    hits = "".join(
        f'<rect class="hit" x="{place}" y="0" width="1" height="{HEIGHT:.0f}"><title>{escape(text)}</title></rect>'
        for place, text in enumerate(said)
    )
    return _svg(name, count, drawn + hits)


def _path(series: Sequence[float | None], scale: float) -> str:
    steps, is_drawing = [], False
    for place, value in enumerate(series):
        if value is None:
            is_drawing = False
            continue
        # A place without neighbours is a line of no length, which round ends make a dot of.
        step = f"{place + 0.5:.1f} {HEIGHT - value * scale:.2f}"
        steps.append(f"L{step}" if is_drawing else f"M{step}h0")
        is_drawing = True
    return "".join(steps)


def share(value: float, noise: tuple[float, float] | None = None) -> str:
    """A bar for a share from 0 to 1, beside its figure, so that it needs no name; `noise` is where it may truly end."""
    kind, over = "share", ""
    if noise:
        start, width = 100 * noise[0], 100 * (noise[1] - noise[0])
        kind, over = "share tall", f'<rect class="noise" x="{start:.1f}" y="3.5" width="{width:.1f}" height="3"/>'
    return (
        f'<svg class="{kind}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rail" width="100" height="10"/>'
        f'<rect class="low" width="{100 * value:.1f}" height="10"/>{over}</svg>'
    )


def _svg(name: str, width: int, drawn: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {max(width, 1)} {HEIGHT:.0f}" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(name)}">{drawn}</svg>'
    )
