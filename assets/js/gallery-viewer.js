// One picture over the whole window, with what is known of it beside it; the arrows go to its neighbours.

import { el, icon, say } from './dom.js';
import { About } from './gallery-about.js';
import { ICONS } from './gallery-choice.js';
import { label } from './gallery-words.js';
import { Zoom } from './gallery-zoom.js';

const BACK = 'M15 5l-7 7 7 7';
const ON = 'M9 5l7 7-7 7';
const INFO = 'M12 4a8 8 0 1 0 0 16a8 8 0 1 0 0-16 M12 11v5 M12 8v.01';
const AHEAD = 2; // neighbours whose files are read beforehand

export class Viewer {
  constructor(gallery) {
    this.gallery = gallery;
    this.entry = null; // what the list tells of the picture that is shown
    this.index = -1;
    this.build();
  }

  build() {
    const { gallery } = this;
    const round = (path, text, onclick) => el('button.gallery-icon', { type: 'button', title: text, 'aria-label': text, onclick }, icon(path));
    this.image = el('img.gallery-whole', { alt: '', draggable: false });
    this.image.addEventListener('load', () => this.zoom.apply());
    this.image.addEventListener('error', () => this.lost());
    this.trouble = el('p.gallery-trouble', { role: 'alert', hidden: true });
    this.before = round(BACK, 'The picture before (←)', () => this.step(-1));
    this.after = round(ON, 'The next picture (→)', () => this.step(1));
    this.before.classList.add('gallery-turn', 'back');
    this.after.classList.add('gallery-turn');
    this.screen = el('div.gallery-screen', {}, this.image, this.trouble);
    this.zoom = new Zoom([[this.screen, this.image]], { changed: (zoomed) => this.root?.classList.toggle('close-up', zoomed), swiped: (by) => this.step(by) });
    this.where = el('span.gallery-where');
    this.star = round(ICONS.star, 'Star (S)', () => this.toggleStar());
    this.info = round(INFO, 'What it was made with (I)', () => this.turn());
    this.bin = round(ICONS.trash, 'To trash (Delete)', () => this.trash());
    this.away = round(ICONS.close, 'Close (Esc)', () => this.close());
    this.about = new About(gallery, this);
    const bar = el('div.gallery-viewer-bar', {}, this.where, el('span.gallery-gap'), this.star, this.bin, this.info, this.away);
    this.root = el('dialog.gallery-viewer', { 'aria-label': 'Picture' },
      el('div.gallery-viewer-main', {}, bar, this.screen, this.before, this.after), this.about.root);
    this.root.addEventListener('cancel', (event) => (event.preventDefault(), this.close()));
    this.root.addEventListener('close', () => this.closed());
    document.addEventListener('keydown', (event) => this.shown && this.key(event)); // also where nothing has the focus
    this.turn(localStorage.getItem('darkroom.gallery.about') !== 'no');
  }

  get shown() {
    return this.root.open;
  }

  /** Opens the picture at that place of the list. */
  open(index) {
    const entry = this.gallery.roll.at(index);
    if (!entry) return;
    this.index = index;
    this.show(entry);
    this.gallery.enter(this.root);
    this.screen.tabIndex = -1;
    this.screen.focus({ preventScroll: true });
  }

  /** Opens a picture that need not be in the list, as one that another was made from. */
  async openId(id) {
    const index = this.gallery.roll.indexOf(id);
    if (index >= 0) return this.open(index);
    const answer = await this.gallery.server.get('entry', { id });
    if (answer.problem !== undefined) return this.gallery.say(answer.problem, { bad: true });
    this.index = -1;
    return this.show(answer, answer);
  }

  show(entry, known = null) {
    const { gallery } = this;
    const fresh = entry.id !== this.entry?.id;
    this.entry = entry;
    this.image.alt = label(entry);
    this.root.setAttribute('aria-label', `Picture: ${label(entry)}`);
    if (fresh) {
      this.trouble.hidden = true;
      this.image.hidden = false;
      this.image.style.setProperty('--shape', entry.width / entry.height);
      this.image.style.setProperty('--across', `${entry.width}px`);
      this.image.style.backgroundImage = `url("${gallery.thumb(entry)}")`; // until the file is there
      this.image.src = gallery.server.url('file', { id: entry.id });
      this.zoom.reset();
      this.about.open(entry, known);
    }
    this.star.setAttribute('aria-pressed', String(Boolean(entry.star)));
    this.bin.hidden = Boolean(gallery.view.trash);
    this.paint();
    if (fresh && this.index >= 0) this.ahead();
  }

