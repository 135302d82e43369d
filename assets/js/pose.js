// The pose editor: people as OpenPose's skeletons that are dragged, turned, mirrored and traced. Other modules embed
// it; `mount` runs it alone. People go in and out as lists of 18 [x, y] or null, shares of the picture's sides.

import { el, say } from './dom.js';
import { JOINTS, NECK, bounds, copy, figureOf, inPlaceOf, mirror, samePlaces, shift, standing } from './pose-figure.js';
import { Hand } from './pose-hand.js';
import { press } from './pose-keys.js';
import { Tools } from './pose-tools.js';
import { View } from './pose-view.js';

const MOST_PEOPLE = 8;
const STEPS = 200; // that can be undone
const TOGETHER = 800; // milliseconds: nudges of one joint in quick succession are one step
const ALL = JOINTS.map((_, joint) => joint);
const millionths = (value) => Math.round(value * 1e6) / 1e6;

export class PoseEditor {
  /** Fills `host`. presets: [{key, title, people}], people in shares of a square picture.
   *  onChange(people, final): after every change; while a hand drags once a frame with final = false.
   *  read(text), detect(file): promise {people} or {problem}; without them their buttons are not there. */
  constructor(host, { presets = [], onChange = () => {}, detect, read } = {}) {
    Object.assign(this, { host, onChange, detecting: detect, reading: read });
    this.detects = Boolean(detect);
    this.reads = Boolean(read);
    this.figures = [];
    this.chosen = 0;
    this.joint = null; // the one that H hides
    this.keep = false;
    this.magnified = false;
    this.history = [];
    this.now = -1;
    this.view = new View();
    this.tools = new Tools(this);
    this.hand = new Hand(this);
    this.build();
    this.offer(presets);
    this.show({ people: [], width: 256, height: 256 });
    this.onKey = (event) => press(this, event);
    window.addEventListener('keydown', this.onKey, true); // before the page's own keys, which listen on the document
  }

  build() {
    this.problem = el('p.pose-problem', { role: 'alert', hidden: true });
    this.words = el('span.words');
    this.strength = el('input', { type: 'range', min: 0, max: 100, value: 60, 'aria-label': 'Strength of the picture underneath' });
    this.strength.oninput = () => this.lay();
    const clear = el('button.plain-word', { type: 'button', onclick: () => ((this.background = ''), this.lay()) }, 'Take it away');
    this.under = el('span.under', { hidden: true }, 'Picture', this.strength, clear);
    this.aloud = el('p.aloud', { role: 'status' });
    this.view.nobody.append('Nobody is here yet. Choose a pose, or add a person.');
    const line = el('div.pose-line', {}, this.words, this.under);
    const main = el('div.pose-main', {}, this.tools.bar, this.problem, this.view.root, line);
    this.root = el('div.pose', {}, el('div.pose-sides', {}, main, this.tools.presets), this.aloud);
    this.view.svg.addEventListener('focusin', (event) => {
      const found = this.view.find(event.target);
      if (found) this.choose(found.figure, found.joint);
    });
    this.root.addEventListener('paste', (event) => {
      const text = event.clipboardData.getData('text').trim();
      if (!this.reads || !text) return;
      event.preventDefault();
      this.take(text);
    });
    this.sizes = new ResizeObserver(() => this.paint()); // handles keep their size on the screen
    this.sizes.observe(this.view.svg);
    this.host.replaceChildren(this.root);
  }

  destroy() {
    window.removeEventListener('keydown', this.onKey, true);
    this.sizes.disconnect();
    this.forget();
    this.root.remove();
  }

  offer(presets) {
    this.presets = presets;
    this.tools.offer(presets);
  }

  /** Another pose, picture size or picture underneath. Steps back are kept where the people are the same. */
  show({ people = [], width, height, background }) {
    const resized = width !== this.width || height !== this.height;
    const same = !resized && samePeople(people, this.people);
    this.hand.cancel();
    [this.width, this.height] = [width, height];
    if (resized) this.view.resize(width, height);
    if (resized) this.magnified = false;
    if (background !== undefined && background !== this.background) this.put(background);
    if (!same || this.now < 0) {
      this.figures = this.placed(people);
      this.chosen = 0;
      this.joint = null;
      this.history = [this.snapshot()];
      this.now = 0;
    }
    this.complain('');
    this.lay();
    this.paint();
  }

  get people() {
    const { width, height } = this.view;
    return this.figures.map(({ at, seen }) => at.map(([x, y], joint) => (seen[joint] ? [millionths(x / width), millionths(y / height)] : null)));
  }

  placed(people) {
    const { width, height } = this.view;
    return people.map((joints) => figureOf(joints.map((place) => place && [place[0] * width, place[1] * height])));
  }

  // Changes. `moved` is one in mid-drag, `commit` one that can be undone.

