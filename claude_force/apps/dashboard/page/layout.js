/* Where the steps of a run lie in its graph: dagre decides which stands where, and in which order. Pure. */

import { Graph, layout } from './vendor/dagre.esm.js';

export const WIDTH = 188;
export const HEIGHT = 46;
export const MARGIN = 16;
const GAP = 14; // between boxes
const BEND = 5; // between lines

/** Steps are numbers to dagre: it keeps names as keys of objects, where a step called `__proto__` would be lost. */
export function laidOut(steps, direction) {
  if (!steps.length) return { places: new Map(), lines: [], size: { width: 1, height: 1 } };
  const graph = new Graph().setGraph({
    rankdir: direction,
    nodesep: GAP,
    edgesep: BEND,
    ranksep: direction === 'LR' ? 46 : 34,
    ranker: 'tight-tree',
  });
  const numbers = new Map(steps.map(({ id }, number) => [id, String(number)]));
  for (const number of numbers.values()) graph.setNode(number, { width: WIDTH, height: HEIGHT });
  for (const { id, depends_on: needs } of steps) {
    for (const need of needs) if (numbers.has(need)) graph.setEdge(numbers.get(need), numbers.get(id), {});
  }
  layout(graph);
  const boxes = graph.nodes().map((number) => graph.node(number));
  const edges = graph.edges().map(({ v, w }) => ({ from: v, to: w, bends: graph.edge(v, w).points.slice(1, -1) }));
  compact([...boxes, ...edges.flatMap(({ bends }) => bends)], direction);
  const left = Math.min(...boxes.map(({ x }) => x)) - WIDTH / 2 - MARGIN;
  const top = Math.min(...boxes.map(({ y }) => y)) - HEIGHT / 2 - MARGIN;
  for (const point of [...boxes, ...edges.flatMap(({ bends }) => bends)]) {
    point.x -= left;
    point.y -= top;
  }
  const lines = edges.map(({ from, to, bends }) => ({
    from: steps[from].id,
    to: steps[to].id,
    d: curve([graph.node(from), ...bends, graph.node(to)], direction),
  }));
  return {
    places: new Map(graph.nodes().map((number) => [steps[number].id, graph.node(number)])),
    lines,
    size: {
      width: Math.max(...boxes.map(({ x }) => x)) + WIDTH / 2 + MARGIN,
      height: Math.max(...boxes.map(({ y }) => y)) + HEIGHT / 2 + MARGIN,
    },
  };
}

/** Dagre leaves much air between many steps. Here each column keeps its order, and every box and bend in it comes as
    near as it can to its place in a picture that is only as high as the fullest column. */
function compact(points, direction) {
  const [along, across, length] = direction === 'LR' ? ['x', 'y', HEIGHT] : ['y', 'x', WIDTH];
  const columns = new Map();
  for (const point of points) {
    const place = Math.round(point[along]);
    if (!columns.has(place)) columns.set(place, []);
    columns.get(place).push(point);
  }
  const room = (point) => ('width' in point ? length + GAP : BEND);
  const fullest = Math.max(
    ...[...columns.values()].map((column) => column.reduce((sum, point) => sum + room(point), 0)),
  );
  const all = points.map((point) => point[across]);
  const factor = Math.min(1, fullest / (Math.max(...all) - Math.min(...all) + length));
  for (const column of columns.values()) {
    column.sort((a, b) => a[across] - b[across]);
    const groups = []; // what would overlap is moved together: by its mean, less the room of those before
    let before = 0;
    for (const point of column) {
      const offset = before + room(point) / 2;
      before += room(point);
      let group = { mean: factor * point[across] - offset, points: [[point, offset]] };
      while (groups.length && groups.at(-1).mean > group.mean) {
        const other = groups.pop();
        const both = [...other.points, ...group.points];
        group = {
          mean: (other.mean * other.points.length + group.mean * group.points.length) / both.length,
          points: both,
        };
      }
      groups.push(group);
    }
    for (const { mean, points: moved } of groups) for (const [point, offset] of moved) point[across] = mean + offset;
  }
}

/** A soft line through the points, which leaves the first box and meets the last one in the middle of a side. */
function curve(points, direction) {
  const isAcross = direction === 'LR';
  const half = (isAcross ? WIDTH : HEIGHT) / 2;
  const through = points.map(({ x, y }, number) => {
    const aside = number === 0 ? half : number === points.length - 1 ? -half : 0;
    return isAcross ? [x + aside, y] : [x, y + aside];
  });
  return through.slice(1).reduce(
    (d, [x, y], number) => {
      const [left, top] = through[number];
      const middle = isAcross ? (left + x) / 2 : (top + y) / 2;
      return `${d}C${isAcross ? `${middle} ${top} ${middle} ${y}` : `${left} ${middle} ${x} ${middle}`} ${x} ${y}`;
    },
    `M${through[0].join(' ')}`,
  );
}
