// The LoRAs and control units of a branch: each on or off, and how strongly it counts.

import { el } from './dom.js';
import { slider, toggle } from './unit-fields.js';

const SORTS = {
  loras: { key: 'name', weight: 'weight', field: 'lora', title: 'LoRAs' },
  controls: { key: 'model', weight: 'controlnet_conditioning_scale', field: 'control', title: 'Control' },
};

export class Things {
  constructor(changed) {
    this.changed = changed;
    this.rows = { loras: [], controls: [] };
    this.lists = { loras: el('div.branch-things'), controls: el('div.branch-things') };
    this.add = el('select.branch-add', { 'aria-label': 'Add a LoRA', onchange: () => this.added() });
    this.heads = Object.fromEntries(Object.entries(SORTS).map(([sort, { title }]) => [sort, el('h4.branch-sort', {}, title)]));
    this.root = el('div.branch-thinglists', {}, this.heads.loras, this.lists.loras, this.add, this.heads.controls, this.lists.controls);
  }

  fill({ values, fields, titles, loras }) {
    Object.assign(this, { fields, titles, offered: loras });
    for (const sort of Object.keys(SORTS)) {
      this.rows[sort] = [];
      this.lists[sort].replaceChildren();
      for (const thing of values[sort] ?? []) this.row(sort, { ...thing });
    }
    this.offer();
  }

  row(sort, thing) {
    const { key, weight, field } = SORTS[sort];
    const title = this.titles[thing[key]] ?? thing[key];
    const row = { thing, on: true };
    const change = () => this.changed();
    const on = toggle((now) => ((row.on = now), on.show(now, title), root.classList.toggle('off', !now), change()));
    const strength = slider({ ...this.fields[field], title: 'Weight' }, (now) => ((thing[weight] = now), change()));
    const root = el('div.branch-thing', { role: 'group', 'aria-label': title }, el('div.branch-name', {}, on.root, el('span', {}, title)), strength.root);
    on.show(true, title);
    strength.show(thing[weight]);
    this.rows[sort].push(row);
    this.lists[sort].append(root);
  }

  added() {
    const row = this.offered.find(({ key }) => key === this.add.value);
    if (row) this.row('loras', { name: row.key, weight: row.weight });
    this.offer();
    this.changed();
  }

  offer() {
    const there = new Set(this.rows.loras.map(({ thing }) => thing.name));
    const left = this.offered.filter(({ key }) => !there.has(key));
    this.add.replaceChildren(el('option', { value: '' }, 'Add a LoRA …'), ...left.map(({ key, title }) => el('option', { value: key }, title)));
    this.add.value = '';
    this.add.hidden = !left.length;
    this.heads.loras.hidden = !left.length && !there.size;
    this.heads.controls.hidden = !this.rows.controls.length;
  }

  /** What is on, as the request wants it. */
  get value() {
    return Object.fromEntries(Object.keys(SORTS).map((sort) => [sort, this.rows[sort].filter((row) => row.on).map((row) => row.thing)]));
  }
}
