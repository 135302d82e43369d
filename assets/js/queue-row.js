// One job in the queue view: what it is, how far it is, and what a hand can do with it.

import { duration, el, icon, say } from './dom.js';

const PAUSE = 'M8 5v14 M16 5v14';
const GO = 'M8 5l11 7-11 7z';
const OUT = 'M6 6l12 12 M18 6L6 18';
const GRIP = 'M9 6h.01 M15 6h.01 M9 12h.01 M15 12h.01 M9 18h.01 M15 18h.01';

/** What can be done with a job of that state: those that stand in its row, and those under it once it is opened. */
const DEEDS = {
  running: [['pause', 'stop'], ['keep', 'duplicate']],
  waiting: [['hold', 'remove'], ['next', 'up', 'down', 'last', 'later', 'edit', 'duplicate']],
  paused: [['go on', 'remove'], ['next', 'up', 'down', 'last', 'later', 'edit', 'duplicate']],
  ended: [['dismiss'], ['retry', 'use', 'details']],
};

const SIGNS = { pause: PAUSE, hold: PAUSE, 'go on': GO, stop: OUT, remove: OUT, dismiss: OUT };
const WORDS = {
  pause: ['Pause', 'Pause it: it goes on from this step later'],
  hold: ['Hold back', 'Hold it back: others pass it until it goes on'],
  'go on': ['Go on', 'Go on with it'],
  stop: ['Stop', 'Stop it'],
  remove: ['Take out', 'Take it out of the queue'],
  dismiss: ['Dismiss', 'Dismiss it from this list'],
  keep: ['Stop and keep', 'Finish its picture as far as it has come'],
  next: ['Next', 'Before all others (Alt+Home)'],
  up: ['Up', 'One place up (Alt+↑)'],
  down: ['Down', 'One place down (Alt+↓)'],
  last: ['Last', 'Behind all others (Alt+End)'],
  later: ['When idle', 'Only when nothing else waits'],
  normal: ['In turn', 'In its turn again'],
  edit: ['Change', 'Take its settings into the form; Generate puts them in its place'],
  duplicate: ['Duplicate', 'Ask for the same once more'],
  retry: ['Try again', 'Put it into the queue once more'],
  use: ['Use these settings', 'Take its settings into the form'],
};

