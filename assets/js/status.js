// The header's right side: engine, device, queue, theme and the keyboard sheet.

import { el, heard, say, tell } from './dom.js';

const KEYS = [
  [['Ctrl', '+', 'Enter'], 'Generate, from anywhere'],
  [['Esc'], 'Stop the run'],
  [['P'], 'Pause the run, go on with it'],
  [['←', '→'], 'Step back and forth through the film'],
  [['Home', 'End'], 'First step, finished picture'],
  [['B', 'E', 'L', 'S', 'R', 'G'], 'Paint: brush, eraser, line, lasso, rectangle, fill'],
  [['[', ']'], 'Paint: smaller, larger brush'],
  [['Ctrl', '+', 'Z'], 'Paint and pose: undo (Ctrl+Y redoes)'],
  [['Space'], 'Explore: play the film'],
  [['Space'], 'Paint: hold it to move the picture, the wheel zooms'],
  [['M', 'N', 'H'], 'Pose: mirror, new person, hide a joint'],
  [['Q'], 'The queue (Alt+↑ and Alt+↓ move a job)'],
  [['/'], 'Models and gallery: search (arrows go from one to the next)'],
  [['Space', 'S', 'Del'], 'Gallery: choose, star, to trash (Ctrl+Z undoes)'],
  [['−', '0'], 'Gallery: zoom the opened picture out, whole (+ zooms in)'],
  [['?'], 'This sheet'],
];

export function mount({ root }) {
  return new Status(root);
}

class Status {
  constructor(root) {
    this.light = el('i.light');
    this.state = el('span.state', { role: 'status' }, this.light, el('span'));
    this.why = el('span.tip', { role: 'tooltip', id: 'device-why' });
    this.badge = el('button.badge', { type: 'button', 'aria-describedby': 'device-why', hidden: true });
    this.queue = el('button.queue', { type: 'button', id: 'queue-button', onclick: () => tell('queue-view', this.queue) }, 'queue', el('b', {}, '0'), el('i', { 'aria-hidden': 'true' }));
    this.queue.setAttribute('aria-expanded', 'false');
    this.queue.setAttribute('aria-controls', 'queue-panel');
    this.queue.disabled = !document.getElementById('queue-panel'); // a click before the view is there would be lost
    this.hear({ length: 0 });
    this.loras = el('button.badge.header-loras', { type: 'button', hidden: true, onclick: () => toLoras() });
    const sheet = keySheet();
    root.className = 'status';
    root.append(
      this.loras,
      this.state,
      el('span.tip-box', {}, this.badge, this.why),
      this.queue,
      themeSwitch(),
      el('button.round', { type: 'button', title: 'Keyboard (?)', 'aria-label': 'Keyboard', onclick: () => sheet.showModal() }, '?'),
      sheet,
    );
    heard('loras', (loras) => this.showLoras(loras));
    heard('queue', (length) => this.count(length));
    heard('news', ({ queue }) => queue && this.hear(queue));
    heard('queue-open', (open) => {
      this.queue.disabled = false;
      this.queue.setAttribute('aria-expanded', String(open));
    });
    heard('keys', () => (sheet.open ? sheet.close() : sheet.showModal()));
  }

  show(value) {
    if (!value || !('ready' in value)) return;
    this.state.dataset.state = value.ready ? 'ready' : value.fault ? 'fault' : 'starting';
    say(this.state.lastChild, value.ready ? 'Ready' : value.message);
    this.state.title = value.message;
    this.badge.hidden = !value.badge;
    say(this.badge, value.badge);
    say(this.why, value.device);
    this.count(value.queue);
    tell('engine', value);
  }

  showLoras(loras) {
    const words = loras.map(({ title, weight }) => (weight === 1 ? title : `${title} ${weight}`));
    this.loras.hidden = !loras.length;
    say(this.loras, words.length > 1 ? `${words[0]} and ${words.length - 1} more` : (words[0] ?? ''));
    this.loras.title = `LoRAs: ${words.join(', ')}`;
    this.loras.setAttribute('aria-label', this.loras.title);
  }

  /** How the queue is, from whichever page it was filled. */
  hear({ length, paused, failed }) {
    say(this.queue.lastChild, paused ? '‖' : '');
    this.queue.toggleAttribute('data-failed', failed > 0);
    const trouble = failed ? `, ${failed} ended with an error` : '';
    this.queue.title = `Jobs that run or wait${paused ? ' (paused)' : ''}${trouble} (Q)`;
    if (length !== this.length) tell('queue', (this.length = length));
  }

  count(length) {
    say(this.queue.querySelector('b'), String(length));
    this.queue.classList.toggle('busy', length > 0);
  }
}

function toLoras() {
  const add = document.querySelector('.loras-add');
  add?.scrollIntoView({ block: 'center' });
  add?.focus({ preventScroll: true });
}

function themeSwitch() {
  const root = document.documentElement;
  const button = el('button.round', { type: 'button' }, el('i.half'));
  const name = () => {
    const other = root.dataset.theme === 'light' ? 'dark' : 'light';
    button.title = `Change to the ${other} look`;
    button.setAttribute('aria-label', button.title);
  };
  button.onclick = () => {
    root.dataset.theme = root.dataset.theme === 'light' ? 'dark' : 'light';
    localStorage.setItem('darkroom.theme', root.dataset.theme);
    name();
  };
  name();
  return button;
}

function keySheet() {
  const key = (name) => (name === '+' ? '+' : el('kbd', {}, name));
  const rows = KEYS.flatMap(([keys, deed]) => [el('dt', {}, ...keys.map(key)), el('dd', {}, deed)]);
  const sheet = el('dialog.sheet', { 'aria-labelledby': 'keys-title' });
  sheet.append(
    el('h2', { id: 'keys-title' }, 'Keyboard'),
    el('dl', {}, ...rows),
    el('form', { method: 'dialog' }, el('button.deed', {}, 'Close')),
  );
  sheet.addEventListener('click', (event) => event.target === sheet && sheet.close());
  return sheet;
}
