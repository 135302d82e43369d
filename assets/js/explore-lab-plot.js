// A plot of the lab: distance to the long run, up, over what it cost, across on a scale of powers of two.

import { el } from './dom.js';

const SPACE = 'http://www.w3.org/2000/svg';
const [WIDE, HIGH, LEFT, RIGHT, TOP, LOW] = [360, 180, 34, 8, 10, 24];
export const COLOURS = 8; // so many lines look different: --line-0 and on, then they begin anew with dashes

export class Plot {
  constructor(title, unit, across) {
    Object.assign(this, { title, unit, across });
    this.drawing = svg('svg', { viewBox: `0 0 ${WIDE} ${HIGH}`, role: 'img', 'aria-label': `${title}: the numbers are in the table above.` });
    this.legend = el('ul.lab-legend');
    this.root = el('figure.lab-plot', {}, el('figcaption', {}, title, el('span', {}, ` dB, over ${unit}`)), this.drawing, this.legend);
  }

  /** lines: [{ title, points: [{ psnr, total, seconds }] }]. */
  show(lines) {
    const drawn = lines.map(({ title, points }) => ({
      title,
      points: points.map((one) => [this.across(one), one.psnr]).filter(([x, y]) => x > 0 && Number.isFinite(y)).sort((a, b) => a[0] - b[0]),
    }));
    const all = drawn.flatMap(({ points }) => points);
    this.root.hidden = all.length < 2;
    if (this.root.hidden) return;
    const xs = scale(all.map(([x]) => Math.log2(x)));
    const ys = scale(all.map(([, y]) => y), 5);
    const x = (value) => LEFT + ((Math.log2(value) - xs.low) / (xs.high - xs.low)) * (WIDE - LEFT - RIGHT);
    const y = (value) => HIGH - LOW - ((value - ys.low) / (ys.high - ys.low)) * (HIGH - TOP - LOW);
    const parts = [];
    for (let at = ys.low; at <= ys.high; at += ys.step) {
      parts.push(svg('line', { class: 'lab-grid', x1: LEFT, x2: WIDE - RIGHT, y1: y(at), y2: y(at) }), text(LEFT - 6, y(at) + 3, at, 'end'));
    }
    for (const at of powers(xs.low, xs.high)) parts.push(text(x(2 ** at), HIGH - 8, short(2 ** at), 'middle'));
    drawn.forEach(({ points }, number) => {
      const look = `lab-line lab-${number % COLOURS}${number >= COLOURS ? ' lab-again' : ''}`;
      parts.push(svg('polyline', { class: look, points: points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(' ') }));
      for (const [a, b] of points) parts.push(svg('circle', { class: `lab-dot lab-${number % COLOURS}`, cx: x(a), cy: y(b), r: 2.5 }));
    });
    this.drawing.replaceChildren(...parts);
    this.legend.replaceChildren(...drawn.map(({ title }, number) => el('li', {}, el(`i.lab-key.lab-${number % COLOURS}${number >= COLOURS ? '.lab-again' : ''}`), title)));
  }
}

/** From where to where a scale goes, and in which steps. */
function scale(values, round = 0) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (!round) return high - low < 0.1 ? { low: low - 0.5, high: high + 0.5 } : { low, high };
  low = Math.floor(low / round) * round;
  high = Math.max(low + round, Math.ceil(high / round) * round);
  return { low, high, step: round * Math.ceil((high - low) / round / 5) };
}

function powers(low, high) {
  const found = [];
  for (let at = Math.ceil(low); at <= high + 1e-9; at += Math.max(1, Math.ceil((high - low) / 5))) found.push(at);
  return found;
}

const short = (value) => (value >= 1 ? `${Math.round(value)}` : value.toPrecision(1));

function text(x, y, words, anchor) {
  const node = svg('text', { class: 'lab-mark', x, y, 'text-anchor': anchor });
  node.textContent = words;
  return node;
}

export function svg(kind, properties) {
  const node = document.createElementNS(SPACE, kind);
  for (const [name, value] of Object.entries(properties)) node.setAttribute(name, value);
  return node;
}
