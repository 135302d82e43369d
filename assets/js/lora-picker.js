// The list from which a LoRA is added: those that fit first, a search, and why the others do not fit.

import { el, say } from './dom.js';

export class Picker {
  constructor(choose) {
    this.choose = choose;
    this.search = el('input', { type: 'search', placeholder: 'Search', 'aria-label': 'Search LoRAs', oninput: () => this.draw() });
    this.search.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape') return;
      event.preventDefault(); // a search field would only empty itself
      this.root.close();
    });
    this.list = el('ul.picker-list');
    this.none = el('p.picker-none', { role: 'status' });
    const close = el('button.deed', { type: 'button', onclick: () => this.root.close() }, 'Close');
    this.root = el('dialog.picker', { 'aria-label': 'Add a LoRA' }, el('div.picker-head', {}, this.search, close), this.list, this.none);
    this.root.addEventListener('click', (event) => event.target === this.root && this.root.close());
  }

  /** available: the rows there are; used: LoRAs of the run; from: what had the focus. */
  open(available, used, from) {
    this.rows = available;
    this.used = new Set(used.map((one) => one.name));
    this.search.value = '';
    this.draw();
    this.root.showModal();
    this.search.focus();
    this.root.onclose = () => document.activeElement === document.body && from.focus();
  }

  /** The rows there are now; a list that is open shows them. */
  update(available) {
    this.rows = available;
    if (this.root.open) this.draw();
  }

  draw() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (row) => [row.key, row.title, row.summary, ...(row.words ?? [])].join(' ').toLowerCase();
    const found = this.rows.filter((row) => words.every((word) => text(row).includes(word)));
    found.sort((a, b) => Boolean(a.unfit) - Boolean(b.unfit));
    this.list.replaceChildren(...found.slice(0, 200).map((row) => this.item(row)));
    const empty = this.rows.length
      ? 'No LoRA is called that.'
      : 'There is none yet. Put .safetensors files into models/loras, or start with --models and the folder they are in.';
    say(this.none, found.length ? '' : empty);
  }

  item(row) {
    const there = this.used.has(row.key);
    const note = row.unfit || (there ? 'In use' : row.told ? `${row.summary}. Sets ${row.told}.` : row.summary);
    const pick = () => {
      this.root.close();
      this.choose(row);
    };
    const button = el(
      'button.picker-row',
      { type: 'button', disabled: Boolean(row.unfit), onclick: pick },
      el('b', {}, row.title),
      el('span', {}, note),
    );
    return el('li', {}, button);
  }
}
