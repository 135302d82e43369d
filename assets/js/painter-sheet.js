// The sheet: a picture, the paint on it and the borders added to it, with every change and its undoing.
// It knows no elements; points and sizes that it is given are the picture's, in its pixels.

import { scaled } from './painter-files.js';
import { History } from './painter-history.js';
import { around, grow, inverted, shrink, unlike, widened } from './painter-shapes.js';
import { Surface } from './painter-surface.js';

const LONGEST = 2048; // pixels a side that are painted on; the mask of a larger picture is scaled
const LIKE = 24; // how far colours may differ that the bucket fills together

export const NONE = Object.freeze({ left: 0, top: 0, right: 0, bottom: 0 });

export class Sheet {
  /** changed(what): 'paint', 'borders' or 'picture' has changed. */
  constructor(coloured, changed) {
    this.coloured = coloured;
    this.changed = changed;
    this.history = new History();
    this.picture = null; // {key, width, height, url, image}
    this.surface = null;
    this.extend = NONE;
    this.version = this.keptVersion = 0; // of the paint, and of that paint which was sent
    this.kept = null; // what came back for it: {key, url, ...}; null where nothing is painted
  }

  get unsaved() {
    return this.version !== this.keptVersion;
  }

  /** The paint of that version has been sent, and is known as `kept`. */
  keep(kept, version = this.version) {
    this.kept = kept;
    this.keptVersion = version;
  }

  /** Puts a picture, or none, in place of the one there is. undoable: undo brings that back. */
  put(picture, undoable) {
    if (!undoable) this.history = new History();
    else if (this.picture) this.history.add(this.pictureEntry());
    else this.history.undone = []; // the empty painter is nothing to go back to
    this.picture = picture;
    this.extend = NONE;
    this.surface = null;
    if (picture) {
      const part = Math.min(1, LONGEST / Math.max(picture.width, picture.height));
      const size = (pixels) => Math.max(1, Math.round(pixels * part));
      this.surface = new Surface(size(picture.width), size(picture.height), this.coloured);
    }
    this.version += 1;
    this.keep(null);
    this.changed('picture');
  }

  /** Pixels of the surface to one of the picture. */
  get unit() {
    return this.surface.width / this.picture.width;
  }

  holds([x, y]) {
    return x >= 0 && y >= 0 && x < this.picture.width && y < this.picture.height;
  }

  // One change: begin, sweep or area or flood, then commit or takeBack

  begin(ink) {
    this.surface.begin(ink);
  }

  sweep(a, b, hardness) {
    const { unit } = this;
    const on = ({ x, y, r }) => ({ x: x * unit, y: y * unit, r: r * unit });
    this.surface.sweep(on(a), on(b), hardness);
  }

  area(points, ink) {
    this.begin(ink);
    this.surface.enclose(points.map(([x, y]) => [x * this.unit, y * this.unit]));
    this.commit();
  }

  /** Fills what hangs together round a point: in a mask up to painted lines, else what looks alike. */
  fill(at, ink) {
    const { surface } = this;
    const { width, height } = surface;
    const [x, y] = at.map((place) => Math.floor(place * this.unit));
    if (!this.holds(at)) return false;
    const wall = this.coloured
      ? unlike(this.flattened(width, height).getContext('2d').getImageData(0, 0, width, height), x, y, LIKE)
      : surface.words.map((value) => (value > 127) !== ink.erase);
    const found = around(wall, width, height, x, y);
    if (!found) return false;
    const { region, box } = widened(found, width, height, this.coloured ? 1 : 2);
    this.begin(ink);
    surface.flood(region, box);
    this.commit();
    return true;
  }

  commit() {
    const { surface } = this;
    const patch = surface.end();
    if (patch) {
      this.history.add(this.patchEntry(surface, patch));
      this.version += 1;
    }
    this.changed('paint');
  }

  takeBack() {
    this.surface?.revert();
    this.changed('paint');
  }

  // All of it at once

  replace(words) {
    this.surface.revert();
    this.surface.replace(words);
    this.commit();
  }

  clear() {
    this.replace(new this.surface.words.constructor(this.surface.words.length));
  }

  invert() {
    this.replace(inverted(this.surface.words));
  }

  /** Grows the mask by that many pixels of the picture, or shrinks it by as many where they are negative. */
  growBy(pixels) {
    const { words, width, height } = this.surface;
    const radius = Math.max(1, Math.round(Math.abs(pixels) * this.unit));
    this.replace((pixels > 0 ? grow : shrink)(words, width, height, radius));
  }

  /** Sets the borders. before: what they were when the hand took hold, where undo is to bring that back. */
  widen(extend, before = null) {
    this.extend = { left: extend.left, top: extend.top, right: extend.right, bottom: extend.bottom };
    if (before) this.history.add(this.borderEntry(before));
    this.changed('borders');
  }

  // Undo

  undo() {
    this.surface?.revert();
    return this.history.undo();
  }

  redo() {
    this.surface?.revert();
    return this.history.redo();
  }

  patchEntry(surface, patch) {
    const swap = () => {
      const back = surface.swap(patch);
      this.version += 1;
      this.changed('paint');
      return this.patchEntry(surface, back);
    };
    return { bytes: patch.reduce((sum, { packed }) => sum + packed.bytes + 64, 0), swap };
  }

  borderEntry(extend) {
    const swap = () => {
      const back = this.borderEntry(this.extend);
      this.widen(extend);
      return back;
    };
    return { bytes: 0, swap };
  }

  pictureEntry() {
    const { picture, surface, extend, kept, unsaved } = this;
    const swap = () => {
      const back = this.pictureEntry();
      Object.assign(this, { picture, surface, extend });
      this.version += 1;
      if (unsaved) this.kept = null;
      else this.keep(kept);
      this.changed('picture');
      return back;
    };
    return { bytes: surface ? surface.words.byteLength * 2 : 0, swap };
  }

  // Reading

  /** The picture with what is painted on it, at any size. */
  flattened(width, height) {
    this.surface.show();
    const flat = scaled(this.picture.image, width, height);
    flat.getContext('2d').drawImage(this.surface.canvas, 0, 0, width, height);
    return flat;
  }

  /** The colour at a point, as #rrggbb; null beyond the picture. */
  colourAt(at) {
    if (!this.holds(at)) return null;
    const [x, y] = at.map(Math.floor);
    const { image, width } = this.picture;
    const dot = document.createElement('canvas');
    dot.width = dot.height = 1;
    const context = dot.getContext('2d', { willReadFrequently: true });
    const part = image.naturalWidth / width;
    context.imageSmoothingEnabled = false;
    context.drawImage(image, x * part, y * part, 1, 1, 0, 0, 1, 1);
    this.surface.show();
    context.drawImage(this.surface.canvas, x * this.unit, y * this.unit, 1, 1, 0, 0, 1, 1);
    const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
    return `#${[red, green, blue].map((one) => one.toString(16).padStart(2, '0')).join('')}`;
  }
}
