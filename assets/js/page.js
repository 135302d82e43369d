// What belongs to the whole page: keys, sentences beside the fields they are about, pictures dropped anywhere.

import { el, heard, tell } from './dom.js';
import './painter-mount.js'; // hears of pictures that are sent to painters before the first one is drawn

const TYPING = 'input:not([type=range]), textarea, select, [contenteditable=true]';
const MOVES = { ArrowLeft: 'back', ArrowRight: 'on', Home: 'first', End: 'last' };

document.addEventListener('keydown', (event) => {
  const { key, target } = event;
  if (document.querySelector('dialog[open]')) {
    if (key === '?') event.preventDefault(), tell('keys');
    return;
  }
  if (key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    const generate = document.getElementById('generate');
    if (generate?.checkVisibility()) event.preventDefault(), generate.click(); // some tabs have none
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === 'Escape') {
    const listIsOpen = target.closest?.('[role=listbox], [aria-expanded=true]');
    if (!listIsOpen) tell('stop', { keep: false });
    return;
  }
  if (target.closest?.(TYPING)) return;
  if (key === '?') return tell('keys');
  if (key === 'p') return tell('pause');
  if (key === 'q') return tell('queue-view', document.getElementById('queue-button'));
  if (key in MOVES && !target.closest?.('input, [role=tab], [role=tree], summary, pre')) {
    event.preventDefault();
    tell('step', MOVES[key]);
  }
}, true);

// What is painted is sent before it is asked for: the click on Generate waits for it.

document.addEventListener('click', (event) => {
  const button = event.target.closest?.('#generate');
  if (!button || button.dataset.settled) return;
  const wait = [];
  tell('settle', { wait });
  if (!wait.length) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  Promise.allSettled(wait).then(() => {
    button.dataset.settled = '1';
    button.click();
    delete button.dataset.settled;
  });
}, true);

heard('blur', (pixels) => tell('soft', { to: 'inpaint-image', pixels }));

// Problems: field name -> sentence.

heard('problems', (problems) => {
  for (const told of document.querySelectorAll('.problem')) told.remove();
  for (const field of document.querySelectorAll('.field.wrong')) unmark(field);
  let first = null;
  for (const [name, sentence] of Object.entries(problems)) {
    const field = fieldOf(name);
    const told = el('p.problem', { role: 'alert' }, sentence);
    if (!field) {
      document.getElementById('actions')?.after(told);
      continue;
    }
    unfold(field);
    field.classList.add('wrong');
    told.dataset.field = field.id;
    const row = field.closest('.card .row'); // a field in a row is too narrow for a sentence
    if (row) row.after(told);
    else field.append(told);
    const painter = field.querySelector('.painter');
    const input = field.querySelector(painter ? '.teach:not([hidden]) .choose' : 'input, textarea');
    if (!painter) input?.setAttribute('aria-invalid', 'true');
    first ??= painter?.matches('.full') ? painter.querySelector('.easel') : input;
  }
  first?.focus();
});

document.addEventListener('input', (event) => {
  const field = event.target.closest?.('.field.wrong');
  if (field) unmark(field);
});

function fieldOf(name) {
  const found = [...document.querySelectorAll(`.field[id$="-${name}"], .field#${CSS.escape(name)}`)];
  return found.find((field) => field.offsetParent !== null) ?? found[0];
}

function unmark(field) {
  field.classList.remove('wrong');
  field.querySelector('[aria-invalid]')?.removeAttribute('aria-invalid');
  document.querySelector(`.problem[data-field="${field.id}"]`)?.remove();
}

function unfold(field) {
  field.closest('.fold')?.querySelector('.fold-head[aria-expanded=false]')?.click();
}

// A picture that is dropped or pasted anywhere is read for its parameters.

function take(files) {
  const picture = [...files].find((file) => file.type.startsWith('image/'));
  const input = document.querySelector('.reader input[type=file]');
  if (!picture || !input) return false;
  const bag = new DataTransfer();
  bag.items.add(picture);
  input.files = bag.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
  return true;
}

const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
let depth = 0;
const dropping = (now) => document.body.classList.toggle('dropping', now);

const taken = (event) => event.target.closest?.('.takes-pictures'); // painters and units take their own

document.addEventListener('dragenter', (event) => {
  if (carriesFiles(event)) (depth += 1), dropping(!taken(event));
});
document.addEventListener('dragleave', (event) => {
  if (carriesFiles(event)) (depth = Math.max(0, depth - 1)), dropping(depth > 0);
});
document.addEventListener('dragover', (event) => carriesFiles(event) && event.preventDefault());
document.addEventListener('drop', (event) => {
  depth = 0;
  dropping(false);
  if (carriesFiles(event) && !taken(event)) event.preventDefault(), event.stopPropagation(), take(event.dataTransfer.files);
}, true);
document.addEventListener('paste', (event) => {
  if (!taken(event) && event.clipboardData?.files.length && take(event.clipboardData.files)) event.preventDefault();
}, true);
