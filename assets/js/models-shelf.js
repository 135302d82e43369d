// "On this computer": everything that was found, searched and filtered here; the server is asked only for what
// it keeps (notes, stars, pictures) and once for each change of the folders or the chosen model.

import { el, say, tell } from './dom.js';
import { Card } from './models-card.js';
import { Details } from './models-details.js';
import { counted, groupOf, plain, SORTS } from './models-words.js';

const place = ({ sort }) => Object.keys(SORTS).indexOf(groupOf(sort));
const ORDERS = {
  title: { name: 'By name', by: (a, b) => place(a) - place(b) || a.title.localeCompare(b.title, undefined, { numeric: true, sensitivity: 'base' }) },
  newest: { name: 'Newest first', by: (a, b) => b.modified - a.modified },
  largest: { name: 'Largest first', by: (a, b) => b.bytes - a.bytes },
};
const MOVES = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: 'up', ArrowDown: 'down', Home: 'first', End: 'last' };

export class Shelf {
  /** ask: asks the server. told: says a sentence (aloud, and for a while in sight). */
  constructor({ ask, told, trigger }) {
    Object.assign(this, { ask, told, trigger });
    this.rows = [];
    this.cards = new Map(); // id -> card
    this.shown = []; // the cards in the grid, in order
    this.chosen = ''; // key of the model that paints
    this.opened = null; // id of the file in the details
    this.sort = '';
    this.build();
  }

  build() {
    this.search = el('input', { type: 'search', placeholder: 'Search names, trigger words, notes', 'aria-label': 'Search what is on this computer' });
    this.search.oninput = () => this.draw();
    this.family = el('select', { 'aria-label': 'Made for', onchange: () => this.draw() });
    this.order = el('select', { 'aria-label': 'Order', onchange: () => this.draw() });
    this.order.append(...Object.entries(ORDERS).map(([value, { name }]) => el('option', { value }, name)));
    this.fits = el('input', { type: 'checkbox', onchange: () => this.draw() });
    this.fitting = el('label.models-fits', {}, this.fits, el('span', {}, 'Only what fits'));
    this.sorts = el('div.models-sorts', { role: 'group', 'aria-label': 'Kinds' });
    this.grid = el('ul.models-grid', { 'aria-label': 'Files' });
    this.grid.addEventListener('focusin', ({ target }) => this.reach(this.cardOf(target)));
    this.none = el('div.models-none', { hidden: true });
    this.count = el('p.models-count', { role: 'status' });
    this.note = el('p.models-count', { role: 'status' });
    this.details = new Details(this);
    const bar = el('div.models-bar', {}, this.search, this.family, this.order, this.fitting);
    this.unusable = el('details.models-unusable', { hidden: true }, el('summary'), el('ul'));
    const list = el('div.models-list', {}, this.sorts, this.note, this.count, this.grid, this.none, this.unusable);
    this.root = el('div.models-shelf', {}, bar, el('div.models-split', {}, list, this.details.root), this.details.dialog);
  }

  // What comes from the server

  /** {cards, where, note, unusable: rows of "file" and "sentence"}, or only the "problem" that there is. */
  take(answer) {
    this.where = answer.where ?? this.where;
    if (answer.cards) this.rows = answer.cards;
    this.problem = answer.problem ?? '';
    say(this.note, answer.note ?? '');
    this.drawUnusable(answer.unusable ?? []);
    for (const row of this.rows) row.text = plain([row.title, row.file, row.family, ...row.words].join(' '));
    this.draw();
  }

  /** Opens the file of that title once it is listed. */
  find(title) {
    this.wanted = title;
    this.draw();
  }

  choose(key) {
    this.chosen = key;
    this.mark();
  }

  /** One row anew, as the server keeps it now. */
  replace(row) {
    row.text = plain([row.title, row.file, row.family, ...row.words].join(' '));
    const at = this.rows.findIndex((one) => one.id === row.id);
    if (at >= 0) this.rows[at] = row;
    this.draw();
  }

  // What a hand does

  open(row, card) {
    if (this.opened === row.id) return this.closed();
    this.opened = row.id;
    this.details.show(row);
    this.mark();
    this.reach(card);
    this.details.focus();
  }

  closed() {
    const card = this.cards.get(this.opened);
    this.opened = null;
    this.details.close();
    this.mark();
    if (card?.root.isConnected) card.title.focus();
    else this.search.focus();
  }

  /** Returns whether it is kept. */
  async edit(row, change) {
    const before = Object.fromEntries(Object.keys(change).map((name) => [name, row[name]]));
    if ('favourite' in change) this.replace({ ...row, ...change }); // a star answers at once
    const answer = await this.ask('edit', { sort: row.sort, key: row.key, ...change });
    if (answer.problem) {
      this.told(answer.problem, true);
      if ('favourite' in change) this.replace({ ...row, ...before });
      return false;
    }
    this.replace(answer.card);
    if ('favourite' in change) {
      this.told(change.favourite ? `${row.title} is a favourite: it is listed first.` : `${row.title} is no favourite any more.`);
      this.trigger('listed');
    }
    return true;
  }