  moved() {
    this.paint();
    this.onChange(this.people, false);
  }

  commit(together = '') {
    const snapshot = this.snapshot();
    if (this.history[this.now] === snapshot) return this.paint();
    const time = performance.now();
    const joins = together && together === this.together && time - this.when < TOGETHER && this.now > 0;
    [this.together, this.when] = [together, time];
    this.history.length = joins ? this.now : this.now + 1;
    this.history.push(snapshot);
    if (this.history.length > STEPS) this.history.shift();
    this.now = this.history.length - 1;
    this.complain('');
    this.paint();
    this.onChange(this.people, true);
  }

  snapshot() {
    return JSON.stringify(this.figures);
  }

  undo() {
    this.go(this.now - 1, 'Undone.');
  }

  redo() {
    this.go(this.now + 1, 'Done again.');
  }

  go(index, sentence) {
    if (!(index in this.history)) return;
    this.now = index;
    this.together = '';
    this.figures = JSON.parse(this.history[index]);
    this.chosen = Math.max(0, Math.min(this.chosen, this.figures.length - 1));
    if (!this.figures.length) this.joint = null;
    say(this.aloud, sentence);
    this.complain('');
    this.paint();
    this.onChange(this.people, true);
  }

  // People

  choose(figure, joint = null) {
    if (figure === this.chosen && joint === this.joint) return;
    this.chosen = figure;
    this.joint = joint;
    this.paint();
  }

  rest() {
    if (this.joint !== null) this.choose(this.chosen);
  }

  add() {
    if (this.figures.length >= MOST_PEOPLE) return;
    const { width, height } = this.view;
    const middles = this.figures.map((figure) => figure.at[NECK][0] / width);
    const room = (share) => Math.min(1, ...middles.map((middle) => Math.abs(middle - share)));
    const share = [0.5, 0.25, 0.75, 0.375, 0.625, 0.125, 0.875].reduce((best, one) => (room(one) > room(best) ? one : best));
    const model = this.figures[this.chosen];
    const { bottom } = model ? bounds(model) : { bottom: height - 20 };
    this.enter(standing(share * width, Math.min(bottom, height - 8), 0.49 * Math.min(width, height)), 'added');
  }

  duplicate() {
    const model = this.figures[this.chosen];
    if (!model || this.figures.length >= MOST_PEOPLE) return;
    const twin = copy(model);
    const { left, right } = bounds(model);
    const step = (left + right > this.view.width ? -1 : 1) * Math.min(right - left + 8, this.view.width / 3);
    shift(twin, model, ALL, step, 0);
    this.enter(twin, 'duplicated');
  }

  enter(figure, how) {
    this.figures.push(figure);
    this.chosen = this.figures.length - 1;
    this.joint = null;
    say(this.aloud, `Person ${this.figures.length} ${how}.`);
    this.commit();
  }

  remove() {
    if (!this.figures.length) return;
    const inside = this.view.svg.contains(document.activeElement);
    this.figures.splice(this.chosen, 1);
    say(this.aloud, `Person ${this.chosen + 1} removed.`);
    this.chosen = Math.max(0, this.chosen - 1);
    this.joint = null;
    if (inside) (this.figures.length ? this.view.views[this.chosen].joints[0] : this.tools.buttons.add).focus({ preventScroll: true });
    this.commit();
  }

  flip() {
    if (!this.figures.length) return;
    mirror(this.figures[this.chosen]);
    say(this.aloud, `Person ${this.chosen + 1} mirrored.`);
    this.commit();
  }

  toggle(figure = this.chosen, joint = this.joint) {
    const { seen } = this.figures[figure] ?? {};
    if (!seen || joint === null) return;
    if (seen[joint] && seen.filter(Boolean).length <= 2) {
      this.complain('A person needs at least two joints that are shown. Remove the person instead, or show another joint first.');
      return;
    }
    seen[joint] = !seen[joint];
    say(this.aloud, `${JOINTS[joint]} ${seen[joint] ? 'shown' : 'hidden'}.`);
    this.commit();
  }

  /** A small step by a key; several in quick succession are one. */
  nudge(index, joint, figure) {
    this.figures[index] = figure;
    this.commit(`${index} ${joint}`);
    say(this.aloud, this.describe({ figure: index, joint }));
  }

  hold() {
    this.keep = !this.keep;
    this.paint();
  }

  magnify() {
    this.magnified = !this.magnified && this.figures.length > 0;
    if (!this.magnified) this.view.look(null);
    else {
      const { room } = this.view;
      const { left, right, top, bottom } = bounds(this.figures[this.chosen]);
      const shape = (room.right - room.left) / (room.bottom - room.top);
      const high = Math.max(bottom - top + 40, (right - left + 40) / shape);
      const [x, y] = [(left + right) / 2, (top + bottom) / 2];
      this.view.look({ left: x - (high * shape) / 2, right: x + (high * shape) / 2, top: y - high / 2, bottom: y + high / 2 });
    }
    this.paint();
  }

