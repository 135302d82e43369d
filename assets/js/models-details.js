// What is known of one file: beside the grid in a wide window, over the page in a narrow one.

import { el, icon, say } from './dom.js';
import { face, starOf, USE } from './models-card.js';
import { groupOf, kindOf, size } from './models-words.js';

const CLOSE = 'M6 6l12 12 M18 6L6 18';
const COPY = 'M9 9h11v11H9z M5 15H4V4h11v1';
const NARROW = matchMedia('(max-width: 1000px)');
const REST = 600; // milliseconds of rest after which a note is kept

export class Details {
  /** shelf: as for a card, and picture, hash, copy, closed. */
  constructor(shelf) {
    this.shelf = shelf;
    this.row = null;
    this.body = el('div.model-sheet');
    this.root = el('aside.model-details', { hidden: true, 'aria-label': 'About this file' });
    this.dialog = el('dialog.model-over', { 'aria-label': 'About this file' });
    this.dialog.addEventListener('cancel', (event) => (event.preventDefault(), this.shelf.closed()));
    this.dialog.addEventListener('click', (event) => event.target === this.dialog && this.shelf.closed());
    NARROW.addEventListener('change', () => this.row && this.place());
  }

  show(row) {
    const drawn = JSON.stringify([row, this.shelf.isChosen(row)]);
    const fresh = this.row?.id !== row.id;
    if (!fresh && drawn === this.drawn) return;
    const note = fresh ? null : this.note; // what is being typed is not typed over
    const place = this.body.contains(document.activeElement) ? document.activeElement.dataset.place : null;
    if (fresh) this.keep();
    this.drawn = drawn;
    this.row = row;
    this.draw(note);
    if (fresh) this.body.scrollTop = 0;
    this.place();
    if (place) this.body.querySelector(`[data-place="${place}"]`)?.focus();
  }

  close() {
    this.keep();
    this.row = null;
    this.root.hidden = true;
    if (this.dialog.open) this.dialog.close();
  }

  place() {
    const home = NARROW.matches ? this.dialog : this.root;
    if (this.body.parentNode !== home) home.append(this.body);
    this.root.hidden = NARROW.matches;
    if (NARROW.matches && !this.dialog.open) this.dialog.showModal();
    if (!NARROW.matches && this.dialog.open) this.dialog.close();
  }

  focus() {
    this.body.querySelector('h3')?.focus();
  }

  draw(note) {
    const { row } = this;
    const heading = el('h3.model-name', { tabIndex: -1, title: row.title }, row.title);
    const away = el('button.model-close', { type: 'button', 'aria-label': 'Close', onclick: () => this.shelf.closed() }, icon(CLOSE));
    away.dataset.place = 'close';
    const star = starOf(row, (one, change) => this.shelf.edit(one, change));
    star.dataset.place = 'star';
    const parts = [
      el('div.model-head', {}, heading, star, away),
      row.picture ? el('div.model-face', {}, face(row)) : null,
      this.pictures(),
      this.deeds(),
      this.words(),
      this.notes(note),
      this.facts(),
    ];
    this.body.replaceChildren(...parts.filter(Boolean));
  }

  deeds() {
    const { row, shelf } = this;
    const word = USE[groupOf(row.sort)];
    if (row.unfit) return el('p.model-unfit', {}, row.unfit);
    if (!word) return null;
    if (shelf.isChosen(row)) return el('p.model-chosen', {}, 'In use: it paints the next picture.');
    const texts = { lora: 'Add to the run', embedding: 'Put into the prompt' };
    const use = el('button.model-primary', { type: 'button', onclick: () => shelf.use(row) }, texts[groupOf(row.sort)] ?? 'Use');
    use.dataset.place = 'use';
    const box = el('div.model-deeds', {}, use);
    if (groupOf(row.sort) === 'embedding') {
      const other = el('button.deed', { type: 'button', onclick: () => shelf.use(row, 'negative_prompt') }, 'Put into “Leave out”');
      other.dataset.place = 'other';
      box.append(other);
    }
    return box;
  }

