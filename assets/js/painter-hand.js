// The hand over the easel: mouse, pen, fingers and keys, as strokes, areas and movements of the view.

import { heardKey } from './painter-keys.js';

const POINTED = new Set(['rectangle', 'line', 'lasso']); // tools that show a line before they paint
const STILL = 4; // pixels of the page within which a press has not moved
const TAKEN_BACK = 24; // a first finger's way that a second one shows to be no stroke

export class Hand {
  constructor(painter, view) {
    this.painter = painter;
    this.view = view;
    this.act = null; // what the pressed pointer does
    this.fingers = new Map();
    this.queue = []; // points of the stroke that are not painted yet
    this.last = null; // where the last stroke ended, for Shift
    this.over = null; // the pixel under the pointer
    this.space = null; // the space bar is held: 'down', or 'dragged'
    this.cursor = null; // the pixel that the keys are at
    this.corners = []; // what Enter has set so far
    this.cleanup = new AbortController();
    const { easel } = view;
    const listen = (name, listener, options) =>
      easel.addEventListener(name, listener, { signal: this.cleanup.signal, ...options });
    listen('pointerdown', (event) => this.press(event));
    listen('pointermove', (event) => this.move(event));
    listen('pointerup', (event) => this.release(event));
    listen('pointercancel', (event) => this.release(event, true));
    listen('lostpointercapture', (event) => this.release(event, event.pointerType === 'touch'));
    listen('pointerleave', () => (this.act ? 0 : this.hover(null)));
    listen('wheel', (event) => this.wheel(event), { passive: false });
    listen('contextmenu', (event) => event.preventDefault());
    listen('auxclick', (event) => event.preventDefault());
    listen('mousedown', (event) => event.button === 1 && event.preventDefault());
    listen('blur', () => (this.unkey(), this.let()));
  }

  get tool() {
    return this.painter.kit.tool;
  }

  // Pressing, moving and letting go

  press(event) {
    if (event.target.closest('.handle') || !this.painter.picture) return;
    const { view, painter } = this;
    this.unkey();
    view.easel.classList.add('by-hand');
    if (event.pointerType === 'touch') {
      event.preventDefault();
      view.easel.focus({ preventScroll: true }); // a mouse does so itself
      this.fingers.set(event.pointerId, view.local(event));
      if (this.fingers.size === 2) return this.pinch();
      if (this.fingers.size > 2) return;
    }
    if (this.act) return;
    view.easel.setPointerCapture(event.pointerId);
    const at = view.pixel(event);
    const act = { id: event.pointerId, from: at, place: view.local(event), moved: false };
    if (event.button === 1 || this.space) {
      if (this.space) this.space = 'dragged';
      this.act = { ...act, kind: 'pan', last: act.place };
      view.easel.classList.add('pans');
    } else if (event.button !== 0 && event.button !== 2 && event.button !== 5) {
      return;
    } else if ((event.altKey && painter.coloured) || this.tool === 'pick') {
      painter.pick(at);
      this.act = { ...act, kind: 'pick' };
    } else {
      // The right button, Alt over a mask and a pen's other end take away whatever the tool is.
      const erase = this.tool === 'eraser' || event.button !== 0 || (event.altKey && !painter.coloured);
      this.begin(event, { ...act, erase });
    }
  }

  begin(event, act) {
    const { painter, tool } = this;
    if (tool === 'fill') return painter.fill(act.from, act.erase);
    const kind = POINTED.has(tool) ? tool : event.shiftKey ? 'line' : 'stroke';
    this.act = { ...act, kind, joins: event.shiftKey };
    if (kind === 'stroke') {
      painter.begin(act.erase);
      this.queue = [this.point(event)];
      this.act.last = this.queue[0];
      this.later();
    } else if (kind === 'lasso') {
      this.act.points = [act.from];
    }
  }

