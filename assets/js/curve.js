// A value over the steps: points on a small sheet, the line through them. Points are moved by hand or with the
// arrow keys, a click on the sheet adds one, Delete or a double click takes one away.

import { el } from './dom.js';

const SPACE = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT, EDGE] = [240, 64, 8];
const POINTS = 16;

const held = (value, low, high) => Math.min(high, Math.max(low, value));
const round = (value) => Math.round(value * 100) / 100;
const across = (share) => EDGE + share * (WIDTH - 2 * EDGE);

/** How a weight is drawn: factors of it. `off` is what counts as nothing, `level` what holds without points. */
const WEIGHT = {
  title: 'Curve', label: 'Weight over the steps', low: 0, high: 2, top: 2, step: 0.05, off: 0, level: 1, text: (factor) => `${factor} times`,
};

const READY = {
  'Fades out': (off, level) => [[0, level], [1, off]],
  'Fades in': (off, level) => [[0, off], [1, level]],
  'In the middle': (off, level) => [[0, off], [0.5, level], [1, off]],
};

export class Curve {
  /** kind: other than a weight (see WEIGHT); `top` is the value at the sheet's upper edge. */
  constructor(change, kind = {}) {
    this.change = change;
    this.kind = { ...WEIGHT, ...kind };
    this.points = [];
    this.sheet = document.createElementNS(SPACE, 'svg');
    this.sheet.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    this.sheet.classList.add('curve-sheet');
    this.sheet.setAttribute('role', 'group');
    this.sheet.setAttribute('aria-label', this.kind.label);
    this.one = this.shape('path', { class: 'curve-one' });
    this.line = this.shape('path', { class: 'curve-line' });
    this.dots = this.shape('g', {});
    this.sheet.append(this.one, this.line, this.dots);
    this.sheet.addEventListener('pointerdown', (event) => this.press(event));
    const ready = Object.entries(READY).map(([title, points]) =>
      el('button.word', { type: 'button', onclick: () => this.set(points(this.kind.off, this.kind.level)) }, title));
    this.level = el('button.word', { type: 'button', onclick: () => this.set([]) }, 'Level');
    this.root = el('div.unit-field.curve', {}, el('div.unit-line', {}, el('span', {}, this.kind.title), el('span.curve-ready', {}, ...ready, this.level)), this.sheet);
  }

  down(value) {
    const { low, top } = this.kind;
    return EDGE + (1 - (value - low) / (top - low)) * (HEIGHT - 2 * EDGE);
  }

  shape(name, attributes) {
    const node = document.createElementNS(SPACE, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  }

  set(points, focus = -1) {
    this.points = points;
    this.change(points);
    this.draw();
    if (focus >= 0) this.dots.children[focus]?.focus();
  }

  /** kind: what changes of it. */
  show(points, kind = {}) {
    Object.assign(this.kind, kind);
    this.points = points.map((point) => [...point]);
    this.draw();
  }

  draw() {
    const { points } = this;
    const { level, high, text } = this.kind;
    const ends = points.length ? [[0, points[0][1]], ...points, [1, points.at(-1)[1]]] : [[0, level], [1, level]];
    this.one.setAttribute('d', `M${across(0)} ${this.down(level)}H${across(1)}`);
    this.line.setAttribute('d', `M${ends.map(([share, value]) => `${across(share)} ${this.down(value)}`).join('L')}`);
    this.level.disabled = !points.length;
    while (this.dots.children.length > points.length) this.dots.lastChild.remove();
    while (this.dots.children.length < points.length) this.dots.append(this.dot(this.dots.children.length));
    points.forEach(([share, value], at) => {
      const dot = this.dots.children[at];
      dot.setAttribute('cx', across(share));
      dot.setAttribute('cy', this.down(value));
      dot.setAttribute('aria-valuenow', value);
      dot.setAttribute('aria-valuemax', high);
      dot.setAttribute('aria-valuetext', `${text(value)} at ${Math.round(100 * share)}% of the steps`);
    });
  }

  dot(at) {
    const dot = this.shape('circle', {
      r: 5, tabindex: 0, role: 'slider', 'aria-label': `Point ${at + 1}`, 'aria-valuemin': this.kind.low,
    });
    dot.addEventListener('keydown', (event) => this.key(event, at));
    dot.addEventListener('dblclick', () => this.drop(at));
    return dot;
  }

  key(event, at) {
    if (event.key === 'Delete' || event.key === 'Backspace') {
      event.preventDefault();
      return this.drop(at);
    }
    const up = this.kind.step;
    const step = { ArrowLeft: [-0.05, 0], ArrowRight: [0.05, 0], ArrowUp: [0, up], ArrowDown: [0, -up] }[event.key];
    if (!step) return undefined;
    event.preventDefault();
    event.stopPropagation();
    const [share, value] = this.points[at];
    return this.move(at, share + step[0], value + step[1]);
  }

  drop(at) {
    this.set(this.points.filter((_, place) => place !== at), Math.max(0, at - 1));
  }

  move(at, share, value) {
    const low = at ? this.points[at - 1][0] + 0.01 : 0;
    const high = at < this.points.length - 1 ? this.points[at + 1][0] - 0.01 : 1;
    this.points[at] = [round(held(share, low, high)), round(held(value, this.kind.low, this.kind.high))];
    this.change(this.points);
    this.draw();
  }

  place({ clientX, clientY }) {
    const { low, top } = this.kind;
    const box = this.sheet.getBoundingClientRect();
    const share = (((clientX - box.left) / box.width) * WIDTH - EDGE) / (WIDTH - 2 * EDGE);
    const value = low + (top - low) * (1 - (((clientY - box.top) / box.height) * HEIGHT - EDGE) / (HEIGHT - 2 * EDGE));
    return [held(share, 0, 1), held(value, low, top)];
  }

  press(event) {
    let at = [...this.dots.children].indexOf(event.target);
    if (at < 0) {
      if (this.points.length >= POINTS) return;
      const [share, value] = this.place(event).map(round);
      if (this.points.some(([there]) => Math.abs(there - share) < 0.02)) return;
      this.set([...this.points, [share, value]].sort((a, b) => a[0] - b[0]));
      at = this.points.findIndex(([there]) => there === share);
    }
    event.preventDefault();
    this.dots.children[at].focus();
    this.sheet.setPointerCapture(event.pointerId);
    const move = (moved) => this.move(at, ...this.place(moved));
    const end = () => {
      this.sheet.removeEventListener('pointermove', move);
      this.sheet.removeEventListener('pointerup', end);
      this.sheet.removeEventListener('pointercancel', end);
    };
    this.sheet.addEventListener('pointermove', move);
    this.sheet.addEventListener('pointerup', end);
    this.sheet.addEventListener('pointercancel', end);
  }
}
