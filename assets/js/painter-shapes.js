// What is done to a whole mask or found in a whole picture: growing, shrinking, the area round a point.

/** A mask grown by a disc of `radius` pixels: each pixel takes the largest value that the disc reaches. */
export function grow(mask, width, height, radius) {
  const grown = new Uint8Array(mask.length);
  const halves = []; // half the disc's width at each distance from its middle row
  for (let dy = 0; dy <= radius; dy += 1) halves.push(Math.floor(Math.sqrt((radius + 0.5) ** 2 - dy * dy)));
  const room = width + 2 * radius + 1;
  // windows[k][i]: the largest of 2^k pixels from i on; two of them cover any width, overlapping.
  const windows = [new Uint8Array(room)];
  while (2 ** windows.length <= 2 * radius + 1) windows.push(new Uint8Array(room));
  for (let y = 0; y < height; y += 1) {
    const row = mask.subarray(y * width, (y + 1) * width);
    if (!row.some((value) => value)) continue;
    windows[0].set(row, radius); // a margin of zeros on both sides
    for (let level = 1; level < windows.length; level += 1) {
      const [from, to, step] = [windows[level - 1], windows[level], 2 ** (level - 1)];
      for (let i = 0; i + 2 * step <= room; i += 1) to[i] = from[i] > from[i + step] ? from[i] : from[i + step];
    }
    for (let dy = -radius; dy <= radius; dy += 1) {
      if (y + dy < 0 || y + dy >= height) continue;
      const half = Math.min(radius, halves[Math.abs(dy)]);
      const level = Math.floor(Math.log2(2 * half + 1));
      const from = windows[level];
      const first = radius - half;
      const second = radius + half + 1 - 2 ** level;
      for (let x = 0, to = (y + dy) * width; x < width; x += 1, to += 1) {
        const one = from[x + first];
        const other = from[x + second];
        const value = one > other ? one : other;
        if (value > grown[to]) grown[to] = value;
      }
    }
  }
  return grown;
}

/** A mask shrunk by a disc; the picture's own border takes nothing away. */
export function shrink(mask, width, height, radius) {
  return inverted(grow(inverted(mask), width, height, radius));
}

export function inverted(mask) {
  return mask.map((value) => 255 - value);
}

/** The pixels that hang together with (x, y) without crossing a `wall`: {region: 255 where, box}, or null. */
export function around(wall, width, height, x, y) {
  if (x < 0 || y < 0 || x >= width || y >= height || wall[y * width + x]) return null;
  const region = new Uint8Array(width * height);
  const box = { left: x, top: y, right: x + 1, bottom: y + 1 };
  const open = (at) => !wall[at] && !region[at];
  const seeds = [y * width + x];
  while (seeds.length) {
    const seed = seeds.pop();
    if (!open(seed)) continue;
    const row = seed - (seed % width);
    let left = seed;
    let right = seed + 1;
    while (left > row && open(left - 1)) left -= 1;
    while (right < row + width && open(right)) right += 1;
    region.fill(255, left, right);
    const line = row / width;
    box.left = Math.min(box.left, left - row);
    box.right = Math.max(box.right, right - row);
    box.top = Math.min(box.top, line);
    box.bottom = Math.max(box.bottom, line + 1);
    for (const next of [line > 0 ? -width : 0, line < height - 1 ? width : 0]) {
      if (!next) continue;
      for (let at = left + next; at < right + next; at += 1) {
        if (open(at) && (at === left + next || !open(at - 1))) seeds.push(at);
      }
    }
  }
  return { region, box };
}

/** Lets a region reach `pixels` further, so that no pale seam stays between it and the line that bounds it. */
export function widened({ region, box }, width, height, pixels) {
  const wide = {
    left: Math.max(0, box.left - pixels),
    top: Math.max(0, box.top - pixels),
    right: Math.min(width, box.right + pixels),
    bottom: Math.min(height, box.bottom + pixels),
  };
  return { region: grow(region, width, height, pixels), box: wide };
}

/** Where colours differ from the one at (x, y) by more than `tolerance` in any channel: the wall for `around`. */
export function unlike({ data, width, height }, x, y, tolerance) {
  const wall = new Uint8Array(width * height);
  const [red, green, blue] = data.subarray(4 * (y * width + x));
  for (let at = 0, from = 0; at < wall.length; at += 1, from += 4) {
    wall[at] =
      Math.abs(data[from] - red) > tolerance ||
      Math.abs(data[from + 1] - green) > tolerance ||
      Math.abs(data[from + 2] - blue) > tolerance;
  }
  return wall;
}
