// Where a picture comes from and what came of it, as small pictures that open.

import { el } from './dom.js';

const FROM = { picture: 'Picture', painted: 'Painted on', mask: 'Mask', control: 'Map', branch: 'Branched from' };
const INTO = [[/^mask/i, 'As mask'], [/^control/i, 'As map'], [/^branch/i, 'Branch'], [/./, 'As picture']];

/** open(id): looks at that one. */
export function lineage(known, gallery, open) {
  const from = (known.from ?? []).map((one) => ({ ...one, word: FROM[one.what] ?? one.label }));
  const into = (known.into ?? []).map((one) => ({ ...one, word: INTO.find(([sort]) => sort.test(one.label || '-'))[1] }));
  return [section('Made from', from, gallery, open), section('Led to', into, gallery, open)].filter(Boolean);
}

function section(title, rows, gallery, open) {
  if (!rows.length) return null;
  return el('section.gallery-part', {}, el('h3', {}, title), el('ul.gallery-kin', {}, ...rows.map((row) => el('li', {}, kin(row, gallery, open)))));
}

function kin({ id, word, label, url }, gallery, open) {
  const address = id ? gallery.server.url('thumb', { id }) : url && new URL(url, document.baseURI).href;
  const picture = address ? el('img', { src: address, alt: '', loading: 'lazy', draggable: false }) : el('span.gallery-gone', { 'aria-hidden': 'true' });
  const title = label ? `${word}: ${label}` : word;
  const caption = el('span', {}, word);
  // What is kept only as a shown picture (a mask, a drawing) is no picture of the gallery: there is nothing to open.
  if (!id) return el('span.gallery-kin-one', { title: `${title} (not in the gallery)` }, picture, caption);
  return el('button.gallery-kin-one', { type: 'button', title, 'aria-label': `Open: ${title}`, onclick: () => open(id) }, picture, caption);
}