  async picture(row, { file, ...asked }) {
    const answer = await this.ask('picture', { sort: row.sort, key: row.key, ...asked }, file);
    if (answer.problem) return this.told(answer.problem, true);
    this.replace(answer.card);
    return this.told(asked.remove ? 'The picture is removed.' : 'The picture is set.');
  }

  async hash(row) {
    this.replace({ ...row, hashing: true });
    const answer = await this.ask('hash', { sort: row.sort, key: row.key });
    if (answer.problem) this.told(answer.problem, true);
    this.replace({ ...(this.rows.find((one) => one.id === row.id) ?? row), hashing: false, hash: answer.hash ?? '' });
  }

  words(text, to = 'prompt') {
    const asked = { text, to };
    tell('words', asked);
    const place = to === 'prompt' ? 'the prompt' : '“Leave out”';
    this.told(asked.done ? `“${text}” is in ${place}.` : `“${text}” stands in ${place} already.`);
  }

  use(row, to) {
    const group = groupOf(row.sort);
    if (group === 'checkpoint') {
      this.trigger('chosen', { key: row.key });
      return this.told(`${row.title} paints from now on.`);
    }
    if (group === 'embedding') return this.words(row.word || row.key, to);
    if (group === 'lora') tell('lora', { name: row.key, weight: row.weight });
    else tell({ vae: 'vae', 'text encoder': 'text_encoder', controlnet: 'controlnet' }[group], { key: row.key });
    const told = {
      lora: `${row.title} is added at weight ${row.weight}.`,
      vae: `${row.title} decodes the pictures from now on.`,
      'text encoder': `${row.title} reads the prompt from now on.`,
      controlnet: `A control unit with ${row.title} is added.`,
    };
    return this.told(told[group]);
  }

  async copy(text, told) {
    if (!navigator.clipboard) return this.told(`This address has no clipboard (it is not https). It says: ${text}`);
    await navigator.clipboard.writeText(text);
    return this.told(told);
  }

  /** The last finished picture on the stage: {job, picture}, or null. */
  lastPicture() {
    const { job, picture } = document.getElementById('stage')?.dataset ?? {};
    return job ? { job, picture: Number(picture) } : null;
  }

  isChosen(row) {
    return groupOf(row.sort) === 'checkpoint' && row.key === this.chosen;
  }

  isOpen(row) {
    return row.id === this.opened;
  }

  // Drawing

  draw() {
    this.drawFilters();
    const words = plain(this.search.value).split(/\s+/).filter(Boolean);
    const found = this.rows.filter((row) => this.passes(row, words));
    const { by } = ORDERS[this.order.value] ?? ORDERS.title;
    found.sort((a, b) => Boolean(b.favourite) - Boolean(a.favourite) || Boolean(a.unfit) - Boolean(b.unfit) || by(a, b));
    for (const row of found) {
      const card = this.cards.get(row.id);
      if (card) card.show(row);
      else this.cards.set(row.id, new Card(row, this));
    }
    const there = new Set(this.rows.map((row) => row.id));
    for (const id of this.cards.keys()) if (!there.has(id)) this.cards.delete(id);
    const next = found.map((row) => this.cards.get(row.id));
    this.place(next);
    this.shown = next;
    this.reach(next.includes(this.reached) ? this.reached : next[0]);
    this.drawCount(found.length, words);
    this.drawDetails();
  }

  /** Puts cards into the grid; the one with the focus stays in the page, so that it keeps it. */
  place(cards) {
    const { children } = this.grid;
    const focused = document.activeElement;
    cards.forEach((card, at) => {
      if (children[at] !== card.root) this.grid.insertBefore(card.root, children[at] ?? null);
    });
    while (children.length > cards.length) this.grid.lastChild.remove();
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  }

  passes(row, words) {
    if (this.sort && groupOf(row.sort) !== this.sort) return false;
    if (this.family.value && row.family !== this.family.value) return false;
    if (this.fits.checked && row.unfit) return false;
    return words.every((word) => row.text.includes(word) || plain(row.notes).includes(word));
  }

  drawFilters() {
    const counts = new Map();
    for (const row of this.rows) counts.set(groupOf(row.sort), (counts.get(groupOf(row.sort)) ?? 0) + 1);
    if (this.sort && !counts.has(this.sort)) this.sort = '';
    const wanted = ['', ...Object.keys(SORTS).filter((sort) => counts.has(sort)), ...[...counts.keys()].filter((sort) => !SORTS[sort])];
    const look = JSON.stringify([wanted, [...counts], this.sort]);
    if (look !== this.sortsDrawn) {
      this.sortsDrawn = look;
      const focused = this.sorts.contains(document.activeElement);
      this.sorts.replaceChildren(...wanted.map((sort) => this.sortButton(sort, sort ? counts.get(sort) : this.rows.length)));
      if (focused) this.sorts.querySelector('[aria-pressed=true]')?.focus();
    }
    const families = [...new Set(this.rows.map((row) => row.family).filter(Boolean))].sort();
    if (families.join('\n') !== this.familiesDrawn) {
      this.familiesDrawn = families.join('\n');
      const { value } = this.family;
      const option = (family) => el('option', { value: family }, family);
      this.family.replaceChildren(el('option', { value: '' }, 'Every family'), ...families.map(option));
      this.family.value = families.includes(value) ? value : '';
    }
    this.fitting.hidden = !this.rows.some((row) => row.unfit) && !this.fits.checked;
  }

