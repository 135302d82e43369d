// One control unit's card: what it follows, how strongly, when, and what to do with it. units.js holds the rest.

import { Curve } from './curve.js';
import { el, icon, say } from './dom.js';
import { between, choice, picks, slider, span, toggle } from './unit-fields.js';
import { figure } from './unit-figure.js';
import * as pairs from './unit-pairs.js';
import { Source } from './unit-picture.js';
import { PoseSource } from './unit-pose.js';

const ICONS = {
  edges: 'M4 19L10 8l4 6 2-3 4 8z M16 6.5h.01',
  pose: 'M12 3.5a2 2 0 1 0 .01 0 M12 8v6 M6 9.500l6-1.500 6 1.500 M9 21l3-7 3 7',
  other: 'M12 4l8 4-8 4-8-4z M4 12l8 4 8-4 M4 16l8 4 8-4',
};
const COPY = 'M9 9h11v11H9z M5 15H4V4h11v1';
const REMOVE = 'M5 7h14 M10 7V4h4v3 M7 7l1 13h8l1-13';

export class Card {
  /** panel: units.js's, which is told of every change and asked for everything that is not in the unit. */
  constructor(unit, panel) {
    Object.assign(this, { unit, panel });
    this.problem = '';
    this.build();
  }

  build() {
    const { panel, unit } = this;
    this.thumb = el('span.unit-thumb');
    this.title = el('span.unit-title');
    this.words = el('span.unit-words');
    this.head = el(
      'button.unit-head',
      { type: 'button', onclick: () => panel.open(unit, !unit.open) },
      this.thumb,
      el('span.unit-names', {}, this.title, this.words),
    );
    this.arrow = el('i.unit-arrow');
    this.head.append(this.arrow);
    this.toggle = toggle((on) => this.set({ on }));
    const button = (path, title, onclick) => {
      const made = el('button.unit-tool', { type: 'button', title, onclick }, icon(path));
      made.setAttribute('aria-label', title);
      return made;
    };
    this.copy = button(COPY, 'Duplicate this unit', () => panel.duplicate(unit));
    this.remove = button(REMOVE, 'Remove this unit', () => panel.remove(unit));
    this.body = el('div.unit-body');
    const row = el('div.unit-top', {}, this.head, this.toggle.root, this.copy, this.remove);
    this.alert = el('p.unit-problem', { role: 'alert', hidden: true });
    this.root = el('section.unit', {}, row, this.alert, this.body);
  }

  buildBody() {
    const { fields } = this.panel.value;
    const set = (name) => (value) => this.set({ [name]: value });
    this.kinds = picks('What the picture follows', pairs.KINDS.map((one) => ({ ...one, icon: icon(ICONS[one.value]) })), (kind) => this.turn(kind));
    this.preprocessor = choice('Made by (preprocessor)', fields.preprocessor.hint, (key) => this.choosePreprocessor(key));
    this.network = choice('Followed by (ControlNet)', fields.model.hint, (key) => this.chooseNetwork(key));
    this.place = el('div.unit-place');
    this.low = slider(fields.low_threshold, (low_threshold) => this.set({ low_threshold, high_threshold: Math.max(low_threshold, this.unit.high_threshold) }));
    this.high = slider(fields.high_threshold, (high_threshold) => this.set({ high_threshold, low_threshold: Math.min(high_threshold, this.unit.low_threshold) }));
    this.thresholds = el('div.unit-row', {}, this.low.root, this.high.root);
    this.weight = slider(fields.controlnet_conditioning_scale, set('controlnet_conditioning_scale'));
    this.when = between('When it counts', fields.control_guidance_start, fields.control_guidance_end, (start, end) =>
      this.set({ control_guidance_start: start, control_guidance_end: end }),
    );
    this.curve = new Curve(set('points'));
    this.resize = choice('Another shape (resize)', fields.resize_mode.hint, set('resize_mode'));
    this.mode = choice('Lead (control mode)', fields.control_mode.hint, set('control_mode'));
    this.body.append(
      this.kinds.root,
      this.place,
      this.thresholds,
      el('div.unit-row', {}, this.preprocessor.root, this.network.root),
      el('div.unit-row', {}, this.weight.root, this.when.root),
      this.curve.root,
      el('div.unit-row', {}, this.resize.root, this.mode.root),
    );
    this.built = true;
  }

