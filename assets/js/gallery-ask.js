// A question before something is gone for good.

import { el } from './dom.js';

/** Resolves with true where it was answered with `yes`. */
export function asked(host, question, yes) {
  return new Promise((resolve) => {
    const dialog = el('dialog.gallery-question', { 'aria-label': question },
      el('p', {}, question),
      el('div.gallery-deeds', {},
        el('button.deed', { type: 'button', onclick: () => dialog.close() }, 'Cancel'),
        el('button.gallery-go', { type: 'button', onclick: () => dialog.close('yes') }, yes)));
    dialog.addEventListener('close', () => (dialog.remove(), resolve(dialog.returnValue === 'yes')));
    host.closest('.gallery-panel').append(dialog);
    dialog.showModal();
  });
}
