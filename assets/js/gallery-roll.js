// The pictures that a view shows, in order: counted at once, fetched by the page when they come into sight.

const PAGE = 200;
const KEPT = 40; // pages; the ones farthest from what is in sight are forgotten
const AT_ONCE = 2; // a browser opens six connections, and thumbnails want some

export class Roll {
  /** changed({fresh}): entries came; fresh: it is another list, or the list has changed. failed(sentence). */
  constructor(server, { changed, failed }) {
    Object.assign(this, { server, changed, failed });
    this.view = {};
    this.total = null; // not told yet
    this.edition = null;
    this.told = {}; // what else the server tells with a page: how far it has read, notes
    this.pages = new Map(); // number -> entries
    this.asking = new Set();
    this.wanted = [0, 0];
    this.era = 0;
  }

  at(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  /** Where an entry stands, among the pages that are known; -1 elsewhere. */
  indexOf(id) {
    for (const [page, entries] of this.pages) {
      const place = entries.findIndex((entry) => entry.id === id);
      if (place >= 0) return page * PAGE + place;
    }
    return -1;
  }

  /** The entries that are known, by their ids. */
  known() {
    return new Map([...this.pages.values()].flat().map((entry) => [entry.id, entry]));
  }

  /** Entries that these are not any more, as a star was set: shown at once, before the server tells. */
  amend(ids, change) {
    const touched = new Set(ids);
    for (const [page, entries] of this.pages) {
      if (!entries.some((entry) => touched.has(entry.id))) continue;
      this.pages.set(page, entries.map((entry) => (touched.has(entry.id) ? { ...entry, ...change } : entry)));
    }
    this.changed({});
  }

  /** Another view: what is in sight stays until its first page is there. */
  open(view) {
    this.view = view;
    return this.restart(0, null);
  }

  /** The same view anew, since something has changed. keep: the id whose place is kept; resolves with its index. */
  async refresh(keep) {
    const index = keep ? this.indexOf(keep) : -1;
    return this.restart(Math.max(0, index), keep);
  }

  async restart(near, keep) {
    const era = (this.era += 1);
    this.cut?.abort();
    this.cut = new AbortController();
    this.asking.clear();
    let page = Math.floor(near / PAGE);
    let answer = await this.ask(page, keep ? { at: keep } : {});
    if (this.era !== era || answer.dropped) return null;
    const moved = answer.at ?? null;
    const past = answer.total !== undefined && page * PAGE >= answer.total && page > 0;
    if (!answer.problem && (past || (moved !== null && Math.floor(moved / PAGE) !== page))) {
      page = Math.floor((moved ?? Math.max(0, answer.total - 1)) / PAGE);
      answer = await this.ask(page);
      if (this.era !== era || answer.dropped) return null;
    }
    if (answer.problem) return this.failed(answer.problem), null;
    this.pages = new Map([[page, answer.entries]]);
    this.total = answer.total;
    this.edition = answer.edition;
    this.told = answer;
    const index = keep ? (moved ?? this.indexOf(keep)) : -1;
    this.changed({ fresh: true, keep: index < 0 ? null : index });
    this.fill();
    return index;
  }

  ask(page, more = {}) {
    return this.server.get('list', { ...this.view, offset: page * PAGE, limit: PAGE, ...more }, this.cut?.signal);
  }

  /** These are in sight: what lacks of them is fetched, and what they border on. */
  need(first, last) {
    this.wanted = [first, last];
    this.fill();
  }

  /** Always looks at what is in sight now: pages that were scrolled past are never asked for. */
  fill() {
    while (this.total && this.asking.size < AT_ONCE) {
      const page = this.lacking();
      if (page === undefined) return;
      this.fetch(page);
    }
  }

  lacking() {
    const [first, last] = this.wanted.map((index) => Math.floor(Math.max(0, Math.min(index, this.total - 1)) / PAGE));
    const order = [];
    for (let page = first; page <= last; page += 1) order.push(page);
    const end = Math.floor((this.total - 1) / PAGE);
    order.push(...[last + 1, first - 1].filter((page) => page >= 0 && page <= end));
    return order.find((page) => !this.pages.has(page) && !this.asking.has(page));
  }

  async fetch(page) {
    const { era } = this;
    this.asking.add(page);
    const answer = await this.ask(page);
    if (this.era !== era || answer.dropped) return;
    this.asking.delete(page);
    if (answer.problem) return this.failed(answer.problem);
    this.pages.set(page, answer.entries);
    this.forget();
    if (answer.edition !== this.edition) return this.stale?.(answer.edition); // changed between two pages
    this.changed({});
    this.fill();
  }

  forget() {
    if (this.pages.size <= KEPT) return;
    const middle = Math.floor((this.wanted[0] + this.wanted[1]) / 2 / PAGE);
    const far = [...this.pages.keys()].sort((one, other) => Math.abs(other - middle) - Math.abs(one - middle))[0];
    this.pages.delete(far);
  }

  /** Every id of the view, in order; {problem} where they were not told. */
  ids() {
    return this.server.get('ids', this.view);
  }
}
