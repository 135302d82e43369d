// "Verify": the picture is painted again, and the answer says whether it is the same, bit for bit.

import { el, say } from './dom.js';

const PAUSE = 1000; // milliseconds between two questions at least, however quickly the server answers

export class Verify {
  constructor(gallery) {
    this.gallery = gallery;
    this.answers = new Map(); // id -> {state, sentence}
    this.button = el('button.deed', { type: 'button', title: 'Paints it again and compares', onclick: () => this.begin() }, 'Verify');
    this.root = el('p.gallery-verdict', { role: 'status' });
  }

  open({ id }) {
    this.id = id;
    this.draw();
  }

  draw() {
    const answer = this.answers.get(this.id);
    this.root.dataset.state = answer?.state ?? '';
    say(this.root, answer?.sentence ?? '');
    this.button.setAttribute('aria-disabled', String(answer?.state === 'running')); // disabled, it would lose the focus
  }

  told(id, answer) {
    this.answers.set(id, answer);
    this.draw();
  }

  async begin() {
    const { id } = this;
    if (this.answers.get(id)?.state === 'running') return null;
    const { server } = this.gallery;
    this.told(id, { state: 'running', sentence: 'It is painted again …' });
    const begun = await server.post('verify', { id });
    if (begun.problem !== undefined) return this.told(id, { state: 'cannot', sentence: begun.problem });
    for (;;) {
      const asked = performance.now();
      const answer = await server.get('verified', { job: begun.job }); // held back until there is more to say
      if (answer.problem !== undefined) return this.told(id, { state: 'cannot', sentence: answer.problem });
      if (answer.state !== 'running') return this.told(id, answer);
      if (answer.sentence) this.told(id, answer);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, PAUSE - (performance.now() - asked))));
    }
  }
}
