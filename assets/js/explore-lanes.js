// The lanes: the same step seen in several ways, side by side. A small picture of each while the hand moves, the full
// decode of the VAE when it rests.

import { el, heard, say } from './dom.js';
import { Latest } from './unit-server.js';

const LANES = {
  x_t: {
    title: 'What came in',
    term: 'noisy sample, xₜ',
    hint: 'The picture with its noise, as it entered this step. The model sees nothing else of it.',
    full: true,
  },
  x0: {
    title: 'Where it is heading',
    term: 'predicted picture, x₀',
    hint: 'What the picture would be if all the noise that the model sees were taken away at once.',
    full: true,
  },
  noise: {
    title: 'What it takes for noise',
    term: 'predicted noise, ε',
    hint: 'What the model believes to be noise. Shapes that shine through are where it is not sure.',
  },
  change: {
    title: 'What this step changed',
    term: 'difference of x₀ to the step before',
    hint: 'Bright where the predicted picture changed. First the large shapes, then edges, at last the detail.',
  },
  guidance: {
    title: 'Where the words pull',
    term: 'guidance: with the prompt minus without',
    hint: 'Bright where the prompt makes a difference: the model paints once with it and once without.',
  },
  channels: {
    title: 'The model’s own world',
    term: 'latent channels',
    hint: 'What is really painted: a few small grey pictures. Only the VAE makes colours and detail out of them.',
  },
};
const FIRST = ['x_t', 'x0', 'change', 'channels'];
const KEY = 'darkroom.lanes';
const FULL_KEPT = 24;

export function mount(host, explore) {
  return new Lanes(host, explore);
}

class Lanes {
  constructor(host, explore) {
    Object.assign(this, { host, explore });
    this.chosen = remembered();
    this.full = new Map(); // "run step what" -> ImageBitmap, the newest last
    this.lanes = new Map();
    this.bar = el('div.lane-choice', { role: 'group', 'aria-label': 'Lanes' });
    this.row = el('div.lanes');
    for (const name of Object.keys(LANES)) this.lanes.set(name, this.build(name));
    host.append(this.row, this.bar);
    host.hidden = true;
    this.decodes = new Latest({
      answer: (wish) => this.decode(wish),
      done: () => this.draw(),
      wait: (on) => this.row.classList.toggle('decoding', on),
    });
    explore.on('film', () => this.show());
    explore.on('step', () => this.draw());
    explore.on('rest', () => this.wish());
    explore.on('lanes', (names) => this.choose(names ?? remembered()));
    heard('progress', (job) => job.done && this.busy && this.wish());
  }

  build(name) {
    const { title, term, hint } = LANES[name];
    const canvas = el('canvas', { width: 1, height: 1, role: 'img' });
    const state = el('span.lane-state');
    const box = el('figure.lane', {},
      el('figcaption', {}, el('span.lane-title', { title: hint }, title), el('span.lane-term', {}, term)),
      el('div.lane-screen', {}, canvas, state),
      el('p.lane-hint', {}, hint));
    const button = el('button.lane-button', { type: 'button', title: hint, onclick: () => this.toggle(name) }, title);
    this.row.append(box);
    this.bar.append(button);
    return { box, canvas, pen: canvas.getContext('2d'), state, button };
  }

  toggle(name) {
    const rest = this.chosen.filter((one) => one !== name);
    if (this.chosen.includes(name) && !this.shown.some((one) => one !== name)) return; // one lane stays
    this.chosen = rest.length < this.chosen.length ? rest : [...this.chosen, name];
    try {
      localStorage.setItem(KEY, JSON.stringify(this.chosen));
    } catch {
      // A browser that keeps nothing: the choice lasts as long as the page.
    }
    this.show();
    this.explore.rest();
  }

  /** Shows these lanes, which a lesson speaks of. */
  choose(names) {
    this.chosen = names.filter((name) => name in LANES);
    this.show();
    this.explore.rest();
  }

  get shown() {
    const there = this.explore.film?.lanes ?? new Set();
    const shown = Object.keys(LANES).filter((name) => there.has(name) && this.chosen.includes(name));
    return shown.length ? shown : ['x0'].filter((name) => there.has(name));
  }

  /** Another film, other lanes, or new steps. */
  show() {
    const { film, step } = this.explore;
    this.host.hidden = !film?.steps.length;
    const { shown } = this;
    const there = film?.lanes ?? new Set();
    for (const [name, { box, button }] of this.lanes) {
      box.hidden = !shown.includes(name);
      button.hidden = !there.has(name);
      button.setAttribute('aria-pressed', String(shown.includes(name)));
    }
    this.row.style.setProperty('--lanes', shown.length);
    const decoded = [...new Set([...shown, 'x0'])]; // the strip is made of x0
    film?.decode(decoded, step, (batch) => this.decoded(film, batch));
    this.draw();
  }

  decoded(film, batch) {
    if (film !== this.explore.film) return;
    if (batch.some(([, step]) => step === this.explore.step)) this.draw();
    this.explore.emit('frames', batch);
  }

  draw() {
    const { film, step } = this.explore;
    if (!film) return;
    for (const name of this.shown) this.paint(name, film, step);
  }

  paint(name, film, step) {
    const lane = this.lanes.get(name);
    const full = this.full.get(key(film, step, name));
    const picture = full ?? film.frame(name, step);
    const missing = !picture && !film.steps[step]?.lanes[name];
    lane.box.classList.toggle('missing', missing);
    const waits = this.busy && LANES[name].full ? 'preview while a picture is painted' : '';
    say(lane.state, missing ? 'Not at this step' : full ? 'full decode' : waits);
    if (lane.drawn === picture || !picture) return;
    lane.drawn = picture;
    const { canvas, pen } = lane;
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      Object.assign(canvas, { width: picture.width, height: picture.height });
      lane.box.style.setProperty('--shape', picture.width / picture.height);
    }
    pen.drawImage(picture, 0, 0);
    canvas.setAttribute('aria-label', `${LANES[name].title} at step ${step + 1}`);
  }

  // Full decodes: asked for when the hand rests, one at a time, the last wish first

  wish() {
    const { film, step } = this.explore;
    if (!film || !this.explore.seen) return;
    const wanted = ['x0', 'x_t'].filter((name) => this.shown.includes(name) && !this.full.has(key(film, step, name)));
    if (wanted.length) this.decodes.wish({ film, step, wanted });
  }

  async decode({ film, step, wanted }) {
    for (const what of wanted) {
      if (film !== this.explore.film || step !== this.explore.step) return;
      const decoded = await this.explore.full(film.run.id, step, what);
      this.busy = decoded === undefined; // a job runs: once it has ended it is asked for again
      if (!decoded) return; // the small picture stays
      this.keep(key(film, step, what), await createImageBitmap(decoded));
      this.draw();
    }
  }

  keep(name, bitmap) {
    this.full.set(name, bitmap);
    for (const [old, one] of this.full) {
      if (this.full.size <= FULL_KEPT) break;
      this.full.delete(old);
      one.close();
    }
  }
}

const key = (film, step, what) => `${film.run.id} ${step} ${what}`;

function remembered() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(kept) && kept.some((name) => name in LANES) ? kept : FIRST;
  } catch {
    return FIRST;
  }
}
