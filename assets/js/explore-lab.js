// The sampler lab: the open run's request through chosen samplers and numbers of steps, as one grid that fills while
// the pictures are painted, and their distance to a long run as curves. Its pictures are jobs like all others.

import { el, heard, say, tell } from './dom.js';
import { Grid, called } from './explore-lab-grid.js';
import { Plot } from './explore-lab-plot.js';
import { Latest } from './unit-server.js';

const KEY = 'darkroom.lab';
const NOTE = 'Times are of the steps alone, as measured in each run; another program at work meanwhile makes them longer.';

export function mount(host, explore) {
  return new Lab(host, explore);
}

class Lab {
  constructor(host, explore) {
    Object.assign(this, { host, explore });
    this.known = null; // what the server told can be chosen
    this.cells = []; // of the grid, and last the reference
    this.measures = {}; // run -> what was measured of it
    this.build();
    this.news = new Latest({
      answer: (wish) => this.explore.ask('lab_measured', wish),
      done: (answer) => answer && this.take(answer),
      wait: () => {},
    });
    explore.on('run', () => this.load());
    heard('progress', (job) => this.follow(job));
    new IntersectionObserver((entries) => entries.at(-1).isIntersecting && this.load()).observe(host);
    this.load();
  }

  build() {
    const changed = () => this.draw();
    this.presets = el('div.chips', { role: 'group', 'aria-label': 'Ready comparisons' });
    this.chips = el('div.chips', { role: 'group', 'aria-label': 'Samplers' });
    this.steps = el('input.branch-text', { type: 'text', inputMode: 'numeric', oninput: changed, 'aria-label': 'Numbers of steps' });
    this.eta = el('input.branch-text', { type: 'text', value: '0', oninput: changed, 'aria-label': 'Eta of samplers that take it' });
    this.etaLabel = labelled('Eta (η)', this.eta);
    this.long = el('select.branch-text', { onchange: changed, 'aria-label': 'Sampler of the long run' });
    this.longSteps = el('input.branch-number', { type: 'number', min: 1, max: 150, step: 1, oninput: changed, 'aria-label': 'Steps of the long run' });
    this.word = el('span.branch-inside');
    this.choose = el('details.branch-fold', {}, el('summary', {}, el('span', {}, 'What is compared'), this.word),
      el('div.branch-inner', {}, this.chips, el('div.branch-pair', {}, labelled('Steps', this.steps), this.etaLabel),
        el('div.branch-pair', {}, labelled('Measured against', this.long), labelled('with steps', this.longSteps))));
    this.go = el('button.branch-go', { type: 'button', onclick: () => this.begin(false) }, 'Compare');
    this.halt = el('button.branch-word', { type: 'button', hidden: true, onclick: () => this.stop() }, 'Stop');
    this.alert = el('p.branch-alert', { role: 'alert', hidden: true });
    this.progress = el('p.branch-progress', { role: 'status' });
    this.grid = new Grid((run) => this.explore.select(run));
    this.plots = [
      new Plot('Distance over steps', 'steps', (one) => one.total),
      new Plot('Distance over time', 'seconds', (one) => one.seconds),
    ];
    this.result = el('div.lab-result', { hidden: true }, this.grid.root, ...this.plots.map((plot) => plot.root),
      el('p.branch-hint', {}, NOTE), (this.about = el('p.branch-hint')));
    this.host.append(el('h3', {}, 'Sampler lab'), el('p.branch-hint', {}, 'This run’s request and seed through several samplers, and how far each comes in how many steps.'),
      this.presets, this.choose, el('div.branch-going', {}, this.go, this.halt), this.alert, this.progress, this.result);
    this.host.setAttribute('aria-label', 'Sampler lab');
  }

  // What can be chosen

  /** Asks nothing before it is looked at. */
  async load() {
    const { run } = this.explore;
    this.host.hidden = !run;
    if (!run || !this.host.offsetParent) return undefined;
    if (this.asked === run.id) return this.grid.mark(run.id);
    this.asked = run.id;
    const known = await this.explore.ask('lab', { run: run.id });
    if (this.asked !== run.id) return undefined;
    if (known.problem) return this.complain(known.problem);
    const same = this.known?.base === known.base;
    this.known = known;
    if (same) return this.grid.mark(run.id); // a picture of this very lab was opened
    this.fill();
    return this.begin(true);
  }

  fill() {
    const { presets, samplers, reference } = this.known;
    const kept = remembered();
    this.presets.replaceChildren(...presets.map((preset) => el('button.chip', { type: 'button', onclick: () => this.set(preset) }, preset.title)));
    this.long.replaceChildren(...samplers.map(({ name }) => el('option', {}, name)));
    this.long.value = samplers.some(({ name }) => name === kept.long) ? kept.long : reference.sampler;
    this.longSteps.value = kept.longSteps ?? reference.steps;
    const rows = (kept.rows ?? []).filter(({ sampler }) => samplers.some(({ name }) => name === sampler));
    this.chips.replaceChildren(...samplers.map(({ name }) =>
      el('button.chip', { type: 'button', onclick: (event) => (press(event.currentTarget), this.draw()) }, name)));
    this.set(rows.length ? { rows, steps: kept.steps } : presets[0]);
  }

  set({ rows, steps }) {
    for (const chip of this.chips.children) press(chip, rows.some(({ sampler }) => sampler === chip.textContent));
    const etas = [...new Set(rows.filter(({ sampler }) => this.takesEta(sampler)).map(({ eta }) => eta))];
    this.eta.value = etas.length ? etas.join(', ') : '0';
    this.steps.value = steps.join(', ');
    this.complain('');
    this.draw();
  }