  move(event) {
    const { view, act } = this;
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, view.local(event));
    if (this.pinched) return this.spread();
    const at = view.pixel(event);
    if (event.pointerType !== 'touch') this.hover(event.target.closest('.handle') ? null : at);
    if (!act || act.id !== event.pointerId) return;
    const [x, y] = view.local(event);
    act.moved ||= Math.hypot(x - act.place[0], y - act.place[1]) > STILL;
    if (act.kind === 'pan') {
      view.pan(x - act.last[0], y - act.last[1]);
      act.last = [x, y];
    } else if (act.kind === 'pick') {
      this.painter.pick(at);
    } else if (act.kind === 'stroke') {
      const between = event.getCoalescedEvents?.() ?? [];
      for (const one of between.length ? between : [event]) this.queue.push(this.point(one));
      this.later();
    } else {
      if (act.kind === 'lasso') {
        const between = event.getCoalescedEvents?.() ?? [];
        for (const one of between.length ? between : [event]) act.points.push(view.pixel(one));
      }
      act.to = at;
      this.sketch(act, at);
    }
  }

  release(event, cancelled = false) {
    this.fingers.delete(event.pointerId);
    if (this.pinched) {
      if (!this.fingers.size) this.pinched = null;
      return;
    }
    const { act, view, painter } = this;
    if (!act || act.id !== event.pointerId) return;
    this.act = null;
    view.easel.classList.remove('pans');
    view.trace([]);
    if (act.kind === 'stroke') {
      this.draw(act);
      if (cancelled && !act.moved) painter.takeBack();
      else painter.commit();
      this.last = act.last;
    } else if (cancelled) {
      return;
    } else if (act.kind === 'pick' && this.tool === 'pick') {
      painter.use('brush');
    } else if (act.kind === 'line') {
      this.line(act, this.point(event));
    } else if (act.kind === 'lasso' && act.points.length > 2) {
      painter.area(act.points, act.erase);
    } else if (act.kind === 'rectangle' && act.moved) {
      painter.area(corners(act.from, view.pixel(event)), act.erase);
    }
  }

  /** A straight line along the way that was dragged; a mere Shift-click goes on from where the last one ended. */
  line(act, end) {
    const begins = act.joins && !act.moved ? this.last : this.plain(act.from);
    this.painter.begin(act.erase);
    this.painter.sweep(begins ?? end, end);
    this.painter.commit();
    this.last = end;
  }

  /** The space bar counts as let go. */
  let() {
    this.space = null;
    this.view.easel.classList.remove('grabs');
  }

  // Points

  /** A point of a stroke: where, and how wide the brush is under this pressure. */
  point(event) {
    const pressure = event.pointerType === 'pen' && event.pressure > 0 ? Math.max(0.05, event.pressure) : 1;
    const [x, y] = this.view.pixel(event);
    return { x, y, r: (this.painter.kit.size / 2) * pressure };
  }

  plain([x, y]) {
    return { x, y, r: this.painter.kit.size / 2 };
  }

  /** Points wait for the next frame: many may come between two, and each frame is drawn once. */
  later() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      if (this.act?.kind === 'stroke') this.draw(this.act);
    });
  }

  draw(act) {
    for (const point of this.queue) {
      this.painter.sweep(act.last, point);
      act.last = point;
    }
    this.queue = [];
    this.painter.refresh();
  }

  /** The line that shows what letting go would paint. */
  sketch(act, at) {
    if (act.kind === 'lasso') return this.view.trace(act.points, true);
    if (act.kind === 'rectangle') return this.view.trace(corners(act.from, at), true);
    this.view.trace([act.from, at]);
  }

  hover(at) {
    this.over = at;
    this.outline();
  }

  outline() {
    const { kit, picture } = this.painter;
    const at = this.over ?? this.cursor;
    const round = ['brush', 'eraser', 'line'].includes(kit.tool);
    const pointed = !round && !this.cursor; // the mouse has its own cross
    this.view.outline(picture && !pointed && !this.space ? at : null, round ? kit.size : 12 / this.view.scale, round ? 'brush' : 'point');
    if (this.view.ring.classList.contains('keyed') !== Boolean(this.cursor)) {
      this.view.ring.classList.toggle('keyed', Boolean(this.cursor));
    }
  }

  // Two fingers and the wheel

  pinch() {
    const { act, painter, view } = this;
    if (act) {
      const [x, y] = this.fingers.get(act.id) ?? act.place;
      const short = Math.hypot(x - act.place[0], y - act.place[1]) < TAKEN_BACK;
      if (act.kind === 'stroke') {
        this.draw(act);
        if (short) painter.takeBack();
        else painter.commit();
      }
      view.trace([]);
      this.act = null;
    }
    this.pinched = this.span();
  }

  span() {
    const [[ax, ay], [bx, by]] = [...this.fingers.values()];
    return { x: (ax + bx) / 2, y: (ay + by) / 2, far: Math.max(8, Math.hypot(ax - bx, ay - by)) };
  }

  spread() {
    if (this.fingers.size < 2) return;
    const now = this.span();
    this.view.pan(now.x - this.pinched.x, now.y - this.pinched.y);
    this.view.zoom(now.far / this.pinched.far, now.x, now.y);
    this.pinched = now;
  }

  wheel(event) {
    if (!this.painter.picture) return;
    const lines = event.deltaMode === 1 ? 16 : 1;
    const pace = event.ctrlKey ? 0.01 : 0.002; // with Ctrl it is a pad's pinch, in small steps
    const turned = Math.max(-120, Math.min(120, event.deltaY * lines));
    const changed = this.view.zoom(Math.exp(-turned * pace), ...this.view.local(event));
    if (changed || event.ctrlKey) event.preventDefault(); // at its smallest the page scrolls on
    if (this.over) this.hover(this.view.pixel(event));
  }

  // Keys: a cursor that arrows move and Enter or Space paints with

  /** Whether the key was one of the painter's. */
  key(event) {
    const heard = heardKey(this, event);
    if (heard) this.view.easel.classList.remove('by-hand'); // who uses keys wants to see where they go
    return heard;
  }

  step(dx, dy, fine) {
    const { painter, view } = this;
    const stride = fine ? 1 : Math.max(1, Math.round(painter.kit.size));
    const { width, height } = painter.picture;
    const [x, y] = this.cursor ?? this.over ?? [Math.round(width / 2), Math.round(height / 2)];
    this.over = null;
    this.cursor = [
      Math.min(width, Math.max(0, x + dx * stride)),
      Math.min(height, Math.max(0, y + dy * stride)),
    ];
    view.reveal(this.cursor);
    this.outline();
    if (this.corners.length) view.trace(this.draft(this.cursor), this.tool !== 'line');
    painter.speak(`${Math.round(this.cursor[0])}, ${Math.round(this.cursor[1])}`);
  }

  /** What Enter does: paints where the cursor is, or sets the next corner of an area. */
  stamp(joined) {
    const { painter, tool } = this;
    if (!this.cursor) return this.step(0, 0, true);
    const erase = tool === 'eraser';
    if (tool === 'fill') return painter.fill(this.cursor, false);
    if (tool === 'pick') return painter.pick(this.cursor);
    if (!POINTED.has(tool)) {
      const here = this.plain(this.cursor);
      painter.begin(erase);
      painter.sweep(joined ? (this.last ?? here) : here, here);
      painter.commit();
      this.last = here;
      return;
    }
    const again = this.corners.at(-1)?.join() === this.cursor.join();
    if (!again) this.corners.push(this.cursor);
    const needed = tool === 'lasso' ? (again ? 3 : Infinity) : 2;
    if (this.corners.length < needed) {
      painter.speak(tool === 'lasso' ? 'Corner set. Enter twice closes the area.' : 'Corner set.');
      return;
    }
    const points = this.draft(this.corners.at(-1));
    this.corners = [];
    this.view.trace([]);
    if (tool !== 'line') return painter.area(points, false);
    painter.begin(false);
    painter.sweep(this.plain(points[0]), this.plain(points[1]));
    painter.commit();
    this.last = this.plain(points[1]);
  }

  draft(end) {
    if (this.tool === 'lasso') return [...this.corners, end];
    return this.tool === 'rectangle' ? corners(this.corners[0], end) : [this.corners[0], end];
  }

  /** Gives up the corners that are set; returns whether there were any. */
  drop() {
    const there = this.corners.length > 0;
    this.corners = [];
    if (there) this.view.trace([]);
    return there;
  }

  /** Leaves the keys' cursor as well. */
  unkey() {
    const there = this.drop();
    if (this.cursor) {
      this.cursor = null;
      this.outline();
    }
    return there;
  }

  /** A picture was put in place of another, or the paint was: what was begun on it is void. */
  forget() {
    this.last = null;
    this.act = null;
    this.queue = [];
    this.unkey();
    this.view.trace([]);
  }

  destroy() {
    this.cleanup.abort();
    if (this.pending) cancelAnimationFrame(this.pending);
  }
}

function corners([ax, ay], [bx, by]) {
  const [left, top, right, bottom] = [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)].map(
    Math.round,
  );
  return [
    [left, top],
    [right, top],
    [right, bottom],
    [left, bottom],
  ];
}
