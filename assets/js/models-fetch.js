// "Fetch": what is under way, a box for anything on the hub, and well-known models to choose from.

import { el, icon, say } from './dom.js';
import { Download } from './models-download.js';
import { Offer } from './models-offer.js';
import { counted, groupOf, kindOf, plain, size, SORTS, sortOf } from './models-words.js';

const LOCK = 'M6 11h12v9H6z M8.5 11V8a3.5 3.5 0 0 1 7 0v3';

export class Fetch {
  /** ask: asks the server. told: says a sentence. show(state): turns to where a fetched file is. */
  constructor({ ask, told, show, count }) {
    Object.assign(this, { ask, told, reveal: show, counted: count });
    this.rows = [];
    this.states = [];
    this.downloads = new Map(); // key -> Download
    this.cards = new Map(); // key -> card
    this.sort = '';
    this.build();
  }

  build() {
    this.any = el('input', { type: 'text', placeholder: 'owner/name, or an address', autocomplete: 'off', spellcheck: false, autocapitalize: 'off' });
    this.any.setAttribute('aria-label', 'Hub id or address');
    this.look = el('button.model-primary', { type: 'submit' }, 'Look it up');
    this.box = el(
      'form.fetch-any',
      { onsubmit: (event) => (event.preventDefault(), this.offerAny()) },
      el('h3', {}, 'Anything from the Hugging Face hub, Civitai or any other address'),
      el('div.fetch-ask', {}, this.any, this.look),
    );
    this.anyOffer = el('div.fetch-found');
    this.under = el('section.fetch-under', { hidden: true }, el('h3', {}, 'Under way'), (this.list = el('ul.fetch-list')));
    this.search = el('input', { type: 'search', placeholder: 'Search well-known models', 'aria-label': 'Search well-known models', oninput: () => this.draw() });
    this.sorts = el('div.models-sorts', { role: 'group', 'aria-label': 'Kinds' });
    this.grid = el('ul.fetch-grid', { 'aria-label': 'Well-known models' });
    this.none = el('p.models-count', { role: 'status' });
    const known = el('section.fetch-known', {}, el('h3', {}, 'Well known'), el('div.models-bar', {}, this.search), this.sorts, this.none, this.grid);
    this.root = el('div.models-fetch', { hidden: true }, this.under, this.box, this.anyOffer, known);
  }

  /** {rows} of the catalogue, or the "problem" there is. */
  take(answer) {
    if (answer.rows) this.rows = answer.rows;
    this.problem = answer.problem ?? '';
    for (const row of this.rows) row.text = plain([row.title, row.id, row.family, row.summary, row.licence, kindOf(row.sort)].join(' '));
    this.draw();
  }

  /** How far the downloads are: told by the server at each change. */
  progress(states) {
    this.states = states;
    const there = new Set(states.map(({ key }) => key));
    for (const [key, download] of this.downloads) {
      if (there.has(key)) continue;
      if (download.root.contains(document.activeElement)) this.any.focus();
      download.root.remove();
      this.downloads.delete(key);
    }
    states.forEach((state, at) => {
      const download = this.downloads.get(state.key) ?? this.begin(state);
      if (this.list.children[at] !== download.root) this.list.insertBefore(download.root, this.list.children[at] ?? null);
      download.show(state);
    });
    this.under.hidden = !states.length;
    this.counted(states.filter(({ phase }) => phase === 'running' || phase === 'waiting').length);
    this.cards.forEach((card) => card.mark());
  }

  begin(state) {
    const download = new Download({
      steer: (key, deed, given) => this.ask('steer', { key, deed, ...given }),
      show: (one) => this.reveal(one),
      told: this.told,
    });
    this.downloads.set(state.key, download);
    return download;
  }

  offerAny() {
    const id = this.any.value.trim();
    if (!id) return this.any.focus();
    const done = (started) => {
      this.anyOffer.replaceChildren();
      if (started) this.any.value = '';
      this.any.focus();
    };
    this.anyOffer.replaceChildren(new Offer(id, id, { ask: this.ask, done }).root);
    return null;
  }

  stateOf(row) {
    return this.states.find(({ id }) => id === row.id || id === row.key);
  }

