// "Verify": the picture is painted again, and the answer says whether it is the same, bit for bit. What came of it
// is kept with the picture, and one that is being painted is waited for by every page that opens it.

import { el, say } from './dom.js';
import { moment } from './gallery-words.js';
import { ask } from './upload.js';

const PAUSE = 1000; // milliseconds between two questions at least, however quickly the server answers

export class Verify {
  constructor(gallery) {
    this.gallery = gallery;
    this.answers = new Map(); // id -> {state, sentence, when}
    this.button = el('button.deed', { type: 'button', title: 'Paints it again and compares', onclick: () => this.begin() }, 'Verify');
    this.root = el('p.gallery-verdict', { role: 'status' });
  }

  open({ id }) {
    this.id = id;
    this.draw();
  }

  /** What is kept of a picture, as the server tells it; what this page has asked for itself is newer. */
  known({ id, verdict }) {
    if (!verdict || this.answers.has(id)) return;
    this.told(id, verdict);
    if (verdict.state === 'running') this.follow(id, verdict.job);
  }

  draw() {
    const answer = this.answers.get(this.id);
    this.root.dataset.state = answer?.state ?? '';
    const day = answer?.when && answer.state !== 'running' ? ` (${moment(answer.when)})` : '';
    say(this.root, answer ? `${answer.sentence}${day}` : '');
    this.button.setAttribute('aria-disabled', String(answer?.state === 'running')); // disabled, it would lose the focus
  }

  told(id, answer) {
    this.answers.set(id, answer);
    this.draw();
  }

  async begin() {
    const { id } = this;
    if (this.answers.get(id)?.state === 'running') return null;
    this.told(id, { state: 'running', sentence: 'It is painted again …' });
    const begun = await ask(this.gallery.asks.verify, { id });
    if (begun.problem !== undefined) return this.told(id, { state: 'cannot', sentence: begun.problem });
    return this.follow(id, begun.job);
  }

  async follow(id, job) {
    for (;;) {
      const asked = performance.now();
      const answer = await this.gallery.server.get('verified', { job }); // held back until there is more to say
      if (answer.problem !== undefined) return this.told(id, { state: 'cannot', sentence: answer.problem });
      if (answer.state !== 'running') return this.told(id, answer);
      if (answer.sentence) this.told(id, answer);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, PAUSE - (performance.now() - asked))));
    }
  }
}
