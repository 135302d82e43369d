// The painted pixels (one byte each for a mask, four for colours) and what a brush does to them.
//
// They live in arrays rather than on a canvas: a canvas multiplies colours by their alpha and loses the low
// bits of soft masks, and reading one back costs more than painting. A canvas only shows them.

const TILE = 128;

/** A box of whole pixels: {left, top, right, bottom}, right and bottom not included. */
export function join(one, other) {
  if (!one || !other) return one ?? other;
  return {
    left: Math.min(one.left, other.left),
    top: Math.min(one.top, other.top),
    right: Math.max(one.right, other.right),
    bottom: Math.max(one.bottom, other.bottom),
  };
}

export class Surface {
  /** coloured: four bytes a pixel (red, green, blue, alpha), else one (how much is to be repainted). */
  constructor(width, height, coloured) {
    this.width = width;
    this.height = height;
    this.coloured = coloured;
    const Words = coloured ? Uint32Array : Uint8Array;
    this.words = new Words(width * height);
    this.before = new Words(width * height); // as it was when the stroke began
    this.cover = new Uint8Array(width * height); // how much of a pixel the stroke has covered, never twice
    this.touched = null; // the box of the stroke
    this.fresh = null; // the box that is not shown yet
    this.ink = { erase: false, strength: 1, colour: [0, 0, 0] };
    this.canvas = document.createElement('canvas');
    this.canvas.width = width;
    this.canvas.height = height;
    this.context = this.canvas.getContext('2d', { willReadFrequently: true });
    this.tint = new Uint32Array(256);
  }

  get whole() {
    return { left: 0, top: 0, right: this.width, bottom: this.height };
  }

  get blank() {
    return !this.words.some((word) => word !== 0);
  }

  /** What a mask is shown in; its alpha goes up to `most`. */
  dye([red, green, blue], most) {
    for (let value = 0; value < 256; value += 1) {
      this.tint[value] = (Math.round(value * most) << 24) | (blue << 16) | (green << 8) | red;
    }
    this.mark(this.whole);
  }

  mark(box) {
    this.fresh = join(this.fresh, box);
  }

  /** The next stroke's ink; erase, strength 0 to 1, colour [red, green, blue]. */
  begin(ink) {
    this.ink = ink;
  }

  clip(left, top, right, bottom) {
    const box = {
      left: Math.max(0, Math.floor(left)),
      top: Math.max(0, Math.floor(top)),
      right: Math.min(this.width, Math.ceil(right)),
      bottom: Math.min(this.height, Math.ceil(bottom)),
    };
    return box.left < box.right && box.top < box.bottom ? box : null;
  }

