// The curves under the film: how strong the noise is, how much each step changes, how hard the prompt pulls.

import { el, say } from './dom.js';

const WIDE = 1000;
const HIGH = 100;
const CURVES = {
  sigma: { title: 'Noise', term: 'σ', hint: 'How strong the noise still is.', text: (value) => short(value) },
  change: { title: 'Change', term: 'Δx₀', hint: 'How far the predicted picture moved at this step.', text: (value) => `${short(100 * value)}%` },
  guidance_norm: { title: 'Pull of the words', term: '‖guidance‖', hint: 'How much the prompt changed what the model did.', text: (value) => short(value) },
};

export function mount(host, explore) {
  return new Curves(host, explore);
}

class Curves {
  constructor(host, explore) {
    Object.assign(this, { host, explore });
    this.drawing = svg('svg', { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    this.still = svg('rect', { class: 'curve-still', y: 0, height: HIGH });
    this.here = svg('line', { class: 'curve-here', y1: -4, y2: HIGH + 4 });
    this.lines = new Map();
    const legend = el('dl.curve-legend');
    for (const [name, { title, term, hint }] of Object.entries(CURVES)) {
      const line = svg('polyline', { class: `curve curve-${name}` });
      const value = el('dd');
      const row = el('div', { title: hint }, el('dt', {}, el(`i.curve-key.curve-${name}`), title, ' ', el('span', {}, term)), value);
      this.lines.set(name, { line, value, row });
      legend.append(row);
    }
    this.drawing.append(this.still, ...[0, 0.5, 1].map((at) => svg('line', { class: 'curve-grid', x1: 0, x2: WIDE, y1: at * HIGH, y2: at * HIGH })));
    this.drawing.append(...[...this.lines.values()].map(({ line }) => line), this.here);
    this.sentence = el('p.curve-sentence');
    this.plot = el('div.curve-plot', {}, this.drawing);
    host.append(el('div.curve-box', {}, legend, this.plot, this.sentence));
    host.hidden = true;
    this.plot.addEventListener('pointerdown', (event) => {
      this.plot.setPointerCapture(event.pointerId);
      this.seek(event);
    });
    this.plot.addEventListener('pointermove', (event) => event.buttons && this.seek(event));
    explore.on('film', () => this.show());
    explore.on('step', () => this.mark());
  }

  seek(event) {
    const { left, width } = this.plot.getBoundingClientRect();
    const { steps } = this.explore.film;
    this.explore.seek(((event.clientX - left) / width) * (this.length - 1) || 0, steps);
  }

  /** Steps that the whole run takes: the curves of one that runs fill from the left. */
  get length() {
    const { run, steps } = this.explore.film;
    return Math.max(2, steps.length, run.state === 'running' ? run.total : 0);
  }

  x(step) {
    return (step / (this.length - 1)) * WIDE;
  }

  show() {
    const { film } = this.explore;
    this.host.hidden = !film?.steps.length;
    if (this.host.hidden) return;
    for (const [name, { line, row }] of this.lines) {
      const values = film.steps.map((step) => step[name]);
      const most = Math.max(...values.filter((value) => Number.isFinite(value)));
      row.hidden = !(most > 0);
      const points = values.flatMap((value, step) => (Number.isFinite(value) && most > 0 ? [`${this.x(step).toFixed(1)},${(HIGH * (1 - value / most)).toFixed(1)}`] : []));
      line.setAttribute('points', points.join(' '));
    }
    const { still, steps } = film;
    const rests = Number.isInteger(still) && still < steps.length;
    this.still.setAttribute('x', rests ? this.x(Math.max(0, still - 0.5)) : WIDE);
    this.still.setAttribute('width', rests ? Math.max(0, this.x(steps.length - 1) - this.x(Math.max(0, still - 0.5))) : 0);
    say(this.sentence, sentence(film, rests ? steps.length - still : 0));
    this.mark();
  }

  mark() {
    const { film, step } = this.explore;
    if (!film?.steps[step]) return;
    this.here.setAttribute('transform', `translate(${this.x(step)} 0)`);
    for (const [name, { value }] of this.lines) {
      const number = film.steps[step][name];
      say(value, Number.isFinite(number) ? CURVES[name].text(number) : '–');
    }
  }
}

function sentence({ run, steps }, rests) {
  const count = steps.length;
  if (run.state === 'running') return 'It is developing: the curves grow with each step.';
  if (count < 2) return 'This run has a single step.';
  if (!rests) return `The picture changed by more than 1% up to the last of its ${count} steps: more steps may still help.`;
  const which = rests === 1 ? `The last of ${count} steps` : `The last ${rests} of ${count} steps`;
  return `${which} changed less than 1%${rests > count / 4 ? ': fewer steps would do.' : '.'}`;
}

function short(value) {
  if (value === 0) return '0';
  const size = Math.abs(value);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 0.095 ? value.toFixed(2) : value.toPrecision(2);
}

function svg(kind, properties) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', kind);
  for (const [name, value] of Object.entries(properties)) node.setAttribute(name, value);
  return node;
}
