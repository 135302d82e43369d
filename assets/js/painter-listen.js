// What reaches the painter from outside of its canvas: keys, pasted and dropped pictures, the page's look.

import { pictureIn } from './painter-files.js';
import { heardKeyUp } from './painter-keys.js';

const TYPING = 'input:not([type=range]), textarea, select, [contenteditable=true]';

/** Listens until the signal. At the window, before the page: for that Escape stops a run and arrows turn frames. */
export function listen(painter, signal) {
  const { root } = painter;
  const on = (target, name, listener) => target.addEventListener(name, listener, { capture: true, signal });
  on(window, 'keydown', (event) => {
    if (!root.isConnected || event.defaultPrevented || !took(painter, event)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  });
  on(window, 'keyup', (event) => heardKeyUp(painter.hand, event));
  on(window, 'paste', (event) => {
    const file = pictureIn(event.clipboardData?.files);
    const meant = root.isConnected && (root.contains(event.target) || root.matches(':hover'));
    if (!file || !meant) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    painter.take(file);
  });
  const holds = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
  const catching = (now) => root.classList.toggle('catching', now);
  on(root, 'dragover', (event) => holds(event) && (event.preventDefault(), catching(true)));
  on(root, 'dragleave', (event) => root.contains(event.relatedTarget) || catching(false));
  on(window, 'drop', (event) => {
    catching(false);
    if (!root.contains(event.target) || !holds(event)) return;
    event.preventDefault();
    painter.take(pictureIn(event.dataTransfer.files) ?? event.dataTransfer.files[0]);
  });
  const looks = new MutationObserver(() => painter.dye());
  looks.observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] });
  signal.addEventListener('abort', () => looks.disconnect());
}

/** Does what a key says; returns whether it was the painter's. */
function took(painter, event) {
  const { root, hand, borders } = painter;
  const { target } = event;
  if (event.key === 'Escape' && painter.isLarge) {
    if (!hand.unkey()) painter.enlarge(false);
    return true;
  }
  const inside = root.contains(target) || (target === document.body && root.matches(':hover'));
  if (!inside || target.matches(TYPING)) return false;
  if (target.matches('.handle') && borders.key(event, target)) return true;
  return hand.key(event);
}
