// A question that is asked before something is gone for good.

import { el } from './dom.js';

/** Resolves with true where it was answered with `yes`. */
export function ask(host, question, yes) {
  return new Promise((resolve) => {
    const dialog = el('dialog.branch-dialog.small', { 'aria-label': question },
      el('p', {}, question),
      el('div.branch-deeds', {},
        el('button.branch-word', { type: 'button', onclick: () => dialog.close() }, 'Cancel'),
        el('button.branch-go', { type: 'button', onclick: () => dialog.close('yes') }, yes)));
    dialog.addEventListener('close', () => (dialog.remove(), resolve(dialog.returnValue === 'yes')));
    host.closest('.explore-panel').append(dialog);
    dialog.showModal();
  });
}
