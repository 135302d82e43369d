// The Gallery tab: every picture that was ever made. This is the frame; its parts know nothing of each other:
//
//   gallery-filters.js    the row above the grid       gallery-boards.js   the list on the left
//   gallery-grid.js       the pictures, virtualised    gallery-roll.js     which there are, page by page
//   gallery-selection.js  which are chosen             gallery-choice.js   what is done with those
//   gallery-viewer.js     one, over the whole window   gallery-compare.js  two, against each other
//   gallery-import.js     files from elsewhere         gallery-view.js     what is shown, and its address
//
// (The pictures of the session, beside the stage, are stage-session.js.)

import { el, heard, say, tell } from './dom.js';
import { asked } from './gallery-ask.js';
import { Boards } from './gallery-boards.js';
import { Choice } from './gallery-choice.js';
import { Compare } from './gallery-compare.js';
import { empty } from './gallery-empty.js';
import { Filters } from './gallery-filters.js';
import { Grid } from './gallery-grid.js';
import { Importer } from './gallery-import.js';
import { Roll } from './gallery-roll.js';
import { Selection } from './gallery-selection.js';
import { GalleryServer } from './gallery-server.js';
import { addressed, address, filtersOf, placeOf, sameView, viewOf } from './gallery-view.js';
import { Viewer } from './gallery-viewer.js';
import { picturesOf } from './gallery-words.js';

const SHOWN = 6000; // milliseconds that a sentence stays in sight, and with something to be undone:
const UNDONE = 15000;

export function mount(part) {
  return new Gallery(part);
}

class Gallery {
  constructor({ root, props, trigger, server: asks }) {
    Object.assign(this, { root, props, trigger, asks });
    this.server = new GalleryServer(props.routes);
    this.view = addressed() ?? {};
    this.facets = {};
    this.build();
    heard('news', ({ gallery }) => gallery && this.hear(gallery));
    addEventListener('hashchange', () => this.follow());
    addEventListener('resize', () => this.fit());
    document.addEventListener('keydown', (event) => this.key(event), true);
    const header = document.getElementById('header');
    if (header) new ResizeObserver(() => this.fit()).observe(header); // in a narrow window it grows by a row
    new IntersectionObserver((entries) => this.see(entries.at(-1).isIntersecting)).observe(root);
  }

  /** Gradio's value says nothing. */
  show() {}

  build() {
    this.selection = new Selection(() => this.chosen());
    this.roll = new Roll(this.server, { changed: (how) => this.came(how), failed: (sentence) => this.fail(sentence) });
    this.roll.stale = (edition) => this.hear(edition);
    const deeds = {
      open: (index) => this.viewer.open(index),
      star: (index) => this.star([this.roll.at(index)]),
      trash: () => this.trash(this.selection.size ? this.selection.ids : [this.roll.at(this.grid.here)?.id]),
      drag: (entry) => this.drag(entry),
      dropped: () => this.drag(null),
      all: () => this.choose(),
      range: (first, last) => this.choose(first, last),
    };
    this.grid = new Grid({ roll: this.roll, selection: this.selection, thumb: (entry) => this.thumb(entry), deeds });
    this.filters = new Filters({ changed: (values) => this.go({ ...this.view, ...values }) });
    this.boards = new Boards({
      go: (place) => this.go({ ...this.keptFilters(), ...place }),
      put: (board) => this.board(this.dragged, board),
      binned: () => this.trash(this.dragged),
      keep: (asked) => this.keepBoard(asked),
    });
    this.choice = new Choice(this);
    this.viewer = new Viewer(this);
    this.compare = new Compare(this);
    this.importer = new Importer(this);
    this.line = el('p.gallery-count', { role: 'status' });
    this.notes = el('p.gallery-notes', { role: 'status' });
    this.none = el('div.gallery-none', { hidden: true });
    this.alarm = el('p.gallery-alarm', { role: 'alert', hidden: true });
    this.toast = el('div.gallery-told', { role: 'status', hidden: true });
    const top = el('div.gallery-line', {}, this.line, this.notes, this.choice.root);
    const list = el('div.gallery-list', {}, this.filters.root, top, this.alarm, this.none, el('div.gallery-window', {}, this.grid.root, this.grid.place));
    const side = el('div.gallery-left', {}, el('h2', {}, 'Gallery'), this.boards.root, this.importer.button);
    this.root.className = 'gallery-panel takes-pictures'; // dropped files are imported, not read for the form
    this.root.append(side, list, this.toast);
    this.importer.takes(this.root);
  }

  // What is shown

