/* The states of runs and steps. Each has a word and a shape of its own, so that nobody has to tell colours apart. */

import { svg } from './dom.js';

// In a box of 16: what is drawn with a line.
const SHAPES = {
  done: 'M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 1 1 0-13M5 8.2l2.1 2.1L11.2 6',
  cached: 'M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 1 1 0-13M5 6.5h6M5 9.5h6',
  running: 'M8 1.5a6.5 6.5 0 1 1-6.5 6.5M8 5.5a2.5 2.5 0 1 1 0 5a2.5 2.5 0 1 1 0-5',
  waiting: 'M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 1 1 0-13',
  failed: 'M5.3 1.5h5.4l3.8 3.8v5.4l-3.8 3.8H5.3l-3.8-3.8V5.3zM5.7 5.7l4.6 4.6M10.3 5.7l-4.6 4.6',
  skipped: 'M2 3.5l5 4.5l-5 4.5zM9 3.5l5 4.5l-5 4.5z',
  cancelled: 'M2 2h12v12H2zM5.5 8h5',
  ready: 'M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 1 1 0-13M6.3 5l4.2 3l-4.2 3z',
  unknown: 'M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 1 1 0-13M6 6.3a2 2 0 1 1 2 2.2v.7M8 11.3v.6',
  not_run: 'M4 8h8M1.5 8a6.5 6.5 0 0 1 2-4.7M14.5 8a6.5 6.5 0 0 1-2 4.7',
  degraded: 'M8 1.8l6.7 12.4H1.3zM8 6v4M8 11.6v.9',
};
const WORDS = { ready: 'ready or under way' }; // of a run elsewhere, only ends are told

/** The word for it. */
export const word = (status) => WORDS[status] ?? status.replaceAll('_', ' ');

/** The shape; where it stands in a graph, its corner is given. */
export function icon(status, attributes = {}) {
  const name = colour(status);
  const shape = svg('path', { d: SHAPES[name] });
  return svg(
    'svg',
    { class: `icon ${name}`, width: 16, height: 16, viewBox: '0 0 16 16', 'aria-hidden': 'true', ...attributes },
    shape,
  );
}

/** The class that has its colour. */
export function colour(status) {
  if (status === 'completed') return 'done';
  return Object.hasOwn(SHAPES, status) ? status : 'unknown';
}

/** Whether there is an answer. */
export const isDone = (status) => status === 'done' || status === 'cached';
