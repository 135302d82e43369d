// Which pictures are chosen, by their ids: they stay chosen while the list moves under them.

export class Selection {
  constructor(changed) {
    this.changed = changed;
    this.chosen = new Map(); // id -> its entry, null where that was never fetched
    this.anchor = null; // id from which a range is drawn
  }

  get size() {
    return this.chosen.size;
  }

  get first() {
    return this.chosen.values().next().value;
  }

  get ids() {
    return [...this.chosen.keys()];
  }

  has(id) {
    return this.chosen.has(id);
  }

  toggle(entry) {
    if (this.chosen.has(entry.id)) this.chosen.delete(entry.id);
    else this.chosen.set(entry.id, entry);
    this.anchor = entry.id;
    this.changed();
  }

  /** More of them; what is chosen already stays. */
  add(entries) {
    for (const entry of entries) this.chosen.set(entry.id, entry);
    this.changed();
  }

  replace(pairs) {
    this.chosen = new Map(pairs);
    this.changed();
  }

  drop(ids) {
    for (const id of ids) this.chosen.delete(id);
    this.changed();
  }

  clear() {
    if (!this.chosen.size) return;
    this.chosen.clear();
    this.changed();
  }

  /** What is known of them now. */
  amend(known) {
    for (const [id, entry] of known) if (this.chosen.has(id)) this.chosen.set(id, entry);
  }
}
