// Where a picture comes from and what came of it, as small pictures that open.

import { el } from './dom.js';

const WHAT = { picture: 'picture', mask: 'mask', branch: 'branch of', control: 'control map', init: 'picture' };

/** open(id): looks at that one. */
export function lineage(known, gallery, open) {
  const into = (known.into ?? []).map((one) => (typeof one === 'string' ? { id: one } : one));
  return [section('Made from', known.from ?? [], gallery, open), section('Led to', into, gallery, open)].filter(Boolean);
}

function section(title, rows, gallery, open) {
  if (!rows.length) return null;
  return el('section.gallery-part', {}, el('h3', {}, title), el('ul.gallery-kin', {}, ...rows.map((row) => el('li', {}, kin(row, gallery, open)))));
}

function kin({ id, what, label, url }, gallery, open) {
  const word = WHAT[what] ?? what ?? '';
  const words = [word, label].filter(Boolean).join(': ') || 'a picture';
  const address = id ? gallery.server.url('thumb', { id }) : url && new URL(url, document.baseURI).href;
  const picture = address ? el('img', { src: address, alt: '', loading: 'lazy', draggable: false }) : el('span.gallery-gone', { 'aria-hidden': 'true' });
  const caption = el('span', {}, label || word);
  // What is kept only as a shown picture (a mask, a drawing) is no picture of the gallery: there is nothing to open.
  if (!id) return el('span.gallery-kin-one', { title: `${words} (not in the gallery)` }, picture, caption);
  return el('button.gallery-kin-one', { type: 'button', title: words, 'aria-label': `Open the ${words}`, onclick: () => open(id) }, picture, caption);
}
