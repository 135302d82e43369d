// What a hand does on the canvas: dragging joints, limbs, whole figures and the handles of the box around one.

import { JOINTS, NECK, bounds, copy, parentOf, partOf, scale, shift, turn } from './pose-figure.js';

const ALL = JOINTS.map((_, joint) => joint);
const FAR = 0.95; // of the picture's size beyond its edges: the server takes joints up to a whole one
const TWICE = 350; // milliseconds between the taps of a double one
const LEAST = 30; // units that the diagonal of a figure's box measures at least
const angleOf = ([px, py], [x, y]) => Math.atan2(y - py, x - px);

/** Moves a joint to a place: alone, or turning its limb about the one it hangs on; the neck carries the figure. */
export function moveJoint(figure, start, joint, place, turns) {
  const [dx, dy] = [place[0] - start.at[joint][0], place[1] - start.at[joint][1]];
  if (joint === NECK) return shift(figure, start, turns ? [NECK] : ALL, dx, dy);
  if (!turns) return shift(figure, start, [joint], dx, dy);
  const part = partOf([parentOf(joint), joint]);
  const about = start.at[part.about];
  return turn(figure, start, part.turns, about, angleOf(about, place) - angleOf(about, start.at[joint]));
}

/** Whether all joints are where a pose may have them. */
export function isNear(figure, { width, height }) {
  return figure.at.every(([x, y]) => Math.abs(x / width - 0.5) < 0.5 + FAR && Math.abs(y / height - 0.5) < 0.5 + FAR);
}

export class Hand {
  /** editor: view, figures, chosen, keep; choose(figure, joint), moved(), commit(), toggle(figure, joint). */
  constructor(editor) {
    this.editor = editor;
    this.drag = null;
    this.tap = { at: 0 };
    const { svg } = editor.view;
    svg.addEventListener('pointerdown', (event) => this.down(event));
    svg.addEventListener('pointermove', (event) => this.move(event));
    svg.addEventListener('pointerup', (event) => this.up(event));
    svg.addEventListener('pointercancel', (event) => this.isMine(event) && this.cancel());
    svg.addEventListener('lostpointercapture', (event) => this.isMine(event) && this.cancel());
    svg.addEventListener('contextmenu', (event) => this.drag && event.preventDefault()); // Ctrl-drag on a Mac
    // A finger on the empty canvas scrolls the page, one on a figure does not.
    svg.addEventListener('touchstart', (event) => this.under(event.changedTouches[0], true) && event.preventDefault(), { passive: false });
  }

  isMine(event) {
    return this.drag?.pointer === event.pointerId;
  }

  under(event, coarse) {
    return this.editor.view.hit(this.editor.view.at(event), this.editor, coarse);
  }

  down(event) {
    if (this.drag || event.button !== 0) return;
    const { editor } = this;
    const hit = this.under(event, event.pointerType !== 'mouse');
    if (hit?.kind !== 'joint') editor.view.svg.focus({ preventScroll: true }); // so that Ctrl+Z is the editor's
    if (!hit) return editor.rest();
    event.preventDefault(); // the focus goes to the joint that is nearest, not to the one on top
    const point = editor.view.at(event);
    editor.choose(hit.figure, hit.joint ?? null);
    if (hit.kind === 'joint') editor.view.focus(hit.figure, hit.joint);
    const start = copy(editor.figures[hit.figure]);
    this.drag = { ...hit, pointer: event.pointerId, point, start, moved: false, screen: [event.clientX, event.clientY] };
    editor.view.svg.setPointerCapture(event.pointerId);
    editor.view.root.classList.add('dragging');
  }

  move(event) {
    const { editor, drag } = this;
    if (!drag) {
      if (event.pointerType === 'mouse') editor.hover(this.under(event, false));
      return;
    }
    if (!this.isMine(event)) return;
    const far = Math.hypot(event.clientX - drag.screen[0], event.clientY - drag.screen[1]);
    if (!drag.moved && far < (event.pointerType === 'mouse' ? 2 : 5)) return; // a tap, not a drag
    drag.moved = true;
    this.last = event;
    this.frame ??= requestAnimationFrame(() => this.follow());
  }

  follow() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    const { editor, drag, last } = this;
    if (!drag || !last) return;
    this.last = null;
    const figure = copy(drag.start);
    this.apply(figure, drag, editor.view.at(last), last);
    if (!isNear(figure, editor.view)) return;
    editor.figures[drag.figure] = figure;
    editor.moved();
  }

  apply(figure, { kind, start, point, ...drag }, now, event) {
    const turns = this.editor.keep !== (event.altKey || event.ctrlKey || event.metaKey);
    const [x, y] = this.editor.view.held(now);
    const [dx, dy] = [x - point[0], y - point[1]];
    if (kind === 'joint') {
      const place = [start.at[drag.joint][0] + dx, start.at[drag.joint][1] + dy];
      const alone = event.altKey || event.ctrlKey || event.metaKey;
      moveJoint(figure, start, drag.joint, place, drag.joint === NECK ? alone : turns);
    } else if (kind === 'limb') {
      const part = partOf(drag.limb);
      const about = start.at[part.about];
      if (turns) turn(figure, start, part.turns, about, angleOf(about, now) - angleOf(about, point));
      else shift(figure, start, part.joints, dx, dy);
    } else if (kind === 'torso') shift(figure, start, ALL, dx, dy);
    else if (kind === 'corner') {
      const [ax, ay] = drag.corner;
      const [px, py] = drag.about;
      const [rx, ry] = [ax - px, ay - py]; // only the way along the diagonal counts
      const factor = 1 + ((now[0] - point[0]) * rx + (now[1] - point[1]) * ry) / (rx * rx + ry * ry);
      scale(figure, start, drag.about, Math.max(LEAST / Math.hypot(rx, ry), factor));
    } else {
      const { left, right, top, bottom } = bounds(start);
      const middle = [(left + right) / 2, (top + bottom) / 2];
      const angle = angleOf(middle, now) - angleOf(middle, point);
      const step = Math.PI / 12;
      turn(figure, start, ALL, middle, event.shiftKey ? Math.round(angle / step) * step : angle);
    }
  }

  up(event) {
    if (!this.isMine(event)) return;
    this.follow();
    const { drag, editor } = this;
    this.release();
    if (drag.moved) return editor.commit();
    const same = drag.kind === 'joint' && this.tap.joint === drag.joint && this.tap.figure === drag.figure;
    if (same && event.timeStamp - this.tap.at < TWICE) {
      this.tap = { at: 0 };
      return editor.toggle(drag.figure, drag.joint);
    }
    this.tap = { at: event.timeStamp, figure: drag.figure, joint: drag.joint };
  }

  /** Puts back what was taken hold of. */
  cancel() {
    const { drag, editor } = this;
    this.last = null;
    this.release();
    if (!drag?.moved) return;
    editor.figures[drag.figure] = drag.start;
    editor.moved();
  }

  release() {
    const { drag } = this;
    this.drag = null;
    this.editor.view.root.classList.remove('dragging');
    const { svg } = this.editor.view;
    if (drag && svg.hasPointerCapture(drag.pointer)) svg.releasePointerCapture(drag.pointer);
  }
}
