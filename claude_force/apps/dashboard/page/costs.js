/* Bars and columns, in plain HTML: each is a list whose words say all that its bars show. */

import { el } from './dom.js';
import * as format from './format.js';

const MOST_BARS = 8;

/** Names with a bar each, the longest first; beyond some, one line says what is left. */
export function bars(items) {
  const sorted = [...items].sort((a, b) => b.cost_usd - a.cost_usd || b.executions - a.executions);
  const longest = Math.max(...sorted.map(({ cost_usd: cost }) => cost), 0) || 1;
  const rest = sorted.slice(MOST_BARS);
  return [
    ...sorted
      .slice(0, MOST_BARS)
      .map((item) =>
        el(
          'li',
          { 'data-key': item.name },
          el('span', { class: 'name', title: item.name }, item.name),
          el('span', { class: 'bar', '--share': Math.max(0, item.cost_usd) / longest, 'aria-hidden': 'true' }),
          el('data', { value: item.cost_usd }, format.money(item.cost_usd)),
          el(
            'small',
            {},
            format.many(item.executions, 'execution'),
            item.unpriced ? `, ${format.count(item.unpriced)} unpriced` : '',
          ),
        ),
      ),
    rest.length
      ? el('li', { class: 'rest' }, `and ${format.count(rest.length)} more: claude-force analytics costs`)
      : null,
  ];
}

/** Columns side by side: `{ name, value, shown }` of each, and which names stand below. */
export function columns(items, { below }) {
  const highest = Math.max(...items.map(({ value }) => value), 0) || 1;
  return items.map(({ name, value, shown }, number) =>
    el(
      'li',
      {
        'data-key': name,
        title: `${name}: ${shown}`,
        class: 'column',
        '--share': value / highest,
      },
      el('span', { class: 'visually-hidden' }, `${name}: ${shown}`),
      below(number, items.length) ? el('span', { class: 'tick', 'aria-hidden': 'true' }, name) : null,
    ),
  );
}

export function byDay(days) {
  const items = days.slice(-31).map(({ day, cost_usd: cost, executions }) => ({
    name: format.date(new Date(`${day}T12:00`)),
    value: Math.max(0, cost),
    shown: `${format.money(cost)}, ${format.many(executions, 'execution')}`,
  }));
  return columns(items, { below: (number, all) => number === 0 || number === all - 1 });
}

/** How many took how long; empty bounds at both ends are left out. */
export function distribution(latency) {
  const first = latency.findIndex(({ executions }) => executions);
  const last = latency.findLastIndex(({ executions }) => executions);
  if (first < 0) return [el('li', { class: 'hint' }, 'No whole answer yet.')];
  const shown = latency.slice(Math.max(0, first - 1), last + 2);
  const items = shown.map(({ up_to_ms: bound, executions }, number) => ({
    name: bound == null ? `above ${format.shortly(shown[number - 1]?.up_to_ms ?? 0)}` : `to ${format.shortly(bound)}`,
    value: executions,
    shown: format.many(executions, 'execution'),
  }));
  return columns(items, { below: (number, all) => number % Math.ceil(all / 5) === 0 });
}