  draw() {
    const words = plain(this.search.value).split(/\s+/).filter(Boolean);
    const found = this.rows.filter(
      (row) => (!this.sort || groupOf(row.sort) === this.sort) && words.every((word) => row.text.includes(word)),
    );
    for (const row of found) {
      const card = this.cards.get(row.key);
      if (card) card.show(row);
      else this.cards.set(row.key, new Known(row, this));
    }
    const cards = found.map((row) => this.cards.get(row.key).root);
    cards.forEach((card, at) => this.grid.children[at] !== card && this.grid.insertBefore(card, this.grid.children[at] ?? null));
    while (this.grid.children.length > cards.length) this.grid.lastChild.remove();
    const filtered = words.length || this.sort;
    say(this.none, this.problem || (found.length ? (filtered ? counted(found.length, 'model', 'models') : '') : this.rows.length ? 'Nothing here matches. The box above takes any hub id.' : ''));
    this.drawSorts();
  }

  drawSorts() {
    const sorts = ['', ...Object.keys(SORTS).filter((sort) => this.rows.some((row) => groupOf(row.sort) === sort))];
    const look = JSON.stringify([sorts, this.sort]);
    if (look === this.sortsDrawn) return;
    this.sortsDrawn = look;
    const focused = this.sorts.contains(document.activeElement);
    const press = (sort) => () => ((this.sort = sort), this.draw());
    const button = (sort) => {
      const one = el('button.models-sort', { type: 'button', onclick: press(sort) }, SORTS[sort]?.many ?? 'All');
      one.setAttribute('aria-pressed', String(sort === this.sort));
      return one;
    };
    this.sorts.replaceChildren(...sorts.map(button));
    if (focused) this.sorts.querySelector('[aria-pressed=true]')?.focus();
  }
}

/** A well-known model. */
class Known {
  constructor(row, view) {
    this.view = view;
    this.root = el('li.fetch-card');
    this.show(row);
  }

  show(row) {
    const drawn = JSON.stringify(row);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.row = row;
    const needs = row.memory ? `needs ${size(row.memory)} of memory` : '';
    const line = [kindOf(row.sort), row.family, row.bytes ? size(row.bytes) : '', needs].filter(Boolean).join(' · ');
    this.tags = el('p.fetch-tags', {}, this.licence(row));
    if (row.gated) {
      const why = 'Its makers ask you to accept their terms on the hub; then an access token lets you fetch it.';
      this.tags.append(el('span.fetch-gated', { title: why }, icon(LOCK), 'asks for a token'));
    }
    this.deed = el('div.fetch-deed');
    const name = row.homepage ? el('a', { href: row.homepage, target: '_blank', rel: 'noopener noreferrer' }, row.title) : row.title;
    this.root.replaceChildren(
      el('div.fetch-head', {}, el('span.fetch-sign', {}, icon(sortOf(row.sort).path)), el('h4', {}, name)),
      el('p.model-line', {}, line),
      el('p.fetch-summary', {}, row.summary),
      ...this.needs(row),
      this.tags,
      this.deed,
    );
    this.phase = null;
    this.mark();
  }

  /** Rows without which this one does not work. */
  needs({ needs }) {
    const titles = (needs ?? []).map((key) => this.view.rows.find((row) => row.key === key)?.title ?? key);
    return titles.length ? [el('p.model-line', {}, `Works together with ${titles.join(' and ')}.`)] : [];
  }

  licence({ licence, licence_url: address }) {
    if (!licence) return el('span', {}, 'no licence named');
    return address ? el('a', { href: address, target: '_blank', rel: 'noopener noreferrer' }, licence) : el('span', {}, licence);
  }

  /** After a change of the downloads: what can be done now. */
  mark() {
    const state = this.view.stateOf(this.row);
    const phase = state && state.phase !== 'failed' ? state.phase : this.row.state === 'there' ? 'there' : 'none';
    if (this.offer && phase !== 'none') this.over();
    if (phase === this.phase) return;
    this.phase = phase;
    const words = { there: 'On this computer', done: 'On this computer', waiting: 'Waits', running: 'Being fetched', paused: 'Paused' };
    const busy = phase === 'there' || phase === 'done' ? '' : '.busy';
    if (words[phase]) return this.deed.replaceChildren(el(`span.model-chosen${busy}`, {}, words[phase]));
    const fetch = el('button.model-use', { type: 'button', onclick: () => this.ask() }, 'Fetch');
    fetch.setAttribute('aria-label', `Fetch ${this.row.title}`);
    this.deed.replaceChildren(fetch);
  }

  ask() {
    const done = () => {
      this.over();
      this.deed.querySelector('button')?.focus();
    };
    this.offer = new Offer(this.row.key, this.row.title, { ask: this.view.ask, done });
    this.deed.hidden = true;
    this.root.append(this.offer.root);
    this.root.classList.add('open');
    this.offer.not.focus();
  }

  over() {
    this.offer?.root.remove();
    this.offer = null;
    this.deed.hidden = false;
    this.root.classList.remove('open');
  }
}