  sortButton(sort, count) {
    const press = () => {
      this.sort = sort;
      this.draw();
    };
    const button = el('button.models-sort', { type: 'button', onclick: press }, SORTS[sort]?.many ?? (sort || 'All'), el('span', {}, count.toLocaleString('en')));
    button.setAttribute('aria-pressed', String(this.sort === sort));
    return button;
  }

  drawCount(count, words) {
    const filtered = Boolean(words.length || this.sort || this.family.value || this.fits.checked);
    say(this.count, this.rows.length && filtered ? counted(count, 'file', 'files') : '');
    const own = this.rows.some((row) => row.own);
    this.grid.hidden = count === 0;
    this.none.hidden = !this.problem && (own || filtered) && count > 0;
    if (this.none.hidden) return null;
    const look = JSON.stringify([own || filtered, this.where, this.problem]);
    if (look === this.noneDrawn) return null;
    this.noneDrawn = look;
    if (this.problem) return this.none.replaceChildren(el('p.models-problem', { role: 'alert' }, this.problem));
    return this.none.replaceChildren(...(own || filtered ? this.nothingFound() : this.nothingThere()));
  }

  nothingFound() {
    const all = () => {
      this.search.value = this.family.value = this.sort = '';
      this.fits.checked = false;
      this.draw();
      this.search.focus();
    };
    return [el('p', {}, 'Nothing here matches.'), el('button.deed', { type: 'button', onclick: all }, 'Show everything')];
  }

  nothingThere() {
    return this.where ? teaching(this.where, this) : [el('p', {}, 'Looking…')];
  }

  drawUnusable(rows) {
    const [summary, list] = this.unusable.children;
    this.unusable.hidden = !rows.length;
    say(summary, `${counted(rows.length, 'file', 'files')} that cannot be used`);
    list.replaceChildren(...rows.map(({ file, sentence }) => el('li', {}, el('code', {}, file), el('span', {}, sentence))));
  }

  drawDetails() {
    const found = this.wanted && this.rows.find((row) => row.title === this.wanted);
    if (found) {
      this.wanted = null;
      this.open(found, this.cards.get(found.id));
      this.cards.get(found.id).root.scrollIntoView({ block: 'nearest' });
    }
    if (!this.opened) return;
    const row = this.rows.find((one) => one.id === this.opened);
    if (row) this.details.show(row);
    else this.closed();
  }

  mark() {
    this.cards.forEach((card) => card.mark());
    const row = this.opened && this.rows.find((one) => one.id === this.opened);
    if (row) this.details.show(row);
  }

  // Keys: the grid is one stop of the Tab key, arrows go from card to card

  cardOf(node) {
    const root = node.closest('.model-card');
    return this.shown.find((card) => card.root === root);
  }

  reach(card) {
    if (!card || card === this.reached) return card?.reach(0);
    this.reached?.reach(-1);
    this.reached = card;
    return card.reach(0);
  }

  /** Does what a key says; returns whether it was the shelf's. */
  key(event) {
    if (event.key === 'Escape' && this.opened && !this.details.dialog.open) return this.closed(), true;
    const card = event.target.closest?.('.models-grid') && this.cardOf(event.target);
    const move = MOVES[event.key];
    if (!card || move === undefined) return false;
    const at = this.shown.indexOf(card);
    const columns = getComputedStyle(this.grid).gridTemplateColumns.split(' ').length;
    const to = { up: at - columns, down: at + columns, first: 0, last: this.shown.length - 1 }[move] ?? at + move;
    this.shown[to]?.title.focus();
    return true;
  }
}

/** For whoever has no models yet: where files go, and what is understood. */
function teaching(where, shelf) {
  const path = (text) => {
    const button = el('button.model-small', { type: 'button', onclick: () => shelf.copy(text, 'Folder path copied.') }, 'Copy');
    button.setAttribute('aria-label', `Copy ${text}`);
    return el('p.models-path', {}, el('code', {}, text), button);
  };
  return [
    el('h3', {}, 'No models of your own yet'),
    el('p', {}, 'Put files into this folder; they appear here at once:'),
    ...where.folders.slice(0, 1).map(path),
    el('ul.models-layout', {}, ...where.layout.map(([folder, what]) => el('li', {}, el('code', {}, folder), el('span', {}, what)))),
    el('p', {}, 'Do you have a folder of the webui, Forge or ComfyUI? Start with it, and go on working; nothing in it is changed:'),
    path('python launch.py --models /path/to/stable-diffusion-webui/models'),
    el('p', {}, 'What the Hugging Face cache holds is found by itself. Or ', el('a', { href: '#models', onclick: () => tell('models-view', 'fetch') }, 'fetch a model'), '.'),
  ];
}
