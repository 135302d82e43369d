// A pose as a small drawing: OpenPose's eighteen joints in the colours that its maps have.

const LIMBS = [
  [1, 2], [1, 5], [2, 3], [3, 4], [5, 6], [6, 7], [1, 8], [8, 9], [9, 10], [1, 11], [11, 12], [12, 13], [1, 0],
  [0, 14], [14, 16], [0, 15], [15, 17],
];

/** A square <svg> about people: lists of eighteen [x, y] or null, in shares of a picture of that shape. */
export function figure(people, width = 1, height = 1) {
  const [across, down] = [(100 * width) / Math.max(width, height), (100 * height) / Math.max(width, height)];
  const seen = people.flat().filter(Boolean).map(([x, y]) => [x * across, y * down]);
  const [left, right] = ends(seen.map(([x]) => x));
  const [top, bottom] = ends(seen.map(([, y]) => y));
  const side = Math.max(right - left, bottom - top, 24) * 1.16; // a square about the people, with some air
  const corner = [(left + right - side) / 2, (top + bottom - side) / 2];
  const svg = node('svg', { viewBox: `${corner.join(' ')} ${side} ${side}`, 'stroke-width': side / 24, class: 'unit-figure', 'aria-hidden': 'true' });
  for (const joints of people) {
    for (const [index, limb] of LIMBS.entries()) {
      const [from, to] = limb.map((joint) => joints[joint]);
      if (!from || !to) continue;
      const at = { x1: from[0] * across, y1: from[1] * down, x2: to[0] * across, y2: to[1] * down };
      svg.append(node('line', { ...at, stroke: `hsl(${Math.round((index * 360) / 18)} 85% 55%)` }));
    }
  }
  return svg;
}

function ends(values) {
  return values.length ? [Math.min(...values), Math.max(...values)] : [0, 0];
}

function node(name, attributes) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
