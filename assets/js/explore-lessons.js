// Lessons: short tours that move the real controls of this tab over runs of the embedded model. What they say and
// move is data (assets/lessons.json). A step may tell: run (by its name in the lesson; painted first where it is not
// there), step, lanes, play, compare { first, second, view, finished }, and look (the region that it speaks of).

import { el, heard, say, tell } from './dom.js';

const KEY = 'darkroom.lessons';
const PAINTED = 'A run is being painted for this …';

export function mount(host, explore) {
  return new Lessons(host, explore);
}

class Lessons {
  constructor(host, explore) {
    Object.assign(this, { host, explore });
    this.lessons = [];
    this.lesson = null; // the one that is walked
    this.at = 0;
    this.asked = new Map(); // name of a run that was asked for -> a promise of its id
    this.waiting = new Map(); // job of a run that is painted for a lesson -> { done, failed }
    this.build();
    explore.on('lessons', () => this.choose());
    heard('progress', (job) => this.hear(job));
  }

  build() {
    this.place = el('p.lesson-place');
    this.title = el('h3.lesson-title', { tabIndex: -1 });
    this.text = el('p.lesson-text');
    this.list = el('ol.lesson-list');
    this.said = el('div.lesson-said', { 'aria-live': 'polite' }, this.place, this.title, this.text);
    this.status = el('p.lesson-status', { role: 'status' });
    this.back = el('button.lesson-back', { type: 'button', onclick: () => this.go(this.at - 1) }, 'Back');
    this.next = el('button.lesson-next', { type: 'button', onclick: () => this.forth() }, 'Next');
    this.leaving = el('button.branch-word', { type: 'button', onclick: () => this.leave() }, 'Leave');
    this.host.append(el('div.lesson-card', {}, this.said,
      el('div.lesson-bar', {}, this.leaving, this.back, this.next), this.list, this.status));
    this.host.setAttribute('aria-label', 'Lessons');
    this.host.hidden = true;
  }

  /** The list of lessons to choose from. */
  async choose() {
    if (!this.lessons.length) {
      const { lessons, problem } = await this.explore.ask('lessons');
      if (problem) return this.explore.say(problem, true);
      this.lessons = lessons;
    }
    this.look(null);
    this.lesson = null;
    const done = walked();
    this.list.replaceChildren(...this.lessons.map((lesson) => el('li', {},
      el('button.lesson-open', { type: 'button', onclick: () => this.open(lesson) },
        el('b', {}, lesson.title), el('span', {}, done.has(lesson.key) ? 'Walked' : lesson.about)))));
    say(this.place, 'Lessons');
    say(this.title, 'How a picture comes out of the noise');
    say(this.text, 'Five short tours over the embedded model. They move the real controls: stop, scrub and try at any step.');
    this.draw();
    this.host.hidden = false;
    this.title.focus();
    return undefined;
  }

  open(lesson) {
    this.lesson = lesson;
    this.go(0);
    this.title.focus();
  }

  forth() {
    if (this.at < this.lesson.steps.length - 1) return this.go(this.at + 1);
    remember(this.lesson.key);
    return this.choose();
  }

  /** Shows a step and moves what it tells. Of two that are asked for, the later one counts. */
  async go(at) {
    if (!this.lesson || at < 0) return;
    this.at = at;
    const { lesson } = this;
    const step = lesson.steps[at];
    const turn = (this.turn = {});
    say(this.place, `${lesson.title}: step ${at + 1} of ${lesson.steps.length}`);
    say(this.title, step.title);
    say(this.text, step.text);
    say(this.status, '');
    this.draw();
    const still = () => this.turn === turn && this.lesson === lesson;
    this.host.ariaBusy = 'true';
    try {
      await this.move(step, still);
    } catch (fault) {
      if (still()) say(this.status, fault.message);
    }
    if (still()) this.host.ariaBusy = 'false';
  }

  async move(step, still) {
    const { explore } = this;
    this.look(null);
    const pair = step.compare && { ...step.compare, first: await this.run(step.compare.first), second: await this.run(step.compare.second) };
    if (!still()) return;
    const run = await this.run(step.run);
    if (!still() || !(await explore.select(run, step.step)) || !still()) return;
    explore.emit('lanes', step.lanes);
    if (pair) explore.emit('compare', pair);
    if (step.play) explore.emit('play');
    this.look(step.look);
  }

  /** The id of a lesson's run; it is painted first where it is not there. Throws what went wrong. */
  run(name) {
    if (this.asked.has(name)) say(this.status, PAINTED);
    else this.asked.set(name, this.found(name).finally(() => this.asked.delete(name)));
    return this.asked.get(name);
  }

  async found(name) {
    const { run, job, problem } = await this.explore.ask('lesson_run', { run: name });
    if (problem) throw new Error(problem);
    if (!job) return run;
    say(this.status, PAINTED);
    const ended = new Promise((done, failed) => this.waiting.set(job, { done, failed }));
    tell('jobs', [job]); // the stage follows it, as every run of this page
    await ended;
    await this.explore.ask('rename', { run, name }); // so that two of them can be told apart
    say(this.status, '');
    this.explore.emit('runs');
    return run;
  }

  hear(job) {
    const waiting = this.waiting.get(job.id);
    if (!waiting) return undefined;
    if (!job.done) return say(this.status, job.steps ? `${PAINTED.slice(0, -2)}: step ${job.steps} of ${job.total}.` : PAINTED);
    this.waiting.delete(job.id);
    if (job.state === 'finished') waiting.done();
    else waiting.failed(new Error(job.text || 'The run was stopped. Go back and forth to begin it again.'));
    return undefined;
  }

  /** Marks the region that a step speaks of. */
  look(name) {
    this.looked?.classList.remove('looked-at');
    this.looked = name ? this.explore.host(name) : null;
    this.looked?.classList.add('looked-at');
    this.looked?.scrollIntoView({ block: 'nearest' });
  }

  draw() {
    const { lesson, at } = this;
    this.list.hidden = Boolean(lesson);
    for (const button of [this.back, this.next]) button.hidden = !lesson;
    this.back.disabled = at === 0;
    say(this.next, lesson && at === lesson.steps.length - 1 ? 'Done' : 'Next');
    say(this.leaving, lesson ? 'Leave' : 'Close');
  }

  leave() {
    this.turn = null;
    this.lesson = null;
    this.look(null);
    this.host.hidden = true;
    this.explore.emit('lanes', null); // as they were chosen by hand
    this.explore.emit('lessons-left');
  }
}

function walked() {
  try {
    return new Set(JSON.parse(localStorage.getItem(KEY)) ?? []);
  } catch {
    return new Set();
  }
}

function remember(key) {
  try {
    localStorage.setItem(KEY, JSON.stringify([...walked().add(key)]));
  } catch {
    // A browser that keeps nothing: what was walked is forgotten with the page.
  }
}
