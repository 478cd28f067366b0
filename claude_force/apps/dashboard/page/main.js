/* The page: what it knows, when it asks for more, and which view shows what. */

import { bars, byDay, distribution } from './costs.js';
import { el, isShown, render } from './dom.js';
import { alarms, beginning, figures, oddities } from './figures.js';
import * as format from './format.js';
import { RunGraph, told } from './graph.js';
import { LatencyChart } from './latency.js';
import { address, addressed, details, heading, list, noRuns, table } from './runs.js';
import { ask, listen } from './server.js';
import { word } from './states.js';

const at = (id) => document.getElementById(id);
// With 200 pages open, one busy project should not be asked for everything 200 times a second.
const PAUSE_MS = 5_000;
const MOST_RUNS = 50;

const known = { overview: null, runs: null, run: null, step: null, agent: null, workflow: null };
let behind = 0; // milliseconds that this clock is behind the server's
const now = () => Date.now() + behind;

// ---------------------------------------------------------------- figures

const filters = at('filters');

/** The filters are in the page's address, so that it can be kept and passed on. */
function chosen() {
  return Object.fromEntries([...new FormData(filters)].filter(([, value]) => value));
}

function restoreFilters() {
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = filters.elements.namedItem(name); // not [name], which would find "length"
    if (field?.type === 'checkbox') field.checked = value === 'true';
    else if (field) {
      if (![...field.options].some((option) => option.value === value)) field.append(new Option(value, value));
      field.value = value;
    }
  }
}

function offer(field, names) {
  const first = field.options[0];
  const all = field.value && !names.includes(field.value) ? [field.value, ...names] : names;
  render(field, first.cloneNode(true), ...all.map((name) => el('option', { value: name, 'data-key': name }, name)));
}

const latencyChart = new LatencyChart(at('latency'));

function showOverview() {
  const overview = known.overview;
  const isEmpty = overview.total.executions === 0;
  document.title = `${overview.project} – claude-force`;
  render(at('project'), overview.project);
  offer(filters.elements.agent, overview.agents);
  offer(filters.elements.model, overview.models);
  render(at('alarms'), ...alarms(overview));
  render(at('figures'), ...figures(overview, chosen()));
  render(at('beginning'), isEmpty ? beginning(overview, chosen(), known.agent) : null);
  for (const part of document.querySelectorAll('.of-executions')) part.hidden = isEmpty;
  if (!isEmpty) {
    at('trend').hidden = !overview.trend?.length;
    if (overview.trend?.length) latencyChart.show(overview.trend);
    render(at('distribution'), ...distribution(overview.latency));
    render(at('by-model'), ...bars(overview.by_model));
    render(at('by-agent'), ...bars(overview.by_agent));
    render(at('by-day'), ...byDay(overview.by_day));
    render(
      at('errors'),
      ...Object.entries(overview.total.error_types).map(([name, number]) => fact(name, number, format.count(number))),
    );
    at('no-errors').hidden = Object.keys(overview.total.error_types).length > 0;
  }
  render(at('cache'), ...cacheFacts(overview.cache));
  at('odd').hidden = !overview.anomalies?.length;
  render(at('oddities'), ...oddities(overview.anomalies ?? []));
}

const fact = (name, value, shown) =>
  el('div', { 'data-key': name }, el('dt', {}, name), el('dd', {}, el('data', { value: value ?? '' }, shown)));

function cacheFacts(cache) {
  if (!cache) return [];
  return [
    fact('state', cache.enabled, cache.enabled ? 'on' : 'off'),
    fact('answers kept', cache.entries, format.count(cache.entries)),
    fact('size', cache.size_bytes, format.size(cache.size_bytes / 1024 / 1024)),
    fact('hits', cache.hits, format.count(cache.hits)),
    fact('misses', cache.misses, format.count(cache.misses)),
    fact('evictions', cache.evictions, format.count(cache.evictions)),
    fact('saved', cache.saved_usd, format.money(cache.saved_usd)),
  ];
}

