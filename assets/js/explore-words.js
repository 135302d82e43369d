// Words: click a word and see where it acts, over the picture of the step that is looked at; click a place and see the
// words that act there. A step is listened to once its maps are asked for; nothing of it is kept while pictures are made.

import { el, heard, say, tell } from './dom.js';
import { Maps, glow, peak, resized, tint } from './explore-words-maps.js';
import { Latest } from './unit-server.js';
import { keepFile } from './upload.js';

const HINT = 'Click a word: the picture glows where it listened to it. Click the picture: which words act there.';
const SIDE = 384; // pixels of the drawing's longer side
const KEPT = 12; // steps whose maps are kept
const RANKED = 6;
const STEP = 1 / 32; // of the picture, by an arrow key

export function mount(host, explore) {
  return new Words(host, explore);
}

class Words {
  constructor(host, explore) {
    Object.assign(this, { host, explore });
    this.known = null; // the open run's prompt and the places of its words
    this.chosen = new Set(); // indices of words
    this.place = null; // { x, y }, 0..1, where the words are ranked
    this.kept = new Map(); // "run step" -> Maps, the newest last
    this.pictures = new Map(); // the same -> ImageBitmap
    this.build();
    this.listening = new Latest({
      answer: (wish) => this.listen(wish),
      done: () => this.draw(),
      wait: (on) => this.host.classList.toggle('listening', on),
    });
    explore.on('run', () => this.load());
    explore.on('film', () => this.draw());
    explore.on('frames', (batch) => batch.some(([, step]) => step === explore.step) && this.draw());
    explore.on('step', () => this.draw());
    explore.on('rest', () => this.wish());
    explore.on('runs', () => this.wish());
    explore.on('turn', () => this.turned());
    heard('progress', (job) => job.done && this.wish()); // what a job was in the way of
    this.load();
  }

  build() {
    this.title = el('h3.words-title');
    this.hint = el('p.words-hint', {}, HINT);
    this.prompt = el('div.words-prompt', { role: 'group', 'aria-label': 'Words of the prompt' });
    this.canvas = el('canvas', { width: 1, height: 1, tabIndex: 0, role: 'img' });
    this.cross = el('i.words-cross', { hidden: true });
    this.state = el('span.words-state', { role: 'status' });
    this.screen = el('div.words-screen', {}, this.canvas, this.cross, this.state);
    this.scale = el('div.words-scale', { hidden: true }, el('span', {}, '0'), el('i'), (this.most = el('span')));
    this.layers = el('select.words-layers', { 'aria-label': 'Layer', onchange: () => this.draw() });
    this.ranks = el('ol.words-ranks', { 'aria-label': 'Words that act there' });
    this.aloud = el('p.words-aloud', { role: 'status' });
    this.threshold = el('input', { type: 'range', min: 5, max: 95, step: 1, value: 40, 'aria-label': 'From which share of the brightest on it is mask', oninput: () => this.draw() });
    this.share = el('span.words-share');
    this.use = el('button.branch-go', { type: 'button', onclick: () => this.useAsMask() }, 'Use as mask');
    this.mask = el('details.branch-fold', { ontoggle: () => this.draw() }, el('summary', {}, el('span', {}, 'Make it a mask'), this.share),
      el('div.branch-inner', {}, el('label.words-threshold', {}, el('span', {}, 'Threshold'), this.threshold, (this.from = el('output'))), this.use));
    this.alert = el('p.branch-alert', { role: 'alert', hidden: true });
    this.body = el('div.words-body', {}, this.prompt, this.screen, this.scale, this.layers, this.ranks, this.mask);
    this.host.append(this.title, this.hint, this.body, this.alert, this.aloud);
    this.host.setAttribute('aria-label', 'Words');
    this.canvas.addEventListener('pointerdown', (event) => this.point(event));
    this.canvas.addEventListener('keydown', (event) => this.key(event));
  }

  get shown() {
    return this.explore.turned === 'Words' && this.explore.seen;
  }

  get name() {
    return `${this.explore.run?.id} ${this.explore.step}`;
  }

  get maps() {
    return this.kept.get(this.name);
  }

  get layer() {
    return this.layers.value === '' ? null : Number(this.layers.value);
  }

  // The open run's words

  async load() {
    const { run } = this.explore;
    this.host.hidden = !run;
    if (!run || this.asked === run.id || this.explore.turned !== 'Words') return;
    this.asked = run.id;
    this.known = this.place = null;
    this.body.hidden = true;
    this.chosen.clear();
    this.kept.clear();
    this.clearPictures();
    const known = await this.explore.ask('words', { run: run.id });
    if (this.explore.run?.id !== run.id) return;
    this.known = known.problem ? null : known;
    this.fill();
    this.complain(known.problem ?? '');
    this.draw();
  }

