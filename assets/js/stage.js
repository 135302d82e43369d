// The stage: the picture as it develops, its film and the session's pictures. It draws what jobs.js knows;
// nothing that a hand does here asks the server, but for `reuse`, `stop` and a film that was not sent yet.

import { duration, el, heard, icon, say, tell } from './dom.js';
import { Film } from './film.js';
import { Jobs, memory } from './jobs.js';
import { JournalNote, LOOK, Rests } from './stage-rests.js';
import { Session } from './stage-session.js';

const COPY = 'M9 9h11v11H9z M5 15H4V4h11v1';
const SAVE = 'M12 4v11 M7 11l5 5 5-5 M5 20h14';
const SEND = 'M4 12h14 M12 6l6 6-6 6';
const TINY = 64; // pixels a side up to which a picture is shown with its pixels, not smoothed
const AGAIN = 'Made before, with the same settings and seed';
const BACK = 'M4 12a8 8 0 1 0 3-6 M4 4v5h5';

export function mount(part) {
  const stage = new Stage(part);
  const ids = memory.read();
  if (ids.length) part.trigger('resume', { jobs: ids });
  return stage;
}

class Stage {
  constructor({ root, trigger, server }) {
    this.trigger = trigger;
    this.server = server;
    this.jobs = new Jobs((asked) => server.story(asked), () => this.draw());
    this.job = null; // the one that is shown
    this.picture = 0; // which of its pictures
    this.pinned = null; // a frame that was chosen; null: the newest
    this.looked = null; // a frame under the hand
    this.follow = true; // shows what runs, until something else is chosen
    this.build(root);
    this.engine = { ready: true };
    heard('engine', (engine) => ((this.engine = engine), this.note.show(engine.note), this.draw()));
    heard('stop', ({ keep }) => this.stop(keep));
    heard('step', (move) => this.step(move));
    heard('jobs', (jobs) => this.trigger('resume', { jobs }));
    heard('reuse', ({ job, tab }) => (this.trigger('reuse', { job, picture: 0 }), tell('tab', tab)));
  }

  build(root) {
    this.image = el('img.picture', { alt: '', draggable: false, decoding: 'sync', hidden: true });
    this.empty = el('div.empty');
    this.trouble = el('p.trouble', { role: 'alert' });
    this.wait = el('p.wait');
    this.frame = el('div.frame-box', {}, this.image, this.wait, this.empty);
    this.screen = el('div.screen', {}, this.frame, this.trouble);
    this.bar = el('div.bar', { role: 'progressbar', 'aria-label': 'Progress', 'aria-valuemin': 0 }, el('i'));
    this.what = el('span.what');
    this.pace = el('span.pace');
    this.rests = new Rests(this);
    this.note = new JournalNote();
    this.strips = el('div.strips', { role: 'group', 'aria-label': 'Pictures of this run' });
    this.film = new Film({
      look: (index) => ((this.looked = index), this.draw()),
      choose: (index) => this.choose(index),
      open: (index) => this.explore(index),
    });
    this.deeds = this.buildDeeds();
    this.aloud = el('p.unseen', { role: 'status' });
    this.session = new Session({ choose: (job, picture) => this.open(job, picture) });
    const main = el(
      'section.main',
      { 'aria-label': 'Stage' },
      this.note.root,
      this.screen,
      this.bar,
      el('div.line', {}, this.what, this.pace, this.rests.root),
      this.strips,
      this.film.root,
      this.deeds,
      this.aloud,
    );
    root.className = 'stage';
    root.append(main, this.session.root);
    this.host = root.closest('#stage') ?? root;
    this.empty.append(
      el('h2', {}, 'Nothing developed yet'),
      el('p'),
      el('div.chips'),
    );
  }

