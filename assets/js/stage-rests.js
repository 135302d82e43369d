// What the stage offers of a run that has not ended: to pause it, to go on with it, to look inside; and what
// there is to say of the journal of jobs.

import { el, heard, icon, say } from './dom.js';

const REST = 'M9 6v12 M15 6v12';
const ON = 'M8 5l11 7l-11 7z';
export const LOOK = 'M10 4a6 6 0 1 0 0 12a6 6 0 1 0 0-12 M14.5 14.5L20 20';

export class Rests {
  constructor(stage) {
    this.stage = stage;
    const button = (path, text, title, onclick) =>
      el('button.rest', { type: 'button', title, onclick }, icon(path), text);
    this.pause = button(REST, 'Pause', 'Let this run rest; it goes on from the same step (P)', () => this.turn());
    this.inside = button(LOOK, 'Look inside', 'Open this run in Explore, and branch off it', () => stage.explore());
    this.goOn = button(ON, 'Continue', 'Go on from where it rests (P)', () => this.turn());
    this.root = el('span.rests', {}, this.pause, this.inside, this.goOn);
    heard('pause', () => this.turn());
  }

  /** Lets the run that is shown rest, or goes on with it. */
  turn() {
    const { job } = this.stage;
    if (!job || job.done) return;
    this.stage.trigger(job.state === 'paused' ? 'go_on' : 'pause', { job: job.id });
  }

  paint(job, frames) {
    const rests = job?.state === 'paused';
    const focused = this.root.contains(document.activeElement);
    this.pause.hidden = !job || job.done || rests;
    this.goOn.hidden = !rests;
    this.inside.hidden = !rests || !frames.length;
    if (focused && document.activeElement?.hidden) (rests ? this.goOn : this.pause).focus();
  }
}

/** A sentence about what was lost with a damaged journal, until it is read. */
export class JournalNote {
  constructor() {
    this.words = el('span');
    this.root = el(
      'p.journal-note',
      { hidden: true, role: 'status' },
      this.words,
      el('button.rest', { type: 'button', onclick: () => (this.root.hidden = true) }, 'Understood'),
    );
  }

  show(sentence) {
    if (!sentence || sentence === this.words.textContent) return;
    say(this.words, sentence);
    this.root.hidden = false;
  }
}