  go(values) {
    const view = viewOf(values);
    if (sameView(view, this.view) && this.roll.total !== null) return this.draw();
    const moved = !sameView(placeOf(view), placeOf(this.view));
    this.view = view;
    address(view);
    if (moved) this.selection.clear();
    this.grid.toTop();
    this.grid.dated = !['name', 'seed'].includes(view.sort);
    this.draw();
    this.root.setAttribute('aria-busy', 'true');
    return this.roll.open(view);
  }

  /** Filters go with one to another place: what was searched for on one board may be on the next. */
  keptFilters() {
    const kept = [...filtersOf(this.view), 'sort'].map((name) => [name, this.view[name]]);
    return Object.fromEntries(kept);
  }

  follow() {
    const view = addressed();
    if (view && !sameView(view, this.view)) this.go(view);
  }

  async see(seen) {
    this.seen = seen;
    if (!seen) return;
    this.fit();
    address(this.view);
    if (this.roll.total === null) {
      this.grid.dated = !['name', 'seed'].includes(this.view.sort);
      this.roll.open(this.view);
      this.count();
    } else if (this.late) this.hear(this.late);
  }

  /** The panel reaches down to the window's lower edge. */
  fit() {
    if (!this.root.offsetParent) return;
    const top = this.root.getBoundingClientRect().top + scrollY;
    this.root.style.setProperty('--gallery-top', `${Math.round(top)}px`);
  }

  /** Something has changed: the list anew, with what is in sight where it was. */
  async hear(edition) {
    if (edition === this.roll.edition) return;
    this.late = edition;
    if (!this.seen || this.roll.total === null) return;
    if (this.refreshing) return; // looks again afterwards
    this.refreshing = true;
    while (this.late && this.late !== this.roll.edition && this.seen) {
      const asked = this.late;
      await Promise.all([this.roll.refresh(this.grid.hold()), this.count()]);
      if (this.late === asked) this.late = null;
    }
    this.refreshing = false;
  }

  async count() {
    const facets = await this.server.get('facets');
    if (facets.problem !== undefined) return this.fail(facets.problem);
    this.facets = facets;
    return this.draw();
  }

  came({ fresh, keep }) {
    if (fresh) {
      this.root.removeAttribute('aria-busy');
      this.alarm.hidden = true;
      this.selection.amend(this.roll.known());
      this.viewer.moved();
    }
    this.grid.take({ fresh, keep });
    this.viewer.came();
    if (fresh) this.draw();
    else this.choice.show();
  }

  fail(sentence) {
    if (!sentence) return;
    this.root.removeAttribute('aria-busy');
    const again = el('button.gallery-word', { type: 'button', onclick: () => (this.roll.restart(0, null), this.count()) }, 'Try again');
    this.alarm.replaceChildren(`${sentence} `, again);
    this.alarm.hidden = false;
  }

  draw() {
    const { total, told = {} } = this.roll;
    this.filters.show(this.view, this.facets);
    this.boards.show(this.view, this.facets);
    const narrowed = filtersOf(this.view).length > 0;
    const none = total === 0;
    const reading = told.indexing ? `Reading ${told.indexing.done.toLocaleString('en')} of ${told.indexing.total.toLocaleString('en')} files …` : '';
    say(this.notes, [reading, ...(told.notes ?? [])].filter(Boolean).join(' '));
    say(this.line, total === null || none ? '' : `${picturesOf(total)}${narrowed ? ' found' : ''}`);
    this.grid.root.hidden = none;
    this.none.hidden = !none;
    if (none) empty(this.none, this);
    this.choice.show();
  }

  chosen() {
    this.grid.mark();
    this.choice.show();
  }

  thumb({ id, v }) {
    return this.server.url('thumb', v === undefined ? { id } : { id, v });
  }

  /** A dialog is in the page only while it is open. */
  enter(dialog) {
    if (dialog.open) return;
    this.root.append(dialog);
    dialog.showModal();
  }

  leave(dialog) {
    if (dialog.open) return; // opened again before it was told that it had closed
    if (dialog.contains(this.toast)) this.root.append(this.toast);
    dialog.remove();
  }

  // What a hand does with pictures

  /** Chooses everything, or a range whose entries were not all fetched. */
  async choose(first = 0, last = Infinity) {
    const answer = await this.roll.ids();
    if (answer.problem !== undefined) return this.say(answer.problem, { bad: true });
    const known = this.roll.known();
    const pairs = answer.ids.slice(first, last + 1).map((id) => [id, known.get(id) ?? null]);
    if (first === 0 && last === Infinity) return this.selection.replace(pairs);
    return this.selection.replace([...this.selection.chosen, ...pairs]);
  }

  /** Resolves with whether it is so now. */
  async change(ids, change) {
    const answer = await this.server.post('change', { ids, ...change });
    if (answer.problem !== undefined) this.say(answer.problem, { bad: true });
    else this.hear(answer.edition ?? `${this.roll.edition}+`);
    return answer.problem === undefined;
  }

