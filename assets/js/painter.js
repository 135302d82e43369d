// The painter: a picture and what a hand paints on it: a mask, colours, or a control map. Other modules embed
// the class; `mount` makes it a component of the page.

import { el, say } from './dom.js';
import { Bar } from './painter-bar.js';
import { Borders } from './painter-borders.js';
import * as files from './painter-files.js';
import { Hand } from './painter-hand.js';
import { listen } from './painter-listen.js';
import { Post } from './painter-post.js';
import { NONE, Sheet } from './painter-sheet.js';
import { Teach } from './painter-teach.js';
import { View } from './painter-view.js';

export { mount } from './painter-mount.js';

const SHADE = 0.66; // how much of the picture the mask hides
const ROUND = ['brush', 'eraser', 'line']; // tools that have a size
const NAMES = {
  brush: 'Brush',
  eraser: 'Eraser',
  line: 'Line',
  lasso: 'Lasso',
  rectangle: 'Rectangle',
  fill: 'Fill',
  pick: 'Pick a colour',
};
const LABELS = { mask: 'Mask painter', sketch: 'Sketch painter', map: 'Map painter' };
export class Painter {
  /**
   * host: an empty element, which is filled. mode: 'mask', 'sketch' or 'map'. keep: async (blob, name, on) =>
   * {key, width, height, url, notes?} or {problem}; on: the key of the picture that the blob was painted on, if it
   * is one with paint. onChange(value): there are new keys or borders. extendable: the borders of a mask's picture
   * have handles. label: its name for those who cannot see it.
   */
  constructor(host, { mode = 'mask', keep, onChange = () => {}, extendable = false, examples = [], label = LABELS[mode] }) {
    Object.assign(this, { mode, keep, onChange, examples: examples ?? [], coloured: mode !== 'mask' });
    this.sheet = new Sheet(this.coloured, (what) => this.changed(what));
    this.post = new Post(this);
    this.problem = '';
    const colour = mode === 'map' ? '#ffffff' : '#c0392b';
    this.kit = { tool: 'brush', size: 40, hardness: this.coloured ? 1 : 0.9, strength: 1, colour };
    this.cleanup = new AbortController();
    this.build(host, label, extendable && mode === 'mask');
    listen(this, this.cleanup.signal);
    this.post.note();
    this.draw();
  }

  get picture() {
    return this.sheet.picture;
  }

  build(host, label, extendable) {
    this.view = new View({
      label: `${label}: arrows move the brush, Enter paints, letters choose tools`,
      moved: () => (this.hand?.outline(), this.draw()),
    });
    this.hand = new Hand(this, this.view);
    if (extendable) this.borders = new Borders(this.view, (extend, ended) => this.border(extend, ended));
    this.bar = new Bar(this);
    this.alert = el('p.alert', { role: 'alert', hidden: true });
    this.aloud = el('p.aloud', { role: 'status' });
    this.teach = new Teach(this);
    this.root = el(
      `div.painter.takes-pictures.${this.mode}`,
      { role: 'group', 'aria-label': label },
      this.bar.top,
      this.bar.sliders,
      el('div.screen-box', {}, this.view.easel, this.teach.root),
      this.alert,
      this.bar.foot,
      this.bar.bottom,
      this.aloud,
    );
    host.append(this.root);
  }

  // What is shown

  /** Sets what is painted on; what is shown already stays as it is, with its strokes. */
  async show({ image = null, mask = null, extend = null } = {}) {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const { sheet } = this;
    try {
      const same = this.isShown(image);
      if (!same) {
        const loaded = image && (await files.picture(image.url));
        if (turn !== this.turn) return;
        sheet.put(image && { ...image, image: loaded }, false);
      }
      const known = same && (sheet.unsaved || (mask?.key ?? null) === (sheet.kept?.key ?? null));
      if (image && !this.coloured && !known) await this.showMask(mask, turn);
      const borders = { ...NONE, ...extend };
      if (turn === this.turn && Object.keys(NONE).some((side) => borders[side] !== sheet.extend[side])) sheet.widen(borders);
    } catch {
      this.complain('The picture is not there any more. Choose it again, or another one.');
    }
    this.post.note();
    if (sheet.unsaved) this.touch();
  }

  isShown(image) {
    if (!image || !this.picture) return !image && !this.picture;
    return image.key === this.picture.key || (this.coloured && image.key === this.sheet.kept?.key);
  }

  async showMask(mask, turn) {
    const { surface } = this.sheet;
    const { width, height } = surface;
    const words = mask ? files.values(await files.picture(mask.url), width, height) : new Uint8Array(width * height);
    if (turn !== this.turn) return;
    surface.replace(words);
    surface.end();
    this.sheet.keep(mask);
    this.changed('paint');
  }

  /** The sheet has changed. */
  changed(what) {
    if (what === 'picture') this.changedPicture();
    if (what === 'borders') {
      this.view.extend = this.sheet.extend;
      if (this.borderFrom) this.view.draw(); // while it moves the picture stays where it is
      else this.view.fit();
    }
    if (what === 'paint') this.view.paintFresh();
    this.touch();
  }