// ---------------------------------------------------------------- runs

const graph = new RunGraph(at('graph'), showReadout);

/** The run that is looked at: the one in the address, or else the newest, whichever that is by then. */
const looked = () => addressed().run ?? known.runs?.[0]?.id ?? null;

function showRuns() {
  if (!known.runs) return;
  render(at('runs'), ...list(known.runs, looked(), now()));
  render(at('no-runs'), known.runs.length ? null : noRuns(known.workflow));
}

function showRun() {
  const { run: found, step: more } = known;
  if (!found) return;
  const { step: name } = addressed();
  const step = found.steps.find(({ id }) => id === name);
  at('run').hidden = false; // first of all: what is hidden has no size to draw in
  render(at('run-heading'), ...heading(found, now()));
  graph.show(
    found.run,
    found.steps.filter(({ item_of: of }) => !of),
    name,
    (id) => address(found.run.id, id),
    now(),
  );
  if (!isShown(at('steps'), found, name)) render(at('steps'), ...table(found, name));
  at('details').hidden = !step;
  at('close').href = address(found.run.id);
  if (step) render(at('step'), ...details(found, step, isOf(more, found.run.id, step.id) ? more : null, now()));
}

const isOf = (more, run, step) => more?.run_id === run && more.step === step;

let frame = null;

/** Show it with the next picture: a run of many steps tells of all of them at once. */
function redraw() {
  frame ??= requestAnimationFrame(() => {
    frame = null;
    showRuns();
    showRun();
  });
}

function showReadout(id) {
  const step = known.run?.steps.find((one) => one.id === id);
  render(at('readout'), step ? `${step.id} (${step.agent}): ${told(step, now()).join(', ')}` : '');
}

/** Put down what is new of a run; the runs are in order of their beginning, the newest first. */
function learnRun(run) {
  const before = known.runs.find(({ id }) => id === run.id);
  known.runs = [run, ...known.runs.filter(({ id }) => id !== run.id)]
    .sort((a, b) => b.started_at.localeCompare(a.started_at))
    .slice(0, MOST_RUNS);
  if (run.status !== before?.status && run.status !== 'running') say(`${run.workflow} ${word(run.status)}`);
  if (known.run?.run.id === run.id) known.run.run = run;
}

function learnStep(step) {
  const { steps } = known.run;
  const place = steps.findIndex(({ id }) => id === step.id);
  if (place >= 0) steps[place] = step;
  else askRun.soon(); // an item of a step that is done for each: its place is the server's to say
}

// ---------------------------------------------------------------- asking

/** Ask now or, where it was asked a moment ago, later; never twice at once. What it throws is shown in `place`. */
function asker(place, pauseMs, question) {
  let isAsking = false;
  let isWanted = false;
  let timer = null;
  async function run() {
    timer = null;
    if (isAsking) {
      isWanted = true;
      return;
    }
    isAsking = true;
    isWanted = false;
    try {
      await question();
      render(place);
    } catch (error) {
      render(place, el('p', { class: 'problem' }, error.message));
    }
    isAsking = false;
    if (isWanted) run();
  }
  return {
    now: run,
    soon() {
      timer ??= setTimeout(run, pauseMs * (0.5 + Math.random() / 2)); // not all pages in one moment
    },
  };
}

const askOverview = asker(at('overview-problem'), PAUSE_MS, async () => {
  const asked = chosen();
  const overview = await ask('/api/overview', asked);
  if (JSON.stringify(asked) !== JSON.stringify(chosen())) return; // other filters by now, whose answer is on its way
  behind = Date.parse(overview.at) - Date.now();
  known.overview = overview;
  if (!overview.total.executions) {
    const { agents } = await ask('/api/agents');
    known.agent = agents[0]?.name;
  }
  showOverview();
});

