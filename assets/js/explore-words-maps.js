// What was heard in a step: for each layer and word how much each place of the picture listened to it, as shares of
// all that it heard of the prompt.

export class Maps {
  /** Asks for the maps of a step. Throws an Error with the server's sentence and `status`. */
  static async fetch(address) {
    const answer = await fetch(address);
    if (!answer.ok) {
      const told = await answer.json().catch(() => ({}));
      throw Object.assign(new Error(told.problem ?? 'The maps did not arrive: try it once more.'), { status: answer.status });
    }
    const bytes = await answer.arrayBuffer();
    const length = new DataView(bytes).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
    return new Maps(head, new Uint8Array(bytes, 4 + length));
  }

  constructor({ words, layers, same }, bytes) {
    Object.assign(this, { words, same });
    let at = 0;
    this.layers = layers.map(({ title, rows, columns, peaks }) => {
      const maps = peaks.map((peak) => {
        const map = Float32Array.from(bytes.subarray(at, at + rows * columns), (value) => (value * peak) / 255);
        at += rows * columns;
        return map;
      });
      return { title, rows, columns, maps };
    });
    this.rows = Math.max(...layers.map(({ rows }) => rows));
    this.columns = Math.max(...layers.map(({ columns }) => columns));
  }

  /** The shares of these words together, of one layer (its index) or the mean of all (null): { rows, columns, map }. */
  heat(words, layer) {
    if (layer !== null) {
      const { rows, columns, maps } = this.layers[layer];
      return { rows, columns, map: sum(words.map((word) => maps[word]), rows * columns) };
    }
    const { rows, columns } = this;
    const each = this.layers.map((one) => resized(sum(words.map((word) => one.maps[word]), one.rows * one.columns), one.rows, one.columns, rows, columns));
    const map = sum(each, rows * columns).map((value) => value / this.layers.length);
    return { rows, columns, map };
  }

  /** [word, share] at a place (0..1 across and down), the largest first; what is left are beginning, end and commas. */
  at(x, y, layer) {
    const chosen = layer === null ? this.layers : [this.layers[layer]];
    const share = (word) => chosen.reduce((total, { maps, rows, columns }) => total + sample(maps[word], rows, columns, x, y), 0) / chosen.length;
    return this.words.map((_, word) => [word, share(word)]).sort(([, one], [, other]) => other - one);
  }
}

function sum(maps, length) {
  const total = new Float32Array(length);
  for (const map of maps) for (let at = 0; at < length; at += 1) total[at] += map[at];
  return total;
}

/** The value between the middles of the four places around a point, 0..1 across and down. */
function sample(map, rows, columns, x, y) {
  const [left, right, across] = between(x, columns);
  const [top, bottom, down] = between(y, rows);
  const upper = map[top * columns + left] * (1 - across) + map[top * columns + right] * across;
  const lower = map[bottom * columns + left] * (1 - across) + map[bottom * columns + right] * across;
  return upper * (1 - down) + lower * down;
}

function between(share, count) {
  const at = Math.max(0, Math.min(count - 1, share * count - 0.5));
  const low = Math.floor(at);
  return [low, Math.min(count - 1, low + 1), at - low];
}

/** A map at another size, bilinear. */
export function resized(map, rows, columns, down, across) {
  if (rows === down && columns === across) return map;
  const found = new Float32Array(down * across);
  for (let y = 0, at = 0; y < down; y += 1) {
    for (let x = 0; x < across; x += 1, at += 1) found[at] = sample(map, rows, columns, (x + 0.5) / across, (y + 0.5) / down);
  }
  return found;
}

/** Pixels of a map whose largest value is white: black over amber to white, as everything that glows on the page. */
export function glow(map, across, down) {
  const most = peak(map) || 1;
  const pixels = new ImageData(across, down);
  const words = new Uint32Array(pixels.data.buffer); // red is the lowest byte
  map.forEach((value, at) => (words[at] = GLOW[Math.round((255 * value) / most)]));
  return pixels;
}

/** Pixels of one colour (#rrggbb) where a mask (0 or 255) is set, `alpha` (0..1) of it. */
export function tint(mask, across, down, colour, alpha) {
  const pixels = new ImageData(across, down);
  const words = new Uint32Array(pixels.data.buffer);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const set = word(red, green, blue, Math.round(255 * alpha));
  mask.forEach((value, at) => (words[at] = value ? set : 0));
  return pixels;
}

export function peak(map) {
  return map.reduce((most, value) => Math.max(most, value), 0);
}

const word = (red, green, blue, alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

const GLOW = Uint32Array.from({ length: 256 }, (_, index) => {
  const share = index / 255;
  const parts = [Math.min(1, share * 1.6), Math.max(0, Math.min(1, share * 1.2 - 0.1)), share ** 2];
  return word(...parts.map((value) => Math.round(255 * value)), 255);
});
