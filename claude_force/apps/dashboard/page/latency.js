/* Latency over time, drawn by uPlot (a classic script: it is there before this module runs). */

import * as format from './format.js';

const HEIGHT = 200;
const { uPlot } = globalThis;

/** A chart in `place`; it takes its colours from the style sheet, and follows its place's width. */
export class LatencyChart {
  #place;
  #plot = null;
  #trend = [];

  constructor(place) {
    this.#place = place;
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(place);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.#plot?.destroy();
      this.#plot = null;
      this.show(this.#trend);
    });
  }

  /** The intervals, from a little before the first that had an answer. */
  show(intervals) {
    const first = intervals.findIndex(({ time_ms: time }) => time.p50 != null);
    const trend = intervals.slice(Math.max(0, first - 1));
    this.#trend = trend;
    const data = [
      trend.map(({ begins_at: begins }) => Date.parse(begins) / 1_000),
      trend.map(({ time_ms: time }) => time.p50),
      trend.map(({ time_ms: time }) => time.p95),
    ];
    this.#place.setAttribute('aria-label', described(trend));
    if (this.#plot) this.#plot.setData(data);
    else this.#plot = new uPlot(this.#options(), data, this.#place);
  }

  #size() {
    return { width: Math.max(200, this.#place.clientWidth), height: HEIGHT };
  }

  #options() {
    const style = getComputedStyle(this.#place);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour('--muted'), font: `11px ${style.fontFamily}`, ticks: { show: false } };
    const line = (label, stroke, dash) => ({
      label,
      stroke,
      dash,
      width: 1.5,
      spanGaps: true,
      value: (_, ms) => format.duration(ms),
      points: { show: true, size: 4, fill: stroke }, // a single answer makes no line
    });
    return {
      ...this.#size(),
      series: [
        {
          value: (_, seconds) =>
            seconds == null ? format.NOTHING : `${format.date(seconds * 1_000)}, ${format.time(seconds * 1_000)}`,
        },
        line('P50', colour('--data')),
        line('P95', colour('--data-2'), [5, 3]),
      ],
      axes: [
        {
          ...axis,
          size: 28,
          grid: { show: false },
          values: (_, splits, __, ___, step) =>
            splits.map((seconds) => (step >= 86_400 ? format.date : format.time)(seconds * 1_000)),
        },
        {
          ...axis,
          size: 58,
          grid: { stroke: colour('--line'), width: 1 },
          values: (_, splits) => splits.map(format.shortly),
        },
      ],
      scales: { y: { range: (_, __, most) => [0, (most || 1_000) * 1.1] } },
      cursor: { drag: { setScale: false, x: false, y: false } },
      legend: { live: true },
    };
  }
}

function described(trend) {
  const last = trend.findLast(({ time_ms: time }) => time.p50 != null);
  if (!last) return 'Latency over time: no answers yet';
  const { p50, p95 } = last.time_ms;
  const newest = `P50 is ${format.duration(p50)} and P95 ${format.duration(p95)}`;
  return `Latency over time, in ${format.many(trend.length, 'interval')}; in the last one with answers, ${newest}`;
}
