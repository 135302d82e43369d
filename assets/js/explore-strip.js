// The strip under the lanes: a frame for each step, the slider, and what plays the film.

import { el, heard, icon, say } from './dom.js';
import { Film } from './film.js';

const PLAY = 'M8 5v14l11-7z';
const PAUSE = 'M8 5v14 M16 5v14';
const SPEEDS = { 4: 'slow', 10: 'normal', 25: 'fast' }; // steps a second
const HANDS = 'input:not([type=range]), textarea, select, button, summary, a, [role=tab], [contenteditable=true]';

export function mount(host, explore) {
  return new Strip(host, explore);
}

class Strip {
  constructor(host, explore) {
    Object.assign(this, { host, explore });
    this.film = new Film({ look: () => {}, choose: (step) => this.seek(step) });
    this.film.slider.setAttribute('aria-label', 'Step');
    this.play = el('button.explore-play', { type: 'button', onclick: () => this.toggle() });
    this.speed = el('select.explore-speed', { 'aria-label': 'Speed', onchange: () => this.playing && this.start() });
    for (const [rate, title] of Object.entries(SPEEDS)) this.speed.append(el('option', { value: rate }, title));
    this.speed.value = 10;
    this.where = el('p.explore-where');
    const keys = el('p.explore-keys', {}, el('kbd', {}, 'Space'), ' plays, ', el('kbd', {}, '←'), ' ', el('kbd', {}, '→'), ' step');
    host.append(this.film.root, el('div.explore-line', {}, this.play, this.speed, this.where, keys));
    host.hidden = true;
    this.mark();
    explore.on('run', () => this.stop());
    explore.on('film', () => this.fill());
    explore.on('frames', (batch) => this.thumbs(batch));
    explore.on('step', () => this.show());
    explore.on('play', () => this.start());
    document.addEventListener('keydown', (event) => this.key(event));
    document.addEventListener('visibilitychange', () => document.hidden && this.stop());
    heard('tab', () => this.stop());
  }

  seek(step) {
    this.stop();
    this.explore.seek(step);
  }

  // What is seen

  /** Canvases take the place of the film's pictures: they are drawn from what is decoded already. */
  fill() {
    const { film } = this.explore;
    this.host.hidden = !film?.steps.length;
    if (film !== this.shown) {
      this.shown = film;
      this.film.begin(0);
      this.slots = [];
    }
    const total = film.run.state === 'running' ? Math.max(film.run.total, film.steps.length) : film.steps.length;
    this.film.room(total);
    this.film.shown = film.steps.length;
    this.thumbs(film.steps.map((_, index) => ['x0', index]));
    this.show();
  }

  thumbs(batch) {
    const { film } = this.explore;
    for (const [lane, index] of batch) {
      const picture = lane === 'x0' && film.frame('x0', index);
      const slot = this.film.slots[index];
      if (!picture || !slot || this.slots[index]) continue;
      const canvas = el('canvas', { width: 112, height: 112 });
      const side = Math.min(picture.width, picture.height);
      canvas.getContext('2d').drawImage(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, 112, 112);
      slot.classList.add('full');
      slot.replaceChildren(canvas);
      this.slots[index] = canvas;
    }
  }

  show() {
    const { film, step } = this.explore;
    if (!film?.steps[step]) return; // a run that has only just begun
    this.film.mark(step, film.steps.length, `step ${step + 1} of ${film.run.total || film.steps.length}`);
    say(this.where, where(film, step));
  }

  // Playing

  toggle() {
    if (this.playing) return this.stop();
    const { film, step } = this.explore;
    if (step >= film.steps.length - 1) this.explore.seek(0);
    this.start();
  }

  start() {
    this.stop();
    const pause = 1000 / Number(this.speed.value);
    let due = performance.now() + pause;
    const turn = (now) => {
      if (now >= due) {
        due = Math.max(due + pause, now);
        const { film, step } = this.explore;
        if (!this.explore.seen || step >= film.steps.length - 1) return this.stop();
        this.explore.seek(step + 1);
      }
      this.playing = requestAnimationFrame(turn);
    };
    this.playing = requestAnimationFrame(turn);
    this.mark();
  }

  stop() {
    cancelAnimationFrame(this.playing);
    this.playing = null;
    this.mark();
  }

  mark() {
    const word = this.playing ? 'Pause' : 'Play';
    if (this.word === word) return;
    this.word = word;
    this.play.replaceChildren(icon(this.playing ? PAUSE : PLAY), word);
  }

  key(event) {
    if (!this.explore.seen || !this.explore.film || event.defaultPrevented || document.querySelector('dialog[open]')) return;
    if (event.key !== ' ' || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.(HANDS)) return;
    event.preventDefault();
    this.toggle();
  }
}

function where({ run, steps }, index) {
  const { timestep, sigma } = steps[index];
  const parts = [`Step ${index + 1} of ${run.total || steps.length}`];
  if (timestep !== null) parts.push(`t = ${round(timestep)}`);
  if (sigma !== null) parts.push(`σ = ${round(sigma)}`);
  return parts.join(', ');
}

const round = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));
