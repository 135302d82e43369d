// The pose editor's canvas: the picture's frame, the figures in OpenPose's colours, the box around the chosen one.

import { el } from './dom.js';
import { COLOURS, JOINTS, LIMBS, awayFromLimb, bounds, isFace, isInTorso } from './pose-figure.js';

const SIDE = 256; // units to the longer side of the picture
const MARGIN = 20; // where joints may stick out
const PAD = 11; // from the chosen figure to its box
const CORNERS = ['left top', 'right top', 'right bottom', 'left bottom'];

export function shape(kind, attributes = {}, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', kind);
  set(node, attributes);
  node.append(...children);
  return node;
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    const text = typeof value === 'number' ? String(Math.round(value * 1000) / 1000) : value;
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}

const colour = ([red, green, blue], share = 1) => `rgb(${red * share} ${green * share} ${blue * share})`;

/** A limb as draw_bodypose fills it: an ellipse between its joints at six tenths of its colour. */
function place(limb, [ax, ay], [bx, by], thickness) {
  const angle = (Math.atan2(by - ay, bx - ax) * 180) / Math.PI;
  const [x, y] = [(ax + bx) / 2, (ay + by) / 2];
  set(limb, { cx: x, cy: y, rx: Math.hypot(bx - ax, by - ay) / 2, ry: thickness, transform: `rotate(${angle.toFixed(2)} ${x.toFixed(2)} ${y.toFixed(2)})` });
}

class FigureView {
  constructor() {
    this.limbs = LIMBS.map((_, index) => shape('ellipse', { fill: colour(COLOURS[index], 0.6) }));
    this.joints = JOINTS.map((_, joint) => {
      const dot = shape('circle', { class: 'dot', fill: colour(COLOURS[joint]), r: isFace(joint) ? 2.4 : 3.6 });
      const ring = shape('circle', { class: 'ring', r: isFace(joint) ? 5 : 6.5 });
      return shape('g', { class: 'joint', tabindex: '0', role: 'button' }, ring, dot);
    });
    this.root = shape('g', { class: 'figure' }, ...this.limbs, ...this.joints);
  }

  paint(figure, number, chosen, active) {
    this.root.classList.toggle('chosen', chosen);
    LIMBS.forEach(([from, to], index) => {
      const there = figure.seen[from] && figure.seen[to];
      this.limbs[index].style.display = there ? '' : 'none';
      if (there) place(this.limbs[index], figure.at[from], figure.at[to], 3.4);
    });
    this.joints.forEach((node, joint) => {
      const [x, y] = figure.at[joint];
      const label = `${JOINTS[joint]}, person ${number + 1}${figure.seen[joint] ? '' : ', hidden'}`;
      set(node, { transform: `translate(${x.toFixed(2)} ${y.toFixed(2)})`, 'aria-label': label });
      node.classList.toggle('hidden', !figure.seen[joint]);
      node.classList.toggle('now', chosen && active === joint);
    });
  }
}

export class View {
  constructor() {
    this.mat = shape('rect', { class: 'mat', x: 0, y: 0 });
    this.picture = shape('image', { class: 'traced', x: 0, y: 0 });
    this.edge = shape('rect', { class: 'edge', x: 0, y: 0 });
    this.figures = shape('g');
    this.box = shape('rect', { class: 'box', rx: 2 });
    this.stem = shape('line', { class: 'stem' });
    this.corners = CORNERS.map((corner) => shape('rect', { class: `corner ${corner}` }));
    this.knob = shape('circle', { class: 'knob' });
    this.handles = shape('g', { class: 'handles', 'aria-hidden': 'true' }, this.box, this.stem, ...this.corners, this.knob);
    this.svg = shape('svg', { role: 'group', tabindex: '-1' }, this.mat, this.picture, this.handles, this.figures, this.edge);
    this.nobody = el('p.nobody');
    this.root = el('div.pose-canvas', {}, this.svg, this.nobody);
    this.views = [];
  }

  /** Another picture size, in pixels; a unit is 1/256 of the longer side. */
  resize(width, height) {
    const longest = Math.max(width, height);
    [this.width, this.height] = [(SIDE * width) / longest, (SIDE * height) / longest];
    for (const node of [this.mat, this.picture, this.edge]) set(node, { width: this.width, height: this.height });
    this.room = { left: -MARGIN, top: -MARGIN, right: this.width + MARGIN, bottom: this.height + MARGIN };
    this.look(null);
  }

  /** Shows a part of the canvas (left, top, right, bottom), or null for all; its shape on the page stays. */
  look(part) {
    const { left, top, right, bottom } = part ?? this.room;
    set(this.svg, { viewBox: [left, top, right - left, bottom - top].map((value) => value.toFixed(2)).join(' ') });
    this.root.style.setProperty('--shape', (this.room.right - this.room.left) / (this.room.bottom - this.room.top));
    this.part = part;
  }

  get pixel() {
    const matrix = this.svg.getScreenCTM(); // null while the canvas is not on the page
    return matrix ? 1 / matrix.a : 1;
  }

  /** Where a pointer is, in units. */
  at(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return [point.x, point.y];
  }

  held([x, y]) {
    const { left, top, right, bottom } = this.room;
    return [Math.max(left, Math.min(right, x)), Math.max(top, Math.min(bottom, y))];
  }