  fill() {
    this.body.hidden = !this.known;
    this.hint.hidden = !this.known;
    if (!this.known) return;
    const letters = [...this.known.prompt]; // the server counts characters, a script halves of some
    const parts = [];
    let at = 0;
    this.buttons = this.known.words.map(([start, end], index) => {
      parts.push(letters.slice(at, start).join(''));
      at = end;
      const button = el('button.words-word', { type: 'button', 'aria-pressed': 'false', onclick: () => this.toggle(index) }, letters.slice(start, end).join(''));
      parts.push(button);
      return button;
    });
    this.prompt.replaceChildren(...parts, letters.slice(at).join(''));
    this.layers.replaceChildren(el('option', { value: '' }, 'All layers (mean)'));
  }

  text(word) {
    return this.buttons[word].textContent;
  }

  toggle(word) {
    if (!this.chosen.delete(word)) this.chosen.add(word);
    this.draw();
    this.wish(true);
  }

  turned() {
    if (!this.known) this.asked = null; // what could not be told may be told now
    this.load();
    this.draw();
    this.wish();
  }

  // Listening: when the hand rests, one step at a time, the last wish first

  get wanted() {
    return this.known && (this.chosen.size > 0 || this.place !== null);
  }

  wish() {
    if (!this.shown || !this.known || !this.explore.film?.steps.length) return;
    const { run, step } = this.explore;
    this.picture(run.id, step);
    if (this.wanted && !this.maps) this.listening.wish({ run: run.id, step, name: this.name });
    this.draw();
  }

  async listen({ run, step, name }) {
    if (name !== this.name || this.kept.has(name)) return;
    try {
      this.keep(this.kept, name, await Maps.fetch(this.explore.url('attention', { run, step })));
      this.complain('');
      this.offer(this.kept.get(name));
    } catch (fault) {
      if (this.explore.run?.id === run) this.complain(fault.message);
    }
  }

  offer(maps) {
    const before = this.layers.value;
    this.layers.replaceChildren(el('option', { value: '' }, 'All layers (mean)'),
      ...maps.layers.map(({ title, rows, columns }, index) => el('option', { value: index }, `${title}, ${columns} × ${rows}`)));
    this.layers.value = before;
    if (this.layers.selectedIndex < 0) this.layers.value = '';
    maps.words.forEach(({ read }, word) => {
      this.buttons[word].disabled = !read;
      this.buttons[word].title = read ? '' : 'The model did not read this word: the prompt was cut before it.';
    });
  }

  /** The full picture of a step; the film's small one is shown until it is there. */
  async picture(run, step) {
    const name = `${run} ${step}`;
    if (this.pictures.has(name)) return;
    const answer = await fetch(this.explore.url('decode', { run, step, what: 'x0' })).catch(() => null);
    if (!answer?.ok || this.explore.run?.id !== run) return;
    this.keep(this.pictures, name, await createImageBitmap(await answer.blob()));
    this.draw();
  }

  keep(into, name, one) {
    into.set(name, one);
    for (const [old, gone] of into) {
      if (into.size <= KEPT) break;
      into.delete(old);
      gone.close?.();
    }
  }

  clearPictures() {
    for (const bitmap of this.pictures.values()) bitmap.close();
    this.pictures.clear();
  }

  // Places

  point(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    this.look((event.clientX - left) / width, (event.clientY - top) / height);
  }

  key(event) {
    const { x, y } = this.place ?? { x: 0.5, y: 0.5 };
    const to = { ArrowLeft: [x - STEP, y], ArrowRight: [x + STEP, y], ArrowUp: [x, y - STEP], ArrowDown: [x, y + STEP], Enter: [x, y] }[event.key];
    if (event.key === 'Escape' && this.place) this.place = null;
    else if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    if (to) this.look(...to);
    else this.draw();
  }

  look(x, y) {
    this.place = { x: Math.max(0, Math.min(1, x)), y: Math.max(0, Math.min(1, y)) };
    this.draw();
    this.wish();
  }

  // The mask

  /** Which of so many pixels are mask: those from the threshold's share of the brightest on. */
  masked(rows, columns) {
    const heat = this.maps.heat([...this.chosen], this.layer);
    const fine = resized(heat.map, heat.rows, heat.columns, rows, columns);
    const from = peak(fine) * (Number(this.threshold.value) / 100);
    return Uint8Array.from(fine, (value) => (value >= from ? 255 : 0));
  }

  async useAsMask() {
    const { run, step } = this.explore;
    this.use.disabled = true;
    this.complain('');
    const image = await this.explore.ask('attended', { run: run.id, step });
    const mask = image.problem ? image : await keepFile(await this.maskBlob(image), (asked) => this.explore.ask('keep_painted', asked), 'mask.png');
    this.use.disabled = false;
    if (mask.problem) return this.complain(mask.problem);
    tell('give', { to: 'inpaint-image', image, mask });
    tell('tab', 'inpaint');
    return undefined;
  }

