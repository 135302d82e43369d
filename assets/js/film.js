// The film strip: a thumbnail of the predicted picture for each step, and the slider under it.

import { el } from './dom.js';

export class Film {
  /** look(index): the hand is over a frame (null: it left). choose(index): it stays there. open(index): a click. */
  constructor({ look, choose, open = () => {} }) {
    this.slots = [];
    this.addresses = []; // what the filled places show
    this.shown = 0;
    this.strip = el('div.film', { 'aria-hidden': 'true' });
    this.slider = el('input.scrub', { type: 'range', min: 0, max: 0, step: 1, 'aria-label': 'Step shown' });
    this.root = el('div.film-box', {}, this.strip, this.slider);
    let dragging = false;
    this.strip.addEventListener('pointermove', (event) => {
      const index = this.at(event);
      if (index === null) return;
      if (dragging) choose(index);
      else if (event.pointerType === 'mouse') look(index);
    });
    this.strip.addEventListener('pointerdown', (event) => {
      const index = this.at(event);
      if (index === null) return;
      dragging = event.pointerType === 'mouse';
      choose(index);
    });
    const release = () => (dragging = false);
    this.strip.addEventListener('pointerup', release);
    this.strip.addEventListener('pointercancel', release);
    this.strip.addEventListener('pointerleave', () => (release(), look(null)));
    this.strip.addEventListener('click', (event) => this.at(event) !== null && open(this.at(event)));
    this.strip.addEventListener('dragstart', (event) => event.preventDefault());
    this.slider.addEventListener('input', () => choose(Number(this.slider.value)));
  }

  at(event) {
    const slot = event.target.closest?.('.frame');
    const index = slot ? this.slots.indexOf(slot) : -1;
    return index >= 0 && index < this.shown ? index : null;
  }

  /** Another film: `length` places, filled as frames come. */
  begin(length) {
    this.slots = [];
    this.addresses = [];
    this.shown = 0;
    this.strip.replaceChildren();
    this.strip.scrollLeft = 0;
    this.room(length);
  }

  room(length) {
    while (this.slots.length < length) {
      const slot = el('div.frame');
      this.slots.push(slot);
      this.strip.append(slot);
    }
    while (this.slots.length > Math.max(length, this.shown)) this.slots.pop().remove();
  }

  /** Adds the frames that are new, and marks the one that is looked at; `home`: where it rests without a hand. */
  show(frames, current, home, length) {
    const addresses = frames.map((frame) => frame.thumb ?? frame.url);
    if (this.addresses.some((address, index) => address !== addresses[index])) this.begin(length);
    this.addresses = addresses;
    this.room(Math.max(length, frames.length));
    for (; this.shown < frames.length; this.shown += 1) {
      const slot = this.slots[this.shown];
      slot.classList.add('full');
      slot.append(el('img', { src: addresses[this.shown], alt: '', draggable: false, decoding: 'sync' }));
    }
    this.slots.forEach((slot, index) => slot.classList.toggle('here', index === home)); // shown whole; it may not move under the hand
    const frame = frames[current];
    const words = !frame ? '' : frame.final ? 'finished picture' : `step ${frame.step} of ${frame.total}`;
    this.mark(current, Math.max(length, frames.length), words); // as long as the strip, also while it fills
    this.slider.disabled = frames.length < 2;
  }

  /** Marks the frame that is looked at, of `length`, on strip and slider. */
  mark(current, length, words) {
    if (this.marked !== this.slots[current]) {
      this.marked?.classList.remove('now');
      this.marked = this.slots[current];
      this.marked?.classList.add('now');
    }
    const last = Math.max(1, length - 1);
    this.slider.max = last;
    this.slider.value = Math.max(0, current);
    this.slider.style.setProperty('--part', `${(100 * Math.max(0, current)) / last}%`);
    if (words) this.slider.setAttribute('aria-valuetext', words);
    this.keepInSight(this.slots[current]);
  }

  keepInSight(slot) {
    if (!slot || slot === this.inSight || this.strip.matches(':hover')) return;
    this.inSight = slot;
    const left = slot.offsetLeft - this.strip.offsetLeft;
    const { scrollLeft, clientWidth } = this.strip;
    if (left < scrollLeft) this.strip.scrollLeft = Math.max(0, left - 8);
    else if (left + slot.offsetWidth > scrollLeft + clientWidth) {
      this.strip.scrollLeft = left + slot.offsetWidth - clientWidth + 8;
    }
  }
}
