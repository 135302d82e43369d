// The forward process: the run's picture, or any other, noised along a sampler's schedule, in pixels and in latents;
// beside it what every schedule keeps of a picture, step by step. All steps come at once and are moved through here.

import { el, say } from './dom.js';
import { Levels } from './explore-forward-levels.js';
import { Reel } from './explore-reel.js';
import { takesPictures } from './unit-picture.js';
import { Latest } from './unit-server.js';
import { upload } from './upload.js';

const WORLDS = { pixels: 'In pixels', latents: 'In latents' };

export function mount(host, explore) {
  return new Forward(host, explore);
}

class Forward {
  constructor(host, explore) {
    Object.assign(this, { host, explore });
    this.picture = null; // a stored one that was dropped; else the run's own
    this.step = 0;
    this.build();
    this.wishes = new Latest({
      answer: (wish) => Reel.fetch(wish).catch((fault) => ({ problem: fault.message })),
      done: (reel) => this.take(reel),
      wait: (on) => this.worlds.classList.toggle('decoding', on),
    });
    explore.on('run', () => this.begin());
    this.fold.addEventListener('toggle', () => this.begin());
    new IntersectionObserver((entries) => entries.at(-1).isIntersecting && this.begin()).observe(host);
    this.begin();
  }

  build() {
    this.screens = {};
    for (const [name, title] of Object.entries(WORLDS)) {
      const canvas = el('canvas', { width: 1, height: 1, role: 'img', 'aria-label': `The noised picture, ${title.toLowerCase()}` });
      this.screens[name] = { canvas, pen: canvas.getContext('2d'), root: el('figure.forward-world', {}, canvas, el('figcaption', {}, title)) };
    }
    this.worlds = el('div.forward-worlds', {}, ...Object.values(this.screens).map(({ root }) => root));
    this.slider = el('input', { type: 'range', min: 0, step: 1, value: 0, 'aria-label': 'How far the picture is noised', oninput: () => this.seek(Number(this.slider.value)) });
    this.where = el('p.forward-where');
    const choose = (label) => el('select.branch-text', { 'aria-label': label, onchange: () => this.chosen() });
    [this.sampler, this.schedule] = [choose('Sampler of the schedule'), choose('Schedule')];
    this.file = el('input', { type: 'file', accept: 'image/*', hidden: true, onchange: () => this.file.files[0] && this.drop(this.file.files[0]) });
    const another = el('button.branch-word', { type: 'button', onclick: () => this.file.click() }, 'Another picture …');
    this.own = el('button.branch-word', { type: 'button', hidden: true, onclick: () => this.use(null) }, 'The run’s picture');
    this.alert = el('p.branch-alert', { role: 'alert', hidden: true });
    this.levels = new Levels((line) => this.choose(line));
    this.word = el('span.branch-inside');
    const inner = el('div.branch-inner.takes-pictures', {},
      el('p.branch-hint', {}, 'What training shows a model, and sampling walks back: the picture with more and more noise. Drop any picture here.'),
      this.worlds, this.slider, this.where, el('div.branch-pair', {}, labelled('Sampler', this.sampler), labelled('Schedule', this.schedule)),
      el('div.branch-going', {}, another, this.own, this.file), this.alert, (this.note = el('p.branch-progress', { role: 'status' })), this.levels.root);
    takesPictures(inner, (file) => this.drop(file));
    this.fold = el('details.branch-fold.forward-fold', {}, el('summary', {}, el('span', {}, 'The forward process'), this.word), inner);
    this.host.append(this.fold);
    this.host.setAttribute('aria-label', 'The forward process');
  }

  /** What costs the engine something is asked for once the fold is open. */
  begin() {
    const { run } = this.explore;
    this.host.hidden = !run;
    if (!run || !this.fold.open || !this.host.offsetParent || this.run === run.id) return;
    this.run = run.id;
    this.steps = Math.max(2, Math.min(150, run.request.num_inference_steps ?? 20));
    this.load(run);
  }

