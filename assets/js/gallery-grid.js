// The grid: as many places as fit the window, moved and filled anew as it is scrolled, however many pictures there are.
//
// All rows are equally high, so a picture's place is arithmetic and nothing is measured while scrolling; a picture
// keeps its shape inside its square. The grid is one stop of the Tab key: the arrows move aria-activedescendant.

import { el } from './dom.js';
import { Cell } from './gallery-cell.js';
import { day, dayOf } from './gallery-words.js';

const GAP = 8;
const SPARE = 2; // rows drawn beyond each edge of the window
const REST = 120; // milliseconds without a move after which a fast hand has come to rest
const FRAME = 40; // milliseconds that two moves of one hand are apart at most
const HOLD = 450; // milliseconds a finger rests on a picture to choose it
const WIDE = 184; // the side that is aimed at, and in a narrow window:
const NARROW = 112;

export class Grid {
  /** roll, selection; thumb(entry): an address; deeds: open(index), star(index), trash(), drag(entry), dropped(),
   *  all(), range(from, to, entries). */
  constructor({ roll, selection, thumb, deeds }) {
    Object.assign(this, { roll, selection, thumb, deeds });
    this.cells = [];
    this.here = 0; // index of the place that the keys are at
    this.columns = 1;
    this.side = WIDE;
    this.leapt = 0;
    this.dated = true; // days are told, as the order is by date
    this.build();
  }

  build() {
    this.sizer = el('div.gallery-sizer', { role: 'presentation' });
    this.root = el('div.gallery-scroll', { tabIndex: 0, role: 'listbox', 'aria-multiselectable': 'true', 'aria-label': 'Pictures' }, this.sizer);
    this.place = el('p.gallery-place', { 'aria-hidden': 'true', hidden: true });
    this.root.addEventListener('scroll', () => this.scrolled(), { passive: true });
    this.root.addEventListener('click', (event) => this.click(event));
    this.root.addEventListener('dblclick', (event) => this.cellOf(event) && event.preventDefault());
    this.root.addEventListener('keydown', (event) => this.key(event));
    this.root.addEventListener('pointerdown', (event) => this.press(event));
    for (const end of ['pointerup', 'pointercancel', 'pointermove']) this.root.addEventListener(end, (event) => this.release(event));
    this.root.addEventListener('contextmenu', (event) => this.held && event.preventDefault());
    this.root.addEventListener('dragstart', (event) => this.drag(event));
    this.root.addEventListener('dragend', () => this.deeds.dropped());
    new ResizeObserver(() => this.measure()).observe(this.root);
  }

  // Geometry

  measure() {
    const { clientWidth: width, clientHeight: height } = this.root;
    if (!width || !height) return; // out of sight
    const { top = 0 } = this;
    const [row, part] = [this.rowAt(top), (top % this.row) / this.row];
    const first = row * this.columns; // stays the first one in sight
    const inner = width - 2 * GAP;
    const aim = width < 560 ? NARROW : WIDE;
    this.columns = Math.max(2, Math.round((inner + GAP) / (aim + GAP)));
    this.side = Math.floor((inner + GAP) / this.columns) - GAP;
    this.height = height;
    this.sizer.style.setProperty('--side', `${this.side}px`);
    this.size();
    this.scrollTo((Math.floor(first / this.columns) + part) * this.row);
    this.draw();
  }

  scrollTo(top) {
    if (Math.abs(top - this.root.scrollTop) > 1) this.root.scrollTop = top;
    this.top = this.root.scrollTop;
  }

  get row() {
    return this.side + GAP;
  }

  get count() {
    return this.roll.total ?? 0;
  }

  rowAt(top) {
    return Math.floor(top / this.row);
  }

  size() {
    const rows = Math.ceil(this.count / this.columns);
    const height = rows * this.row + GAP;
    if (height !== this.tall) this.sizer.style.height = `${height}px`;
    this.tall = height;
  }

  // Drawing