  maskBlob({ width, height }) {
    const canvas = el('canvas', { width, height });
    const pen = canvas.getContext('2d');
    pen.fillRect(0, 0, width, height);
    this.over(pen, tint(this.masked(height, width), width, height, '#ffffff', 1), 'source-over');
    return new Promise((done) => canvas.toBlob(done, 'image/png'));
  }

  complain(sentence) {
    say(this.alert, sentence);
    this.alert.hidden = !sentence;
  }

  // Drawing

  draw() {
    const { run, film, step } = this.explore;
    if (!run || !film || !this.known || this.explore.turned !== 'Words') return;
    say(this.title, `Where words act at step ${step + 1} of ${run.total || film.steps.length}`);
    this.buttons.forEach((button, word) => button.setAttribute('aria-pressed', String(this.chosen.has(word))));
    const { maps } = this;
    const picture = this.pictures.get(this.name) ?? film.frame('x0', step);
    const words = [...this.chosen].map((word) => this.text(word)).join(' ');
    const heat = maps && this.chosen.size ? maps.heat([...this.chosen], this.layer) : null;
    if (picture) this.paint(picture, heat);
    this.canvas.setAttribute('aria-label', `${heat ? `Where ${words} acts` : 'The picture'} at step ${step + 1}. Arrow keys move a mark; the words that act there are listed.`);
    say(this.state, this.wanted && !maps && this.alert.hidden ? 'Listening to this step …' : '');
    this.scale.hidden = !heat;
    if (heat) say(this.most, percent(peak(heat.map)));
    this.layers.hidden = !maps;
    this.mask.hidden = !heat;
    this.rank(maps);
  }

  paint(picture, heat) {
    const { width, height } = picture;
    const scale = SIDE / Math.max(width, height);
    const [across, down] = [Math.round(width * scale), Math.round(height * scale)];
    const pen = this.canvas.getContext('2d');
    if (this.canvas.width !== across || this.canvas.height !== down) Object.assign(this.canvas, { width: across, height: down });
    pen.imageSmoothingQuality = 'high';
    pen.globalCompositeOperation = 'source-over';
    pen.drawImage(picture, 0, 0, across, down);
    say(this.share, '');
    if (!heat) return;
    if (this.mask.open) this.paintMask(pen, across, down);
    else this.paintGlow(pen, heat, across, down);
  }

  paintGlow(pen, { map, rows, columns }, across, down) {
    pen.fillStyle = 'rgb(12 10 8 / 55%)';
    pen.fillRect(0, 0, across, down);
    this.over(pen, glow(resized(map, rows, columns, down, across), across, down), 'screen');
  }

  /** What is mask is tinted as in the Inpaint tab. */
  paintMask(pen, across, down) {
    const colour = getComputedStyle(this.host).getPropertyValue('--accent').trim();
    const mask = this.masked(down, across);
    this.over(pen, tint(mask, across, down, colour, 0.6), 'source-over');
    say(this.share, `${percent(mask.reduce((sum, value) => sum + value, 0) / 255 / mask.length)} of the picture`);
    say(this.from, `${this.threshold.value}%`);
  }

  over(pen, pixels, way) {
    const layer = el('canvas', { width: pixels.width, height: pixels.height });
    layer.getContext('2d').putImageData(pixels, 0, 0);
    pen.globalCompositeOperation = way;
    pen.drawImage(layer, 0, 0);
    pen.globalCompositeOperation = 'source-over';
  }

  rank(maps) {
    this.cross.hidden = !this.place;
    this.ranks.hidden = !maps || !this.place;
    if (this.place) Object.assign(this.cross.style, { left: `${100 * this.place.x}%`, top: `${100 * this.place.y}%` });
    if (this.ranks.hidden) return;
    const found = maps.at(this.place.x, this.place.y, this.layer);
    const rest = Math.max(0, 1 - found.reduce((sum, [, share]) => sum + share, 0));
    const most = found[0]?.[1] || 1;
    const row = (text, share, kind) => {
      const bar = el('i');
      bar.style.width = `${Math.min(100, (100 * share) / most)}%`;
      return el(`li.words-rank${kind}`, {}, el('span', {}, text), el('b', {}, percent(share)), bar);
    };
    this.ranks.replaceChildren(...found.slice(0, RANKED).map(([word, share]) => row(this.text(word), share, '')),
      el('li.words-rest', {}, el('span', {}, 'No word (begin, end, filling, commas)'), el('b', {}, percent(rest))));
    say(this.aloud, found.slice(0, 3).map(([word, share]) => `${this.text(word)} ${percent(share)}`).join(', '));
  }
}

function percent(share) {
  const value = 100 * share;
  return `${value >= 10 ? Math.round(value) : value.toFixed(1)}%`;
}