  words() {
    const { row, shelf } = this;
    if (!row.words.length) return null;
    const chip = (word) =>
      el('button.model-word', { type: 'button', title: 'Put into the prompt', onclick: () => shelf.words(word) }, word);
    const all = el('button.model-small', { type: 'button', onclick: () => shelf.copy(row.words.join(', '), 'Trigger words copied.') }, 'Copy all');
    all.dataset.place = 'copy';
    return el(
      'section.model-part',
      {},
      el('div.model-label', {}, el('h4', {}, 'Trigger words'), all),
      el('div.model-words', {}, ...row.words.map(chip)),
    );
  }

  notes(note) {
    const { row } = this;
    this.kept ??= el('span.model-kept', { role: 'status' });
    if (!note) {
      say(this.kept, '');
      note = el('textarea', { rows: 3, value: row.notes, placeholder: 'Good with weight 0.7, from …', maxLength: 4000 });
      note.setAttribute('aria-label', 'Notes');
      note.oninput = () => {
        say(this.kept, '');
        clearTimeout(this.resting);
        this.resting = setTimeout(() => this.keep(), REST);
      };
      note.onblur = () => this.keep();
      note.dataset.place = 'note';
    }
    this.note = note;
    return el('section.model-part', {}, el('div.model-label', {}, el('h4', {}, 'Notes'), this.kept), note);
  }

  /** Sends a note that has changed. */
  async keep() {
    clearTimeout(this.resting);
    const { row, note } = this;
    if (!row || !note || note.value === row.notes || note.value === this.sending) return;
    this.sending = note.value;
    const kept = await this.shelf.edit(row, { notes: note.value });
    this.sending = null;
    if (this.note === note) say(this.kept, kept ? 'Kept' : 'Not kept');
  }

  /** How it gets a picture, or another one. */
  pictures() {
    const { row, shelf } = this;
    const input = el('input', { type: 'file', accept: 'image/*', hidden: true, tabIndex: -1, 'aria-label': 'A picture file' });
    input.onchange = () => input.files[0] && shelf.picture(row, { file: input.files[0] });
    const small = (text, place, onclick) => {
      const button = el('button.model-small', { type: 'button', onclick }, text);
      button.dataset.place = place;
      return button;
    };
    const box = el('div.model-pictures', {}, input);
    const last = shelf.lastPicture();
    if (last) box.append(small('Use the last picture', 'last', () => shelf.picture(row, last)));
    box.append(small('Choose a picture', 'choose', () => input.click()));
    if (row.picture_set) box.append(small('Remove it', 'remove', () => shelf.picture(row, { remove: true })));
    return box;
  }

  facts() {
    const { row, shelf } = this;
    const copy = (label, text, told) => {
      const button = el('button.model-copy', { type: 'button', title: label, 'aria-label': label, onclick: () => shelf.copy(text, told) }, icon(COPY));
      button.dataset.place = label;
      return button;
    };
    const hash = row.hash
      ? [el('code', {}, row.hash), copy('Copy the hash', row.hash, 'Hash copied.')]
      : [el('button.model-small', { type: 'button', disabled: Boolean(row.hashing), onclick: () => shelf.hash(row) }, row.hashing ? 'Working it out…' : 'Work it out')];
    if (!row.hash) hash[0].dataset.place = 'hash';
    const rows = [
      ['Kind', kindOf(row.sort)],
      ['Made for', [row.family, row.variant].filter(Boolean).join(', ')],
      ['Size', size(row.bytes)],
      ['Format', [row.format, row.dtype].filter(Boolean).join(', ')],
      ['File', row.file],
      ['Folder', el('span.model-path', {}, row.folder), copy('Copy the folder path', row.folder, 'Folder path copied.')],
      ['Hash', ...hash],
    ];
    const list = el('dl.model-facts');
    for (const [name, ...values] of rows) {
      if (values[0] !== '') list.append(el('dt', {}, name), el('dd', {}, ...values));
    }
    return list;
  }
}