  scrolled() {
    const { scrollTop } = this.root;
    const now = performance.now();
    const far = Math.abs(scrollTop - (this.top ?? 0)) > this.height / 6;
    this.fast = far && now - this.leapt < FRAME; // one leap alone, as by a key, is no fast hand
    if (far) this.leapt = now;
    this.top = scrollTop;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.rest(), REST);
    this.draw();
    this.tell();
  }

  rest() {
    this.fast = false;
    this.draw();
    this.place.hidden = true;
  }

  /** Another list, or it has changed: its length, and the place of what is in sight. keep: index that stays where `anchor` was. */
  take({ fresh, keep }) {
    this.size();
    if (fresh && keep !== undefined && keep !== null && this.anchor) {
      this.scrollTo(Math.floor(keep / this.columns) * this.row + this.anchor.offset);
    }
    if (fresh && this.hereId) {
      const index = this.roll.indexOf(this.hereId);
      if (index >= 0) this.here = index;
    }
    this.here = Math.max(0, Math.min(this.here, this.count - 1));
    this.draw();
  }

  /** The picture whose place is kept when the list changes; null at the top, where new ones are to be seen. */
  hold() {
    this.anchor = null;
    const top = this.root.scrollTop;
    if (top < this.row / 2) return null;
    const row = Math.ceil(top / this.row);
    const entry = this.roll.at(row * this.columns);
    if (!entry) return null;
    this.anchor = { id: entry.id, offset: top - row * this.row };
    return entry.id;
  }

  toTop() {
    this.here = 0;
    this.hereId = null;
    this.root.scrollTop = this.top = 0;
  }

  draw() {
    if (!this.height) return;
    const { columns, count } = this;
    const row = this.rowAt(this.top ?? 0);
    const rows = Math.ceil(this.height / this.row) + 1;
    const first = Math.max(0, row - SPARE) * columns;
    const last = Math.min(count, (row + rows + SPARE) * columns) - 1;
    this.fit((rows + 2 * SPARE) * columns);
    this.roll.need(row * columns, Math.min(count, (row + rows) * columns) - 1);
    const used = new Set();
    for (let index = first; index <= last; index += 1) {
      const cell = this.cells[index % this.cells.length];
      this.fill(cell, index);
      used.add(cell);
    }
    for (const cell of this.cells) if (!used.has(cell) && cell.index >= 0) cell.hide();
    const here = this.cellAt(this.here);
    if (here) this.root.setAttribute('aria-activedescendant', here.root.id);
    else this.root.removeAttribute('aria-activedescendant');
  }

  fit(count) {
    if (count === this.cells.length) return;
    for (const cell of this.cells) cell.hide();
    while (this.cells.length > count) this.cells.pop();
    while (this.cells.length < count) this.cells.push(new Cell(this.cells.length));
  }

  fill(cell, index) {
    const { columns, row, side, roll } = this;
    const entry = roll.at(index);
    const x = GAP + (index % columns) * row;
    const y = GAP + Math.floor(index / columns) * row;
    const before = this.dated && entry ? roll.at(index - 1) : null;
    const first = this.dated && entry && (index === 0 || (before && dayOf(before) !== dayOf(entry)));
    cell.show(index, this.count, entry, { x, y, side, day: first ? day(entry.date, SHORT) : '' });
    cell.mark(Boolean(entry && this.selection.has(entry.id)), index === this.here);
    if (!this.fast) cell.load(this.thumb);
    if (!cell.root.isConnected) this.sizer.append(cell.root);
  }

  /** Where one is, while the hand moves fast. */
  tell() {
    const entry = this.roll.at(this.rowAt(this.top) * this.columns);
    const far = this.tall > 6 * this.height;
    this.place.hidden = !far || !this.fast;
    if (this.place.hidden) return;
    const shown = entry && this.dated ? day(entry.date) : '';
    const number = Math.min(this.count, this.rowAt(this.top) * this.columns + 1).toLocaleString('en');
    const text = shown || `${number} of ${this.count.toLocaleString('en')}`;
    if (this.place.textContent !== text) this.place.textContent = text;
  }

  mark() {
    for (const cell of this.cells) {
      if (cell.index >= 0) cell.mark(Boolean(cell.entry && this.selection.has(cell.entry.id)), cell.index === this.here);
    }
    this.root.classList.toggle('choosing', this.selection.size > 0);
  }

  cellAt(index) {
    const cell = this.cells[index % this.cells.length];
    return cell?.index === index ? cell : undefined;
  }

  // The hand

  cellOf(event) {
    return event.target.closest?.('.gallery-cell')?.cell;
  }

  click(event) {
    const cell = this.cellOf(event);
    if (this.swallow) return (this.swallow = false);
    if (!cell?.entry) return null;
    const { entry, index } = cell;
    this.go(index, { scroll: false });
    if (event.target.closest('.gallery-star')) return this.deeds.star(index);
    if (event.shiftKey) return this.extend(index);
    const choose = event.ctrlKey || event.metaKey || event.target.closest('.gallery-check') || this.selection.size;
    return choose ? this.selection.toggle(entry) : this.deeds.open(index);
  }

  /** From the last picture that was chosen to this one. */
  extend(index) {
    const from = this.selection.anchor ? this.roll.indexOf(this.selection.anchor) : this.here;
    const [first, last] = [Math.min(index, from < 0 ? index : from), Math.max(index, from)];
    const entries = [];
    for (let at = first; at <= last; at += 1) entries.push(this.roll.at(at));
    if (!this.selection.anchor) this.selection.anchor = this.roll.at(first)?.id ?? null;
    if (entries.every(Boolean)) return this.selection.add(entries);
    return this.deeds.range(first, last); // some were never fetched
  }

  press(event) {
    const cell = this.cellOf(event);
    this.swallow = this.held = false;
    if (event.pointerType !== 'touch' || !cell?.entry) return;
    this.pressed = { x: event.clientX, y: event.clientY };
    this.holding = setTimeout(() => {
      this.held = this.swallow = true;
      navigator.vibrate?.(10);
      this.go(cell.index, { scroll: false });
      this.selection.toggle(cell.entry);
    }, HOLD);
  }

  release(event) {
    if (event.type === 'pointermove') {
      if (!this.pressed || Math.hypot(event.clientX - this.pressed.x, event.clientY - this.pressed.y) < 10) return;
    }
    clearTimeout(this.holding);
    this.pressed = null;
  }

  drag(event) {
    const cell = this.cellOf(event);
    if (!cell?.entry || this.pressed || this.held) return event.preventDefault();
    event.dataTransfer.effectAllowed = 'copyMove';
    event.dataTransfer.setData('text/plain', cell.entry.name ?? '');
    if (this.selection.size > 1 && this.selection.has(cell.entry.id)) {
      const badge = el('div.gallery-dragged', {}, `${this.selection.size.toLocaleString('en')} pictures`);
      this.sizer.append(badge);
      event.dataTransfer.setDragImage(badge, 16, 16);
      requestAnimationFrame(() => badge.remove());
    } else if (cell.image.complete) event.dataTransfer.setDragImage(cell.image, 24, 24);
    return this.deeds.drag(cell.entry);
  }

  // Keys

  key(event) {
    if (event.target !== this.root || event.altKey) return;
    const held = event.ctrlKey || event.metaKey;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const entry = this.roll.at(this.here);
    const to = held ? undefined : this.moved(event.key);
    if (to !== undefined) this.move(to, event.shiftKey);
    else if (held && name === 'a') this.deeds.all();
    else if (held || !entry) return;
    else if (name === 'Enter') this.deeds.open(this.here);
    else if (name === ' ') event.shiftKey ? this.extend(this.here) : this.selection.toggle(entry);
    else if (name === 's') this.deeds.star(this.here);
    else if (name === 'Delete') this.deeds.trash();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  moved(key) {
    const page = Math.max(1, Math.floor(this.height / this.row)) * this.columns;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -page, PageDown: page }[key];
    if (key === 'Home') return 0;
    if (key === 'End') return this.count - 1;
    if (by === undefined) return undefined;
    const to = this.here + by;
    if (to >= 0 && to < this.count) return to;
    return Math.abs(by) === 1 ? this.here : to < 0 ? this.here % this.columns : this.count - 1;
  }

  move(to, extending) {
    if (!this.count) return;
    if (extending && !this.selection.size) this.selection.anchor = this.roll.at(this.here)?.id ?? null;
    this.go(to);
    if (extending) this.extend(to);
  }

  /** The keys are at another picture. */
  go(index, { scroll = true } = {}) {
    this.here = index;
    this.hereId = this.roll.at(index)?.id ?? null;
    if (scroll) {
      const y = Math.floor(index / this.columns) * this.row;
      const top = this.root.scrollTop;
      if (y < top) this.root.scrollTop = y;
      else if (y + this.row + GAP > top + this.height) this.root.scrollTop = y + this.row + GAP - this.height;
      this.top = this.root.scrollTop;
    }
    this.draw();
  }
}

const SHORT = { day: 'numeric', month: 'short', year: 'numeric' };
