// A weight over the steps: points on a small sheet, the line through them. Points are moved by hand or with the
// arrow keys, a click on the sheet adds one, Delete or a double click takes one away.

import { el } from './dom.js';

const SPACE = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT, EDGE] = [240, 64, 8];
const MOST = 2; // the factor at the upper edge
const POINTS = 16;

const held = (value, low, high) => Math.min(high, Math.max(low, value));
const round = (value) => Math.round(value * 100) / 100;
const across = (share) => EDGE + share * (WIDTH - 2 * EDGE);
const down = (factor) => EDGE + (1 - factor / MOST) * (HEIGHT - 2 * EDGE);

const READY = {
  'Fades out': [[0, 1], [1, 0]],
  'Fades in': [[0, 0], [1, 1]],
  'In the middle': [[0, 0], [0.5, 1], [1, 0]],
};

export class Curve {
  constructor(change) {
    this.change = change;
    this.points = [];
    this.sheet = document.createElementNS(SPACE, 'svg');
    this.sheet.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    this.sheet.classList.add('curve-sheet');
    this.sheet.setAttribute('role', 'group');
    this.sheet.setAttribute('aria-label', 'Weight over the steps');
    this.one = this.shape('path', { class: 'curve-one', d: `M${across(0)} ${down(1)}H${across(1)}` });
    this.line = this.shape('path', { class: 'curve-line' });
    this.dots = this.shape('g', {});
    this.sheet.append(this.one, this.line, this.dots);
    this.sheet.addEventListener('pointerdown', (event) => this.press(event));
    const ready = Object.entries(READY).map(([title, points]) =>
      el('button.word', { type: 'button', onclick: () => this.set(points.map((point) => [...point])) }, title));
    this.level = el('button.word', { type: 'button', onclick: () => this.set([]) }, 'Level');
    this.root = el('div.unit-field.curve', {}, el('div.unit-line', {}, el('span', {}, 'Curve'), el('span.curve-ready', {}, ...ready, this.level)), this.sheet);
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

  show(points) {
    this.points = points.map((point) => [...point]);
    this.draw();
  }

  draw() {
    const { points } = this;
    const ends = points.length ? [[0, points[0][1]], ...points, [1, points.at(-1)[1]]] : [[0, 1], [1, 1]];
    this.line.setAttribute('d', `M${ends.map(([share, factor]) => `${across(share)} ${down(factor)}`).join('L')}`);
    this.level.disabled = !points.length;
    while (this.dots.children.length > points.length) this.dots.lastChild.remove();
    while (this.dots.children.length < points.length) this.dots.append(this.dot(this.dots.children.length));
    points.forEach(([share, factor], at) => {
      const dot = this.dots.children[at];
      dot.setAttribute('cx', across(share));
      dot.setAttribute('cy', down(factor));
      dot.setAttribute('aria-valuenow', factor);
      dot.setAttribute('aria-valuetext', `${factor} times at ${Math.round(100 * share)}% of the steps`);
    });
  }

  dot(at) {
    const dot = this.shape('circle', {
      r: 5, tabindex: 0, role: 'slider', 'aria-label': `Point ${at + 1}`, 'aria-valuemin': 0, 'aria-valuemax': MOST,
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
    const step = { ArrowLeft: [-0.05, 0], ArrowRight: [0.05, 0], ArrowUp: [0, 0.05], ArrowDown: [0, -0.05] }[event.key];
    if (!step) return undefined;
    event.preventDefault();
    event.stopPropagation();
    const [share, factor] = this.points[at];
    return this.move(at, share + step[0], factor + step[1]);
  }

  drop(at) {
    this.set(this.points.filter((_, place) => place !== at), Math.max(0, at - 1));
  }

  move(at, share, factor) {
    const low = at ? this.points[at - 1][0] + 0.01 : 0;
    const high = at < this.points.length - 1 ? this.points[at + 1][0] - 0.01 : 1;
    this.points[at] = [round(held(share, low, high)), round(held(factor, 0, MOST))];
    this.change(this.points);
    this.draw();
  }

  place({ clientX, clientY }) {
    const box = this.sheet.getBoundingClientRect();
    const share = (((clientX - box.left) / box.width) * WIDTH - EDGE) / (WIDTH - 2 * EDGE);
    const factor = MOST * (1 - (((clientY - box.top) / box.height) * HEIGHT - EDGE) / (HEIGHT - 2 * EDGE));
    return [held(share, 0, 1), held(factor, 0, MOST)];
  }

  press(event) {
    let at = [...this.dots.children].indexOf(event.target);
    if (at < 0) {
      if (this.points.length >= POINTS) return;
      const [share, factor] = this.place(event).map(round);
      if (this.points.some(([there]) => Math.abs(there - share) < 0.02)) return;
      this.set([...this.points, [share, factor]].sort((a, b) => a[0] - b[0]));
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
