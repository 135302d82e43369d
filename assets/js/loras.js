// The LoRAs of a run: a line each with its weight, what it does over the steps folded under it, and the list
// from which one is added.

import { el, heard, icon, say, tell } from './dom.js';
import { Line } from './lora-line.js';
import { Picker } from './lora-picker.js';

const ADD = 'M12 5v14 M5 12h14';
const REST = 150; // milliseconds until changes that follow each other closely are told

const panels = new Map(); // element id -> the panel that is in the page under it

for (const name of ['problems', 'lora', 'were']) {
  heard(name, (detail) => panels.forEach((panel) => panel.root.isConnected && panel[name](detail)));
}

export function mount(part) {
  const panel = new Panel(part);
  panels.set(panel.host.id, panel);
  return panel;
}

const copied = (value) => JSON.parse(JSON.stringify(value));

class Panel {
  constructor({ root, props, trigger }) {
    Object.assign(this, { root, props, trigger });
    this.host = root.closest('.block') ?? root;
    this.value = { available: [], fields: {}, most: 16 };
    this.loras = [];
    this.lines = new Map();
    this.before = null; // the settings that a LoRA's own have taken the place of
    this.build();
  }

  build() {
    this.root.className = 'loras-panel';
    this.list = el('div.loras-list');
    this.picker = new Picker((row) => this.add(row));
    this.plus = el(
      'button.loras-add',
      { type: 'button', 'aria-haspopup': 'dialog', onclick: () => this.picker.open(this.value.available, this.loras, this.plus) },
      icon(ADD),
      el('span', {}, 'Add'),
    );
    this.suit = el('p.loras-suit', { role: 'status' });
    this.alert = el('p.lora-problem', { role: 'alert', hidden: true });
    const head = el('div.loras-head', {}, el('h3', {}, 'LoRAs'), (this.none = el('span.loras-none')), this.plus);
    this.root.append(head, this.list, this.suit, this.alert, this.picker.root);
  }

  // What comes from the server

  /** A value, or a part of one: what it does not name stays as it is. */
  show(value) {
    if (!value || typeof value !== 'object') return this.publish();
    if (JSON.stringify(value) === this.told) return;
    const { loras, suit, ...rest } = copied(value);
    Object.assign(this.value, Object.fromEntries(Object.entries(rest).filter(([, one]) => one !== null)));
    if (loras && JSON.stringify(loras) !== JSON.stringify(this.loras)) {
      this.lines.clear();
      this.loras = loras.map((one) => ({ ...this.plain(), ...one }));
    }
    this.publish();
    this.picker.update(this.value.available);
    this.draw();
  }

  plain() {
    const fields = Object.entries(this.value.fields).map(([name, { default: value }]) => [name, copied(value ?? null)]);
    return { ...Object.fromEntries(fields), on: true };
  }

  row(key) {
    return this.value.available.find((one) => one.key === key);
  }

  // What goes to the server

  publish(more = {}) {
    const value = copied({ ...this.value, loras: this.loras, ...more });
    this.told = JSON.stringify(value);
    this.props.value = value;
  }

  changed() {
    this.publish();
    this.announce();
    this.resting ??= setTimeout(() => {
      this.resting = null;
      if (this.root.isConnected) this.trigger('changed', { loras: copied(this.loras) });
    }, REST);
  }

  // They come and go

  /** Adds one of those there are, or turns it on again. */
  add({ key, weight = 1 }) {
    const there = this.loras.find((one) => one.name === key);
    const row = this.row(key);
    if (there) there.on = true;
    else if (this.loras.length < this.value.most) this.loras.push({ ...this.plain(), name: key, weight });
    this.changed();
    this.draw();
    const line = this.lines.get(this.loras.find((one) => one.name === key));
    line?.focus();
    if (row && Object.keys(row.settings ?? {}).length) this.set(row);
  }

  remove(lora) {
    const at = this.loras.indexOf(lora);
    this.loras.splice(at, 1);
    this.lines.delete(lora);
    this.changed();
    this.draw();
    const next = this.loras[at] ?? this.loras[at - 1];
    if (next) this.lines.get(next).focus();
    else this.plus.focus();
    if (this.before?.key === lora.name) this.setBack();
  }

  /** The page asks for one by its name. */
  lora({ name, weight }) {
    this.add({ key: name, weight: weight ?? this.row(name)?.weight ?? 1 });
  }

  // Settings that suit a LoRA

  set(row) {
    if (this.before?.key === row.key) return;
    this.publish({ suit: row.settings });
    this.before = { key: row.key, title: row.title, told: row.told, settings: null };
    this.trigger('suited');
  }

  /** What the settings were before, by name; told by the form once they have been changed. */
  were(settings) {
    if (this.before) this.before.settings = settings;
    this.draw();
    this.changed(); // the curve among them tells nobody when it is set
  }

  setBack() {
    const settings = this.before?.settings;
    this.before = null;
    this.draw();
    if (!settings) return;
    this.publish({ suit: settings });
    this.trigger('suited');
  }

  // What the page tells

  problems(problems) {
    const sentence = problems.loras ?? '';
    say(this.alert, sentence);
    this.alert.hidden = !sentence;
    queueMicrotask(() => {
      // after page.js, which marks a field as a whole
      this.host.classList.remove('wrong');
      this.host.querySelectorAll(`.problem[data-field="${this.host.id}"]`).forEach((told) => told.remove());
    });
  }

  // Drawing

  draw() {
    for (const lora of this.loras) {
      if (!this.lines.has(lora)) this.lines.set(lora, new Line(lora, this));
    }
    const roots = this.loras.map((lora) => this.lines.get(lora).root);
    if (roots.length !== this.list.children.length || roots.some((root, at) => this.list.children[at] !== root)) {
      this.list.replaceChildren(...roots);
    }
    this.lines.forEach((line) => line.show());
    say(this.none, this.loras.length ? '' : 'none');
    this.plus.disabled = this.loras.length >= this.value.most;
    this.drawSuit();
    this.announce();
  }

  /** What is on, for the header. */
  announce() {
    const on = this.loras.filter((one) => one.on);
    tell('loras', on.map(({ name, weight }) => ({ title: this.row(name)?.title ?? name, weight })));
  }

  drawSuit() {
    const { before } = this;
    const aside = this.row(before?.key)?.settings?.guidance_scale !== undefined && before.settings?.guidance_points?.points?.length;
    const told = before ? `Set for ${before.title}: ${before.told}.${aside ? ' The drawn guidance is laid aside.' : ''} ` : '';
    if (told === this.suitDrawn) return;
    this.suitDrawn = told;
    if (!before) return this.suit.replaceChildren();
    const back = el('button.word', { type: 'button', onclick: () => this.setBack() }, 'Set back');
    this.suit.replaceChildren(told, back);
  }
}
