// One LoRA of a run: its switch, its weight, and folded under it what few need: the text encoder's weight, the
// part of the run in which it counts, and a curve.

import { Curve } from './curve.js';
import { el, icon, say, tell } from './dom.js';
import { between, slider, span, toggle } from './unit-fields.js';

const AWAY = 'M6 6l12 12 M18 6L6 18';
const SAME = 'The text encoder as strongly as the picture';
const MORE = 'M5 12h.01 M12 12h.01 M19 12h.01';

export class Line {
  constructor(lora, panel) {
    this.lora = lora;
    this.panel = panel;
    const { fields } = panel.value;
    const change = (name) => (value) => ((lora[name] = value), this.changed());
    this.on = toggle(change('on'));
    this.title = el('span.lora-title');
    this.word = el('span.lora-word');
    const name = el('div.lora-name', {}, this.on.root, this.title, this.word);
    this.more = el('button.lora-button', { type: 'button', 'aria-expanded': 'false', onclick: () => this.unfold() }, icon(MORE));
    this.away = el('button.lora-button', { type: 'button', onclick: () => panel.remove(lora) }, icon(AWAY));
    this.weight = slider(fields.weight, change('weight'));
    this.weight.root.classList.add('lora-weight');
    this.root = el('div.lora', {}, el('div.lora-top', {}, name, this.more, this.away), this.weight.root);
    this.why = el('p.lora-problem', { hidden: true });
    this.words = el('p.lora-words');
    this.root.append(this.why, this.words);
  }

  /** What is folded away is made when it is first wanted. */
  unfold() {
    this.opened = !this.opened;
    this.more.setAttribute('aria-expanded', String(this.opened));
    if (this.opened && !this.details) this.root.append((this.details = this.buildDetails()));
    this.show();
    if (this.details) this.details.hidden = !this.opened;
  }

  buildDetails() {
    const { lora } = this;
    const { fields } = this.panel.value;
    this.same = toggle((same) => ((lora.text_weight = same ? null : lora.weight), this.changed()));
    this.text = slider({ ...fields.text_weight, default: 1 }, (value) => ((lora.text_weight = value), this.changed()));
    this.part = between('Counts', fields.start, fields.end, (start, end) => (Object.assign(lora, { start, end }), this.changed()));
    this.curve = new Curve((points) => ((lora.points = points), this.changed()));
    const alike = el('div.lora-same', {}, this.same.root, el('span', { 'aria-hidden': 'true' }, SAME));
    return el('div.lora-details', {}, alike, this.text.root, this.part.root, this.curve.root);
  }

  changed() {
    this.show();
    this.panel.changed();
  }

  focus() {
    this.weight.root.querySelector('input[type=range]').focus({ preventScroll: true });
    this.root.scrollIntoView({ block: 'nearest' });
  }

  show() {
    const { lora } = this;
    const row = this.panel.row(lora.name);
    const title = row?.title ?? lora.name;
    say(this.title, title);
    this.title.title = lora.name;
    this.on.show(lora.on, `${title} counts`);
    this.more.setAttribute('aria-label', `More of ${title}`);
    this.more.title = 'Text weight, steps, curve';
    this.away.setAttribute('aria-label', `Remove ${title}`);
    this.away.title = 'Remove';
    this.root.classList.toggle('off', !lora.on);
    this.weight.show(lora.weight);
    const parts = [span(lora.start, lora.end), lora.points.length ? 'curve' : '', lora.text_weight === null ? '' : `text ${lora.text_weight}`];
    say(this.word, parts.filter(Boolean).join(', '));
    const known = this.panel.value.available.length > 0;
    const why = row ? row.unfit : known ? 'There is no LoRA of that name in the models folder any more.' : '';
    say(this.why, why);
    this.why.hidden = !why || !lora.on;
    this.showWords(row?.words ?? []);
    if (!this.opened || !this.details) return;
    this.same.show(lora.text_weight === null, SAME);
    this.text.root.hidden = lora.text_weight === null;
    this.text.show(lora.text_weight ?? lora.weight);
    this.part.show(lora.start, lora.end);
    this.curve.show(lora.points);
  }

  showWords(words) {
    const look = words.join('\n');
    if (look === this.wordLook) return;
    this.wordLook = look;
    const button = (text) => el('button.chip', { type: 'button', title: 'Put it into the prompt', onclick: () => tell('words', { text }) }, text);
    this.words.replaceChildren(...words.slice(0, 6).map(button));
  }
}