  // What a hand does

  set(change) {
    Object.assign(this.unit, change);
    this.changed();
  }

  changed() {
    this.complain('');
    this.panel.changed();
    this.show();
  }

  /** Another kind of thing to follow. What the other kinds had is put aside, and is there again on the way back. */
  turn(kind) {
    const { unit, panel } = this;
    const before = pairs.kindOf(unit);
    if (kind === before) return;
    const aside = { ...unit.aside };
    if (before === 'pose') aside.pose = unit.pose ?? [];
    else if (kind === 'pose') Object.assign(aside, { map_image: unit.map_image ?? null, by: unit.by ?? null, map: unit.shown?.map ?? null });
    if (kind === 'pose') {
      const pose = aside.pose?.length ? aside.pose : panel.firstPose();
      Object.assign(unit, { pose, map_image: null, by: null });
      unit.shown = { ...unit.shown, map: null };
    } else if (before === 'pose') {
      Object.assign(unit, { pose: [], map_image: aside.map_image ?? null, by: aside.by ?? null });
      unit.shown = { ...unit.shown, map: aside.map ?? null };
    }
    this.source?.dispose();
    this.source = null;
    const preprocessor = pairs.preprocessorFor(kind, unit.preprocessor, panel.value);
    const model = pairs.networkFor(preprocessor, unit.model, panel.value.networks);
    this.set({ kind, aside, preprocessor, model });
  }

  choosePreprocessor(preprocessor) {
    const model = pairs.networkFor(preprocessor, this.unit.model, this.panel.value.networks);
    this.pair(preprocessor, model);
  }

  chooseNetwork(model) {
    const network = this.panel.value.networks.find((one) => one.key === model);
    this.pair(network ? pairs.preprocessorOf(network, this.unit.preprocessor) : this.unit.preprocessor, model);
  }

  /** Sets both, and the kind that they are of; a drawn pose stays one only where its network still follows it. */
  pair(preprocessor, model) {
    const kind = pairs.kindOf(this.unit);
    const next = pairs.kindFor(preprocessor);
    const stays = next === kind || (next === 'pose' && this.unit.image); // a picture's own pose is a map of that picture
    if (!stays) this.turn(next);
    this.set({ kind: next === 'pose' && stays && kind !== 'pose' ? 'other' : next, preprocessor, model });
  }

  /** A picture {key, width, height, url} that comes from elsewhere on the page. */
  give(image) {
    if (pairs.kindOf(this.unit) === 'pose') this.turn('edges');
    this.show();
    this.source.put(image, 'image');
  }

  settled() {
    return this.source?.settled();
  }

  /** The engine is up: maps that it could not draw yet are drawn. */
  engine({ ready }) {
    if (ready) this.source?.retry();
  }

  complain(sentence) {
    this.problem = sentence;
    this.show();
  }

  dispose() {
    this.source?.dispose();
    this.root.remove();
  }

  // Drawing

  show() {
    const { unit, panel } = this;
    const number = panel.units.indexOf(unit) + 1;
    const name = `Unit ${number}: ${this.name()}`;
    this.root.classList.toggle('open', unit.open);
    this.root.classList.toggle('off', !unit.on);
    this.root.classList.toggle('wrong', Boolean(this.problem));
    this.root.setAttribute('aria-label', name);
    this.head.setAttribute('aria-expanded', String(unit.open));
    this.toggle.show(unit.on, `${name} is followed`);
    this.copy.disabled = panel.units.length >= panel.value.most;
    say(this.title, this.name());
    say(this.words, summary(unit));
    say(this.alert, this.problem);
    this.alert.hidden = !this.problem;
    this.showThumb();
    this.body.hidden = !unit.open;
    if (unit.open) this.showBody();
  }

