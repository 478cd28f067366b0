/* Runs of workflows: the list of them, and what is known of the one, and of the step, that is looked at. */

import { el } from './dom.js';
import { command, hint } from './figures.js';
import * as format from './format.js';
import { told } from './graph.js';
import { colour, icon, word } from './states.js';

/** The address of a run, or of a step of it, on this page. */
export function address(run, step = null) {
  return `#${new URLSearchParams(step == null ? { run } : { run, step })}`;
}

/** Which run and step the address of the page names. */
export function addressed() {
  const names = new URLSearchParams(location.hash.slice(1));
  return { run: names.get('run'), step: names.get('step') };
}

export function list(runs, selected, now) {
  return runs.map((run) =>
    el(
      'li',
      { 'data-key': run.id },
      el(
        'a',
        { href: address(run.id), class: 'run', 'aria-current': run.id === selected ? 'true' : null },
        icon(run.status),
        el('span', { class: 'name', title: run.workflow }, run.workflow),
        el('small', {}, format.ago(now - Date.parse(run.started_at))),
        el('span', { class: `state ${colour(run.status)}` }, runWord(run), run.simulated ? ', simulated' : null),
        el('small', {}, [spent(run, now), format.money(run.cost_usd)].filter(Boolean).join(' · ')),
      ),
    ),
  );
}

/** Nobody can tell from a run that is elsewhere whether it goes on. */
const runWord = (run) => (run.status === 'running' && !run.is_here ? 'running, or broken off' : word(run.status));

function spent(run, now) {
  if (run.duration_s != null) return format.duration(1_000 * run.duration_s);
  return run.status === 'running' && run.is_here ? format.duration(now - Date.parse(run.started_at)) : null;
}

/** What to type where no workflow has run; `workflow` is one that can, or null. */
export function noRuns(workflow) {
  return workflow
    ? hint('No workflow has run here yet. Type', command(toRun(workflow)), 'and watch it here.')
    : hint(
        'There are no workflows here yet. Type',
        command('claude-force init'),
        'which writes some, or put files into .claude/workflows.',
      );
}

// Something for each type of input, which has to be given; the simulator minds little what.
const EXAMPLES = { string: 'an example', integer: 1, number: 1, boolean: true, list: '["an example"]', object: '{}' };

function toRun({ name, inputs }) {
  const given = Object.entries(inputs)
    .filter(([, { required, default: usual }]) => required && usual == null)
    .map(([input, { type }]) => `--input ${format.quoted(`${input}=${EXAMPLES[type]}`)}`);
  return ['claude-force run-workflow', format.quoted(name), ...given, '--offline'].join(' ');
}

/** The line above the graph. */
export function heading({ run, description }, now) {
  const facts = [
    run.id,
    spent(run, now),
    format.money(run.cost_usd),
    run.saved_usd ? `${format.money(run.saved_usd)} saved` : null,
    run.resumed ? `taken up ${format.many(run.resumed, 'time')}` : null,
    run.simulated ? 'simulated: nothing was paid' : null,
  ];
  return [
    el(
      'p',
      { class: 'title' },
      icon(run.status),
      el('strong', {}, run.workflow),
      el('span', { class: `state ${colour(run.status)}` }, runWord(run)),
    ),
    el('p', { class: 'facts' }, facts.filter(Boolean).join(' · ')),
    description ? el('p', { class: 'facts' }, description) : null,
    run.error ? el('p', { class: 'error' }, run.error) : null,
  ];
}

/** The steps as a table: the graph in words. */
export function table({ run, steps }, selected) {
  return steps.map((step) =>
    el(
      'tr',
      {
        'data-key': step.id,
        class: step.item_of ? 'item' : null,
        'aria-current': step.id === selected ? 'true' : null,
      },
      el('th', { scope: 'row' }, icon(step.status), el('a', { href: address(run.id, step.id) }, step.id)),
      el('td', {}, el('span', { class: `state ${colour(step.status)}` }, word(step.status))),
      el(
        'td',
        { class: 'number' },
        step.duration_s == null ? format.NOTHING : format.duration(1_000 * step.duration_s),
      ),
      el('td', { class: 'number' }, step.attempts ? format.count(step.attempts) : format.NOTHING),
      el(
        'td',
        { class: 'number' },
        step.attempts || step.status === 'cached' ? format.money(step.cost_usd) : format.NOTHING,
      ),
      el('td', {}, step.agent),
    ),
  );
}

/** All about one step. `more` has its answers and why it ran; it is null while the server is asked. */
export function details({ run, steps }, step, more, now) {
  const items = steps.filter(({ item_of: of }) => of === step.id);
  const facts = [
    ['agent', step.agent],
    ['model', step.model],
    ['waits for', step.depends_on.join(', ') || null],
    [
      'tokens in / out',
      step.input_tokens == null ? null : `${format.count(step.input_tokens)} / ${format.count(step.output_tokens)}`,
    ],
    ['attempts', step.attempts ? tries(step.attempts) : null],
    ['saved', step.saved_usd == null ? null : format.money(step.saved_usd)],
    ['reason', step.reason],
  ];
  return [
    el('p', { class: 'title' }, icon(step.status), el('strong', {}, step.id)),
    el('p', { class: `state ${colour(step.status)}` }, told(step, now).join(' · ')),
    el(
      'dl',
      {},
      ...facts
        .filter(([, value]) => value != null)
        .map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))),
    ),
    ...(more ? [...why(more), ...answers(more, step)] : [el('p', { class: 'hint' }, 'Asking for its answer …')]),
    items.length ? el('h3', {}, format.many(items.length, 'item')) : null,
    items.length
      ? el(
          'ul',
          { class: 'items' },
          ...items.map((item) =>
            el(
              'li',
              { 'data-key': item.id },
              icon(item.status),
              el('a', { href: address(run.id, item.id) }, item.id),
              ' ',
              el('small', {}, told(item, now).join(' · ')),
            ),
          ),
        )
      : null,
  ];
}

function tries(attempts) {
  if (attempts === 1) return '1';
  return `${format.count(attempts)}: ${attempts === 2 ? '1 retry' : `${format.count(attempts - 1)} retries`}`;
}

function why({ changes, compared_with: before }) {
  if (!changes.length) return [];
  return [
    el('h3', {}, `Why it ran: since run ${before}`),
    el('ul', { class: 'why' }, ...changes.map((change) => el('li', {}, change))),
  ];
}

function answers({ answers: found, reason }, step) {
  const texts = Object.entries(found);
  if (!texts.length) return reason ? [el('p', { class: 'hint' }, reason)] : [];
  return texts.flatMap(([name, text]) => [
    el('h3', {}, name === step.id ? 'Answer' : `Answer of ${name}`),
    el('pre', { class: 'answer', tabindex: 0, role: 'region', 'aria-label': `Answer of ${name}` }, text),
  ]);
}
