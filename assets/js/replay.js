// A shared run in a file of its own (ui/explore/replay.py): the regions of the Explore tab that show a film, over
// what the file holds. Nothing is asked of anywhere.

import { el, icon } from './dom.js';
import { mount as mountCurves } from './explore-curves.js';
import { mount as mountLanes } from './explore-lanes.js';
import { Reel } from './explore-reel.js';
import { mount as mountStrip } from './explore-strip.js';

const REST = 120; // milliseconds without a move after which the hand rests
const REGIONS = { lanes: mountLanes, strip: mountStrip, curves: mountCurves };
const KEYS = { ArrowLeft: (at) => at - 1, ArrowRight: (at) => at + 1, Home: () => 0, End: () => Infinity };
const SUN = 'M12 8a4 4 0 1 0 0 8a4 4 0 0 0 0-8z M12 2v2 M12 20v2 M2 12h2 M20 12h2 M5 5l1.5 1.5 M17.5 17.5L19 19 M5 19l1.5-1.5 M17.5 6.5L19 5';

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** What the regions share; explore.js says what it is. */
class Replay {
  constructor(data) {
    this.data = data;
    this.film = Reel.read(bytes(data.film).buffer);
    this.run = this.film.run;
    this.step = 0;
    this.seen = true;
    this.listeners = new Map();
  }

  on(name, hear) {
    if (!this.listeners.has(name)) this.listeners.set(name, []);
    this.listeners.get(name).push(hear);
  }

  emit(name, detail) {
    for (const hear of this.listeners.get(name) ?? []) hear(detail);
  }

  seek(step) {
    const next = Math.max(0, Math.min(this.film.steps.length - 1, Math.round(step)));
    if (next === this.step) return;
    this.step = next;
    this.emit('step', next);
    this.rest();
  }

  rest() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.emit('rest', this.step), REST);
  }

  async full(run, step, what) {
    const kept = what === 'x0' && this.data.full[step];
    return kept ? new Blob([bytes(kept)], { type: 'image/jpeg' }) : null;
  }

  begin() {
    this.emit('run', this.run);
    this.emit('film', this.film);
    this.seek(this.film.steps.length - 1);
    this.emit('step', this.step);
    this.rest();
  }
}

/** The picture, the words and the settings beside the film. */
function aside({ picture, prompt, negative, settings, note }) {
  const part = (title, ...content) => [el('h2', {}, title), ...content];
  const parts = [
    ...(picture ? [el('img.replay-picture', { src: `data:image/jpeg;base64,${picture}`, alt: 'The finished picture' })] : []),
    ...part('Prompt', el('p.replay-words', {}, prompt || 'Without words')),
    ...(negative ? part('Left out', el('p.replay-words', {}, negative)) : []),
    ...part('Settings', el('dl', {}, ...settings.flatMap(([title, value]) => [el('dt', {}, title), el('dd', {}, value)]))),
    ...(note ? [el('p.replay-note', {}, note)] : []),
  ];
  return el('aside.replay-about', { 'aria-label': 'What this run was made with' }, ...parts);
}

function theme() {
  const root = document.documentElement;
  root.dataset.theme = matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark';
  const turn = () => (root.dataset.theme = root.dataset.theme === 'light' ? 'dark' : 'light');
  return el('button.replay-theme', { type: 'button', title: 'Light or dark', 'aria-label': 'Light or dark', onclick: turn }, icon(SUN));
}

function begin() {
  const data = JSON.parse(document.getElementById('data').textContent);
  const replay = new Replay(data);
  const { run } = replay;
  const when = new Date(run.created * 1000).toLocaleDateString([], { dateStyle: 'long' });
  const head = el('header.replay-head', {},
    el('div', {}, el('h1', {}, run.name || data.prompt || 'A recorded run'), el('p', {}, [run.model, when].filter(Boolean).join(' · '))), theme());
  const main = el('main.explore-main');
  for (const [name, mount] of Object.entries(REGIONS)) {
    const host = el(`section.explore-region.explore-${name}`);
    main.append(host);
    mount(host, replay);
  }
  document.body.append(head, el('div.explore-panel', {}, main, aside(data)),
    el('footer.replay-foot', {}, 'A film of Darkroom: every step of a picture that came out of the noise. This file asks nothing of the network.'));
  addEventListener('keydown', (event) => {
    const move = KEYS[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.('input, select')) return;
    event.preventDefault();
    replay.seek(move(replay.step));
  });
  replay.begin();
}

begin();
