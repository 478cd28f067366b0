/* Is it well, and what does it cost: the row of figures, what is wrong, and what to type where there is nothing yet. */

import { el } from './dom.js';
import * as format from './format.js';
import { colour, icon, word } from './states.js';

const MOST_ODDITIES = 4;

/** One figure: its name, itself as it came and as it looks, and what to know about it. */
function figure(name, value, shown, note, extra = null) {
  return el(
    'div',
    { class: 'figure', 'data-key': name },
    el('dt', {}, name),
    el('dd', {}, el('data', { value: value ?? '' }, shown), extra, el('small', {}, note)),
  );
}

/** A bar that fills up. Its words stand beside it. */
function meter(ratio) {
  const level = ratio >= 1 ? 'failed' : ratio >= 0.8 ? 'degraded' : 'done';
  return el('span', { class: `meter ${level}`, '--share': Math.min(1, Math.max(0, ratio)), 'aria-hidden': 'true' });
}

export function figures({ total, today, saved_usd: saved, budgets }, { simulated }) {
  const ended = total.executions - total.interrupted;
  const wrong = Object.values(total.error_types).reduce((sum, number) => sum + number, 0);
  const unpriced = total.unpriced ? `and ${format.many(total.unpriced, 'call')} unpriced` : '';
  const budget = budgets.find(({ limit }) => limit.includes('per_day')) ?? budgets[0];
  return [
    figure(
      'Executions',
      total.executions,
      format.count(total.executions),
      total.interrupted
        ? `${format.count(total.interrupted)} interrupted`
        : `${format.count(total.output_tokens)} tokens out`,
    ),
    figure(
      'Success rate',
      total.success_rate,
      format.share(total.success_rate),
      ended ? (wrong ? `${format.count(wrong)} of ${format.count(ended)} failed` : 'none failed') : 'nothing ended yet',
    ),
    figure('Time, P50', total.time_ms.p50, format.duration(total.time_ms.p50), 'half are faster'),
    figure('Time, P95', total.time_ms.p95, format.duration(total.time_ms.p95), '19 of 20 are faster'),
    figure(
      'Cost',
      total.cost_usd,
      format.money(total.cost_usd),
      unpriced || (simulated ? 'simulated: not paid' : 'in this time'),
    ),
    figure(
      'Cost today',
      today.cost_usd,
      format.money(today.cost_usd),
      budget ? `${format.money(budget.left_usd)} of ${format.money(budget.limit_usd)} left` : 'no budget is set',
      budget ? meter((budget.spent_usd + budget.held_usd) / budget.limit_usd) : null,
    ),
    figure('Saved', saved, format.money(saved), 'caches, routing, batches'),
    figure(
      'Hit rate',
      total.hit_rate,
      format.share(total.hit_rate),
      `${format.count(total.cached)} answered from before`,
    ),
  ];
}

/** What needs a person. */
export function alarms({ alerts = [], problems, unreadable_lines: lines, tracking }) {
  return [
    ...Object.entries(problems).map(([part, why]) => alarm('failed', `${word(part)} cannot be read`, why)),
    ...alerts
      .filter(({ state }) => state === 'firing')
      .map((alert) => alarm(alert.severity === 'critical' ? 'failed' : 'degraded', word(alert.name), sentence(alert))),
    lines
      ? alarm(
          'degraded',
          'the ledger is damaged',
          `${format.many(lines, 'line')} of executions.jsonl cannot be read, and are passed over`,
        )
      : null,
    tracking
      ? null
      : alarm(
          'degraded',
          'executions are not written down',
          'performance tracking is off in claude.json: the figures below are of before',
        ),
  ];
}

function sentence({ metric, value, comparison, threshold, window, samples, agent, model }) {
  const whose = [agent, model]
    .filter(Boolean)
    .map((name) => ` of ${name}`)
    .join('');
  const reach = metric === 'budget_share' ? 'today (UTC)' : `over ${window} of ${format.many(samples, 'execution')}`;
  const bound = `${comparison} ${format.measure(metric, threshold)}`;
  return `${measured(metric)}${whose} is ${format.measure(metric, value)}, ${bound}, ${reach}`;
}

/** What is out of the ordinary. */
export function oddities(anomalies) {
  const rest = anomalies.length - MOST_ODDITIES;
  return [
    ...anomalies.slice(0, MOST_ODDITIES).map(oddity),
    rest > 0 ? el('li', {}, `and ${format.count(rest)} more: `, command('claude-force analytics anomalies')) : null,
  ];
}

function oddity({ kind, measure, agent, model, began_at: began, value, usual, executions }) {
  const when = new Date(began);
  const figures = `${measured(measure)} ${format.measure(measure, value)}, usually ${format.measure(measure, usual)}`;
  const extent = `${format.many(executions, 'execution')} by ${model}, from ${format.date(when)}, ${format.time(when)}`;
  return el('li', {}, el('strong', {}, `${word(kind)} of ${agent}`), ` ${figures}`, el('br'), el('small', {}, extent));
}

/** What is measured, without the unit: its figure has one. */
const measured = (name) => word(name.replace(/_(ms|usd)$/, ''));

function alarm(level, title, detail) {
  return el('li', { class: `alarm ${colour(level)}` }, icon(level), el('strong', {}, title), el('span', {}, detail));
}

/** Where nothing ran yet: the very command to type. `others` is how many the filters or the switch leave out. */
export function beginning({ left_out: leftOut }, filters, agent) {
  if (filters.agent || filters.model || filters.days) {
    return hint('Nothing ran in this time, with these filters.', leftOut ? simulatedHint(leftOut, filters) : null);
  }
  if (leftOut) return hint(simulatedHint(leftOut, filters));
  return agent
    ? hint(
        'Nothing has run here yet. In the project’s folder, type',
        command(`claude-force execute ${format.quoted(agent)} "What does this project do?" --offline`),
        'which costs nothing; without --offline, Claude answers.',
      )
    : hint(
        'There are no agents here yet. In the project’s folder, type',
        command('claude-force init'),
        'which writes some to begin with.',
      );
}

function simulatedHint(number, { simulated }) {
  const others = format.many(number, simulated ? 'real execution' : 'simulated execution');
  const verb = number === 1 ? 'is' : 'are';
  return `${others} ${verb} left out: switch “simulated” ${simulated ? 'off' : 'on'} to see them.`;
}

export const hint = (...parts) => el('p', { class: 'hint' }, ...parts.flatMap((part) => [part, ' ']));
export const command = (text) => el('code', {}, text);