  /** A preset. One person's pose goes to the chosen one, where that stands; untouched ones are replaced as a whole. */
  begin(preset) {
    const { width, height } = this.view;
    const fitted = (people) => {
      const side = Math.min(width, height); // the square stands in the middle, on the lower edge
      return people.map((joints) => figureOf(joints.map((place) => place && [place[0] * side + (width - side) / 2, place[1] * side + height - side])));
    };
    const fresh = fitted(preset.people);
    const untouched = this.presets.some((one) => samePlaces(fitted(one.people), this.figures));
    if (fresh.length > 1 || !this.figures.length || untouched) {
      this.figures = fresh;
      this.chosen = 0;
    } else this.figures[this.chosen] = inPlaceOf(fresh[0], this.figures[this.chosen]);
    this.joint = null;
    if (this.magnified) this.magnify();
    say(this.aloud, `${preset.title}.`);
    this.commit();
  }

  // Files

  async take(text) {
    await this.receive(this.reading(text), 'Reading the pose …');
  }

  async detect(file) {
    await this.receive(this.detecting(file), 'Looking for people …') && this.trace(file);
  }

  async receive(promise, waiting) {
    this.waiting = waiting;
    this.complain('');
    this.paint();
    const answer = await promise.catch(() => ({ problem: 'Darkroom did not answer, so nothing was read. See whether it still runs, then try again.' }));
    this.waiting = '';
    if (answer.problem) this.complain(answer.problem);
    else {
      this.figures = this.placed(answer.people);
      this.chosen = 0;
      this.joint = null;
      this.commit();
    }
    this.paint();
    return !answer.problem;
  }

  trace(file) {
    const url = URL.createObjectURL(file);
    this.put(url);
    this.own = url;
    this.lay();
  }

  put(url) {
    this.forget();
    this.background = url;
  }

  forget() {
    if (this.own) URL.revokeObjectURL(this.own);
    this.own = null;
  }

  lay() {
    this.under.hidden = !this.background;
    this.view.trace(this.background, this.strength.value / 100);
  }

  complain(sentence) {
    say(this.problem, sentence);
    this.problem.hidden = !sentence;
  }

  // Drawing

  hover(hit) {
    this.view.root.dataset.over = hit ? `${hit.kind}${hit.falls ? ' falls' : ''}` : '';
    this.over = hit;
    this.word();
  }

  paint() {
    this.view.paint(this.state);
    this.tools.paint({ ...this.state, past: this.now > 0, future: this.now < this.history.length - 1, full: this.figures.length >= MOST_PEOPLE });
    this.word();
  }

  get state() {
    const { figures, chosen, joint, keep, magnified } = this;
    return { figures, chosen, joint, keep, magnified, active: joint };
  }

  word() {
    const over = this.hand.drag ?? this.over;
    const joint = over?.kind === 'joint' && this.figures[over.figure] ? over : { figure: this.chosen, joint: this.joint };
    say(this.words, this.waiting || (joint.joint === null || !this.figures[joint.figure] ? HINT : this.describe(joint)));
  }

  describe({ figure, joint }) {
    const { at, seen } = this.figures[figure];
    const longest = Math.max(this.width, this.height) / 256;
    const [x, y] = at[joint].map((value) => Math.round(value * longest));
    return `${JOINTS[joint]}, person ${figure + 1}${seen[joint] ? '' : ', hidden'}: ${x}, ${y}`;
  }
}

const HINT = matchMedia('(pointer: coarse)').matches
  ? 'Drag a joint, a limb or the body. Two taps hide a joint.'
  : 'Drag a joint, a limb or the body. Alt turns a limb, two clicks hide a joint.';

function samePeople(some, others) {
  const plain = (people) => JSON.stringify(people.map((joints) => joints.map((place) => place && place.map(millionths))));
  return plain(some) === plain(others);
}

/** The editor as a component of its own. Value: people, width, height, presets, background; `posed` on each change. */
export function mount({ root, props, trigger, server }) {
  let value = {};
  const editor = new PoseEditor(root, {
    read: (text) => server.read({ text, width: value.width, height: value.height }),
    onChange: (people, final) => {
      if (!final) return;
      value = { ...value, people };
      props.value = value;
      trigger('posed');
    },
  });
  const show = (given) => {
    if (!given?.width || JSON.stringify(given) === JSON.stringify(value)) return;
    if (JSON.stringify(given.presets) !== JSON.stringify(value.presets)) editor.offer(given.presets ?? []);
    value = given;
    editor.show(given);
  };
  return { show };
}