const askRuns = asker(at('runs-problem'), PAUSE_MS, async () => {
  known.runs = (await ask('/api/runs', { limit: MOST_RUNS })).runs;
  if (!known.runs.length) {
    const { workflows } = await ask('/api/workflows');
    known.workflow = workflows.find(({ problems }) => !problems.length);
  }
  showRuns();
  if (known.run?.run.id !== looked()) askRun.now();
});

const askRun = asker(at('run-problem'), 300, async () => {
  const id = looked();
  if (id == null) return;
  const found = await ask(`/api/runs/${encodeURIComponent(id)}`).catch((error) => {
    if (known.run?.run.id !== id) at('run').hidden = true; // another one was shown
    throw error;
  });
  if (id !== looked()) return;
  known.run = found;
  // It may have been named by the beginning of its id, or as the last one: from here on, this one is meant.
  if (addressed().run != null) history.replaceState(null, '', address(found.run.id, addressed().step));
  showRuns();
  showRun();
});

const askStep = asker(at('step-problem'), 300, async () => {
  const { run, step } = addressed();
  if (run == null || step == null) return;
  const found = await ask(`/api/runs/${encodeURIComponent(run)}/steps/${encodeURIComponent(step)}`);
  if (step !== addressed().step || run !== addressed().run) return;
  known.step = found;
  showRun();
});

function askAll() {
  askOverview.now();
  askRuns.now();
  askRun.now();
  askStep.now();
}

// ---------------------------------------------------------------- what happens

/** Said once to who cannot see it: only ends of runs, and how the line is. */
function say(text) {
  at('said').textContent = text;
}

function showLine(isUp, isRefused = false) {
  if (isRefused) askOverview.now(); // which says why
  const line = at('line');
  if (line.dataset.state === String(isUp)) return;
  line.dataset.state = isUp;
  line.textContent = isUp ? 'live' : 'connection lost, trying again';
  document.body.classList.toggle('stale', !isUp);
  if (isUp) askAll(); // whatever happened in between
}

listen(
  {
    reset: askAll,
    ledger: () => document.hidden || askOverview.soon(),
    run(run) {
      if (!known.runs) return;
      learnRun(run);
      redraw();
      if (known.run?.run.id !== looked()) askRun.now();
    },
    step({ run_id: run, step }) {
      if (known.run?.run.id !== run) return;
      learnStep(step);
      redraw();
      if (addressed().step === step.id) askStep.soon();
    },
    progress({ run_id: run, kind, step: name }) {
      const step = known.run?.run.id === run ? known.run.steps.find(({ id }) => id === name) : null;
      if (kind !== 'started' || !step) return;
      step.status = 'running';
      step.started_at ??= new Date(now()).toISOString();
      redraw();
    },
  },
  showLine,
);

filters.addEventListener('input', () => {
  history.replaceState(null, '', `?${new URLSearchParams(chosen())}${location.hash}`);
  askOverview.now();
});
filters.addEventListener('submit', (event) => event.preventDefault());

let previous = addressed();
addEventListener('hashchange', () => {
  const { run, step } = addressed();
  showRuns();
  if (known.run?.run.id !== looked()) askRun.now();
  else showRun();
  if (step != null) {
    askStep.now();
    at('details').focus();
  } else if (previous.step != null && run === previous.run) {
    document.querySelector(`#graph a[tabindex="0"]`)?.focus();
  }
  previous = { run, step };
});
addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && addressed().step != null) location.hash = address(addressed().run);
});

at('graph').addEventListener('redraw', redraw);
at('fit').addEventListener('click', () => graph.fit());
at('nearer').addEventListener('click', () => graph.zoom(1.25));
at('farther').addEventListener('click', () => graph.zoom(0.8));

// Time goes on where nothing happens: so do clocks, the last hour, and today. What nobody sees can wait.
setInterval(redraw, 1_000);
setInterval(() => document.hidden || askOverview.now(), 60_000);
document.addEventListener('visibilitychange', () => document.hidden || askOverview.now());

restoreFilters();
askAll();
