// What is done with the chosen pictures: the line above the grid, and for a first choice, that there is one.

import { el, icon, say } from './dom.js';
import { picturesOf } from './gallery-words.js';

export const ICONS = {
  star: 'M12 3.5l2.6 5.5 6 .8-4.4 4.1 1.1 6L12 17l-5.3 2.9 1.1-6L3.4 9.8l6-.8z',
  compare: 'M4 5h7v14H4z M13 5h7v14h-7z',
  zip: 'M12 4v11 M7 11l5 5 5-5 M5 20h14',
  trash: 'M5 7h14 M10 7V5h4v2 M7 7l1 13h8l1-13',
  back: 'M4 12a8 8 0 1 0 3-6 M4 4v5h5',
  close: 'M6 6l12 12 M18 6L6 18',
  all: 'M4 4h16v16H4z M8 12.5l3 3L16.5 9',
};
const NEW = '\n'; // no board has such a name
const NONE = '\n\n';

export class Choice {
  constructor(gallery) {
    this.gallery = gallery;
    this.build();
  }

  build() {
    const { gallery } = this;
    const { selection } = gallery;
    const deed = (path, text, onclick) => el('button.deed', { type: 'button', 'aria-label': text, onclick }, icon(ICONS[path]), el('span', {}, text));
    this.count = el('span.gallery-chosen');
    this.star = deed('star', 'Star', () => gallery.star([...selection.chosen].map(([id, entry]) => entry ?? { id })));
    this.boards = boardMenu((board) => gallery.board(selection.ids, board), gallery);
    this.compare = deed('compare', 'Compare', () => this.compareTwo());
    this.zip = deed('zip', 'Export ZIP', () => this.pack());
    this.trash = deed('trash', 'To trash', () => gallery.trash(selection.ids));
    this.back = deed('back', 'Put back', () => gallery.restore(selection.ids));
    this.all = deed('all', 'All', () => gallery.choose());
    this.all.title = 'Choose all (Ctrl+A)';
    this.close = el('button.gallery-icon', { type: 'button', title: 'Choose none (Esc)', 'aria-label': 'Choose none', onclick: () => (selection.clear(), gallery.grid.root.focus()) }, icon(ICONS.close));
    this.some = el('div.gallery-choice', { role: 'group', 'aria-label': 'The chosen pictures', hidden: true },
      this.close, this.count, this.star, this.boards, this.compare, this.zip, this.back, this.trash, this.all);
    this.empty = deed('trash', 'Empty trash', () => gallery.emptyTrash());
    this.root = el('div.gallery-deeds', {}, this.some, this.empty);
  }

  show() {
    const { selection, view, facets, line } = this.gallery;
    const { size } = selection;
    const inTrash = Boolean(view.trash);
    this.some.hidden = !size;
    line.hidden = size > 0;
    this.empty.hidden = size > 0 || !inTrash || !facets.trash;
    if (!size) return;
    say(this.count, `${size.toLocaleString('en')} chosen`);
    const starred = selection.first?.star;
    const word = starred ? 'Unstar' : 'Star';
    say(this.star.lastChild, word);
    this.star.setAttribute('aria-label', word);
    for (const part of [this.star, this.boards, this.trash]) part.hidden = inTrash;
    this.back.hidden = !inTrash;
    this.compare.hidden = inTrash;
    this.compare.disabled = size !== 2;
    this.compare.title = size === 2 ? '' : 'Choose two pictures to compare them';
    this.all.hidden = size >= (this.gallery.roll.total ?? 0);
    this.boards.fill();
  }

  async pack() {
    const { gallery } = this;
    const { ids } = gallery.selection;
    gallery.say(`${picturesOf(ids.length)} are packed …`);
    const answer = await gallery.server.pack(ids);
    if (answer.problem) gallery.say(answer.problem, { bad: true });
    else gallery.say(answer.dropped ? 'Nothing was exported.' : `${picturesOf(ids.length)} exported.`);
  }

  compareTwo() {
    const { selection, compare } = this.gallery;
    if (selection.size === 2) compare.open(selection.ids);
  }
}

/** A menu that puts pictures on a board. chosen(board): a name, or null for none. */
export function boardMenu(chosen, gallery, current = null) {
  const menu = el('select.gallery-boards', { 'aria-label': 'Put on a board' });
  menu.fill = (now = current) => {
    const names = gallery.boards.boards;
    const drawn = JSON.stringify([names, now]);
    if (menu.drawn === drawn) return;
    menu.drawn = drawn;
    const option = (value, text) => el('option', { value }, text);
    const none = now ?? (names.length ? '' : null);
    menu.replaceChildren(option('', now === null ? 'Add to board …' : `Board: ${now}`), ...names.filter((name) => name !== now).map((name) => option(name, name)),
      ...(none === null ? [] : [option(NONE, 'No board')]), option(NEW, 'New board …'));
    menu.value = '';
  };
  menu.onchange = async () => {
    const { value } = menu;
    menu.value = '';
    if (value === NEW) {
      const name = await named(menu);
      if (!name) return;
      const answer = await gallery.keepBoard({ op: 'create', name });
      if (answer.problem !== undefined) gallery.say(answer.problem, { bad: true });
      else chosen(name);
    } else if (value) chosen(value === NONE ? null : value);
  };
  return menu;
}

/** Asks for a board's name; resolves with '' where none was given. */
function named(host) {
  return new Promise((resolve) => {
    const field = el('input', { type: 'text', maxLength: 80, 'aria-label': 'Name of the board', required: true });
    const form = el('form', { method: 'dialog' }, el('label.gallery-label', {}, 'Name of the new board', field),
      el('div.gallery-deeds', {}, el('button.deed', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), el('button.gallery-go', { value: 'yes' }, 'Make the board')));
    const dialog = el('dialog.gallery-question', { 'aria-label': 'New board' }, form);
    dialog.addEventListener('close', () => (dialog.remove(), resolve(dialog.returnValue === 'yes' ? field.value.trim() : '')));
    host.closest('.gallery-panel').append(dialog);
    dialog.showModal();
    field.focus();
  });
}