  /** Covers the way of a round brush from a to b ({x, y, r}); a brush of hardness 1 has but a smooth edge. */
  sweep(a, b, hardness) {
    const reach = Math.max(a.r, b.r) + 1;
    if (Math.hypot(b.x - a.x, b.y - a.y) > 4 * reach + 16) { // a long way's box would be nearly empty
      const middle = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, r: (a.r + b.r) / 2 };
      this.sweep(a, middle, hardness);
      this.sweep(middle, b, hardness);
      return;
    }
    const box = this.clip(
      Math.min(a.x, b.x) - reach,
      Math.min(a.y, b.y) - reach,
      Math.max(a.x, b.x) + reach,
      Math.max(a.y, b.y) + reach,
    );
    if (!box) return;
    const { cover, width } = this;
    const dx = b.x - a.x;
    const dy = b.y - a.y;
    const dr = b.r - a.r;
    const inverse = 1 / (dx * dx + dy * dy || 1);
    for (let y = box.top; y < box.bottom; y += 1) {
      const py = y + 0.5 - a.y;
      for (let x = box.left, at = y * width + x; x < box.right; x += 1, at += 1) {
        if (cover[at] === 255) continue;
        const px = x + 0.5 - a.x;
        let part = (px * dx + py * dy) * inverse;
        part = part < 0 ? 0 : part > 1 ? 1 : part;
        const ex = px - part * dx;
        const ey = py - part * dy;
        const radius = a.r + part * dr;
        const outer = radius + 0.5 * hardness;
        const away = outer * outer - ex * ex - ey * ey;
        if (away <= 0) continue;
        const soft = radius * (1 - hardness);
        const share = (outer - Math.sqrt(ex * ex + ey * ey)) / (soft > 1 ? soft : 1);
        const covered = share >= 1 ? 255 : (255 * share * share * (3 - 2 * share) + 0.5) | 0;
        if (covered > cover[at]) cover[at] = covered;
      }
    }
    this.covered(box);
  }

  /** Covers what a closed line of points [x, y] goes round. */
  enclose(points) {
    const xs = points.map(([x]) => x);
    const ys = points.map(([, y]) => y);
    const box = this.clip(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys));
    if (!box) return;
    const across = box.right - box.left;
    const scratch = document.createElement('canvas');
    scratch.width = across;
    scratch.height = box.bottom - box.top;
    const context = scratch.getContext('2d', { willReadFrequently: true });
    context.beginPath();
    for (const [x, y] of points) context.lineTo(x - box.left, y - box.top);
    context.fill();
    const { data } = context.getImageData(0, 0, across, scratch.height);
    for (let y = box.top, from = 3; y < box.bottom; y += 1) {
      for (let at = y * this.width + box.left, end = at + across; at < end; at += 1, from += 4) {
        if (data[from] > this.cover[at]) this.cover[at] = data[from];
      }
    }
    this.covered(box);
  }

  /** Covers the pixels of a region: an array with 255 where it is. */
  flood(region, box) {
    for (let y = box.top; y < box.bottom; y += 1) {
      const row = y * this.width;
      for (let at = row + box.left; at < row + box.right; at += 1) {
        if (region[at] > this.cover[at]) this.cover[at] = region[at];
      }
    }
    this.covered(box);
  }

  covered(box) {
    this.touched = join(this.touched, box);
    this.soaked = join(this.soaked, box);
  }

  /** Lays the ink where the stroke has newly covered: once a frame, however many points came. */
  soak() {
    const box = this.soaked;
    if (!box) return;
    this.soaked = null;
    if (this.coloured) this.soakColour(box);
    else this.soakMask(box);
    this.mark(box);
  }

  soakMask({ left, top, right, bottom }) {
    const { words, before, cover, width } = this;
    const strength = Math.round(this.ink.strength * 256);
    const goal = this.ink.erase ? 0 : 255;
    for (let y = top; y < bottom; y += 1) {
      for (let at = y * width + left, end = y * width + right; at < end; at += 1) {
        if (!cover[at]) continue;
        const share = cover[at] * strength; // of 255 * 256
        words[at] = (before[at] * (65280 - share) + goal * share + 32640) / 65280;
      }
    }
  }

  soakColour({ left, top, right, bottom }) {
    const { words, before, cover, width } = this;
    const { erase, strength, colour } = this.ink;
    const [red, green, blue] = colour;
    for (let y = top; y < bottom; y += 1) {
      for (let at = y * width + left, end = y * width + right; at < end; at += 1) {
        if (!cover[at]) continue;
        const share = (cover[at] * strength) / 255;
        const old = before[at];
        const alpha = old >>> 24;
        if (erase) {
          words[at] = ((Math.round(alpha * (1 - share)) << 24) | (old & 0xffffff)) >>> 0;
          continue;
        }
        const stays = (alpha / 255) * (1 - share);
        const sum = stays + share || 1;
        const mixed = (shift, fresh) => ((((old >>> shift) & 255) * stays + fresh * share) / sum + 0.5) | 0;
        words[at] =
          ((Math.round(sum * 255) << 24) | (mixed(16, blue) << 16) | (mixed(8, green) << 8) | mixed(0, red)) >>> 0;
      }
    }
  }

  /** All pixels anew, as one change. */
  replace(words) {
    this.words.set(words);
    this.touched = this.whole;
    this.mark(this.whole);
  }

  /** Ends the change; returns the tiles that it changed, as they were, or null where nothing differs. */
  end() {
    this.soak();
    const tiles = this.touched ? this.tilesIn(this.touched).filter((tile) => this.differs(tile)) : [];
    const patch = tiles.map((tile) => ({ tile, packed: pack(this.read(this.before, tile)) }));
    this.settle();
    return patch.length ? patch : null;
  }

  /** Takes the running change back, as when a second finger shows that it was no stroke. */
  revert() {
    if (!this.touched) return;
    const { left, top, right, bottom } = this.touched;
    for (let row = top * this.width; row < bottom * this.width; row += this.width) {
      this.words.set(this.before.subarray(row + left, row + right), row + left);
    }
    this.mark(this.touched);
    this.settle();
  }

  settle() {
    if (!this.touched) return;
    const { left, top, right, bottom } = this.touched;
    for (let row = top * this.width; row < bottom * this.width; row += this.width) {
      this.before.set(this.words.subarray(row + left, row + right), row + left);
      this.cover.fill(0, row + left, row + right);
    }
    this.touched = this.soaked = null;
  }

  /** Puts a patch's tiles in place of what is there; returns the patch that undoes this. */
  swap(patch) {
    const back = patch.map(({ tile, packed }) => {
      const now = pack(this.read(this.words, tile));
      const pixels = unpack(packed);
      const across = tile.right - tile.left;
      for (let y = tile.top, from = 0; y < tile.bottom; y += 1, from += across) {
        const row = pixels.subarray(from, from + across);
        this.words.set(row, y * this.width + tile.left);
        this.before.set(row, y * this.width + tile.left);
      }
      this.mark(tile);
      return { tile, packed: now };
    });
    return back;
  }

  tilesIn({ left, top, right, bottom }) {
    const tiles = [];
    for (let y = top - (top % TILE); y < bottom; y += TILE) {
      for (let x = left - (left % TILE); x < right; x += TILE) tiles.push(this.clip(x, y, x + TILE, y + TILE));
    }
    return tiles;
  }

  differs({ left, top, right, bottom }) {
    const { words, before, width } = this;
    for (let y = top; y < bottom; y += 1) {
      for (let at = y * width + left, end = y * width + right; at < end; at += 1) {
        if (words[at] !== before[at]) return true;
      }
    }
    return false;
  }

  read(from, { left, top, right, bottom }) {
    const across = right - left;
    const pixels = new from.constructor(across * (bottom - top));
    for (let y = top, to = 0; y < bottom; y += 1, to += across) {
      pixels.set(from.subarray(y * this.width + left, y * this.width + right), to);
    }
    return pixels;
  }

  /** Brings the canvas up to date; returns the box that changed on it, or null. */
  show() {
    this.soak();
    const box = this.fresh;
    if (!box) return null;
    this.fresh = null;
    const { words, tint, width } = this;
    const across = box.right - box.left;
    const image = new ImageData(across, box.bottom - box.top);
    const shown = new Uint32Array(image.data.buffer);
    for (let y = box.top, to = 0; y < box.bottom; y += 1) {
      const row = y * width;
      if (this.coloured) {
        shown.set(words.subarray(row + box.left, row + box.right), to);
        to += across;
        continue;
      }
      for (let at = row + box.left; at < row + box.right; at += 1, to += 1) shown[to] = tint[words[at]];
    }
    this.context.putImageData(image, box.left, box.top);
    return box;
  }
}

/** Runs of equal pixels as [length, pixel] pairs where that is shorter: most tiles of a mask are one run. */
function pack(pixels) {
  const runs = [];
  const most = pixels.byteLength / 8; // pairs of 4 bytes each
  for (let from = 0; from < pixels.length && runs.length / 2 <= most; ) {
    let to = from + 1;
    while (to < pixels.length && pixels[to] === pixels[from]) to += 1;
    runs.push(to - from, pixels[from]);
    from = to;
  }
  if (runs.length / 2 > most) return { pixels, bytes: pixels.byteLength };
  return { runs: Uint32Array.from(runs), length: pixels.length, kind: pixels.constructor, bytes: runs.length * 4 };
}

function unpack({ pixels, runs, length, kind }) {
  if (pixels) return pixels;
  const full = new kind(length);
  for (let run = 0, at = 0; run < runs.length; run += 2) {
    full.fill(runs[run + 1], at, at + runs[run]);
    at += runs[run];
  }
  return full;
}
