// What stands between "Fetch" and the first byte: how much it is, whether there is room, and a token where one is needed.

import { el, say } from './dom.js';
import { size } from './models-words.js';

/** The fields for a token. It is sent once and kept nowhere in the page; `remember` keeps it on the computer. */
export class Token {
  constructor(name) {
    this.input = el('input', { type: 'password', autocomplete: 'off', spellcheck: false, placeholder: 'hf_…' });
    this.input.setAttribute('aria-label', `Access token for ${name}`);
    this.input.dataset.place = 'token';
    this.remember = el('input', { type: 'checkbox' });
    this.root = el(
      'div.fetch-token',
      {},
      el('label', {}, el('span', {}, 'Access token'), this.input),
      el('label.fetch-keep', {}, this.remember, el('span', {}, 'Keep it on this computer for the next time')),
    );
  }

  /** The token, which is gone from the field with this. */
  take() {
    const token = this.input.value.trim();
    this.input.value = '';
    return { token, remember: this.remember.checked };
  }

  get empty() {
    return !this.input.value.trim();
  }
}

export class Offer {
  /** ask: asks the server. done(started): the offer is over. */
  constructor(id, title, { ask, done }) {
    Object.assign(this, { id, title, ask, done });
    this.token = null;
    this.sentence = el('p.fetch-sentence', { role: 'status' });
    this.problem = el('p.fetch-problem', { role: 'alert' });
    this.more = el('div.fetch-more');
    this.go = el('button.model-primary', { type: 'button', onclick: () => this.start() }, 'Fetch it');
    this.not = el('button.deed', { type: 'button', onclick: () => this.done(false) }, 'Not now');
    this.root = el('div.fetch-offer', {}, this.sentence, this.problem, this.more, el('div.model-deeds', {}, this.go, this.not));
    this.root.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && event.target.type === 'password') event.preventDefault(), this.start();
    });
    this.look();
  }

  /** Asks how large it is, with the token where one was typed. */
  async look() {
    say(this.sentence, 'Asking how large it is…');
    say(this.problem, '');
    this.busy(true);
    const given = this.token?.take() ?? {};
    if (given.token) this.given = given; // until the fetch begins, a moment from now
    const answer = await this.ask('estimate', { id: this.id, ...given });
    this.busy(false);
    this.estimate = answer.problem ? null : answer;
    this.draw(answer);
  }

  async start() {
    if (!this.estimate) return this.look();
    if (this.token && !this.given && !this.token.empty) return this.look();
    this.busy(true);
    const answer = await this.ask('start', { id: this.id, sort: this.estimate.sort, ...this.given });
    this.given = null;
    this.busy(false);
    if (!answer.problem) return this.done(true);
    return this.draw(answer);
  }

  busy(now) {
    this.go.disabled = now;
    this.root.setAttribute('aria-busy', String(now));
  }

  draw(answer) {
    const { estimate } = this;
    say(this.problem, answer.problem ?? (estimate && !estimate.fits ? estimate.sentence : ''));
    say(this.sentence, estimate?.fits ? estimate.sentence : '');
    if (answer.wants_token && !this.token) this.token = new Token(this.title);
    if (!answer.wants_token && estimate) this.token = null;
    const parts = [];
    if (estimate) parts.push(this.facts(estimate));
    if (this.token) parts.push(this.token.root);
    const focused = document.activeElement === this.token?.input;
    this.more.replaceChildren(...parts);
    if (this.token && (focused || answer.wants_token)) this.token.input.focus();
    this.go.hidden = Boolean(estimate && !estimate.fits);
    say(this.go, estimate && !answer.wants_token ? 'Fetch it' : this.token ? 'Go on' : 'Try again');
  }

  facts({ goes_to: folder, licence, licence_url: address, files }) {
    const box = el('div.fetch-facts');
    if (folder) box.append(el('p', {}, 'It goes to ', el('code', {}, folder)));
    if (licence) {
      const link = address ? el('a', { href: address, target: '_blank', rel: 'noopener noreferrer' }, licence) : licence;
      box.append(el('p', {}, 'Licence: ', link));
    }
    if (files?.length > 1) {
      const rows = files.slice(0, 40).map(([name, bytes]) => el('li', {}, el('code', {}, name), el('span', {}, size(bytes))));
      if (files.length > 40) rows.push(el('li', {}, `and ${files.length - 40} more`));
      box.append(el('details', {}, el('summary', {}, `${files.length} files`), el('ul', {}, ...rows)));
    }
    return box;
  }
}
