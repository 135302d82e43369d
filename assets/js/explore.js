// The Explore tab: a recorded run, scrubbed like film and looked into. This is the frame; what is seen are its
// regions (explore-regions.js), modules with `mount(host, explore)` that share one object:
//
//   explore.run              what the open run is (id, job, index, request, total, state, name, parent ...), or null
//   explore.film             its steps: film.steps[i] = { index, timestep, sigma, guidance_norm, change }; or null
//   explore.step             which of them is looked at, from 0
//   explore.select(id, step) opens a run, at that step or where it was left; resolves with true when it is open
//   explore.seek(step)       looks at another step; asks the server nothing
//   explore.ask(verb, asked) asks ui/explore's ANSWERS: a promise of its answer, or of { problem: sentence }
//   explore.say(text, bad)   a sentence to the person, in sight for a while and read aloud
//   explore.host(name)       a region's element; explore.show(name, on) shows or hides it
//   explore.on(name, hear)   hears of: 'run' (another run, or its description changed), 'film' (steps came),
//                            'step' (the hand moved), 'rest' (it rests there), 'runs' (the list may have changed),
//                            'turn' (another small tab is open)
//   explore.emit(name, detail)   tells the other regions
//   explore.url(path, query) the address of one of the tab's own routes
//   explore.full(run, step, what)   a step decoded in full ('x0' or 'x_t') as a Blob, null where there is none,
//                            undefined while a job keeps its pipeline busy
//
// From elsewhere in the page a run is opened by the document's event `darkroom:explore` with { run, step }.

import { el, heard, say, tell } from './dom.js';
import { Reel } from './explore-reel.js';
import { REGIONS } from './explore-regions.js';
import { Latest } from './unit-server.js';
import { ask } from './upload.js';

const REST = 220; // milliseconds without a move after which the hand rests
const SHOWN = 6000; // milliseconds that a sentence stays in sight

export function mount(part) {
  return new Explore(part);
}

class Explore {
  constructor({ root, props, server }) {
    Object.assign(this, { root, props, server });
    this.run = null;
    this.film = null;
    this.step = 0;
    this.listeners = new Map();
    this.hosts = new Map();
    this.build();
    this.opened = new Map(); // run -> the step at which it was left
    this.news = new Latest({
      answer: (wish) => Reel.fetch(this.url('film', wish)).catch(() => null),
      done: (later) => this.grow(later),
      wait: () => {},
    });
    heard('explore', ({ run, step }) => (tell('tab', 'explore'), this.select(run, step)));
    heard('engine', ({ ready }) => ready && this.late && this.select(...this.late));
    heard('progress', (job) => this.hear(job));
    heard('step', (move) => this.seen && this.film && this.seek(this.moved(move)));
    new IntersectionObserver((entries) => this.see(entries.at(-1).isIntersecting)).observe(root);
  }

  /** What Gradio hands on, and regions show or hide themselves by. */
  show(name, on) {
    if (typeof name === 'string') this.host(name).hidden = !on;
  }

  // What the regions share

  on(name, hear) {
    if (!this.listeners.has(name)) this.listeners.set(name, []);
    this.listeners.get(name).push(hear);
  }

  emit(name, detail) {
    for (const hear of this.listeners.get(name) ?? []) hear(detail);
  }

  host(name) {
    return this.hosts.get(name);
  }

  ask(verb, asked = {}) {
    return ask(this.server[verb], asked);
  }

  url(path, query = {}) {
    return new URL(`${this.props.routes}/${path}?${new URLSearchParams(query)}`, document.baseURI);
  }

  async full(run, step, what) {
    const answer = await fetch(this.url('decode', { run, step, what })).catch(() => null);
    if (answer?.status === 409) return undefined;
    return answer?.ok ? answer.blob() : null;
  }

  say(sentence, bad = false) {
    const [one, other] = bad ? [this.alarm, this.toast] : [this.toast, this.alarm];
    say(other, '');
    say(one, sentence);
    clearTimeout(this.fading);
    this.fading = setTimeout(() => [this.toast, this.alarm].forEach((part) => say(part, '')), bad ? 2 * SHOWN : SHOWN);
  }

  /** Opens a run. A film takes a moment to come; of two that are asked for, the later one is shown. */
  async select(id, step) {
    await this.ready;
    this.late = null;
    if (this.run?.id === id && this.film) return step === undefined || this.seek(step), true;
    const asked = (this.asked = {});
    let film;
    try {
      film = await Reel.fetch(this.url('film', { run: id }));
    } catch (fault) {
      if (this.asked !== asked) return false;
      if (fault.status === 503) this.late = [id, step];
      this.say(fault.message, true);
      return false;
    }
    if (this.asked !== asked) return film.close(), false;
    if (this.run) this.opened.set(this.run.id, this.step);
    this.film?.close();
    this.film = film;
    this.run = film.run;
    this.side.hidden = !this.panels.size;
    const last = film.steps.length - 1;
    this.step = Math.max(0, Math.min(last, step ?? this.opened.get(id) ?? last));
    this.emit('run', this.run);
    this.emit('film', film);
    this.emit('step', this.step);
    this.rest();
    return true;
  }

