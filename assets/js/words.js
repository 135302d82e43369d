// Words from elsewhere in the page (trigger words, an embedding's name) put into the prompt, where the hand left it.

import { heard } from './dom.js';

const FIELDS = { prompt: '#ask-prompt', negative_prompt: '#ask-negative_prompt' };
const places = new Map(); // field -> where its caret was when it was left

document.addEventListener('focusout', ({ target }) => {
  for (const [name, field] of Object.entries(FIELDS)) {
    if (target.closest?.(field) && 'selectionEnd' in target) places.set(name, target.selectionEnd);
  }
});

/** {text, to}: `to` is the prompt unless it is said. What is there already is not put in twice. */
heard('words', (asked) => {
  const to = asked.to ?? 'prompt';
  const input = document.querySelector(`${FIELDS[to]} :is(textarea, input)`);
  asked.done = Boolean(input) && insert(input, asked.text.trim(), places.get(to));
  if (asked.done) places.set(to, input.selectionEnd);
});

/** Returns whether the words were put in; false where they stand there already. */
function insert(input, words, place = input.value.length) {
  const { value } = input;
  const has = value.split(',').map((part) => part.trim().toLowerCase());
  if (!words || words.split(',').every((word) => has.includes(word.trim().toLowerCase()))) return false;
  const at = wordEnd(value, Math.min(place, value.length));
  const [before, after] = [value.slice(0, at).trimEnd(), value.slice(at).trimStart()];
  const head = before && !before.endsWith(',') ? `${before}, ` : before && `${before} `;
  const tail = after && !after.startsWith(',') ? `, ${after}` : after;
  input.value = head + words + tail;
  input.selectionStart = input.selectionEnd = (head + words).length;
  input.dispatchEvent(new Event('input', { bubbles: true })); // Gradio's value keeps in step
  return true;
}

/** The end of the word in which a caret stands: words are never put into the middle of another. */
function wordEnd(text, at) {
  if (at === 0) return 0;
  const rest = /^[^\s,]*/.exec(text.slice(at))[0];
  return at + rest.length;
}
