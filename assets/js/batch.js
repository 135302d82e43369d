// The batch: many pictures chosen at once, painted one after the other with the settings of the form. The browser
// remembers it until it has ended, so that a page that comes back, after a restart of the program too, tells on.

import { el, say, tell } from './dom.js';
import { keepFile } from './upload.js';

const KEY = 'darkroom.batch';
const PICTURES = 'image/png,image/jpeg,image/webp,image/gif,image/bmp,image/tiff,image/avif';

let left = recalled(); // what this page found of an earlier one

export function mount({ root, props, trigger, server }) {
  const words = el('p.batch-words', { role: 'status' });
  const trouble = el('p.problem', { role: 'alert', hidden: true });
  const bar = el('div.bar', { role: 'progressbar', 'aria-label': 'Batch', 'aria-valuemin': 0, hidden: true }, el('i'));
  const folder = el('input', { type: 'file', multiple: true, hidden: true });
  folder.webkitdirectory = true;
  const files = el('input', { type: 'file', multiple: true, accept: PICTURES, hidden: true });
  const button = (text, input) => el('button.deed', { type: 'button', onclick: () => input.click() }, text);
  const buttons = el('div.batch-buttons', {}, button('Choose a folder', folder), button('Choose pictures', files), folder, files);
  root.className = 'batch';
  root.append(el('p.batch-hint', {}, 'Each picture is painted with the settings above; what was done before is skipped.'), buttons, bar, words, trouble);

  const take = async (input) => {
    const chosen = [...input.files].filter((file) => file.type.startsWith('image/'));
    input.value = '';
    trouble.hidden = true;
    if (!chosen.length) return complain('There are no pictures among these files.');
    const keys = [];
    const refused = [];
    for (const [at, file] of chosen.entries()) {
      say(words, `Taking in ${at + 1} of ${chosen.length}: ${file.name}`);
      const answer = await keepFile(file, server.keep);
      if (answer.key) keys.push(answer.key);
      else refused.push(`${file.name}: ${answer.problem}`);
    }
    if (refused.length) complain(refused.join(' '));
    if (!keys.length) return say(words, '');
    props.value = { keys };
    trigger('run');
  };
  const complain = (sentence) => {
    say(trouble, sentence);
    trouble.hidden = false;
  };
  for (const input of [folder, files]) input.addEventListener('change', () => take(input));

  const show = (value) => {
    if (value?.problem) complain(value.problem);
    if (!value || !('total' in value)) return;
    const { jobs, done, skipped, failed, total } = value;
    const past = done + skipped + failed;
    if (jobs) {
      remember({ jobs, skipped });
      if (jobs.length && !left) tell('jobs', jobs); // the stage shows how they develop; after a return it knows them
      if (total && left) root.closest('.fold')?.querySelector('.fold-head[aria-expanded=false]')?.click();
      left = null;
    }
    if (past === total) remember(null);
    if (!total) return; // all of another data folder
    bar.hidden = false;
    bar.setAttribute('aria-valuemax', total);
    bar.setAttribute('aria-valuenow', past);
    bar.firstChild.style.transform = `scaleX(${past / total})`;
    const parts = [`${done} of ${total} painted`];
    if (skipped) parts.push(`${skipped} skipped, done before`);
    if (failed) parts.push(`${failed} failed`);
    say(words, `${parts.join(', ')}.`);
  };
  if (left) trigger('resume', left);
  return { show };
}

function recalled() {
  try {
    const { jobs, skipped } = JSON.parse(localStorage.getItem(KEY));
    return { jobs, skipped };
  } catch {
    return null; // none, someone else's value, or a browser that keeps nothing
  }
}

function remember(batch) {
  try {
    if (batch) localStorage.setItem(KEY, JSON.stringify(batch));
    else localStorage.removeItem(KEY);
  } catch {
    // A browser that keeps nothing: the batch goes on, and is told of as long as the page is open.
  }
}
