// The panel of control units: which there are, which one is open, and what the page and the server tell of them.

import { el, heard, icon, say } from './dom.js';
import { Card } from './unit-card.js';
import { figure } from './unit-figure.js';
import * as pairs from './unit-pairs.js';
import { takesPictures } from './unit-picture.js';

const ADD = 'M12 5v14 M5 12h14';
const REST = 150; // milliseconds until changes that follow each other closely are told
const NUMBERED = /^Control unit (\d+):? */;

const panels = new Map(); // element id -> the panel that is in the page under it

for (const name of ['problems', 'settle', 'give', 'engine', 'controlnet']) {
  heard(name, (detail) => panels.forEach((panel) => panel.root.isConnected && panel[name](detail)));
}

export function mount(part) {
  const panel = new Panel(part);
  panels.set(panel.id, panel);
  return panel;
}

const copied = (value) => JSON.parse(JSON.stringify(value));

class Panel {
  constructor({ root, props, trigger, server }) {
    Object.assign(this, { root, props, trigger, server });
    this.host = root.closest('.block') ?? root; // the element that has the id
    this.id = this.host.id;
    this.value = { networks: [], preprocessors: [], presets: [], examples: [], fields: {}, most: 4, width: 256, height: 256 };
    this.units = [];
    this.cards = new Map();
    this.build();
  }

  build() {
    this.root.className = 'units-panel';
    this.list = el('div.units-list');
    this.empty = el(
      'div.units-empty',
      {},
      el('b', {}, 'Let the picture follow something'),
      el('p', {}, 'The edges of a drawing, a pose, any map of a scene: you say what is where, the prompt what it looks like. Begin with one of these, or with a picture of your own.'),
      (this.examples = el('div.units-examples')),
    );
    this.add = el('button.units-add', { type: 'button', onclick: () => this.addUnit() }, icon(ADD), el('span', {}, 'Add a unit'));
    this.enough = el('p.units-note');
    this.gone = el('p.units-note.units-gone', { role: 'status' });
    this.alert = el('p.unit-problem', { role: 'alert', hidden: true });
    const foot = el('div.units-foot.takes-pictures', {}, this.empty, this.add);
    takesPictures(foot, (file) => this.addWith(file));
    this.foot = foot;
    this.root.append(this.list, this.gone, foot, this.enough, this.alert);
  }

  // What comes from the server

  /** A value, or a part of one: what it does not name stays as it is. */
  show(value) {
    if (!value || typeof value !== 'object') return this.publish();
    if (JSON.stringify(value) === this.told) return;
    const { units, ...rest } = copied(value);
    const networks = JSON.stringify(this.value.networks);
    Object.assign(this.value, Object.fromEntries(Object.entries(rest).filter(([, one]) => one !== null)));
    let fitted = false;
    if (units && JSON.stringify(units) !== JSON.stringify(this.units)) this.replace(units);
    else if (networks !== JSON.stringify(this.value.networks)) fitted = this.fit();
    this.publish();
    if (fitted) this.remember();
    this.draw();
  }

  replace(units) {
    this.cards.forEach((card) => card.dispose());
    this.cards.clear();
    this.removed = null;
    this.units = units.map((unit) => ({ ...this.plain(), ...unit }));
    const open = this.units.find((unit) => unit.open);
    this.units.forEach((unit) => (unit.open = unit === open)); // one at a time
  }

  /** After a change of the model: ControlNets that do not go with it give way to those that do. */
  fit() {
    let changed = false;
    for (const unit of this.units) {
      const now = this.value.networks.find((one) => one.key === unit.model);
      const model = now && !now.unfit ? now.key : pairs.networkFor(unit.preprocessor, unit.model, this.value.networks);
      const next = this.value.networks.find((one) => one.key === model);
      if (model === unit.model || !next || !pairs.suits(next, unit.preprocessor)) continue;
      unit.model = model;
      changed = true;
    }
    return changed;
  }

  // What goes to the server

  publish() {
    const value = copied({ ...this.value, units: this.units });
    this.told = JSON.stringify(value);
    this.props.value = value;
  }

  /** A hand has changed something. */
  changed() {
    this.publish();
    this.remember();
  }

  remember() {
    this.resting ??= setTimeout(() => {
      this.resting = null;
      if (this.root.isConnected) this.trigger('changed', { units: copied(this.units) });
    }, REST);
  }

  // Units come and go

  /** A unit with nothing set. */
  plain() {
    const { fields } = this.value;
    const unit = Object.fromEntries(Object.entries(fields).map(([name, { default: value }]) => [name, copied(value ?? null)]));
    return { ...unit, model: unit.model ?? '', on: true, open: false, shown: { image: null, map: null } };
  }

  /** The first of the ready poses. */
  firstPose() {
    return this.placed(this.value.presets[0]?.people ?? []);
  }

  /** A pose in shares of a square, in the middle of a picture of the present shape. */
  placed(people) {
    const { width, height } = this.value;
    const side = Math.min(width, height);
    const put = (share, whole) => Number(((share - 0.5) * (side / whole) + 0.5).toFixed(6));
    return people.map((joints) => joints.map((at) => at && [put(at[0], width), put(at[1], height)]));
  }