  trace(url, opacity) {
    this.picture.style.display = url ? '' : 'none';
    if (url) set(this.picture, { href: url });
    else this.picture.removeAttribute('href');
    this.picture.style.opacity = opacity;
  }

  paint({ figures, chosen, active, quiet }) {
    while (this.views.length > figures.length) this.views.pop().root.remove();
    while (this.views.length < figures.length) {
      this.views.push(new FigureView());
      this.figures.append(this.views.at(-1).root);
    }
    figures.forEach((figure, index) => this.views[index].paint(figure, index, index === chosen, active));
    const people = figures.length === 1 ? '1 person' : `${figures.length} people`;
    set(this.svg, { 'aria-label': `Pose of ${people}` });
    this.nobody.hidden = figures.length > 0;
    this.handles.style.display = figures[chosen] && !quiet ? '' : 'none';
    if (figures[chosen]) this.paintHandles(figures[chosen]);
  }

  paintHandles(figure) {
    const { left, right, top, bottom } = bounds(figure);
    const { pixel } = this;
    const box = { left: left - PAD, right: right + PAD, top: top - PAD, bottom: bottom + PAD };
    set(this.box, { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top });
    this.corners.forEach((node, index) => {
      const [x, y] = CORNERS[index].split(' ').map((side) => box[side]);
      set(node, { x: x - 3.5 * pixel, y: y - 3.5 * pixel, width: 7 * pixel, height: 7 * pixel, rx: 1.5 * pixel });
    });
    const middle = (box.left + box.right) / 2;
    const reach = 20 * pixel;
    const above = box.top - reach > (this.part ?? this.room).top + 4 * pixel;
    const [from, to] = above ? [box.top, box.top - reach] : [box.bottom, box.bottom + reach];
    set(this.stem, { x1: middle, x2: middle, y1: from, y2: to });
    set(this.knob, { cx: middle, cy: to, r: 5 * pixel });
    this.frame = { box, knob: [middle, to] }; // where hit() looks for them
  }

  focus(figure, joint) {
    this.views[figure]?.joints[joint].focus({ preventScroll: true });
  }

  /** Which figure and joint an element of the canvas is. */
  find(node) {
    const joint = node?.closest?.('.joint');
    const figure = this.views.findIndex((view) => view.joints.includes(joint));
    return figure < 0 ? null : { figure, joint: this.views[figure].joints.indexOf(joint) };
  }

  /** What is under a pointer: the nearest joint or handle, else a limb, else a torso, else null. */
  hit(point, { figures, chosen }, coarse) {
    const away = ([x, y]) => Math.hypot(x - point[0], y - point[1]) / this.pixel;
    const near = [];
    const reach = coarse ? 22 : 13;
    const add = (distance, found) => distance <= reach && near.push({ ...found, distance });
    figures.forEach((figure, index) => {
      const aside = index === chosen ? 0 : 3; // of two that are equally near, the chosen one's
      figure.at.forEach((joint, number) => {
        if (figure.seen[number]) add(away(joint) + aside, { kind: 'joint', figure: index, joint: number });
        else if (index === chosen) add(away(joint) + 4, { kind: 'joint', figure: index, joint: number });
      });
    });
    if (figures[chosen] && this.frame) {
      CORNERS.forEach((corner, index) => {
        const [x, y] = corner.split(' ').map((side) => this.frame.box[side]);
        const [ox, oy] = CORNERS[(index + 2) % 4].split(' ').map((side) => this.frame.box[side]);
        add(away([x, y]) + 1, { kind: 'corner', figure: chosen, corner: [x, y], about: [ox, oy], falls: index % 2 === 0 });
      });
      add(away(this.frame.knob) + 1, { kind: 'knob', figure: chosen });
    }
    if (near.length) return near.reduce((best, one) => (one.distance < best.distance ? one : best));
    const order = figures.map((_, index) => index).sort((a, b) => (b === chosen) - (a === chosen) || b - a);
    for (const index of order) {
      const figure = figures[index];
      const limbs = LIMBS.filter(([from, to]) => figure.seen[from] && figure.seen[to]);
      const limb = limbs
        .map((one) => ({ one, distance: awayFromLimb(figure, one, point) / this.pixel }))
        .reduce((best, one) => (one.distance < best.distance ? one : best), { distance: coarse ? 16 : 8 });
      if (limb.one) return { kind: 'limb', figure: index, limb: limb.one };
      if (isInTorso(figure, point)) return { kind: 'torso', figure: index };
    }
    return null;
  }
}

/** A small picture of people in shares of a square; for buttons. All stand on the same line at the same size. */
export function thumbnail(people) {
  const seen = people.flat().filter(Boolean);
  const [xs, ys] = [0, 1].map((axis) => seen.map((place) => place[axis] * 100));
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const [across, down] = [Math.max(40, right - left + 5), Math.max(53, bottom - top + 5)];
  const from = [(left + right - across) / 2, bottom + 2.5 - down];
  const svg = shape('svg', { viewBox: [...from, across, down].join(' '), preserveAspectRatio: 'xMidYMax meet', 'aria-hidden': 'true' });
  for (const person of people) {
    LIMBS.forEach(([from, to], index) => {
      if (!person[from] || !person[to]) return;
      const limb = shape('ellipse', { fill: colour(COLOURS[index], 0.85) });
      place(limb, ...[from, to].map((joint) => person[joint].map((value) => value * 100)), 1.6);
      svg.append(limb);
    });
  }
  return svg;
}