  buildDeeds() {
    const button = (path, text, onclick) => el('button.deed', { type: 'button', onclick }, icon(path), text);
    this.copied = button(COPY, 'Copy parameters', () => this.copy());
    this.save = el('a.deed', { download: '' }, icon(SAVE), 'Download');
    this.text = el('pre', { tabIndex: 0 });
    this.details = el('details', {}, el('summary', {}, 'Parameters'), this.text);
    const send = (tab, to) => el('button.send', { type: 'button', onclick: () => this.send(tab, to) }, tab);
    this.sends = el(
      'span.sends',
      { role: 'group', 'aria-label': 'Send this picture to' },
      icon(SEND),
      'Send to',
      send('Image', 'image-image'),
      send('Inpaint', 'inpaint-image'),
      send('Control', 'ask-controls'),
    );
    return el(
      'div.deeds',
      { hidden: true },
      this.sends,
      button(LOOK, 'Look inside', () => this.explore()),
      button(BACK, 'Use these settings', () => this.reuse()),
      this.save,
      this.copied,
      this.details,
    );
  }

  /** A new value: a message about jobs, problems with the form, or a model's invitation. */
  show(value) {
    if (!value) return;
    if (value.problems) return tell('problems', value.problems);
    if (value.examples) this.invite(value);
    if (!value.jobs) return this.draw();
    if ('queue' in value) tell('queue', value.queue);
    if (value.replaced) tell('replaced', value.replaced);
    if (value.forgotten?.length) memory.drop(value.forgotten);
    const before = this.job && !this.job.done ? this.job : null;
    const rested = this.job?.state === 'paused';
    const fresh = this.jobs.take(value);
    for (const job of fresh) memory.add(job.id);
    for (const { id } of value.jobs) if (this.jobs.find(id)) tell('progress', this.jobs.find(id));
    if (value.again) return this.showAgain(this.jobs.find(value.again));
    if (fresh.some((job) => !job.done)) {
      this.follow = true;
      tell('problems', {});
    }
    if (before?.done) this.ended(before);
    if (!rested && this.job?.state === 'paused') say(this.aloud, 'Paused. Continue goes on from here.');
    this.settle();
    this.draw();
  }

  /** A run that would make what one has made before: that one is shown instead. */
  showAgain(job) {
    tell('problems', {});
    this.again = job;
    say(this.aloud, AGAIN);
    this.open(job, 0);
  }

  invite({ examples, words }) {
    const chips = () => examples.map((text) => el('button.chip', { type: 'button', onclick: () => this.trigger('example', { prompt: text }) }, text));
    this.empty.querySelector('.chips').replaceChildren(...chips().slice(0, 4));
    const begin = examples.length ? ', or begin with one of these:' : '.';
    say(this.empty.querySelector('p'), words ? `Write what you want to see${begin}` : 'This model paints without words: press Generate.');
    this.session.invite(chips().slice(0, 6)); // as many as stay in sight
  }

  /** Which job is shown: the one that runs, else the last one that ended. */
  settle() {
    if (!this.follow && this.job && this.jobs.find(this.job.id)) return;
    const rests = this.job?.state === 'paused' ? this.job : null;
    const next = this.jobs.active[0] ?? rests ?? this.jobs.list.at(-1) ?? null;
    if (next !== this.job) this.turn(next, 0);
    if (!next || next.done) return;
    const newest = next.begun ? next.begun - 1 : 0;
    const batch = next.request.num_images_per_prompt;
    if (Math.floor(newest / batch) > Math.floor(this.picture / batch)) this.turn(next, newest - (newest % batch));
  }

  turn(job, picture) {
    this.job = job;
    this.picture = picture;
    this.pinned = this.looked = null;
    this.film.begin(job ? job.total + 1 : 0);
    if (job?.abridged) this.jobs.ask(job);
  }

  open(job, picture) {
    this.follow = !job.done;
    this.turn(job, picture);
    this.draw();
  }

  ended(job) {
    const words = { finished: 'The picture is finished.', failed: 'The run failed.', cancelled: 'Stopped.' };
    say(this.aloud, words[job.state]);
    if (Object.keys(job.problems ?? {}).length) tell('problems', job.problems);
  }

  choose(index) {
    const frames = this.job?.frames(this.picture) ?? [];
    const last = frames.length - 1;
    this.pinned = index >= last ? null : Math.max(0, index);
    this.looked = null;
    this.draw();
  }