  addUnit(given = {}) {
    if (this.units.length >= this.value.most) return null;
    const unit = { ...this.plain(), ...copied(given), on: true };
    unit.kind ??= Object.keys(given).length ? pairs.kindOf(unit) : pairs.firstKind(this.value);
    if (unit.kind === 'pose') unit.pose = given.pose?.length ? this.placed(unit.pose) : this.firstPose();
    unit.preprocessor = given.preprocessor ?? pairs.preprocessorFor(unit.kind, '', this.value);
    unit.model = pairs.networkFor(unit.preprocessor, unit.model, this.value.networks);
    this.insert(unit, this.units.length);
    return unit;
  }

  addWith(file) {
    const unit = this.addUnit({ kind: 'edges' });
    if (unit) this.cards.get(unit).source.take(file, 'image');
  }

  /** The page asks for a ControlNet by its key: a unit begins with what it follows. */
  controlnet({ key }) {
    const network = this.value.networks.find((one) => one.key === key);
    if (!network) return;
    const preprocessor = pairs.preprocessorOf(network, pairs.suits(network, 'canny') ? 'canny' : 'none');
    this.addUnit({ kind: pairs.kindFor(preprocessor), preprocessor, model: key });
  }

  insert(unit, at) {
    this.removed = null;
    this.units.splice(at, 0, unit);
    this.open(unit, true);
    this.cards.get(unit).head.focus({ preventScroll: true });
    this.cards.get(unit).root.scrollIntoView({ block: 'nearest' });
  }

  duplicate(unit) {
    if (this.units.length < this.value.most) this.insert(copied(unit), this.units.indexOf(unit) + 1);
  }

  remove(unit) {
    const at = this.units.indexOf(unit);
    this.units.splice(at, 1);
    this.cards.get(unit).dispose();
    this.cards.delete(unit);
    this.removed = { unit, at };
    this.changed();
    this.draw();
    const next = this.units[at] ?? this.units[at - 1];
    (next ? this.cards.get(next).head : this.add).focus();
  }

  open(unit, open) {
    this.units.forEach((one) => (one.open = one === unit && open));
    this.changed();
    this.draw();
  }

  // What the page tells

  problems(problems) {
    const sentence = problems.controls ?? '';
    const number = Number(NUMBERED.exec(sentence)?.[1]);
    const unit = this.units.filter((one) => one.on)[number - 1]; // those that are off were not sent
    queueMicrotask(() => this.unmark()); // after page.js, which marks the field as a whole
    this.cards.forEach((card) => card.complain(''));
    say(this.alert, unit ? '' : sentence);
    this.alert.hidden = Boolean(unit) || !sentence;
    if (!unit) return;
    if (!unit.open) this.open(unit, true);
    const words = sentence.replace(NUMBERED, '');
    const card = this.cards.get(unit);
    card.complain(words.charAt(0).toUpperCase() + words.slice(1));
    if (Object.keys(problems)[0] === 'controls') queueMicrotask(() => card.head.focus());
  }

  unmark() {
    this.host.classList.remove('wrong');
    this.host.querySelectorAll(`.problem[data-field="${this.id}"]`).forEach((told) => told.remove());
    this.host.querySelectorAll('[aria-invalid]').forEach((input) => input.removeAttribute('aria-invalid'));
  }

  /** Before a run: what is on its way is waited for, and a number that is still being typed counts. */
  settle({ wait }) {
    const { activeElement } = document;
    if (this.root.contains(activeElement) && activeElement.type === 'number') activeElement.dispatchEvent(new Event('change'));
    for (const card of this.cards.values()) wait.push(card.settled());
  }

  give({ to, image }) {
    if (to !== this.id) return;
    const unit = this.units.find((one) => one.open) ?? this.addUnit({ kind: 'edges' }) ?? this.units.at(-1);
    if (!unit.open) this.open(unit, true);
    this.cards.get(unit).give(image);
  }

  engine(state) {
    this.cards.forEach((card) => card.engine(state));
  }

  // Drawing

  draw() {
    for (const unit of this.units) {
      if (!this.cards.has(unit)) this.cards.set(unit, new Card(unit, this));
    }
    const roots = this.units.map((unit) => this.cards.get(unit).root);
    if (roots.some((root, at) => this.list.children[at] !== root)) this.list.replaceChildren(...roots);
    this.cards.forEach((card) => card.show());
    const full = this.units.length >= this.value.most;
    this.foot.hidden = full;
    say(this.enough, full ? `${this.value.most} units are the most that go together.` : '');
    this.drawEmpty();
    this.drawRemoved();
  }

  drawEmpty() {
    this.empty.hidden = this.units.length > 0;
    this.foot.classList.toggle('bare', this.units.length === 0);
    const look = JSON.stringify(this.value.examples);
    if (look === this.exampleLook) return;
    this.exampleLook = look;
    this.examples.replaceChildren(...this.value.examples.map((example) => this.example(example)));
  }

  example({ title, unit }) {
    const url = unit.shown?.map?.url ?? unit.shown?.image?.url;
    const face = unit.pose?.length ? figure(unit.pose) : url ? el('img', { src: url, alt: '' }) : '';
    return el('button.units-example', { type: 'button', onclick: () => this.addUnit(unit) }, el('span.units-face', {}, face), el('span', {}, title));
  }

  drawRemoved() {
    const { removed } = this;
    if (removed === this.removedDrawn) return;
    this.removedDrawn = removed;
    if (!removed) return this.gone.replaceChildren();
    const back = el('button.units-back', { type: 'button', onclick: () => this.insert(removed.unit, removed.at) }, 'Bring it back');
    this.gone.replaceChildren('The unit is removed. ', back);
  }
}
