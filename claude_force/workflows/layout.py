"""Where the steps of a plan lie in a drawing: in layers by depth, near what they belong to, with few crossings. Pure.

After Sugiyama: a step is one layer below the lowest of those that it depends on. An answer that is needed further down
runs through the layers between as a *bend*, one for all who need it. Layers are ordered by the barycentre of their
neighbours, up and down in turn; then each is moved as near to its neighbours as the order and the gaps allow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_force.base.errors import WorkflowError

if TYPE_CHECKING:
    from claude_force.workflows.plan import Plan

MAX_POINTS = 50_000
"""Steps and bends: 10,000 steps in a hundred layers have room, take some seconds, and nobody looks at more."""
_SWEEPS = 8  # more change little
_GAP = 28.0
_BEND_WIDTH = 6.0

Point = tuple[str, int]
"""A step, or the bend of its answer, in a layer."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The drawing's points, from left to right in each layer, and the lines between neighbouring layers."""

    layers: list[list[Point]]
    depth: Mapping[str, int]
    """The layer of each step."""
    x: Mapping[Point, float]
    """The centre of each; the leftmost edge is at 0."""
    lines: list[tuple[Point, Point]]
    """From a point to one in the layer below."""
    width: float


def laid_out(plan: "Plan", widths: Mapping[str, float]) -> Layout:
    """The layout, for boxes of these widths. Raises `WorkflowError` where it would be too large."""
    depth: dict[str, int] = {}
    for step_id in plan.order:
        depth[step_id] = 1 + max((depth[name] for name in plan.steps[step_id].dependencies), default=-1)
    last = {
        step: max((depth[name] for name in needing), default=depth[step]) for step, needing in plan.dependents.items()
    }
    points = sum(max(1, last[step] - depth[step]) for step in depth)
    if points > MAX_POINTS:
        raise WorkflowError(
            f"workflow {plan.name!r} is too large for a drawing ({len(depth):,} steps, {points - len(depth):,} bends);"
            " use --format dot or text",
            workflow=plan.name,
        )
    layers: list[list[Point]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    lines: list[tuple[Point, Point]] = []
    for step_id in plan.order:
        layers[depth[step_id]].append((step_id, depth[step_id]))
        for layer in range(depth[step_id] + 1, last[step_id]):
            layers[layer].append((step_id, layer))
            lines.append(((step_id, layer - 1), (step_id, layer)))
        here = (step_id, depth[step_id])
        lines += [((name, here[1] - 1), here) for name in plan.steps[step_id].dependencies]
    above, below = _neighbours(layers, lines)
    _order(layers, above, below)
    sizes = {p: widths[p[0]] if depth[p[0]] == p[1] else _BEND_WIDTH for layer in layers for p in layer}
    x = _placed(layers, above, below, sizes)
    left = min((x[p] - sizes[p] / 2 for p in x), default=0.0)
    right = max((x[p] + sizes[p] / 2 for p in x), default=0.0)
    return Layout(layers, depth, {point: place - left for point, place in x.items()}, lines, right - left)


_Neighbours = dict[Point, list[Point]]


def _neighbours(layers: list[list[Point]], lines: list[tuple[Point, Point]]) -> tuple[_Neighbours, _Neighbours]:
    above: _Neighbours = {point: [] for layer in layers for point in layer}
    below: _Neighbours = {point: [] for layer in layers for point in layer}
    for upper, lower in lines:
        above[lower].append(upper)
        below[upper].append(lower)
    return above, below


def _order(layers: list[list[Point]], above: _Neighbours, below: _Neighbours) -> None:
    """Sort each layer by where its neighbours are: from the top down, then from the bottom up, and so on."""
    place = {point: (number + 0.5) / len(layer) for layer in layers for number, point in enumerate(layer)}
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        for layer in layers if downwards else reversed(layers):
            aim = _means(layer, above if downwards else below, place)
            layer.sort(key=aim.__getitem__)  # stable: of equals, the first stays the first
            for number, point in enumerate(layer):
                place[point] = (number + 0.5) / len(layer)


def _means(layer: Sequence[Point], neighbours: _Neighbours, place: Mapping[Point, float]) -> dict[Point, float]:
    """The middle of each point's neighbours; its own place where it has none."""
    return {
        point: sum(place[other] for other in near) / len(near) if (near := neighbours[point]) else place[point]
        for point in layer
    }


def _placed(
    layers: list[list[Point]], above: _Neighbours, below: _Neighbours, sizes: Mapping[Point, float]
) -> dict[Point, float]:
    x: dict[Point, float] = {}
    for layer in layers:  # to begin with, each layer in the middle
        x |= _spread(layer, dict.fromkeys(layer, 0.0), sizes)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        for layer in layers if downwards else reversed(layers):
            x |= _spread(layer, _means(layer, above if downwards else below, x), sizes)
    return x


def _spread(layer: Sequence[Point], aim: Mapping[Point, float], sizes: Mapping[Point, float]) -> dict[Point, float]:
    """As near to their aims as order and gaps allow, by least squares: pool what would overlap, and centre the pool."""
    offsets, offset = [], 0.0
    for before, point in zip([None, *layer], layer, strict=False):
        offset += 0.0 if before is None else (sizes[before] + sizes[point]) / 2 + _GAP
        offsets.append(offset)
    pools: list[tuple[float, int]] = []  # the mean of what they aim at, and how many they are
    for point, offset in zip(layer, offsets, strict=True):
        mean, count = aim[point] - offset, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return {point: mean + offset for point, mean, offset in zip(layer, means, offsets, strict=True)}