  step(move) {
    if (!this.host.checkVisibility()) return; // in some tabs the keys move something else
    const frames = this.job?.frames(this.picture) ?? [];
    if (!frames.length) return;
    const now = this.pinned ?? frames.length - 1;
    this.choose({ first: 0, last: frames.length - 1, back: now - 1, on: now + 1 }[move]);
  }

  stop(keep) {
    const job = this.job?.state === 'paused' ? this.job : this.jobs.active[0];
    if (job) this.trigger('stop', { job: job.id, keep });
  }

  reuse() {
    this.trigger('reuse', { job: this.job.id, picture: this.picture });
    tell('tab', this.job.tab);
  }

  /** Opens the run that is shown in the Explore tab, at that frame. */
  explore(index = this.pinned ?? Infinity) {
    tell('explore', { run: `${this.job.id}-${this.picture}`, step: index });
  }

  /** The picture that is shown goes to a painter or the control units, and their tab opens. */
  async send(tab, to) {
    const answer = await this.server.send({ job: this.job.id, picture: this.picture });
    say(this.aloud, answer.problem ?? `Sent to ${tab}.`);
    if (answer.problem) {
      say(this.trouble, answer.problem);
      this.trouble.hidden = false;
      return;
    }
    tell('give', { to, image: answer });
    tell('tab', tab.toLowerCase());
  }

  async copy() {
    if (navigator.clipboard) await navigator.clipboard.writeText(this.text.textContent);
    else copySelected(this.text); // a page from another machine without https has no clipboard
    say(this.aloud, 'Parameters copied.');
    this.copied.classList.add('done');
    setTimeout(() => this.copied.classList.remove('done'), 1200);
  }

  // Drawing: many messages and pointer moves may fall into one frame of the screen.

  draw() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      this.paint();
    });
  }

  paint() {
    const job = this.job;
    const frames = job?.frames(this.picture) ?? [];
    const index = this.looked ?? this.pinned ?? frames.length - 1;
    const frame = frames[index];
    const live = job && !job.done;
    this.host.classList.toggle('live', Boolean(live) && job.state !== 'paused');
    const { active } = this.jobs;
    const rests = job?.state === 'paused';
    document.body.classList.toggle('running', active.length > 0);
    for (const id of ['stop', 'keep']) {
      const button = document.getElementById(id); // to Gradio they are always enabled: it would not pass clicks on
      if (button) button.disabled = active.length === 0 && !rests;
    }
    this.rests.paint(job, frames);
    this.paintPicture(job, frame);
    this.paintWords(job, frames, frame);
    this.film.root.hidden = !job || (!frames.length && job.done);
    if (job) this.film.show(frames, index, this.pinned ?? frames.length - 1, live || !frames.length ? job.total + 1 : frames.length);
    this.paintStrips(job);
    this.paintDeeds(job, frame);
    this.session.paint(this.jobs, job, this.picture);
    this.tellLast();
  }

  /** The last finished picture, for those who want its seed or the picture itself. */
  tellLast() {
    const job = this.jobs.list.findLast((one) => one.pictures.some(Boolean));
    const picture = job?.pictures.findLastIndex(Boolean);
    if (job) Object.assign(this.host.dataset, { seed: job.pictures[picture].seed, job: job.id, picture });
  }

  paintPicture(job, frame) {
    this.empty.hidden = Boolean(job);
    this.image.hidden = !frame;
    const { width, height } = frame?.final ? frame : (job?.request ?? { width: 1, height: 1 });
    this.frame.style.setProperty('--shape', width / height);
    this.wait.hidden = !job || Boolean(frame) || job.done;
    say(this.wait, this.wait.hidden ? '' : this.waiting(job));
    if (!frame) return;
    if (this.image.getAttribute('src') !== frame.url) this.image.src = frame.url;
    this.image.classList.toggle('final', Boolean(frame.final));
    this.image.classList.toggle('pixels', Math.max(width, height) <= TINY);
    const shown = job.request.prompt.slice(0, 200) || 'what the model paints without words';
    this.image.alt = frame.final ? `Picture of: ${shown}` : `Predicted picture at step ${frame.step} of ${frame.total}: ${shown}`;
  }

  waiting(job) {
    if (job.state !== 'queued' || this.engine.ready) return job.text;
    return `${this.engine.message} Your picture begins as soon as it is up.`;
  }

  paintWords(job, frames, frame) {
    say(this.what, job ? describe(job, frame, frames, this.picture) : '');
    say(this.pace, !job ? '' : job === this.again ? AGAIN : pace(job));
    const fault = !job && this.engine.fault ? this.engine.message : '';
    const sentence = job?.state === 'failed' ? job.text : fault;
    say(this.trouble, sentence);
    this.trouble.hidden = !sentence;
    const whole = job ? job.total * job.count : 1;
    const share = !job ? 0 : job.done ? Number(job.state === 'finished') : Math.min(1, job.steps / whole);
    this.bar.classList.toggle('moves', share > 0 && share >= this.share);
    this.share = share;
    this.bar.firstChild.style.transform = `scaleX(${share})`;
    this.bar.setAttribute('aria-valuemax', whole);
    this.bar.setAttribute('aria-valuenow', Math.round(share * whole));
    this.bar.classList.toggle('idle', !job || (job.done && job.state !== 'finished'));
  }

  paintStrips(job) {
    const count = job && job.count > 1 ? job.count : 0;
    const drawn = count ? [job.id, count, this.picture, job.begun].join() : '';
    if (drawn === this.stripsDrawn) return;
    this.stripsDrawn = drawn;
    this.strips.hidden = !count;
    while (this.strips.children.length > count) this.strips.lastChild.remove();
    while (this.strips.children.length < count) {
      const picture = this.strips.children.length;
      this.strips.append(
        el('button.strip', { type: 'button', onclick: () => this.pick(picture) }, String(picture + 1)),
      );
    }
    [...this.strips.children].forEach((button, picture) => {
      button.disabled = !(job.films[picture] || job.pictures[picture]);
      button.setAttribute('aria-pressed', String(picture === this.picture));
      button.setAttribute('aria-label', `Picture ${picture + 1} of ${count}`);
    });
  }

  pick(picture) {
    const { pinned } = this;
    this.turn(this.job, picture);
    this.pinned = pinned; // compare the same step of another picture
    this.draw();
  }

  paintDeeds(job, frame) {
    const kept = job?.pictures[this.picture];
    this.deeds.hidden = !kept;
    if (!kept) return;
    this.save.href = kept.url;
    this.save.download = kept.name;
    say(this.text, kept.text);
  }
}