  takesEta(sampler) {
    return this.known.samplers.find(({ name }) => name === sampler)?.eta;
  }

  /** What is compared, as the server wants it. */
  get wish() {
    const etas = numbers(this.eta.value);
    const chosen = [...this.chips.children].filter((chip) => chip.getAttribute('aria-pressed') === 'true').map((chip) => chip.textContent);
    const rows = chosen.flatMap((sampler) => (this.takesEta(sampler) && etas.length ? etas : [0]).map((eta) => ({ sampler, eta })));
    return { rows, steps: [...new Set(numbers(this.steps.value))].sort((a, b) => a - b), reference: { sampler: this.long.value, eta: 0, steps: Number(this.longSteps.value) } };
  }

  // What a hand asks for

  async begin(onlyKnown) {
    const { run } = this.explore;
    const { base } = this.known;
    const wish = this.wish;
    if (!onlyKnown) keep(wish);
    this.complain('');
    this.going = !onlyKnown;
    this.draw();
    const answer = await this.explore.ask('lab_begin', { run: run.id, ...wish, only_known: onlyKnown });
    this.going = false;
    if (this.known.base !== base) return undefined; // another run was opened meanwhile
    if (answer.problem) return onlyKnown ? this.draw() : (this.complain(answer.problem), this.draw());
    this.cells = answer.cells;
    this.told = wish;
    this.measures = {};
    this.states = new Map(this.cells.filter(({ job }) => job).map(({ job }) => [job, { state: 'queued', done: false }]));
    this.grid.fill(wish, this.cells);
    const problem = this.cells.find((cell) => cell.problem)?.problem ?? '';
    if (!onlyKnown) this.complain(problem);
    if (answer.jobs.length) tell('jobs', answer.jobs); // the stage follows them, as every run of this page
    this.measure();
    this.draw();
    return undefined;
  }

  stop() {
    return this.explore.ask('lab_stop', { jobs: [...this.states].filter(([, { done }]) => !done).map(([job]) => job) });
  }

  // What comes of it

  follow(job) {
    if (!this.states?.has(job.id)) return;
    const before = this.states.get(job.id);
    this.states.set(job.id, { state: job.state, done: job.done }); // the stage goes on working with the job itself
    const cells = this.cells.filter((cell) => cell.job === job.id);
    for (const cell of cells) this.grid.progress(cell, job);
    if (job.state === 'failed' && !before.done) this.complain(job.text);
    if (job.done && !before.done) this.measure();
    this.draw();
  }

  measure() {
    const known = ({ state, psnr, same }) => state === 'finished' && (same || psnr !== null);
    const runs = [...new Set(this.cells.map(({ run }) => run))].filter((run) => run && !known(this.measures[run] ?? {}));
    if (runs.length) this.news.wish({ reference: this.cells.at(-1).run ?? '', runs });
  }

  take({ cells, lpips, problem }) {
    if (problem) return this.complain(problem);
    say(this.about, `Distance is PSNR: the higher, the closer to the long run. ${lpips || 'LPIPS stands in a cell’s hint: the lower, the closer.'}`);
    this.measures = { ...this.measures, ...cells };
    this.grid.measured(this.measures, this.explore.run?.id);
    const lines = this.told.rows.map((row, at) => ({
      title: called(row),
      points: this.cells.slice(0, -1).filter((cell) => cell.row === at && this.measures[cell.run]).map((cell) => ({ ...this.measures[cell.run], steps: cell.steps })),
    }));
    for (const plot of this.plots) plot.show(lines);
    return this.draw();
  }

  complain(sentence) {
    say(this.alert, sentence);
    this.alert.hidden = !sentence;
  }

  draw() {
    if (!this.known) return;
    const { rows, steps } = this.wish;
    const count = rows.length * steps.length;
    say(this.word, rows.length && steps.length ? `${rows.length} × ${steps.length}` : '');
    this.etaLabel.hidden = !rows.some(({ sampler }) => this.takesEta(sampler));
    const states = [...(this.states?.values() ?? [])];
    const left = states.filter(({ done }) => !done).length;
    const there = this.cells.slice(0, -1).filter(({ run }) => this.measures[run]?.state === 'finished').length;
    this.go.disabled = this.going || !count || left > 0;
    say(this.go, `Compare ${count} pictures`);
    this.halt.hidden = !left;
    this.result.hidden = !there && !states.length;
    const all = `${this.cells.length - 1}`;
    say(this.progress, left ? `${there} of ${all} pictures are there; ${left} more ${left === 1 ? 'run' : 'runs'} to go.`
      : there && there < this.cells.length - 1 ? `${there} of ${all} pictures are there: “Compare” paints the others.` : '');
    if (this.told) this.grid.about(this.told.reference);
  }
}

function press(chip, on = chip.getAttribute('aria-pressed') !== 'true') {
  chip.setAttribute('aria-pressed', String(on));
}

/** The numbers in a text, whatever parts them. */
function numbers(text) {
  return text.split(/[^\d.]+/).filter(Boolean).map(Number).filter((value) => Number.isFinite(value));
}

function labelled(title, input) {
  return el('label.branch-label', {}, el('span', {}, title), input);
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // a browser that keeps nothing, or something else under this name
  }
}

function keep({ rows, steps, reference }) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ rows, steps, long: reference.sampler, longSteps: reference.steps }));
  } catch {
    // A browser that keeps nothing: the choice lasts as long as the page.
  }
}
