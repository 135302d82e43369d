// A heading that opens and closes the part of the form under it.

import { el, say } from './dom.js';

export function mount({ root }) {
  const title = el('span');
  const word = el('span.set');
  const button = el('button.fold-head', { type: 'button', 'aria-expanded': 'false' }, title, word, el('i.arrow'));
  button.onclick = () => button.setAttribute('aria-expanded', String(button.getAttribute('aria-expanded') === 'false'));
  root.append(button);
  const show = (value) => {
    say(title, value?.title ?? '');
    say(word, value?.word ?? '');
  };
  return { show };
}