function copySelected(node) {
  node.closest('details').open = true;
  getSelection().selectAllChildren(node);
  document.execCommand('copy');
}

function describe(job, frame, frames, picture) {
  if (job.state === 'loading' && frame) return job.text; // the engine ended in the middle, and comes up again
  const which = job.count > 1 ? `, picture ${picture + 1} of ${job.count}` : '';
  if (!frame) return job.state === 'cancelled' ? 'Stopped before the first step.' : '';
  if (frame.final) {
    const how = job.stopped && frames.length - 1 < frame_total(frames) ? 'Stopped and kept' : 'Finished';
    return `${how}${which}, seed ${frame.seed}, ${frame.width} × ${frame.height}`;
  }
  const ending = { cancelled: ', stopped', paused: ', paused' }[job.state] ?? ', predicted picture';
  return `Step ${frame.step} of ${frame.total}${which}${ending}`;
}

function frame_total(frames) {
  return frames[0]?.total ?? 0;
}

function pace(job) {
  const batch = job.request.num_images_per_prompt;
  const rounds = job.steps / batch; // a batch takes its steps together
  if (job.done) {
    if (job.state !== 'finished' || !job.seconds) return job.notes.join(' ');
    return [...job.notes, `${job.count > 1 ? `${job.count} pictures in ` : ''}${duration(job.seconds)}`].join(' · ');
  }
  if (rounds < 2 || !job.seconds || job.state === 'paused') return '';
  const speed = (rounds - 1) / job.seconds; // the clock starts with the first step's end
  const left = (job.total * job.request.batch_count - rounds) / speed;
  const shown = speed >= 1 ? `${speed.toFixed(speed < 10 ? 1 : 0)} it/s` : `${(1 / speed).toFixed(1)} s/it`;
  return `${shown}, ${duration(Math.max(0, left))} left`;
}
