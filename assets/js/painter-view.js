// What is seen of the painter: the picture and the paint at any zoom, the brush's outline, lines being drawn.

import { el } from './dom.js';
import { halves } from './painter-files.js';
import { NONE } from './painter-sheet.js';

const SVG = 'http://www.w3.org/2000/svg';
const CLOSEST = 32; // screen pixels per picture pixel
const PIXELS_SHOW = 3; // from here on pixels are shown as squares

export class View {
  /** moved(): scale or place changed. */
  constructor({ label, moved }) {
    this.moved = moved;
    this.scale = 1;
    this.left = 0; // where the picture's corner is, in pixels of the page
    this.top = 0;
    this.fitted = true; // stays fitted when the room changes
    this.soft = 0;
    this.extend = NONE;
    this.back = el('canvas.back');
    this.front = el('canvas.front');
    this.guide = document.createElementNS(SVG, 'svg');
    this.guide.classList.add('guide');
    this.lines = ['under', 'over'].map((name) => {
      const path = document.createElementNS(SVG, 'path');
      path.classList.add(name);
      this.guide.append(path);
      return path;
    });
    this.ring = el('div.ring', { hidden: true });
    this.easel = el(
      'div.easel',
      { tabIndex: 0, role: 'application', 'aria-label': label, 'aria-roledescription': 'canvas' },
      this.back,
      this.front,
      this.guide,
      this.ring,
    );
    // A finger's stroke is no scroll: without this the browser may take the next tap on the page for its end.
    this.easel.addEventListener('touchstart', (event) => event.preventDefault(), { passive: false });
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(this.easel);
  }

  /** What is shown: `image` as a picture of that size, with the paint of `surface` over it. */
  present(image, width, height, surface, extend) {
    this.width = width;
    this.height = height;
    this.surface = surface;
    this.levels = image ? halves(image, image.naturalWidth || width, image.naturalHeight || height) : null;
    this.extend = extend;
    this.fit();
  }

  /** Where the picture with its borders begins and ends, in its pixels. */
  get bounds() {
    const { left, top, right, bottom } = this.extend;
    return { left: -left, top: -top, right: this.width + right, bottom: this.height + bottom };
  }

  resize() {
    const { clientWidth, clientHeight } = this.easel;
    const ratio = Math.min(2, devicePixelRatio || 1);
    if (!clientWidth || (this.across === clientWidth && this.down === clientHeight && this.ratio === ratio)) return;
    const dx = this.across ? (clientWidth - this.across) / 2 : 0;
    const dy = this.down ? (clientHeight - this.down) / 2 : 0;
    Object.assign(this, { across: clientWidth, down: clientHeight, ratio });
    for (const canvas of [this.back, this.front]) {
      canvas.width = Math.round(clientWidth * ratio);
      canvas.height = Math.round(clientHeight * ratio);
    }
    if (this.fitted) this.fit();
    else this.place(this.scale, this.left + dx, this.top + dy);
    this.paint(); // now: a canvas that changed its size is empty until it is drawn
  }

  get whole() {
    const { left, top, right, bottom } = this.bounds;
    const air = this.air ?? 12;
    const fits = Math.min((this.across - 2 * air) / (right - left), (this.down - 2 * air) / (bottom - top));
    return Math.max(0.01, Math.min(CLOSEST / 2, fits));
  }

  fit() {
    if (!this.levels || !this.across) return;
    const { left, top, right, bottom } = this.bounds;
    const scale = this.whole;
    this.place(scale, (this.across - (left + right) * scale) / 2, (this.down - (top + bottom) * scale) / 2);
    this.fitted = true;
  }

  /** Zooms by a factor, round a point of the easel (its middle without one). Returns whether anything changed. */
  zoom(factor, x = this.across / 2, y = this.down / 2) {
    if (!this.levels) return false;
    const least = Math.min(this.whole, 1);
    const scale = Math.min(CLOSEST, Math.max(least, this.scale * factor));
    if (Math.abs(scale / this.scale - 1) < 1e-6) return false;
    if (scale <= least && least === this.whole) return this.fit(), true;
    const part = scale / this.scale;
    this.place(scale, x - (x - this.left) * part, y - (y - this.top) * part);
    return true;
  }

  pan(dx, dy) {
    this.place(this.scale, this.left + dx, this.top + dy);
  }

  /** Some of the picture stays in sight wherever it is moved to. */
  place(scale, left, top) {
    const { bounds } = this;
    const edge = 48;
    this.scale = scale;
    this.left = Math.min(this.across - edge - bounds.left * scale, Math.max(edge - bounds.right * scale, left));
    this.top = Math.min(this.down - edge - bounds.top * scale, Math.max(edge - bounds.bottom * scale, top));
    this.fitted = false;
    this.draw();
    this.moved();
  }

  /** Brings a point of the picture into sight. */
  reveal([x, y]) {
    const margin = 32;
    const [px, py] = [x * this.scale + this.left, y * this.scale + this.top];
    const dx = Math.max(0, margin - px) - Math.max(0, px - this.across + margin);
    const dy = Math.max(0, margin - py) - Math.max(0, py - this.down + margin);
    if (dx || dy) this.pan(dx, dy);
  }

  /** The picture's pixel, in fractions, under a place of the page. */
  pixel(event) {
    const box = this.easel.getBoundingClientRect();
    const x = event.clientX - box.left - this.easel.clientLeft;
    const y = event.clientY - box.top - this.easel.clientTop;
    return [(x - this.left) / this.scale, (y - this.top) / this.scale];
  }

  /** A place of the easel for a place of the page. */
  local(event) {
    const box = this.easel.getBoundingClientRect();
    return [event.clientX - box.left - this.easel.clientLeft, event.clientY - box.top - this.easel.clientTop];
  }

