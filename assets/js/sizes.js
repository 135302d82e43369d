// Buttons for the usual shapes, drawn as those shapes, and one that swaps width and height.

import { el, icon } from './dom.js';

const SWAP = 'M7 4L3 8l4 4 M3 8h14 M17 12l4 4-4 4 M21 16H7';

export function mount({ root, props, trigger }) {
  const show = (value) => {
    if (!value?.presets) return;
    const swap = el('button.shape', { type: 'button', title: 'Swap width and height', onclick: () => trigger('swapped') }, icon(SWAP));
    swap.setAttribute('aria-label', swap.title);
    const pick = (size) => {
      props.value = { ...value, width: size.width, height: size.height };
      trigger('picked');
    };
    root.replaceChildren(swap, ...value.presets.map((size) => shape(size, pick)));
  };
  root.className = 'shapes';
  return { show };
}

function shape(size, pick) {
  const name = `${size.across}:${size.down}, ${size.width} × ${size.height}`;
  const longest = Math.max(size.across, size.down);
  const outline = el('i');
  outline.style.width = `${(16 * size.across) / longest}px`;
  outline.style.height = `${(16 * size.down) / longest}px`;
  return el('button.shape', { type: 'button', title: name, 'aria-label': name, onclick: () => pick(size) }, outline);
}
