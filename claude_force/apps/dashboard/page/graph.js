/* The graph of a run: how its steps look, and how one moves in it. Where they lie: `layout.js`.
   One stop for the Tab key: the arrows lead from step to step, along its lines and within its column. */

import { isShown, render, svg } from './dom.js';
import * as format from './format.js';
import { HEIGHT, MARGIN, WIDTH, laidOut } from './layout.js';
import { colour, icon, isDone, word } from './states.js';

const LARGEST = 1.15; // a few steps need not fill the screen
const CLOSEST = 2.5;
const FAR = 0.68; // below it, second lines cannot be read: names are drawn larger instead
const TINY = 0.3; // below it, nothing can be read: boxes are filled with the colour of their state
const FEW = 60; // more take a while to lay out, so both directions are not tried
const A_STEP = 1.25;
const A_CLICK = 4; // pixels that a finger may move and yet mean the step below it

export class RunGraph {
  #picture;
  #ground;
  #places = new Map();
  #lines = [];
  #size = { width: 1, height: 1 };
  #view = { x: 0, y: 0, scale: 1 };
  #wasMoved = false;
  #run = null;
  #current = null;
  #onFocus;

  /** `picture` is an `<svg>`; steps in it are links. `onFocus` is told of the step that is looked at, or of null. */
  constructor(picture, onFocus) {
    this.#picture = picture;
    this.#onFocus = onFocus;
    this.#ground = svg('g');
    picture.append(this.#ground);
    new ResizeObserver(() => !this.#wasMoved && this.#run && this.fit()).observe(picture);
    this.#listen();
  }

  /** Draw this run; `href` gives the address of a step. */
  show(run, steps, selected, href, now) {
    this.#run = run;
    const isNew = !isShown(
      this.#picture,
      run.id,
      steps.map(({ id, depends_on: needs }) => [id, needs]),
    );
    if (isNew) {
      this.#current = null;
      this.#wasMoved = false;
      this.#lay(steps);
    }
    if (!steps.some(({ id }) => id === this.#current)) this.#current = steps[0]?.id ?? null;
    const nearness = nearnessOf(this.#view.scale);
    const isUnderWay = steps.some(({ status }) => status === 'running');
    if (!isShown(this.#ground, run.id, steps, selected, nearness, isUnderWay && now)) {
      const known = new Map(steps.map((step) => [step.id, step]));
      const lines = this.#lines.map((line) => drawn(line, known.get(line.from)));
      const boxes = steps.map((step) => this.#box(step, step.id === selected, href(step.id), nearness, now));
      render(this.#ground, ...lines, ...boxes);
    }
    const done = format.count(steps.filter(({ status }) => isDone(status)).length);
    const label = `Graph of ${run.workflow}: ${done} of ${format.many(steps.length, 'step')} done`;
    this.#picture.setAttribute('aria-label', label);
    if (isNew) this.#open(steps);
  }

  /** Show all of it. */
  fit() {
    this.#wasMoved = false;
    const { clientWidth: width, clientHeight: height } = this.#picture;
    const scale = this.#fitting();
    this.#look({ scale, x: (width - scale * this.#size.width) / 2, y: (height - scale * this.#size.height) / 2 });
  }

  /** Nearer or farther; what is at this point of the picture, or in its middle, stays there. */
  zoom(factor, x = this.#picture.clientWidth / 2, y = this.#picture.clientHeight / 2) {
    const { x: left, y: top, scale } = this.#view;
    const smallest = Math.min(
      0.5,
      this.#picture.clientWidth / this.#size.width,
      this.#picture.clientHeight / this.#size.height,
    );
    const next = Math.min(CLOSEST, Math.max(smallest, scale * factor));
    this.#wasMoved = true;
    this.#look({ scale: next, x: x - ((x - left) * next) / scale, y: y - ((y - top) * next) / scale });
  }

  move(x, y) {
    this.#wasMoved = true;
    this.#look({ ...this.#view, x: this.#view.x + x, y: this.#view.y + y });
  }

  // ---------------------------------------------------------------- drawing

  /** From left to right, or down: whichever shows more. */
  #lay(steps) {
    const room = { width: this.#picture.clientWidth, height: parseFloat(getComputedStyle(this.#picture).maxHeight) };
    const directions = steps.length <= FEW ? ['LR', 'TB'] : [room.width > room.height ? 'LR' : 'TB'];
    const laid = directions.map((direction) => laidOut(steps, direction));
    const [first, second = first] = laid.map(({ size }) => fitting(size, room));
    const { places, lines, size } = laid[second > 1.1 * first ? 1 : 0];
    this.#places = places;
    this.#lines = lines;
    this.#size = size;
    this.#picture.style.height = `${size.height * fitting(size, { ...room, height: Infinity })}px`; // up to its maximum
  }

  #fitting() {
    return fitting(this.#size, { width: this.#picture.clientWidth, height: this.#picture.clientHeight });
  }

  /** All of it, or, where that would be too small, the part where something happens, or went wrong. */
  #open(steps) {
    this.fit();
    if (this.#fitting() >= TINY) return;
    const { id } =
      ['running', 'failed', 'ready'].map((wanted) => steps.find(({ status }) => status === wanted)).find(Boolean) ??
      steps[0];
    this.zoom(FAR / this.#fitting());
    this.#reveal(id);
  }

  #box(step, isSelected, href, nearness, now) {
    const { x, y } = this.#places.get(step.id);
    const facts = told(step, now);
    const isFar = nearness !== 'near';
    const name = format.cut(step.id, isFar ? 13 : 21);
    return svg(
      'a',
      {
        class: `step ${nearness} ${colour(step.status)}${isSelected ? ' selected' : ''}`,
        href,
        'data-key': step.id,
        transform: `translate(${x - WIDTH / 2} ${y - HEIGHT / 2})`,
        'aria-label': `${step.id}: ${facts.join(', ')}`,
        'aria-current': isSelected ? 'true' : null,
        tabindex: step.id === this.#current ? 0 : -1,
      },
      svg('rect', { width: WIDTH, height: HEIGHT, rx: 7 }),
      nearness === 'tiny' ? null : icon(step.status, isFar ? { x: 9, y: 12, width: 22, height: 22 } : { x: 10, y: 8 }),
      nearness === 'tiny' ? null : svg('text', isFar ? { class: 'far', x: 38, y: 31 } : { x: 33, y: 20 }, name),
      isFar ? null : svg('text', { class: 'facts', x: 33, y: 36 }, facts.slice(0, 3).join(' · ')),
      step.attempts > 1 && !isFar ? svg('text', { class: 'tries', x: WIDTH - 9, y: 20 }, `×${step.attempts}`) : null,
    );
  }

  #look(view) {
    const before = nearnessOf(this.#view.scale);
    this.#view = view;
    this.#ground.setAttribute('transform', `translate(${view.x} ${view.y}) scale(${view.scale})`);
    if (before !== nearnessOf(view.scale)) this.#picture.dispatchEvent(new CustomEvent('redraw'));
  }

  // ---------------------------------------------------------------- hands

  #listen() {
    const picture = this.#picture;
    const fingers = new Map();
    let travelled = 0;
    picture.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      fingers.set(event.pointerId, event);
      if (fingers.size === 1) travelled = 0;
    });
    picture.addEventListener('pointermove', (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const [x, y] = [event.clientX - before.clientX, event.clientY - before.clientY];
      travelled += Math.hypot(x, y);
      if (travelled < A_CLICK) return;
      if (!picture.hasPointerCapture(event.pointerId)) picture.setPointerCapture(event.pointerId);
      const other = [...fingers.values()].find(({ pointerId }) => pointerId !== event.pointerId);
      fingers.set(event.pointerId, event);
      if (!other) {
        this.move(x, y);
        return;
      }
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      const box = picture.getBoundingClientRect();
      this.move(x / 2, y / 2);
      this.zoom(
        apart(event) / apart(before),
        (event.clientX + other.clientX) / 2 - box.left,
        (event.clientY + other.clientY) / 2 - box.top,
      );
    });
    for (const name of ['pointerup', 'pointercancel'])
      picture.addEventListener(name, ({ pointerId }) => fingers.delete(pointerId));
    picture.addEventListener('dragstart', (event) => event.preventDefault()); // steps are links, which can be dragged
    picture.addEventListener('click', (event) => travelled >= A_CLICK && event.preventDefault(), true);
    // The page keeps its wheel: with Ctrl, which is also what pinching a touchpad is, it is ours.
    picture.addEventListener(
      'wheel',
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        const box = picture.getBoundingClientRect();
        this.zoom(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
      },
      { passive: false },
    );
    picture.addEventListener('keydown', (event) => this.#key(event));
    const look = (event) => this.#onFocus(event.target.closest?.('a')?.dataset.key ?? null);
    picture.addEventListener('pointerover', look);
    picture.addEventListener('focusin', (event) => {
      look(event);
      const link = event.target.closest('a');
      if (!link) return;
      picture.querySelector('a[tabindex="0"]')?.setAttribute('tabindex', -1);
      link.setAttribute('tabindex', 0);
      this.#current = link.dataset.key;
      if (link.matches(':focus-visible')) this.#reveal(this.#current);
    });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      '+': () => this.zoom(A_STEP),
      '=': () => this.zoom(A_STEP),
      '-': () => this.zoom(1 / A_STEP),
      0: () => this.fit(),
      ArrowLeft: () => this.#go(-1, 0, event.shiftKey),
      ArrowRight: () => this.#go(1, 0, event.shiftKey),
      ArrowUp: () => this.#go(0, -1, event.shiftKey),
      ArrowDown: () => this.#go(0, 1, event.shiftKey),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  /** To the nearest step in that direction; with Shift, the picture moves instead. */
  #go(right, down, isMoving) {
    if (isMoving) {
      this.move(-60 * right, -60 * down);
      return;
    }
    const here = this.#places.get(this.#current);
    let best = null;
    let least = Infinity;
    for (const [id, { x, y }] of this.#places) {
      const ahead = (x - here.x) * right + (y - here.y) * down;
      const aside = Math.abs((x - here.x) * down) + Math.abs((y - here.y) * right);
      if (ahead > 1 && ahead + 3 * aside < least) [best, least] = [id, ahead + 3 * aside];
    }
    if (best) this.#element(best)?.focus();
  }

  #element(id) {
    return [...this.#ground.children].find(({ dataset }) => dataset.key === id);
  }

  /** Move as little as is needed to see a step. */
  #reveal(id) {
    const { x, y } = this.#places.get(id);
    const { x: left, y: top, scale } = this.#view;
    const into = (at, half, length) => Math.max(0, MARGIN + half - at) + Math.min(0, length - MARGIN - half - at);
    const right = into(left + scale * x, (scale * WIDTH) / 2, this.#picture.clientWidth);
    const down = into(top + scale * y, (scale * HEIGHT) / 2, this.#picture.clientHeight);
    if (right || down) this.move(right, down);
  }
}

function drawn({ from, to, d }, step) {
  return svg('path', { class: isDone(step.status) ? 'line taken' : 'line', d, 'data-key': `${from} ${to}` });
}

const fitting = (size, room) => Math.min(LARGEST, room.width / size.width, room.height / size.height) || 1;
const nearnessOf = (scale) => (scale < TINY ? 'tiny' : scale < FAR ? 'far' : 'near');

/** Of a step, what is said beside its name. */
export function told(step, now) {
  const begun = step.status === 'running' && step.started_at ? now - Date.parse(step.started_at) : null;
  const took = step.duration_s == null ? begun : 1_000 * step.duration_s;
  const isPaid = step.attempts > 0 || step.status === 'cached';
  return [
    word(step.status),
    took == null ? null : format.duration(took),
    isPaid ? format.money(step.cost_usd) : null,
    step.attempts > 1 ? format.many(step.attempts, 'attempt') : null,
  ].filter(Boolean);
}
