// The lab's grid: a row for each sampler, a column for each number of steps. It is a table, so that it can be read
// without seeing the plots.

import { duration, el, say } from './dom.js';

/** A row in words: the sampler, and its eta where it has one. */
export const called = ({ sampler, eta }) => (eta ? `${sampler}, η ${eta}` : sampler);

export class Grid {
  /** open: called with the run whose cell was clicked. */
  constructor(open) {
    this.open = open;
    this.caption = el('caption.unseen');
    this.head = el('thead');
    this.body = el('tbody');
    this.root = el('div.lab-table', { tabIndex: 0, role: 'region', 'aria-label': 'Pictures by sampler and steps' }, el('table', {}, this.caption, this.head, this.body));
    this.places = new Map(); // cell -> what is drawn of it
  }

  fill({ rows, steps }, cells) {
    this.places.clear();
    const grid = cells.slice(0, -1);
    const reference = cells.at(-1);
    this.head.replaceChildren(el('tr', {}, el('th', { scope: 'col' }, 'Sampler'), ...steps.map((count) => el('th', { scope: 'col' }, `${count} steps`))));
    const line = (row, at) => el('tr', {}, el('th', { scope: 'row' }, called(row)), ...grid.filter((cell) => cell.row === at).map((cell) => this.cell(cell)));
    this.long = el('th', { scope: 'row' });
    const last = this.cell(reference);
    last.colSpan = steps.length;
    this.body.replaceChildren(...rows.map(line), el('tr.lab-long', {}, this.long, last));
  }

  about({ sampler, steps }) {
    if (this.long) say(this.long, `Long run: ${sampler}, ${steps} steps`);
    say(this.caption, `Each picture’s distance to a run of ${sampler} with ${steps} steps, in decibels: the higher, the closer. Under it, what its steps took.`);
  }

  cell(cell) {
    const face = el('span.lab-face');
    const told = el('span.lab-told');
    const time = el('span.lab-time');
    const button = el('button.lab-cell', { type: 'button', disabled: true, onclick: () => this.open(cell.run) }, face, told, time);
    this.places.set(cell, { face, told, time, button });
    say(told, cell.problem ? 'not possible' : cell.job ? 'waits' : cell.run ? '' : '–');
    button.title = cell.problem;
    return el('td', {}, button);
  }

  /** How far a cell's job is. */
  progress(cell, job) {
    const { told, button } = this.places.get(cell) ?? {};
    if (!told) return;
    button.style.setProperty('--part', job.done ? 1 : job.steps / Math.max(1, job.total));
    if (job.done) say(told, { finished: '', failed: 'failed', cancelled: 'stopped' }[job.state]);
    else say(told, job.steps ? `step ${job.steps}` : 'waits');
  }

  measured(measures, open) {
    for (const [cell, { face, told, time, button }] of this.places) {
      const one = measures[cell.run];
      if (one?.state !== 'finished' || !one.thumb) continue;
      if (!face.firstChild) face.append(el('img', { src: new URL(one.thumb, document.baseURI).href, alt: '', loading: 'lazy' }));
      button.disabled = false;
      button.style.setProperty('--part', 0);
      say(told, one.same ? (cell.row < 0 ? '' : 'identical') : one.psnr === null ? '' : `${one.psnr.toFixed(1)} dB`);
      const each = one.seconds === null ? 0 : one.seconds / Math.max(1, one.total);
      say(time, one.seconds === null ? '' : duration(one.seconds));
      const parts = [
        one.seconds === null ? '' : `${one.total} evaluations of the model, ${(1000 * each).toFixed(0)} ms each`,
        Number.isFinite(one.lpips) ? `LPIPS ${one.lpips.toFixed(3)}` : '',
      ];
      button.title = ['Open this run', ...parts.filter(Boolean)].join('. ');
    }
    this.mark(open);
  }

  /** Which cell is the open run. */
  mark(open) {
    for (const [cell, { button }] of this.places) button.toggleAttribute('data-open', Boolean(open) && cell.run === open);
  }
}
