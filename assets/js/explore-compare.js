// Two runs compared: side by side, one wiped over the other, or what differs; at the step that the one slider
// shows, or finished. The server is asked once for both runs, scrubbing asks nothing.

import { el, say } from './dom.js';

const VIEWS = { pair: 'Side by side', wipe: 'Wipe', map: 'Difference' };

export function mount(host, explore) {
  return new Compare(host, explore);
}

class Compare {
  constructor(host, explore) {
    Object.assign(this, { host, explore });
    this.told = null; // what the server tells of the two
    this.view = 'pair';
    this.finished = false;
    this.build();
    explore.on('compare', (pair) => this.open(pair));
    explore.on('branched', (branch) => this.branched(branch));
    explore.on('step', () => this.draw());
    explore.on('run', () => this.offered());
  }

  build() {
    this.buttons = Object.entries(VIEWS).map(([view, title]) => {
      const button = el('button.compare-view', { type: 'button', onclick: () => this.turn(view) }, title);
      button.dataset.view = view;
      return button;
    });
    this.whole = el('button.compare-view', { type: 'button', onclick: () => ((this.finished = !this.finished), this.draw()) }, 'Finished');
    this.bar = el('div.compare-bar', {}, el('span.compare-views', { role: 'group', 'aria-label': 'How to compare' }, ...this.buttons), this.whole);
    this.first = el('img.compare-picture', { draggable: false });
    this.second = el('img.compare-picture', { draggable: false });
    this.heat = el('img.compare-picture', { draggable: false });
    this.edge = el('input.compare-edge', { type: 'range', min: 0, max: 100, value: 50, 'aria-label': 'Where one picture ends and the other begins', oninput: () => this.wipe() });
    this.screen = el('div.compare-screen', {}, this.first, this.second, this.heat, this.edge);
    this.names = el('div.compare-names', {}, (this.one = el('span')), (this.other = el('span')));
    this.words = el('p.compare-words', { role: 'status' });
    this.parting = el('button.branch-word', { type: 'button', onclick: () => this.explore.seek(this.told.parts) });
    this.strip = el('div.compare-strip', { 'aria-hidden': 'true' });
    this.hint = el('p.branch-hint', {}, 'Choose a second run in the tree of branches to compare it with the open one.');
    this.body = el('div.compare-body', { hidden: true }, this.bar, this.names, this.screen, this.strip, this.words, this.parting);
    this.host.append(el('h3.unseen', {}, 'Compare'), this.hint, this.body);
    this.host.setAttribute('aria-label', 'Compare');
  }

  /** A branch has finished: it is compared where that was wanted, else one click away. */
  branched({ parent, run, compare }) {
    const shown = this.pair && [this.pair.first, this.pair.second].includes(run); // while it was developing
    if (compare || shown) return this.open(shown ? this.pair : { first: parent, second: run });
    this.pending = { first: parent, second: run };
    return this.offered();
  }

  offered() {
    const { pending } = this;
    if (!pending) return;
    const button = el('button.branch-word', { type: 'button', onclick: () => this.open(pending) }, 'Compare the new branch with its parent');
    this.hint.replaceChildren(button);
    this.hint.hidden = false;
  }

  async open(pair) {
    this.pending = null;
    this.pair = pair;
    this.explore.turn('Compare');
    this.hint.hidden = false;
    say(this.hint, 'Comparing …');
    const told = await this.explore.ask('compare', pair);
    if (this.pair !== pair) return;
    if (told.problem) {
      this.body.hidden = true;
      say(this.hint, told.problem);
      return;
    }
    this.told = told;
    this.hint.hidden = true;
    this.body.hidden = false;
    this.finished = Boolean(pair.finished);
    this.view = pair.view ?? this.view;
    this.drawStrip();
    this.draw();
  }

  turn(view) {
    this.view = view;
    this.draw();
  }

  // Drawing

  draw() {
    const { told } = this;
    if (!told) return;
    const step = told.steps[Math.min(this.explore.step, told.common - 1)];
    const [one, other] = told.runs;
    const whole = Boolean(told.picture) && (this.finished || !step);
    this.whole.disabled = !told.picture;
    this.whole.setAttribute('aria-pressed', String(whole));
    for (const button of this.buttons) button.setAttribute('aria-pressed', String(button.dataset.view === this.view));
    this.screen.dataset.view = this.view;
    const at = whole ? 'finished' : `step ${step ? step.index + 1 : 0}`;
    const shown = whole ? [one.picture, other.picture, told.picture.same ? '' : told.picture.map] : [step?.first, step?.second ?? step?.first, step?.map];
    put(this.first, shown[0], `${one.title}, ${at}`);
    put(this.second, shown[1], `${other.title}, ${at}`);
    put(this.heat, shown[2], `What differs, ${at}: black is the same`);
    this.screen.classList.toggle('dark', !shown[2]);
    say(this.one, one.title);
    say(this.other, other.title);
    this.names.hidden = this.view === 'map';
    this.edge.hidden = this.view !== 'wipe';
    this.wipe();
    this.tell(step, whole);
    [...this.strip.children].forEach((mark, index) => mark.classList.toggle('at', !whole && index === step?.index));
  }

  /** How far the two are apart: a mark for each step, as high as they differ there. */
  drawStrip() {
    const { steps, common } = this.told;
    const most = Math.max(...steps.map((step) => step.difference ?? 1), 1e-9);
    this.strip.replaceChildren(...steps.map((step) => {
      const mark = el('i');
      mark.style.setProperty('--high', (step.difference ?? 1) / most);
      mark.addEventListener('click', () => this.explore.seek(step.index));
      return mark;
    }));
    this.strip.hidden = !common;
  }

  wipe() {
    const share = this.view === 'wipe' ? Number(this.edge.value) : 0;
    this.screen.style.setProperty('--edge', `${share}%`);
  }

  tell(step, whole) {
    const { told } = this;
    const { parts, common, picture } = told;
    const steps = common === 1 ? 'the one step' : `all ${common} steps`;
    const meet = !common ? 'One of the two has no steps yet.' : parts === null ? `They part nowhere: ${steps} are the same, bit for bit.` : `They part at step ${parts + 1}.`;
    const measured = whole ? pixels(picture) : step && !step.same ? apart(step) : '';
    say(this.words, [meet, measured].filter(Boolean).join(' '));
    this.parting.hidden = parts === null || !common;
    say(this.parting, parts === null ? '' : `Show step ${parts + 1}`);
  }
}

function put(image, src, alt) {
  image.hidden = !src;
  if (src && image.getAttribute('src') !== src) image.src = src;
  image.alt = alt;
}

function apart({ difference, psnr }) {
  const relative = difference === null ? 'Their latents have other shapes.' : `Here they differ by ${percent(difference)}`;
  return difference === null ? relative : `${relative}${psnr === null ? '' : `, ${psnr.toFixed(1)} dB`}.`;
}

function pixels({ same, share, psnr }) {
  return same ? 'The finished pictures are equal: the difference is exactly 0.' : `${percent(share)} of the pixels differ, ${psnr.toFixed(1)} dB.`;
}

function percent(share) {
  const value = 100 * share;
  return `${value < 10 ? value.toPrecision(2) : Math.round(value)}%`;
}