  paint() {
    const { total } = this.gallery.roll;
    const placed = this.index >= 0;
    say(this.where, placed ? `${(this.index + 1).toLocaleString('en')} of ${total.toLocaleString('en')}` : 'not in this view');
    this.before.disabled = !placed || this.index === 0;
    this.after.disabled = !placed || this.index >= total - 1;
  }

  /** The neighbours' files are read, so that the next key shows one at once. */
  ahead() {
    this.images = [];
    for (let by = -1; by <= AHEAD; by += 1) {
      const entry = by ? this.gallery.roll.at(this.index + by) : null;
      if (entry) this.images.push(Object.assign(new Image(), { src: this.gallery.server.url('file', { id: entry.id }) }));
    }
  }

  lost() {
    if (!this.entry) return;
    this.image.hidden = true;
    this.trouble.hidden = false;
    say(this.trouble, 'The file of this picture cannot be read: it was moved or deleted outside of the program.');
  }

  step(by) {
    if (this.index < 0) return;
    const to = this.index + by;
    if (to < 0 || to >= this.gallery.roll.total) return;
    if (this.gallery.roll.at(to)) return this.open(to);
    this.waits = to; // its page is not there yet
    this.gallery.roll.need(to, to);
  }

  /** Entries came: the one that was waited for, or what is shown has changed. */
  came() {
    if (!this.shown) return;
    if (this.waits !== undefined && this.gallery.roll.at(this.waits)) {
      const to = this.waits;
      this.waits = undefined;
      return this.open(to);
    }
    const entry = this.index >= 0 ? this.gallery.roll.at(this.index) : null;
    if (entry && entry.id === this.entry.id) this.show(entry);
  }

  /** The list is another: where the picture stands now; one that left it gives way to the next. */
  moved() {
    this.waits = undefined;
    if (!this.shown || this.index < 0) return;
    const index = this.gallery.roll.indexOf(this.entry.id);
    if (index >= 0) this.index = index;
    else if (this.leaves === this.entry.id) {
      const next = Math.min(this.index, this.gallery.roll.total - 1);
      if (next < 0) return this.close();
      this.index = next;
      if (this.gallery.roll.at(next)) return this.open(next);
      this.waits = next;
      this.gallery.roll.need(next, next);
    } else this.index = -1;
    this.paint();
  }

  async toggleStar() {
    const star = await this.gallery.star([this.entry]);
    if (this.index < 0) this.show({ ...this.entry, star });
  }

  trash() {
    this.leaves = this.entry.id;
    return this.gallery.trash([this.entry.id]);
  }

  /** What is known of it, beside the picture or not. */
  turn(open = this.about.root.hidden) {
    this.about.root.hidden = !open;
    this.info.setAttribute('aria-pressed', String(open));
    localStorage.setItem('darkroom.gallery.about', open ? 'yes' : 'no');
    if (this.entry) this.zoom.apply();
  }

  close() {
    this.root.close();
  }

  closed() {
    this.gallery.leave(this.root);
    this.about.keep();
    this.image.removeAttribute('src');
    const { grid } = this.gallery;
    if (this.index >= 0) grid.go(this.index);
    this.entry = this.images = null;
    grid.root.focus({ preventScroll: true });
  }

  key(event) {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest?.('input, textarea, select')) return;
    if ([...document.querySelectorAll('dialog[open]')].some((dialog) => dialog !== this.root)) return; // a question
    const deeds = {
      ArrowLeft: () => this.step(-1),
      ArrowRight: () => this.step(1),
      '+': () => this.zoom.in(),
      '=': () => this.zoom.in(),
      '-': () => this.zoom.out(),
      0: () => this.zoom.reset(),
      z: () => this.zoom.toggle(),
      s: () => this.toggleStar(),
      i: () => this.turn(),
      Delete: () => this.gallery.view.trash || this.trash(),
    };
    const deed = deeds[key.length === 1 ? key.toLowerCase() : key];
    if (!deed) return;
    event.preventDefault();
    event.stopPropagation();
    deed();
  }
}
