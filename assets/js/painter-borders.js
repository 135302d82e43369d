// The handles on the picture's borders: dragged outwards they make room that is to be painted.

import { el, say } from './dom.js';
import { NONE } from './painter-sheet.js';

const STEP = 8;
const MOST = 1024;
const LEAP = 64;
const SIDES = {
  left: { name: 'left', axis: 'x', sign: -1, out: 'ArrowLeft', back: 'ArrowRight' },
  top: { name: 'top', axis: 'y', sign: -1, out: 'ArrowUp', back: 'ArrowDown' },
  right: { name: 'right', axis: 'x', sign: 1, out: 'ArrowRight', back: 'ArrowLeft' },
  bottom: { name: 'bottom', axis: 'y', sign: 1, out: 'ArrowDown', back: 'ArrowUp' },
};

export class Borders {
  /** changed(extend, ended): a border moves, or has come to rest. */
  constructor(view, changed) {
    this.view = view;
    this.changed = changed;
    this.extend = NONE;
    this.handles = Object.fromEntries(Object.values(SIDES).map((side) => [side.name, this.build(side)]));
    view.air = 30; // room for the handles
    view.easel.append(...Object.values(this.handles));
  }

  build(side) {
    const handle = el(
      `div.handle.${side.name}`,
      {
        tabIndex: 0,
        role: 'slider',
        title: `Drag outwards to paint beyond this border`,
        'aria-label': `Extend ${side.name}`,
        'aria-orientation': side.axis === 'x' ? 'horizontal' : 'vertical',
        'aria-valuemin': 0,
        'aria-valuemax': MOST,
        hidden: true,
      },
      el('i'),
      el('b'),
    );
    let drag = null;
    handle.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      event.stopPropagation();
      handle.focus({ preventScroll: true });
      handle.setPointerCapture(event.pointerId);
      drag = { from: event[`client${side.axis.toUpperCase()}`], was: this.extend[side.name], scale: this.view.scale };
    });
    handle.addEventListener('pointermove', (event) => {
      if (!drag) return;
      event.stopPropagation();
      const way = (event[`client${side.axis.toUpperCase()}`] - drag.from) * side.sign;
      this.set(side.name, drag.was + way / drag.scale, false);
    });
    const release = () => {
      if (!drag) return;
      drag = null;
      this.changed(this.extend, true);
    };
    handle.addEventListener('pointerup', release);
    handle.addEventListener('pointercancel', release);
    return handle;
  }

  /** A key on a handle; returns whether it moves the border. */
  key(event, handle) {
    const side = Object.values(SIDES).find(({ name }) => this.handles[name] === handle);
    const now = this.extend[side.name];
    const unit = event.shiftKey ? LEAP : STEP;
    const [more, less] = side.axis === 'x' ? ['ArrowUp', 'ArrowDown'] : ['ArrowRight', 'ArrowLeft'];
    const next = {
      [side.out]: now + unit,
      [side.back]: now - unit,
      [more]: now + unit,
      [less]: now - unit,
      PageUp: now + LEAP,
      PageDown: now - LEAP,
      Home: 0,
      End: MOST,
    }[event.key];
    if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) return false;
    this.set(side.name, next, true);
    return true;
  }

  set(side, pixels, ended) {
    const value = Math.min(MOST, Math.max(0, Math.round(pixels / STEP) * STEP));
    if (value === this.extend[side] && !ended) return;
    this.extend = { ...this.extend, [side]: value };
    this.changed(this.extend, ended);
  }

  /** Puts the handles where the borders are; without a picture there are none. */
  place(extend, there) {
    this.extend = extend;
    const { bounds, scale, left, top } = this.view;
    const [x, y] = [(bounds.left + bounds.right) / 2, (bounds.top + bounds.bottom) / 2];
    const places = { left: [bounds.left, y], top: [x, bounds.top], right: [bounds.right, y], bottom: [x, bounds.bottom] };
    for (const [side, handle] of Object.entries(this.handles)) {
      handle.hidden = !there;
      if (!there) continue;
      const [px, py] = places[side];
      handle.style.transform = `translate(${px * scale + left}px, ${py * scale + top}px) translate(-50%, -50%)`;
      handle.setAttribute('aria-valuenow', extend[side]);
      handle.setAttribute('aria-valuetext', `${extend[side]} pixels`);
      say(handle.lastChild, extend[side] ? `+${extend[side]}` : '');
    }
  }
}
