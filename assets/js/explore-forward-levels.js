// What every schedule keeps of a picture at each step: alpha-bar, and the signal-to-noise ratio on a scale of powers of
// ten. All as thin lines, the chosen one marked; a click on a line chooses it.

import { el } from './dom.js';
import { svg } from './explore-lab-plot.js';

const [WIDE, HIGH, LEFT, RIGHT, TOP, LOW] = [360, 150, 34, 8, 8, 22];
const SIGHT = [-5, 5]; // powers of ten of the ratio that are shown
const PLOTS = {
  alpha: { title: 'Signal kept', term: 'ᾱ', value: ([, , kept]) => kept, low: 0, high: 1, marks: [0, 0.5, 1], text: String },
  snr: { title: 'Signal to noise', term: 'SNR', value: ([, , , snr]) => snr, low: SIGHT[0], high: SIGHT[1], marks: [-4, -2, 0, 2, 4], text: power },
};

export class Levels {
  /** choose: called with the line that was clicked. */
  constructor(choose) {
    this.choose = choose;
    this.plots = Object.entries(PLOTS).map(([name, plot]) => ({ ...plot, name, ...this.build(plot) }));
    this.root = el('div.forward-levels', {}, ...this.plots.map(({ root }) => root));
  }

  build({ title, term }) {
    const drawing = svg('svg', { viewBox: `0 0 ${WIDE} ${HIGH}`, role: 'img', 'aria-label': `${title} over the steps, for every sampler and schedule` });
    const here = svg('line', { class: 'forward-here', y1: TOP, y2: HIGH - LOW });
    return { drawing, here, root: el('figure.lab-plot', {}, el('figcaption', {}, title, el('span', {}, ` ${term}, over the steps of a run`)), drawing) };
  }

  /** lines: as the server tells them. chosen: the one of them that is marked. */
  show(lines, chosen) {
    for (const plot of this.plots) {
      const y = (value) => HIGH - LOW - ((Math.max(plot.low, Math.min(plot.high, value)) - plot.low) / (plot.high - plot.low)) * (HIGH - TOP - LOW);
      const path = ({ levels }) => levels.map((level) => [level[0], plot.value(level)]).filter(([, value]) => value !== null)
        .map(([share, value]) => `${x(share).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
      const grid = plot.marks.flatMap((at) => [svg('line', { class: 'lab-grid', x1: LEFT, x2: WIDE - RIGHT, y1: y(at), y2: y(at) }), mark(LEFT - 6, y(at) + 3, plot.text(at), 'end')]);
      const ends = [mark(x(0), HIGH - 6, 'first step', 'start'), mark(x(1), HIGH - 6, 'last', 'end')];
      const thin = lines.map((line) => {
        const node = svg('polyline', { class: `forward-line${line === chosen ? ' chosen' : ''}`, points: path(line) });
        const title = svg('title', {});
        title.textContent = `${line.sampler}, ${line.schedule}`;
        node.append(title);
        node.addEventListener('click', () => this.choose(line));
        return [node, line === chosen];
      });
      thin.sort(([, one], [, other]) => one - other); // the chosen one lies on top
      plot.drawing.replaceChildren(...grid, ...ends, ...thin.map(([node]) => node), plot.here);
    }
  }

  mark(share) {
    for (const { here } of this.plots) here.setAttribute('transform', `translate(${x(share)} 0)`);
  }
}

const x = (share) => LEFT + share * (WIDE - LEFT - RIGHT);

function power(at) {
  return at === 0 ? '1' : `10${[...String(at)].map((letter) => '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'['-0123456789'.indexOf(letter)]).join('')}`;
}

function mark(across, down, words, anchor) {
  const node = svg('text', { class: 'lab-mark', x: across, y: down, 'text-anchor': anchor });
  node.textContent = words;
  return node;
}