  name() {
    const { unit, panel } = this;
    const kind = pairs.kindOf(unit);
    if (kind === 'pose') return unit.pose?.length > 1 ? `Pose of ${unit.pose.length}` : 'Pose';
    if (kind === 'edges') return 'Edges';
    const made = panel.value.preprocessors.find((one) => one.key === unit.preprocessor);
    return (unit.map_image && unit.by !== 'hand') || unit.preprocessor === 'none' ? 'Ready map' : (made?.title ?? unit.preprocessor);
  }

  showThumb() {
    const { unit, panel } = this;
    const isPose = pairs.kindOf(unit) === 'pose';
    const url = unit.shown?.map?.url ?? unit.shown?.image?.url ?? '';
    const look = isPose ? JSON.stringify([unit.pose, panel.value.width, panel.value.height]) : url;
    if (look === this.thumbLook) return;
    this.thumbLook = look;
    const { width, height } = panel.value;
    this.thumb.replaceChildren(...(isPose ? [figure(unit.pose ?? [], width, height)] : url ? [el('img', { src: url, alt: '' })] : []));
  }

  showBody() {
    if (!this.built) this.buildBody();
    const { unit, panel } = this;
    const { value } = panel;
    const kind = pairs.kindOf(unit);
    this.kinds.show(kind);
    if (!this.source) {
      const Kind = kind === 'pose' ? PoseSource : Source;
      this.source = new Kind(unit, panel, () => this.changed());
      this.place.replaceChildren(this.source.root);
    }
    this.source.show();
    this.thresholds.hidden = kind === 'pose' || unit.preprocessor !== 'canny' || Boolean(unit.map_image);
    this.low.show(unit.low_threshold);
    this.high.show(unit.high_threshold);
    this.preprocessor.root.hidden = kind === 'pose';
    this.preprocessor.show(unit.preprocessor, pairs.preprocessorGroups(value, unit.preprocessor));
    say(this.preprocessor.about, unit.map_image ? 'Not used: the map is followed as it is.' : (value.preprocessors.find((one) => one.key === unit.preprocessor)?.hint ?? ''));
    this.showNetwork();
    this.weight.show(unit.controlnet_conditioning_scale);
    this.when.show(unit.control_guidance_start, unit.control_guidance_end);
    this.curve.show(unit.points ?? []);
    this.resize.show(unit.resize_mode, [{ title: '', options: value.fields.resize_mode.choices }]);
    this.resize.root.hidden = kind === 'pose'; // a pose is drawn at the size
    this.mode.show(unit.control_mode, [{ title: '', options: value.fields.control_mode.choices }]);
  }

  showNetwork() {
    const { unit, panel } = this;
    const { networks } = panel.value;
    this.network.show(unit.model, pairs.networkGroups(panel.value, unit));
    const chosen = networks.find((one) => one.key === unit.model);
    const fit = networks.some((one) => !one.unfit);
    const reason = chosen?.unfit
      ? `${chosen.unfit.replace(/\.$/, '')}. ${fit ? 'Choose another one.' : 'Choose another model.'}`
      : !networks.length
        ? 'There is no ControlNet for this model yet: add one under Models.'
        : !chosen
          ? 'It is not there any more. Choose another one.'
          : '';
    const mismatch = chosen && !reason && !pairs.suits(chosen, unit.preprocessor) ? `It was made for other maps (${[chosen.suits].flat().join(', ')}).` : '';
    say(this.network.about, reason || mismatch || chosen?.summary || '');
    this.network.root.classList.toggle('unfit', Boolean(reason));
  }
}

function summary(unit) {
  const { control_guidance_start: from, control_guidance_end: to } = unit;
  const weight = Number(unit.controlnet_conditioning_scale.toFixed(2));
  return [`weight ${weight}`, span(from, to), unit.points?.length ? 'curve' : '', unit.on ? 'on' : 'off'].filter(Boolean).join(' · ');
}
