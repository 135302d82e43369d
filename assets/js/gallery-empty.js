// Where there is no picture: why, and what to do about it.

import { el, tell } from './dom.js';
import { filtersOf } from './gallery-view.js';

export function empty(host, gallery) {
  const { view, facets } = gallery;
  const narrowed = filtersOf(view);
  const drawn = JSON.stringify([view, facets.all]);
  if (host.dataset.drawn === drawn) return;
  host.dataset.drawn = drawn;
  const button = (text, onclick) => el('button.deed', { type: 'button', onclick }, text);
  const import_ = () => button('Import pictures', () => gallery.importer.open());
  const say = (title, words, ...deeds) => host.replaceChildren(el('h3', {}, title), el('p', {}, words), el('div.gallery-deeds', {}, ...deeds));
  if (narrowed.length) {
    const words = view.q ? `No picture's prompt, parameters or note has all the words of “${view.q}”${narrowed.length > 1 ? ' and fits the filters' : ''}.` : 'No picture fits the filters.';
    return say('Nothing found', words, button('Show everything here', () => gallery.filters.reset()));
  }
  if (view.trash) return say('The trash is empty', 'What is moved to the trash stays here until you empty it.');
  if (view.star) return say('No stars yet', 'Press S on a picture, or the star in its corner, and it is found again here.');
  if (view.board) return say(`“${view.board}” is empty`, 'Choose pictures and put them on this board, or drag them onto its name.', button('All pictures', () => gallery.go({})));
  return say('Every picture you make is kept here', 'Nothing is made yet. Pictures of other programs can be brought in: what they were made with is read from the files.',
    button('Paint a first picture', () => tell('tab', 'text')), import_());
}
