// The list on the left: everything, the starred ones, the boards and the trash. Pictures are dropped onto boards.

import { el, icon, say } from './dom.js';
import { asked } from './gallery-ask.js';
import { samePlace } from './gallery-view.js';

const ICONS = {
  all: 'M4 5h7v6H4z M13 5h7v6h-7z M4 13h7v6H4z M13 13h7v6h-7z',
  star: 'M12 3.5l2.6 5.5 6 .8-4.4 4.1 1.1 6L12 17l-5.3 2.9 1.1-6L3.4 9.8l6-.8z',
  board: 'M4 7.5V18a1.5 1.5 0 0 0 1.5 1.5h13A1.5 1.5 0 0 0 20 18V9a1.5 1.5 0 0 0-1.5-1.5H12l-2-3H5.5A1.5 1.5 0 0 0 4 6z',
  trash: 'M5 7h14 M10 7V5h4v2 M7 7l1 13h8l1-13',
};
const PLUS = 'M12 5v14 M5 12h14';

export class Boards {
  /** go(place): looks at it. put(board): the dragged pictures go there. keep(asked): POST boards, resolves with whether. */
  constructor({ go, put, binned, keep }) {
    Object.assign(this, { go, put, binned, keep });
    this.rows = new Map(); // key -> its row
    this.boards = [];
    this.build();
  }

  build() {
    this.list = el('ul.gallery-places');
    this.fresh = el('button.gallery-new', { type: 'button', onclick: () => this.name() }, icon(PLUS), 'New board');
    this.field = el('input', { type: 'text', maxLength: 80, placeholder: 'Name of the board', 'aria-label': 'Name of the board' });
    this.form = el('form.gallery-naming', { hidden: true, onsubmit: (event) => (event.preventDefault(), this.named()) }, this.field, el('button.gallery-word', { type: 'submit' }, 'Keep'));
    this.field.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') event.stopPropagation(), this.close();
    });
    this.field.addEventListener('blur', (event) => !this.form.contains(event.relatedTarget) && !this.field.value.trim() && this.close(false));
    this.problem = el('p.gallery-problem', { role: 'alert' });
    this.root = el('nav.gallery-side', { 'aria-label': 'Boards' }, this.list, this.fresh, this.form, this.problem);
  }

  show(view, facets) {
    this.view = view;
    this.boards = (facets.boards ?? []).map(([name]) => name);
    const places = [
      { key: 'all', title: 'All pictures', count: facets.all, place: {} },
      { key: 'star', title: 'Starred', count: facets.stars, place: { star: '1' } },
      ...(facets.boards ?? []).map(([name, count]) => ({ key: `board ${name}`, title: name, count, place: { board: name }, board: name })),
      { key: 'trash', title: 'Trash', count: facets.trash, place: { trash: '1' } },
    ];
    const keys = new Set(places.map(({ key }) => key));
    for (const [key, row] of this.rows) if (!keys.has(key)) row.remove(), this.rows.delete(key);
    places.forEach((place, at) => {
      if (!this.rows.has(place.key)) this.rows.set(place.key, this.row(place));
      const row = this.rows.get(place.key);
      if (this.list.children[at] !== row) this.list.insertBefore(row, this.list.children[at] ?? null);
      this.fill(row, place);
    });
  }

  row({ key, title, place, board }) {
    const button = el('button.gallery-place-button', { type: 'button', onclick: () => this.go(place) },
      icon(ICONS[board === undefined ? key : 'board']), el('span.gallery-place-name', {}, title), el('span.gallery-number'));
    const row = el('li', {}, button);
    if (board !== undefined) {
      const deed = (text, path, onclick) => el('button.gallery-board-deed', { type: 'button', title: text, 'aria-label': `${text}: ${board}`, onclick }, icon(path));
      row.append(deed('Rename', 'M4 20l1-4L16 5l3 3L8 19z', () => this.name(board)), deed('Delete', 'M6 6l12 12 M18 6L6 18', () => this.remove(board)));
    }
    if (board !== undefined || key !== 'star') this.takes(row, board, key);
    return row;
  }

  /** Pictures from the grid can be dropped on it. */
  takes(row, board, key) {
    const over = (event) => {
      if (!this.dragging) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = 'move';
      row.classList.add('over');
    };
    row.addEventListener('dragenter', over);
    row.addEventListener('dragover', over);
    row.addEventListener('dragleave', (event) => !row.contains(event.relatedTarget) && row.classList.remove('over'));
    row.addEventListener('drop', (event) => {
      row.classList.remove('over');
      if (!this.dragging) return;
      event.preventDefault();
      if (key === 'trash') this.binned();
      else this.put(board ?? null);
    });
  }

  fill(row, { place, count = 0 }) {
    const number = row.querySelector('.gallery-number');
    say(number, count ? count.toLocaleString('en') : '');
    if (samePlace(this.view, place)) row.firstChild.setAttribute('aria-current', 'page');
    else row.firstChild.removeAttribute('aria-current');
  }

  /** Asks for a board's name: a new one's, or another for `board`. */
  name(board = null) {
    this.renamed = board;
    this.field.value = board ?? '';
    this.form.hidden = false;
    this.fresh.hidden = true;
    say(this.problem, '');
    this.field.focus();
    this.field.select();
  }

  close(focus = true) {
    this.form.hidden = true;
    this.fresh.hidden = false;
    say(this.problem, '');
    if (focus) this.fresh.focus();
  }

  async named() {
    const name = this.field.value.trim();
    const { renamed } = this;
    if (!name || name === renamed) return this.close();
    const answer = await this.keep(renamed === null ? { op: 'create', name } : { op: 'rename', name: renamed, to: name });
    if (answer.problem) return say(this.problem, answer.problem);
    this.close(renamed !== null);
    if (renamed === null) this.go({ board: name });
    else if (this.view.board === renamed) this.go({ board: name });
    return null;
  }

  async remove(board) {
    const sure = await asked(this.root, `Delete the board “${board}”? Its pictures stay in the gallery.`, 'Delete the board');
    if (!sure) return;
    const answer = await this.keep({ op: 'delete', name: board });
    if (answer.problem) say(this.problem, answer.problem);
    else if (this.view.board === board) this.go({});
  }
}