  /** The run's own schedule at once; all the others take the engine a few seconds. */
  async load(run) {
    const { scheduler: wanted = 'DPM++ 2M', schedule = 'Automatic' } = run.request;
    this.sampler.replaceChildren(el('option', {}, wanted));
    this.schedule.replaceChildren(el('option', {}, schedule));
    this.lines = [];
    this.levels.root.hidden = true;
    say(this.word, `${wanted}, ${schedule}`);
    this.wish();
    say(this.note, 'The other schedules are being read off their samplers …');
    const { lines, problem } = await this.explore.ask('schedules', { run: run.id, steps: this.steps });
    if (this.run !== run.id) return;
    say(this.note, '');
    if (problem) {
      this.complain(problem);
      this.run = null; // asked for again when the fold is opened anew
      return;
    }
    this.lines = lines;
    this.levels.root.hidden = false;
    const names = [...new Set(lines.map(({ sampler }) => sampler))];
    this.sampler.replaceChildren(...names.map((name) => el('option', {}, name)));
    this.sampler.value = names.includes(wanted) ? wanted : names[0];
    this.offer(schedule);
    if (this.sampler.value !== wanted || this.schedule.value !== schedule) this.wish();
    this.draw();
  }

  offer(wanted) {
    const there = this.lines.filter(({ sampler }) => sampler === this.sampler.value).map(({ schedule }) => schedule);
    this.schedule.replaceChildren(...there.map((name) => el('option', {}, name)));
    this.schedule.value = there.includes(wanted) ? wanted : there[0];
    this.levels.show(this.lines, this.chosenLine);
    say(this.word, `${this.sampler.value}, ${this.schedule.value}`);
  }

  get chosenLine() {
    return this.lines.find(({ sampler, schedule }) => sampler === this.sampler.value && schedule === this.schedule.value);
  }

  chosen() {
    this.offer(this.schedule.value);
    this.wish();
  }

  choose({ sampler, schedule }) {
    this.sampler.value = sampler;
    this.offer(schedule);
    this.wish();
  }

  wish() {
    const query = { run: this.run, picture: this.picture?.key ?? '', sampler: this.sampler.value, schedule: this.schedule.value, steps: this.steps };
    this.wishes.wish(this.explore.url('noised', query));
  }

  async take(reel) {
    this.complain(reel.problem ?? '');
    if (reel.problem) return;
    this.reel?.close();
    this.reel = reel;
    const share = this.slider.max > 0 ? Number(this.slider.value) / this.slider.max : 0.5;
    this.slider.max = reel.steps.length - 1;
    for (const [name, { root }] of Object.entries(this.screens)) root.hidden = !reel.lanes.has(name);
    this.step = Math.round(share * this.slider.max);
    this.slider.value = this.step;
    this.draw();
    await reel.decode(Object.keys(WORLDS), this.step, () => this.draw());
  }

  // A picture of one's own

  async drop(file) {
    this.file.value = '';
    const picture = await this.explore.ask('keep_painted', { path: await upload(file, file.name) });
    if (picture.problem) return this.complain(picture.problem);
    return this.use(picture);
  }

  use(picture) {
    this.picture = picture;
    this.own.hidden = !picture;
    this.wish();
  }

  complain(sentence) {
    say(this.alert, sentence);
    this.alert.hidden = !sentence;
  }

  // Moving

  seek(step) {
    this.step = step;
    this.draw();
  }

  /** The slider goes from the picture to noise, a run the other way. */
  draw() {
    const { reel } = this;
    if (!reel) return;
    const at = reel.steps.length - 1 - this.step;
    const { timestep, alpha_bar: kept, snr } = reel.steps[at];
    for (const [name, { canvas, pen }] of Object.entries(this.screens)) {
      const frame = reel.frame(name, at);
      if (!frame) continue;
      if (canvas.width !== frame.width || canvas.height !== frame.height) Object.assign(canvas, { width: frame.width, height: frame.height });
      pen.drawImage(frame, 0, 0);
    }
    const ratio = snr === null ? '' : `, signal to noise ${ratioOf(snr)}`;
    say(this.where, `t = ${round(timestep)}, ᾱ = ${kept.toFixed(3)}${ratio}`);
    this.slider.setAttribute('aria-valuetext', this.where.textContent);
    this.slider.style.setProperty('--part', `${(100 * this.step) / Math.max(1, reel.steps.length - 1)}%`);
    this.levels.mark(at / reel.steps.length);
  }
}

function ratioOf(log) {
  const value = 10 ** Math.abs(log);
  const told = value >= 100 ? value.toFixed(0) : value.toPrecision(2);
  return log >= 0 ? `${told} : 1` : `1 : ${told}`;
}

const round = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));

function labelled(title, input) {
  return el('label.branch-label', {}, el('span', {}, title), input);
}