  changedPicture() {
    const { picture, surface, extend } = this.sheet;
    this.complain('');
    this.hand.forget();
    this.root.classList.toggle('full', Boolean(picture));
    this.root.style.setProperty('--shape', picture ? picture.width / picture.height : 1.6);
    if (picture && !this.sized) this.kit.size = Math.max(4, Math.min(400, Math.round(Math.max(picture.width, picture.height) / 16)));
    this.view.present(picture?.image ?? null, picture?.width ?? 0, picture?.height ?? 0, surface, extend);
    this.dye();
  }

  /** The mask's colour is the look's. */
  dye() {
    const { surface } = this.sheet;
    if (surface && !this.coloured) {
      const colour = getComputedStyle(this.root).getPropertyValue('--mask').trim();
      surface.dye(channels(/^#[0-9a-f]{6}$/i.test(colour) ? colour : '#f0a04b'), SHADE);
    }
    this.view.draw();
  }

  draw() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null;
      this.bar.paint();
      this.teach.paint();
      this.borders?.place(this.sheet.extend, Boolean(this.picture));
    });
  }

  // Pictures and masks that come in

  /** Takes a picture's file in place of the picture there is; undo brings that back. */
  async take(file) {
    if (!file?.type.startsWith('image/')) {
      this.complain(`${file?.name || 'That'} is not a picture. A PNG, JPEG or WebP would do.`);
      return;
    }
    this.root.classList.add('busy');
    try {
      const kept = await this.post.send(file, file.name || 'picture.png');
      if (kept) await this.receive(kept);
    } catch {
      this.complain('The picture cannot be shown; its file may be damaged. The same saved as PNG, or another, would do.');
    } finally {
      this.root.classList.remove('busy');
    }
  }

  /** Takes a picture that the program has, {key, width, height, url}, and such a mask; undo brings back what it
   *  replaces. */
  async receive(image, mask = null) {
    const loaded = await files.picture(image.url);
    this.turn = (this.turn ?? 0) + 1;
    this.sheet.put({ ...image, image: loaded }, true);
    if (mask && !this.coloured) await this.showMask(mask, this.turn);
    const notes = [image.notes ?? []].flat().join(' ');
    this.speak(`Picture, ${image.width} by ${image.height} pixels. ${notes}`.trim());
    this.post.tell();
  }

  removePicture() {
    if (!this.picture) return;
    this.sheet.put(null, true);
    this.teach.choose.focus();
    this.post.tell();
  }

  async choosePicture() {
    this.take(await files.choose());
  }

  async takeBlank() {
    this.take(await files.blank(1024, 1024, this.mode === 'map' ? '#000000' : '#ffffff'));
  }

  async chooseMask() {
    this.takeMask(await files.choose());
  }

  /** A mask from a file: white is repainted. It may be larger or smaller than the picture, of the same shape. */
  async takeMask(file) {
    const { surface, picture } = this.sheet;
    if (!surface || this.coloured) return;
    const url = URL.createObjectURL(file);
    try {
      const image = await files.picture(url);
      const { naturalWidth: across, naturalHeight: down } = image;
      const { width, height } = picture;
      const sameShape = Math.abs(across * height - down * width) <= 0.02 * across * height;
      this.complain(sameShape ? '' : `The mask is ${across} × ${down}, the picture ${width} × ${height}. A mask of the same shape would do.`);
      if (sameShape) this.all('Mask loaded.', () => this.sheet.replace(files.values(image, surface.width, surface.height)));
    } catch {
      this.complain(`${file.name || 'The file'} cannot be read as a mask. A PNG, white where the picture is to change, would do.`);
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  async saveMask() {
    if (this.picture) files.download(await this.paintBlob(), 'mask.png');
  }

  // What hand, keys and buttons do

  begin(erase) {
    this.sheet.begin(this.ink(erase));
  }

  ink(erase) {
    return { erase, strength: this.kit.strength, colour: channels(this.kit.colour) };
  }

  sweep(a, b) {
    this.sheet.sweep(a, b, this.kit.hardness);
  }

  area(points, erase) {
    this.sheet.area(points, this.ink(erase));
  }

  fill(at, erase) {
    const told = erase ? 'Nothing is painted there.' : 'That is painted already.';
    if (!this.sheet.fill(at, this.ink(erase)) && this.sheet.holds(at)) this.speak(told);
  }

  /** The colour under a point becomes the brush's. */
  pick(at) {
    const colour = this.sheet.colourAt(at);
    if (colour) this.set({ colour }, 'colour');
  }

  commit() {
    this.sheet.commit();
  }

  takeBack() {
    this.sheet.takeBack();
  }

  refresh() {
    this.view.paintFresh();
  }

  undo() {
    this.hand.forget();
    this.speak(this.sheet.undo() ? 'Undone.' : 'Nothing is left to undo.');
    this.post.tell();
  }

  redo() {
    this.hand.forget();
    this.speak(this.sheet.redo() ? 'Done again.' : 'Nothing is left to redo.');
    this.post.tell();
  }

  clear() {
    this.all('Cleared.', () => this.sheet.clear());
  }

  invert() {
    if (!this.coloured) this.all('Inverted.', () => this.sheet.invert());
  }

  growBy(pixels) {
    const told = pixels > 0 ? `Grown by ${pixels} pixels.` : `Shrunk by ${-pixels} pixels.`;
    if (!this.coloured) this.all(told, () => this.sheet.growBy(pixels));
  }

  all(told, change) {
    if (!this.picture) return;
    this.hand.forget();
    change();
    this.speak(told);
  }

  use(tool) {
    this.kit.tool = tool;
    this.hand.drop();
    this.hand.outline();
    this.speak(`${NAMES[tool]}${ROUND.includes(tool) ? `, ${this.kit.size} pixels` : ''}`);
    this.draw();
  }

  /** Sets what the brush is: size, hardness, strength or colour; `which` of them is told. */
  set(change, which) {
    const { kit } = this;
    Object.assign(kit, change);
    kit.size = Math.min(400, Math.max(1, Math.round(kit.size)));
    kit.hardness = Math.min(1, Math.max(0, Math.round(kit.hardness * 100) / 100));
    if (which === 'size') this.sized = true;
    if (which === 'colour' && kit.tool === 'eraser') kit.tool = 'brush';
    const told = {
      size: `${NAMES[kit.tool]}, ${kit.size} pixels`,
      hardness: `Hardness ${Math.round(kit.hardness * 100)}%`,
      colour: `Colour ${kit.colour}`,
    };
    if (told[which]) this.speak(told[which]);
    this.hand.outline();
    this.draw();
  }

  /** The brush a step larger or smaller: a tenth, and at least a pixel. */
  resize(direction) {
    const { size } = this.kit;
    this.set({ size: size + direction * Math.max(1, Math.floor(size / 10)) }, 'size');
  }

  /** Shows the mask as it is when its edge is blurred by that many pixels. */
  setSoft(pixels) {
    this.view.soft = Math.max(0, Number(pixels) || 0);
    this.view.draw();
  }

  get isLarge() {
    return this.root.classList.contains('large');
  }

  /** Fills the window, or goes back into the page. In the top layer nothing of the page can cover it. */
  enlarge(large) {
    if (large === this.isLarge) return;
    this.root.classList.toggle('large', large);
    if (large) {
      this.root.setAttribute('popover', 'manual');
      this.root.showPopover?.();
    } else {
      this.root.removeAttribute('popover');
    }
    this.view.fitted = true;
    this.view.resize();
    this.view.easel.focus({ preventScroll: true });
    this.speak(large ? 'The painter fills the window. Escape leaves.' : 'Back in the page.');
    this.draw();
  }

  /** A border moves; `ended`: it has come to rest. */
  border(extend, ended) {
    this.borderFrom ??= this.sheet.extend;
    const before = this.borderFrom;
    if (!ended) return this.sheet.widen(extend);
    this.borderFrom = null;
    this.sheet.widen(extend, JSON.stringify(before) === JSON.stringify(extend) ? null : before);
  }

  resetBorders() {
    this.border(NONE, true);
    this.view.easel.focus({ preventScroll: true });
  }

  // Values

  get unsaved() {
    return this.sheet.unsaved;
  }

  get value() {
    const { picture, kept, extend } = this.sheet;
    return {
      image: (this.coloured && kept?.key) || (picture?.key ?? null),
      mask: this.coloured ? null : (kept?.key ?? null),
      extend: { ...extend },
      width: picture?.width ?? 0,
      height: picture?.height ?? 0,
    };
  }

  /** What `show` takes to bring this back. */
  get shown() {
    const { picture, kept, extend } = this.sheet;
    const brief = (one) => one && { key: one.key, width: one.width, height: one.height, url: one.url };
    return { image: brief((this.coloured && kept) || picture), mask: this.coloured ? null : brief(kept), extend: { ...extend } };
  }

  /** Something may have changed: it is sent when the hand rests. */
  touch() {
    this.draw();
    this.post.later();
  }

  /** Sends what is not sent yet; resolves with the value, which has a `problem` where that could not be. */
  flush() {
    return this.post.flush();
  }

  /** The paint as a file: the mask, or the picture with what is painted on it. */
  paintBlob() {
    const { surface, picture } = this.sheet;
    if (!this.coloured) return files.greyPng(surface.words, surface.width, surface.height);
    return files.blobOf(this.sheet.flattened(picture.width, picture.height));
  }

  complain(sentence) {
    this.problem = sentence;
    say(this.alert, sentence);
    this.alert.hidden = !sentence;
  }

  speak(sentence) {
    say(this.aloud, sentence);
  }

  destroy() {
    this.post.note();
    this.cleanup.abort();
    this.hand.destroy();
    this.view.destroy();
    if (this.drawing) cancelAnimationFrame(this.drawing);
    this.root.remove();
  }
}

function channels(colour) {
  return [1, 3, 5].map((from) => parseInt(colour.slice(from, from + 2), 16));
}