  /** A star answers at once; with several, all get what the first has not. */
  async star(entries) {
    const star = !entries[0]?.star;
    const ids = entries.filter(Boolean).map(({ id }) => id);
    this.roll.amend(ids, { star });
    this.selection.amend(this.roll.known());
    if (!(await this.change(ids, { star }))) this.hear(`${this.roll.edition}!`); // as the server has them
    return star;
  }

  async board(ids, board) {
    if (!ids?.length || !(await this.change(ids, { board }))) return;
    this.selection.clear();
    this.say(board === null ? `${picturesOf(ids.length)} on no board now.` : `${picturesOf(ids.length)} on “${board}” now.`);
  }

  async trash(ids) {
    const there = (ids ?? []).filter(Boolean);
    if (!there.length || this.view.trash) return;
    if (!(await this.change(there, { trash: true }))) return;
    this.selection.drop(there);
    this.undo = () => this.restore(there);
    this.say(`${picturesOf(there.length)} in the trash now.`, { undo: this.undo });
  }

  async restore(ids) {
    if (!(await this.change(ids, { trash: false }))) return;
    this.undo = null;
    this.selection.drop(ids);
    this.say(`${picturesOf(ids.length)} back in the gallery.`);
  }

  async emptyTrash() {
    const count = this.facets.trash ?? 0;
    const question = `Delete ${count === 1 ? 'the picture' : `all ${picturesOf(count)}`} in the trash? The files are deleted; this cannot be undone.`;
    if (!(await asked(this.root, question, 'Delete for good'))) return;
    const answer = await this.server.post('empty_trash', {});
    if (answer.problem !== undefined) return this.say(answer.problem, { bad: true });
    this.undo = null;
    this.selection.clear();
    this.hear(answer.edition ?? `${this.roll.edition}+`);
    this.say(`${picturesOf(answer.deleted)} deleted.`);
  }

  async keepBoard(asked) {
    const answer = await this.server.post('boards', asked);
    if (answer.problem === undefined) {
      await this.count();
      this.hear(answer.edition ?? `${this.roll.edition}+`);
    }
    return answer;
  }

  drag(entry) {
    this.boards.dragging = Boolean(entry);
    this.root.classList.toggle('dragging', Boolean(entry));
    if (entry) this.dragged = this.selection.has(entry.id) ? this.selection.ids : [entry.id];
  }

  /** The picture goes to a painter or the control units, and their tab opens. Resolves with whether. */
  async send(entry, tab, to) {
    const answer = await this.server.post('send', { id: entry.id });
    if (answer.problem !== undefined) return this.say(answer.problem, { bad: true }), false;
    tell('give', { to, image: answer });
    tell('tab', tab.toLowerCase());
    return true;
  }

  /** The form takes what a picture was made with. What the painters' store has let go of is put there again, if the
   *  gallery has it. */
  async reuse({ parameters, task, from = [] }) {
    await Promise.all(from.filter(({ id, url, what }) => id && !url && what !== 'branch').map(({ id }) => this.server.post('send', { id })));
    this.trigger('reuse', { text: parameters });
    const made = (what) => from.some((one) => one.what === what);
    const begins = made('mask') ? 'inpaint' : made('picture') ? 'image' : made('control') ? 'control' : 'text';
    tell('tab', { image2image: 'image', inpaint: 'inpaint' }[task] ?? begins);
  }

  /** A sentence in sight for a while, and read aloud. undo: does away with what it tells of. */
  say(sentence, { bad = false, undo = null } = {}) {
    if (!sentence) return;
    const again = undo ? [el('button.gallery-word', { type: 'button', onclick: () => undo() }, 'Undo')] : [];
    this.toast.classList.toggle('bad', bad);
    this.toast.replaceChildren(el('span', {}, sentence), ...again);
    this.toast.hidden = false;
    const front = [...this.root.querySelectorAll('dialog[open]')].at(-1) ?? this.root; // else it were behind
    if (this.toast.parentNode !== front) front.append(this.toast);
    clearTimeout(this.fading);
    this.fading = setTimeout(() => (this.toast.hidden = true), undo || bad ? UNDONE : SHOWN);
  }

  // Keys: those of the page (Escape stops a run there) come after these

  key(event) {
    if (!this.seen || !this.root.isConnected || event.defaultPrevented || document.querySelector('dialog[open]')) return;
    const typing = event.target.closest?.('input, textarea, select');
    const held = event.ctrlKey || event.metaKey;
    if (event.key === '/' && !typing && !held) {
      this.filters.search.focus();
      this.filters.search.select();
    } else if (event.key === 'Escape' && !typing && this.selection.size) this.selection.clear();
    else if (event.key === 'z' && held && !typing && this.undo) this.undo();
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }
}
