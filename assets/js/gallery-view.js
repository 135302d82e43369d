// Which pictures are shown: what is searched for, the filters and the order; it stands in the page's address.

export const SORTS = { newest: 'Newest first', oldest: 'Oldest first', name: 'By name', seed: 'By seed' };
const NAMES = ['q', 'task', 'model', 'lora', 'sampler', 'board', 'star', 'from', 'to', 'trash', 'sort'];
const PLACES = ['board', 'star', 'trash']; // told by the list on the left, not among the filters
const TAB = 'gallery';

/** A view without what is not set; a wrong order is the usual one. */
export function viewOf(values) {
  const kept = NAMES.map((name) => [name, String(values[name] ?? '').trim()]).filter(([, value]) => value);
  const view = Object.fromEntries(kept);
  if (!(view.sort in SORTS) || view.sort === 'newest') delete view.sort;
  return view;
}

export const sameView = (one, other) => NAMES.every((name) => (one[name] ?? '') === (other[name] ?? ''));

/** What narrows the view down, beside the place that is looked at and the order. */
export const filtersOf = (view) => NAMES.filter((name) => view[name] && name !== 'sort' && !PLACES.includes(name));

/** The place alone: everything, the starred ones, a board or the trash. */
export const placeOf = (view) => viewOf(Object.fromEntries(PLACES.map((name) => [name, view[name]])));

export const samePlace = (one, other) => PLACES.every((name) => (one[name] ?? '') === (other[name] ?? ''));

/** The view in the page's address; null where another tab's is there, or none. */
export function addressed() {
  const [tab, query] = location.hash.slice(1).split('?');
  return tab === TAB && query ? viewOf(Object.fromEntries(new URLSearchParams(query))) : null;
}

/** Puts a view into the address, as long as the tab is open. */
export function address(view) {
  if (location.hash.slice(1).split('?')[0] !== TAB) return;
  const query = String(new URLSearchParams(view));
  const hash = `#${TAB}${query ? `?${query}` : ''}`;
  if (location.hash !== hash) history.replaceState(null, '', hash);
}
