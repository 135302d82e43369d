// Two pictures against each other: side by side, one wiped over the other, or in turns; and what differs in how they
// were made.

import { el, icon, say } from './dom.js';
import { ICONS } from './gallery-choice.js';
import { label } from './gallery-words.js';
import { Zoom } from './gallery-zoom.js';

const SWAP = 'M7 4L3 8l4 4 M3 8h15 M17 12l4 4-4 4 M21 16H6';
const PAUSE = 'M9 6v12 M15 6v12';
const PLAY = 'M8 5l11 7-11 7z';
const VIEWS = { pair: 'Side by side', slider: 'Slider', blink: 'Blink' };
const TURN = 700; // milliseconds of each picture while they blink: slow enough to harm nobody
const APART = new Set(['Date']); // differs always

export class Compare {
  constructor(gallery) {
    this.gallery = gallery;
    this.view = 'pair';
    this.build();
  }

  build() {
    this.buttons = Object.entries(VIEWS).map(([view, title]) => {
      const button = el('button.gallery-way', { type: 'button', onclick: () => this.turn(view) }, title);
      button.dataset.view = view;
      return button;
    });
    const round = (path, text, onclick) => el('button.gallery-icon', { type: 'button', title: text, 'aria-label': text, onclick }, icon(path));
    this.swap = round(SWAP, 'Swap', () => this.exchange());
    this.pause = round(PAUSE, 'Pause', () => this.blink(!this.blinking));
    const bar = el('div.gallery-viewer-bar', {}, el('span.gallery-ways', { role: 'group', 'aria-label': 'How to compare' }, ...this.buttons), this.swap, this.pause,
      el('span.gallery-gap'), round(ICONS.close, 'Close (Esc)', () => this.root.close()));
    this.one = el('img', { draggable: false });
    this.other = el('img', { draggable: false });
    this.edge = el('input', { type: 'range', min: 0, max: 100, value: 50, 'aria-label': 'Where one picture ends and the other begins', oninput: () => this.wipe() });
    this.first = el('span');
    this.second = el('span');
    this.names = el('div.gallery-names', {}, this.first, this.second);
    const panes = [this.one, this.other].map((image) => [el('div.gallery-side-by', {}, image), image]);
    this.zoom = new Zoom(panes);
    this.edge.addEventListener('wheel', (event) => this.zoom.wheel(event), { passive: false }); // it lies over both
    this.screen = el('div.gallery-two', {}, ...panes.map(([pane]) => pane), this.edge);
    this.table = el('table.gallery-differs');
    this.words = el('p.gallery-words', { role: 'status' });
    this.root = el('dialog.gallery-compare', { 'aria-label': 'Compare two pictures' }, bar, this.names, this.screen, this.words, el('div.gallery-differs-box', { tabIndex: 0, role: 'region', 'aria-label': 'What differs' }, this.table));
    this.root.addEventListener('close', () => this.closed());
    document.addEventListener('keydown', (event) => this.root.open && this.key(event));
  }

  async open(ids) {
    const { server } = this.gallery;
    const asked = (this.asked = ids);
    const answers = await Promise.all(ids.map((id) => server.get('entry', { id })));
    if (this.asked !== asked) return;
    const bad = answers.find((answer) => answer.problem !== undefined);
    if (bad) return this.gallery.say(bad.problem, { bad: true });
    // The older one first, as one looks at what was changed.
    this.pair = answers.sort((one, other) => String(one.date).localeCompare(String(other.date)));
    this.edge.value = 50;
    this.zoom.reset();
    this.gallery.enter(this.root);
    this.draw();
    this.turn(this.view);
  }

  exchange() {
    this.pair.reverse();
    this.draw();
  }

  draw() {
    const url = ({ id }) => this.gallery.server.url('file', { id });
    [this.one, this.other].forEach((image, at) => {
      image.src = url(this.pair[at]);
      image.alt = label(this.pair[at]);
    });
    const shape = Math.max(...this.pair.map(({ width, height }) => width / height));
    this.screen.style.setProperty('--shape', shape);
    const said = this.pair.map(({ seed, date }) => [date?.slice(0, 16).replace('T', ' '), seed === null || seed === undefined ? '' : `seed ${seed}`].filter(Boolean).join(', '));
    say(this.first, said[0]);
    say(this.second, said[1]);
    this.differs();
    this.wipe();
  }

  /** What the two were made with, where that is not the same. */
  differs() {
    const [one, other] = this.pair.map(settings);
    const names = [...new Set([...one.keys(), ...other.keys()])].filter((name) => !APART.has(name) && one.get(name) !== other.get(name));
    say(this.words, names.length ? '' : 'They were made with the same settings.');
    const cell = (value) => el('td', {}, value ?? '–');
    this.table.replaceChildren(...names.map((name) => el('tr', {}, el('th', { scope: 'row' }, name), cell(one.get(name)), cell(other.get(name)))));
  }

  turn(view) {
    this.view = view;
    this.zoom.reset();
    this.screen.dataset.view = view;
    for (const button of this.buttons) button.setAttribute('aria-pressed', String(button.dataset.view === view));
    this.edge.hidden = view !== 'slider';
    this.pause.hidden = view !== 'blink';
    this.blink(view === 'blink' && !matchMedia('(prefers-reduced-motion: reduce)').matches);
    this.wipe();
  }

  wipe() {
    this.screen.style.setProperty('--edge', `${this.view === 'slider' ? this.edge.value : 0}%`);
  }

  blink(on) {
    clearInterval(this.timer);
    this.blinking = on;
    this.pause.firstChild.firstChild.setAttribute('d', on ? PAUSE : PLAY);
    this.pause.title = on ? 'Pause (Space turns by hand)' : 'Go on';
    this.pause.setAttribute('aria-label', on ? 'Pause' : 'Go on');
    if (on) this.timer = setInterval(() => this.show(!this.turned), TURN);
    this.show(false);
  }

  show(second) {
    this.turned = second;
    this.screen.classList.toggle('second', this.view === 'blink' && second);
    const lit = this.view === 'blink' ? Number(second) : -1;
    [...this.names.children].forEach((name, at) => name.classList.toggle('dim', lit >= 0 && lit !== at));
  }

  closed() {
    this.gallery.leave(this.root);
    this.blink(false);
    this.asked = null;
    for (const image of [this.one, this.other]) image.removeAttribute('src');
    this.gallery.grid.root.focus({ preventScroll: true });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.('input')) return;
    const deed = { '+': () => this.zoom.in(), '=': () => this.zoom.in(), '-': () => this.zoom.out(), 0: () => this.zoom.reset() }[event.key];
    const second = { ArrowLeft: false, ArrowRight: true, ' ': !this.turned }[event.key];
    const turns = this.view === 'blink' && second !== undefined && !(event.key === ' ' && event.target.closest?.('button'));
    if (turns) this.blink(false), this.show(second); // by hand from now on
    else if (deed) deed();
    else return;
    event.preventDefault();
  }
}

function settings({ prompt, negative_prompt: negative, pairs, width, height }) {
  const rows = new Map([['Prompt', prompt ?? ''], ['Leave out', negative ?? '']]);
  for (const [name, value] of pairs ?? []) if (!/^(negative[ _])?prompt$/i.test(name)) rows.set(name, String(value));
  rows.set('Size', `${width} × ${height}`);
  return rows;
}
