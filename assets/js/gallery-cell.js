// One place of the grid. It is used again for other pictures as the grid is scrolled, and writes only what differs.

import { el, icon, say } from './dom.js';
import { label } from './gallery-words.js';

const CHECK = 'M5 12.5l4.5 4.5L19 7.5';
const PAUSE = 1500; // milliseconds
const STAR = 'M12 3.5l2.6 5.5 6 .8-4.4 4.1 1.1 6L12 17l-5.3 2.9 1.1-6L3.4 9.8l6-.8z';

export class Cell {
  constructor(slot) {
    this.image = el('img', { alt: '', draggable: false, decoding: 'async' });
    this.image.addEventListener('error', () => this.retry());
    this.check = el('span.gallery-check', { title: 'Choose (Space)' }, icon(CHECK));
    this.star = el('span.gallery-star', { title: 'Star (S)' }, icon(STAR));
    this.tag = el('span.gallery-day', { hidden: true });
    this.root = el('div.gallery-cell', { role: 'option', id: `gallery-option-${slot}` }, this.image, this.check, this.star, this.tag);
    this.root.cell = this;
    this.index = -1;
  }

  /** Stands for entry `index` of `total`, at x, y, in a square of `side` pixels. The picture comes with `load`. */
  show(index, total, entry, { x, y, side, day }) {
    if (index !== this.index) this.root.setAttribute('aria-posinset', index + 1);
    if (total !== this.total) this.root.setAttribute('aria-setsize', total);
    [this.index, this.total] = [index, total];
    if (x !== this.x || y !== this.y) this.root.style.transform = `translate(${x}px, ${y}px)`;
    [this.x, this.y] = [x, y];
    if (day !== this.day) {
      say(this.tag, day);
      this.tag.hidden = !day;
      this.day = day;
    }
    if (entry === this.entry && side === this.side) return;
    const same = entry && entry.id === this.entry?.id && entry.date === this.entry.date;
    [this.entry, this.side] = [entry, side];
    if (!same) {
      this.image.removeAttribute('src'); // else the picture before stays until the next one is there
      this.loaded = this.retried = false;
    }
    this.root.draggable = Boolean(entry);
    this.root.classList.toggle('starred', Boolean(entry?.star));
    this.root.setAttribute('aria-label', entry ? label(entry) : 'Not read yet');
    const ratio = entry ? entry.ratio || entry.width / entry.height || 1 : 1;
    this.image.style.width = `${Math.round(side * Math.min(1, ratio))}px`;
    this.image.style.height = `${Math.round(side * Math.min(1, 1 / ratio))}px`;
  }

  load(url) {
    if (this.loaded || !this.entry) return;
    this.loaded = true;
    this.image.src = url(this.entry);
  }

  /** A busy server may have refused it: once more, after a while. */
  retry() {
    const { entry } = this;
    if (this.retried || !entry) return;
    this.retried = true;
    const { src } = this.image;
    setTimeout(() => {
      if (entry === this.entry) this.image.src = src;
    }, PAUSE);
  }

  mark(chosen, here) {
    if (chosen !== this.chosen) {
      this.root.setAttribute('aria-selected', String(chosen));
      this.root.classList.toggle('chosen', chosen);
      this.chosen = chosen;
    }
    if (here !== this.here) this.root.classList.toggle('here', here);
    this.here = here;
  }

  hide() {
    this.root.remove();
    this.image.removeAttribute('src');
    this.entry = this.loaded = null;
    this.index = -1;
  }
}