  // Drawing

  /** All of it with the next frame of the screen. */
  draw() {
    this.pending ??= requestAnimationFrame(() => this.paint());
  }

  paint() {
    if (this.pending) cancelAnimationFrame(this.pending);
    this.pending = null;
    this.paintBack();
    this.surface?.show();
    this.paintFront(null);
  }

  paintBack() {
    const context = this.back.getContext('2d');
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.back.width, this.back.height);
    if (!this.levels) return;
    const { scale, ratio, width, height } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.paintBorders(context);
    const wanted = width * scale * ratio;
    const level = this.levels.findLast((one) => one.width >= wanted) ?? this.levels[0];
    context.imageSmoothingEnabled = scale < PIXELS_SHOW;
    context.imageSmoothingQuality = 'high';
    context.drawImage(level.source, this.left, this.top, width * scale, height * scale);
  }

  /** The room beyond the picture's borders that is to be painted: checkered, in the colour of the mask. */
  paintBorders(context) {
    const { left, top, right, bottom } = this.bounds;
    if (right - left === this.width && bottom - top === this.height) return;
    const style = getComputedStyle(this.easel);
    const [x, y] = [left * this.scale + this.left, top * this.scale + this.top];
    const [across, down] = [(right - left) * this.scale, (bottom - top) * this.scale];
    context.save();
    context.beginPath();
    context.rect(x, y, across, down);
    context.clip();
    context.fillStyle = style.getPropertyValue('--check-one');
    context.fillRect(x, y, across, down);
    context.fillStyle = style.getPropertyValue('--check-two');
    const step = 10;
    const [fromX, fromY] = [Math.max(x, x % step - step), Math.max(y, y % step - step)];
    for (let row = 0; row * step < Math.min(down, this.down + step * 2); row += 1) {
      for (let column = row % 2; column * step < Math.min(across, this.across + step * 2); column += 2) {
        context.fillRect(fromX + column * step, fromY + row * step, step, step);
      }
    }
    context.restore();
    context.strokeStyle = style.getPropertyValue('--mask');
    context.setLineDash([6, 4]);
    context.lineWidth = 1.5;
    context.strokeRect(x + 0.75, y + 0.75, across - 1.5, down - 1.5);
    context.setLineDash([]);
  }

  /** The paint: all of it, or what a box of the surface covers. */
  paintFront(box) {
    const { front, surface, scale, ratio } = this;
    if (!this.across) return;
    this.context ??= front.getContext('2d', { willReadFrequently: true });
    const { context } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (!surface) return context.clearRect(0, 0, front.width, front.height);
    const unit = this.width / surface.width; // picture pixels per pixel of the surface
    const step = scale * ratio * unit; // canvas pixels per pixel of the surface
    const blur = this.soft * scale * ratio;
    const air = Math.ceil(3 * blur) + 2;
    const [left, top] = [this.left * ratio, this.top * ratio];
    const whole = { left: 0, top: 0, right: front.width, bottom: front.height };
    const dirty = box
      ? {
          left: Math.max(0, Math.floor(left + box.left * step) - air),
          top: Math.max(0, Math.floor(top + box.top * step) - air),
          right: Math.min(front.width, Math.ceil(left + box.right * step) + air),
          bottom: Math.min(front.height, Math.ceil(top + box.bottom * step) + air),
        }
      : whole;
    if (dirty.right <= dirty.left || dirty.bottom <= dirty.top) return;
    // The part of the surface that is drawn; more than what shows, or its edge would be smoothed or blurred in.
    const part = surface.clip(
      (dirty.left - left - air) / step - 1,
      (dirty.top - top - air) / step - 1,
      (dirty.right - left + air) / step + 1,
      (dirty.bottom - top + air) / step + 1,
    );
    context.save();
    context.beginPath();
    context.rect(dirty.left, dirty.top, dirty.right - dirty.left, dirty.bottom - dirty.top);
    context.clip();
    context.clearRect(dirty.left, dirty.top, dirty.right - dirty.left, dirty.bottom - dirty.top);
    if (part) {
      context.beginPath();
      context.rect(left, top, surface.width * step, surface.height * step);
      context.clip();
      if (blur >= 0.25) context.filter = `blur(${blur}px)`;
      context.imageSmoothingEnabled = scale * unit < PIXELS_SHOW;
      const [across, down] = [part.right - part.left, part.bottom - part.top];
      context.drawImage(
        surface.canvas,
        part.left,
        part.top,
        across,
        down,
        left + part.left * step,
        top + part.top * step,
        across * step,
        down * step,
      );
    }
    context.restore();
  }

  /** Shows what the last strokes changed, at once. */
  paintFresh() {
    const box = this.surface?.show();
    if (box) this.paintFront(box);
  }

  /** The brush's outline: at [x, y] of the picture, that many of its pixels wide; null hides it. */
  outline(at, size, shape = 'brush') {
    this.ring.hidden = !at;
    if (!at) return;
    const across = Math.max(4, size * this.scale);
    this.ring.style.width = this.ring.style.height = `${across}px`;
    this.ring.classList.toggle('point', shape === 'point');
    const [x, y] = [at[0] * this.scale + this.left, at[1] * this.scale + this.top];
    this.ring.style.transform = `translate(${x}px, ${y}px) translate(-50%, -50%)`;
  }

  /** A line in the making through points of the picture. */
  trace(points, closed = false) {
    const way = points
      .map(([x, y], index) => `${index ? 'L' : 'M'}${x * this.scale + this.left} ${y * this.scale + this.top}`)
      .join('');
    for (const line of this.lines) line.setAttribute('d', closed && way ? `${way}Z` : way);
  }

  destroy() {
    this.watcher.disconnect();
    if (this.pending) cancelAnimationFrame(this.pending);
  }
}
