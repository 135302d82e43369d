// One download under way: how far it is, how fast, how long still, and what can be done about it.

import { el, say } from './dom.js';
import { left, size, sizeOf } from './models-words.js';
import { Token } from './models-offer.js';

const DEEDS = {
  waiting: ['pause', 'cancel'],
  running: ['pause', 'cancel'],
  paused: ['resume', 'cancel'],
  failed: ['retry', 'cancel'],
  done: ['show', 'cancel'],
};
const WORDS = { pause: 'Pause', resume: 'Resume', retry: 'Try again', cancel: 'Cancel', show: 'Show' };

export class Download {
  /** steer(key, deed, given): asks the server. show(state): goes to where the file is. told: says a sentence. */
  constructor({ steer, show, told }) {
    Object.assign(this, { steer, reveal: show, told });
    this.title = el('h4');
    this.bar = el('div.fetch-bar', { role: 'progressbar', 'aria-valuemin': 0, 'aria-valuemax': 100 }, el('i'));
    this.line = el('p.fetch-line');
    this.problem = el('p.fetch-problem', { role: 'alert', hidden: true });
    this.deeds = el('div.fetch-deeds');
    this.root = el('li.fetch-row', {}, el('div.fetch-top', {}, this.title, this.deeds), this.bar, this.line, this.problem);
  }

  show(state) {
    const before = this.state;
    this.state = state;
    const part = state.total_bytes ? Math.min(1, state.done_bytes / state.total_bytes) : 0;
    const share = state.phase === 'done' ? 1 : part;
    this.root.dataset.phase = state.phase;
    say(this.title, state.title);
    this.title.title = state.id;
    this.bar.setAttribute('aria-label', `Progress of ${state.title}`);
    this.bar.setAttribute('aria-valuenow', Math.floor(share * 100));
    this.bar.setAttribute('aria-valuetext', this.words(state));
    this.bar.firstChild.style.transform = `scaleX(${share})`;
    say(this.line, this.words(state));
    const failed = state.phase === 'failed';
    say(this.problem, failed ? state.message : '');
    this.problem.hidden = !failed;
    this.line.hidden = failed && !state.done_bytes;
    if (failed && state.wants_token && !this.token) {
      this.token = new Token(state.title);
      this.root.append(this.token.root);
    } else if (!failed || !state.wants_token) {
      this.token?.root.remove();
      this.token = null;
    }
    if (before?.phase !== state.phase) this.drawDeeds(before);
  }

  words({ phase, done_bytes: done, total_bytes: total, speed, seconds_left: seconds, message }) {
    const amount = done || total ? sizeOf(done, total) : '';
    if (phase === 'running') {
      const pace = speed ? [`${size(speed)}/s`, left(seconds)] : [message];
      return [amount, ...pace].filter(Boolean).join(' · ');
    }
    if (phase === 'paused') return [amount, 'paused'].filter(Boolean).join(' · ');
    if (phase === 'done') return [size(total || done), 'on this computer'].join(' · ');
    if (phase === 'waiting') return message || 'Waits for the one before it.';
    return amount;
  }

  drawDeeds(before) {
    const { phase } = this.state;
    const focused = this.deeds.contains(document.activeElement) ? document.activeElement.dataset.deed : null;
    const buttons = DEEDS[phase].map((deed) => this.button(deed));
    this.deeds.replaceChildren(...buttons);
    if (focused) (buttons.find((one) => one.dataset.deed === focused) ?? buttons[0]).focus();
    if (!before) return;
    const { title } = this.state;
    const words = { paused: `${title} is paused.`, running: `${title} is being fetched.`, done: `${title} is on this computer.`, failed: this.state.message };
    if (words[phase]) this.told(words[phase], phase === 'failed');
  }

  button(deed) {
    const ended = this.state.phase === 'done' || this.state.phase === 'failed';
    const word = deed === 'cancel' && ended ? 'Take off the list' : WORDS[deed];
    const button = el('button.deed', { type: 'button', onclick: () => this.does(deed) }, word);
    button.dataset.deed = deed;
    button.setAttribute('aria-label', `${word}: ${this.state.title}`);
    return button;
  }

  async does(deed) {
    if (deed === 'show') return this.reveal(this.state);
    const given = deed === 'retry' ? this.token?.take() : undefined;
    const answer = await this.steer(this.state.key, deed === 'retry' ? 'resume' : deed, given);
    if (answer.problem) this.told(answer.problem, true);
    return answer;
  }
}