/** Seconds of a forecast: no more exact than it is. */
export function about(seconds) {
  if (seconds < 60) return `about ${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `about ${minutes} min` : `about ${Math.round(minutes / 60)} h`;
}

export class Row {
  constructor(job, queue) {
    Object.assign(this, { job, queue });
    this.face = el('span.queue-face', { 'aria-hidden': 'true' });
    this.name = el('button.queue-name', { type: 'button', 'aria-expanded': 'false', onclick: () => this.turn() });
    this.line = el('p.queue-line');
    this.state = el('p.queue-state');
    this.bar = el('div.queue-bar', { hidden: true }, el('i'));
    this.trouble = el('p.queue-trouble', { hidden: true });
    this.quick = el('span.queue-quick');
    this.more = el('div.queue-more', { role: 'group', hidden: true });
    this.grip = el('span.queue-grip', { title: 'Drag to change its turn', 'aria-hidden': 'true' }, icon(GRIP));
    this.grip.onpointerdown = (event) => queue.drag.begin(event, this.root);
    this.root = el('li.queue-row', {}, this.grip, this.face, el('div.queue-text', {}, this.name, this.line, this.state, this.bar, this.trouble), this.quick, this.more);
    this.root.dataset.job = job;
  }

  get opened() {
    return this.name.getAttribute('aria-expanded') === 'true';
  }

  turn(opened = !this.opened) {
    this.name.setAttribute('aria-expanded', String(opened));
    this.more.hidden = !opened && !this.told.problem;
  }

  show(told) {
    this.told = told;
    const { problem, live, prompt } = told;
    this.kind = problem ? 'ended' : told.state;
    this.root.dataset.state = told.state;
    this.root.dataset.priority = told.priority;
    this.root.classList.toggle('editing', told.editing);
    this.grip.style.visibility = this.kind === 'ended' || this.kind === 'running' ? 'hidden' : '';
    say(this.name, prompt || 'No prompt');
    this.name.title = prompt;
    say(this.line, this.words());
    say(this.state, this.standing());
    const share = live?.total ? (live.picture * live.total + live.step) / (live.total * live.pictures) : told.share;
    this.bar.hidden = this.kind !== 'running' && !(share > 0 && this.kind === 'paused');
    this.bar.firstChild.style.transform = `scaleX(${Math.min(1, share || 0)})`;
    say(this.trouble, problem ?? '');
    this.trouble.hidden = !problem;
    this.paintFace(live?.seen ?? told.seen, this.kind === 'ended' ? '!' : this.kind === 'running' ? '' : String(told.index + 1));
    const [quick, more] = DEEDS[this.kind] ?? DEEDS.waiting;
    this.fill(this.quick, quick, true);
    this.fill(this.more, more.map((deed) => (deed === 'later' && told.priority < 0 ? 'normal' : deed)).filter((deed) => this.can(deed)), false);
    this.more.setAttribute('aria-label', `What to do with: ${prompt.slice(0, 60)}`);
    this.turn(this.opened);
  }

  words() {
    const { tab, steps, width, height, pictures, state, seconds, until, priority } = this.told;
    const many = pictures > 1 ? `${pictures} pictures` : '';
    const own = this.kind !== 'ended' && until === undefined && seconds ? `takes ${about(seconds)}` : '';
    const turn = state === 'running' || this.kind === 'ended' ? '' : { 1: 'next', '-1': 'when idle' }[priority] ?? '';
    const elsewhere = this.told.elsewhere ? 'asked elsewhere' : '';
    const where = tab === 'text' ? '' : tab[0].toUpperCase() + tab.slice(1);
    return [turn, where, `${steps} steps`, `${width} × ${height}`, many, own, elsewhere].filter(Boolean).join(' · ');
  }

  standing() {
    const { state, live, until, editing, step, total, message, ended } = this.told;
    if (editing) return 'Held back: its settings are in the form, Generate puts them in its place.';
    if (this.kind === 'ended') return state === 'set_aside' ? `Set aside ${ended}` : `Ended ${ended}`;
    if (this.kind === 'running') {
      if (!live?.total) return message || 'Beginning…';
      const which = live.pictures > 1 ? `, picture ${live.picture + 1} of ${live.pictures}` : '';
      const left = live.left === null ? '' : `, ${duration(live.left)} left`;
      return `Step ${live.step} of ${live.total}${which}${left}`;
    }
    if (this.kind === 'paused') return step ? `Paused at step ${step} of ${total}` : 'Held back: others pass it until it goes on';
    if (this.queue.now.paused) return 'Waits until the queue goes on';
    return until ? `Done in ${about(until)}` : 'Waits';
  }

  /** Its latest preview, else its place. */
  paintFace(seen, place) {
    if (!seen) return say(this.face, place);
    if (seen === this.seen) return;
    this.seen = seen;
    const image = this.face.querySelector('img') ?? el('img', { alt: '', decoding: 'async', draggable: false });
    image.src = new URL(`darkroom/queue/seen?job=${encodeURIComponent(this.job)}&v=${encodeURIComponent(seen)}`, document.baseURI);
    if (!image.isConnected) this.face.replaceChildren(image);
  }

  can(deed) {
    if (deed === 'edit') return !this.told.step && !this.told.editing;
    return deed in WORDS;
  }

  fill(box, deeds, small) {
    const names = deeds.join();
    if (box.dataset.deeds === names) return;
    const focused = box.contains(document.activeElement) ? document.activeElement.dataset.deed : null;
    box.dataset.deeds = names;
    box.replaceChildren(
      ...deeds.map((deed) => {
        const [word, title] = WORDS[deed];
        const button = el(small ? 'button.queue-icon' : 'button.deed', { type: 'button', title, onclick: () => this.does(deed) }, small ? icon(SIGNS[deed]) : word);
        if (small) button.setAttribute('aria-label', `${word}: ${this.told.prompt.slice(0, 60)}`);
        button.dataset.deed = deed;
        return button;
      }),
    );
    if (focused) (box.querySelector(`[data-deed="${focused}"]`) ?? box.firstChild ?? this.name).focus();
  }

  /** Whether it stands at an end of the waiting ones. */
  ends(first, last) {
    for (const [deed, off] of [['up', first], ['next', first && this.told.priority > 0], ['down', last], ['last', last]]) {
      const button = this.more.querySelector(`[data-deed="${deed}"]`);
      if (button) button.setAttribute('aria-disabled', String(off)); // a disabled one would lose the focus
    }
  }

  does(deed) {
    const { queue, told, job } = this;
    if (this.more.querySelector(`[data-deed="${deed}"]`)?.getAttribute('aria-disabled') === 'true') return;
    if (deed === 'edit') return queue.edit(told);
    if (deed === 'use') return queue.use(told);
    const beside = (step) => this.root[step < 0 ? 'previousElementSibling' : 'nextElementSibling']?.dataset.job;
    if (deed === 'up') return beside(-1) && queue.deed({ do: 'move', job, before: beside(-1) });
    if (deed === 'down') return beside(1) && queue.deed({ do: 'move', job, after: beside(1) });
    return queue.deed({ do: deed, job });
  }
}