  /** Another description of the open run: it was renamed, or has ended. */
  describe(run) {
    if (this.run?.id !== run.id) return;
    this.run = { ...this.run, ...run };
    this.emit('run', this.run);
  }

  /** Later steps of the open run, while it runs; a hand at its end stays there. */
  grow(later) {
    if (!later || later.run.id !== this.run?.id || later.steps[0]?.index > this.film.steps.length) return;
    const atEnd = this.step >= this.film.steps.length - 1;
    this.film.add(later);
    this.describe(later.run);
    this.emit('film', this.film);
    if (atEnd) this.seek(this.film.steps.length - 1);
  }

  /** What the stage heard of a job. */
  hear(job) {
    if (this.begun?.job === job.id && (job.steps || job.done)) {
      const { open } = this.begun;
      this.begun = null;
      this.select(`${job.id}-0`).then(open);
    } else if (this.seen && this.run?.job === job.id && (this.run.state === 'running' || job.done)) {
      this.news.wish({ run: this.run.id, from: this.film.steps.length });
    }
    if (this.seen && (job.done || job.begun !== this.counted)) this.emit('runs');
    this.counted = job.begun;
  }

  /** Paints a first run and opens it as it develops; resolves once it is open. */
  async begin() {
    const { job, problem } = await this.ask('begin');
    if (problem) return this.say(problem, true);
    const open = new Promise((open) => (this.begun = { job, open }));
    tell('jobs', [job]);
    return open;
  }

  moved(move) {
    const last = this.film.steps.length - 1;
    return { first: 0, last, back: this.step - 1, on: this.step + 1 }[move];
  }

  seek(step) {
    const last = (this.film?.steps.length ?? 0) - 1;
    const next = Math.max(0, Math.min(last, Math.round(step)));
    if (last < 0 || next === this.step) return;
    this.step = next;
    this.emit('step', next);
    this.rest();
  }

  /** Tells that the hand rests, unless it moves on. */
  rest() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.emit('rest', this.step), REST);
  }

  // The frame

  build() {
    this.main = el('div.explore-main');
    this.bar = el('div.explore-sides', { role: 'tablist', 'aria-label': 'What to do with this run' });
    this.panels = new Map(); // small tab -> its panel
    this.side = el('aside.explore-side', { 'aria-label': 'Tools', hidden: true }, this.bar);
    this.toast = el('p.explore-told', { role: 'status' });
    this.alarm = el('p.explore-told.bad', { role: 'alert' });
    this.root.className = 'explore-panel';
    this.root.append(this.main, this.side, this.toast, this.alarm);
    this.ready = Promise.all(REGIONS.map((region) => this.place(region)));
    this.bar.addEventListener('keydown', (event) => this.stepSides(event));
    const first = this.panels.keys().next().value;
    if (first) this.turn(first);
  }

  place({ name, side, load }) {
    const host = el(`section.explore-region.explore-${name}`);
    host.dataset.region = name;
    this.hosts.set(name, host);
    (side ? this.panel(side) : this.main).append(host);
    return load().then((module) => module.mount(host, this));
  }

  panel(side) {
    if (!this.panels.has(side)) {
      const id = `explore-${this.panels.size}`;
      const button = el('button.explore-tab', { type: 'button', role: 'tab', id, onclick: () => this.turn(side) }, side);
      const panel = el('div.explore-tools', { role: 'tabpanel', 'aria-labelledby': id });
      this.panels.set(side, { button, panel });
      this.bar.append(button);
      this.side.append(panel);
    }
    return this.panels.get(side).panel;
  }

  /** Opens a small tab of the right column. */
  turn(side) {
    for (const [one, { button, panel }] of this.panels) {
      button.setAttribute('aria-selected', String(one === side));
      button.tabIndex = one === side ? 0 : -1;
      panel.hidden = one !== side;
    }
    this.turned = side;
    this.emit('turn', side);
  }

  stepSides(event) {
    const sides = [...this.panels.keys()];
    const now = sides.indexOf(this.turned);
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: sides.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.turn(sides[(to + sides.length) % sides.length]);
    this.panels.get(this.turned).button.focus();
  }

  see(seen) {
    this.seen = seen;
    if (seen) this.ready.then(() => this.emit('runs'));
  }
}
