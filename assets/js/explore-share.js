// A run shared: saved as a replay, a film, a sheet or with its latents; and a film from elsewhere taken in.

import { el, say } from './dom.js';

const KINDS = {
  replay: { title: 'Replay', hint: 'One page that plays the run in any browser, offline: slider, lanes, curves, settings.', asks: ['full'] },
  film: { title: 'Film (MP4)', hint: 'A video in VP9, which browsers and current players show.', asks: ['lane', 'speed', 'full'] },
  gif: { title: 'GIF', hint: 'Plays everywhere, in 256 colours.', asks: ['lane', 'speed', 'full'] },
  sheet: { title: 'Contact sheet (PNG)', hint: 'All steps on one picture, numbered.', asks: ['lane', 'full'] },
  latents: { title: 'With its latents (ZIP)', hint: 'Another Darkroom can open it, and branch off any of its steps.', asks: [] },
};
const LANES = { x0: 'Where it is heading', x_t: 'What came in', noise: 'What it takes for noise', change: 'What each step changed', guidance: 'Where the words pull', channels: 'The latent channels' };
const SPEEDS = { 3: '3 steps a second', 8: '8 steps a second', 15: '15 steps a second', 25: '25 steps a second' };
const DECODED = ['x0', 'x_t'];
const ENDINGS = /filename="([\w.-]+)"/;
const LOST = 'The program did not answer. Is it still running? Try it again when it is.';

export class Share {
  constructor(explore) {
    this.explore = explore;
    this.chosen = 'replay';
  }

  open() {
    this.dialog ??= this.build();
    this.run = this.explore.run;
    const there = this.explore.film?.lanes ?? new Set();
    this.lane.replaceChildren(...Object.entries(LANES).filter(([name]) => there.has(name)).map(([value, title]) => el('option', { value }, title)));
    this.lane.value = 'x0';
    this.tell('');
    this.draw();
    this.dialog.showModal();
  }

  build() {
    const choices = Object.entries(KINDS).map(([kind, { title, hint }]) => {
      const radio = el('input', { type: 'radio', name: 'share-as', value: kind, checked: kind === this.chosen, onchange: () => ((this.chosen = kind), this.draw()) });
      return el('label.share-kind', {}, radio, el('span', {}, el('b', {}, title), el('span.share-hint', {}, hint)));
    });
    this.lane = el('select', { 'aria-label': 'What it shows', onchange: () => this.draw() });
    this.speed = el('select', { 'aria-label': 'How fast' }, ...Object.entries(SPEEDS).map(([value, title]) => el('option', { value }, title)));
    this.speed.value = 8;
    this.full = el('input', { type: 'checkbox', checked: true });
    this.fullRow = el('label.share-full', {}, this.full, 'Decode every step in full (slower for large models)');
    this.choice = el('div.share-choice', {}, this.lane, this.speed, this.fullRow);
    this.status = el('p.share-status', { role: 'status' });
    this.alert = el('p.branch-alert', { role: 'alert', hidden: true });
    this.save = el('button.branch-go', { type: 'submit' }, 'Save');
    const leave = el('button.branch-word', { type: 'button', onclick: () => this.dialog.close() }, 'Close');
    const form = el('form', { onsubmit: (event) => (event.preventDefault(), this.fetch()) },
      el('h3', {}, 'Share this run'), el('fieldset.share-kinds', {}, el('legend.unseen', {}, 'As what'), ...choices),
      this.choice, this.alert, el('div.branch-deeds', {}, this.status, leave, this.save));
    const dialog = el('dialog.branch-dialog.share-dialog', { 'aria-label': 'Share this run' }, form);
    dialog.addEventListener('close', () => this.asking?.abort());
    dialog.addEventListener('keydown', (event) => event.stopPropagation()); // keys are the film's only outside
    this.explore.root.append(dialog);
    return dialog;
  }

  draw() {
    const { asks } = KINDS[this.chosen];
    this.lane.hidden = !asks.includes('lane');
    this.speed.hidden = !asks.includes('speed');
    this.fullRow.hidden = !asks.includes('full') || (asks.includes('lane') && !DECODED.includes(this.lane.value));
    this.choice.hidden = !asks.length;
  }

  tell(sentence, bad = false) {
    say(this.status, bad ? '' : sentence);
    say(this.alert, bad ? sentence : '');
    this.alert.hidden = !bad;
  }

  async fetch() {
    if (this.asking) return;
    const asking = (this.asking = new AbortController());
    this.save.disabled = true;
    this.tell('It is being made …');
    const asked = { run: this.run.id, as: this.chosen, lane: this.lane.value, speed: this.speed.value, full: Number(this.full.checked) };
    try {
      const answer = await fetch(this.explore.url('share', asked), { signal: asking.signal });
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).problem ?? LOST);
      const blob = await answer.blob();
      download(blob, ENDINGS.exec(answer.headers.get('Content-Disposition'))?.[1] ?? 'darkroom-run');
      this.tell('It is saved where the browser keeps downloads.');
    } catch (fault) {
      if (!asking.signal.aborted) this.tell(fault instanceof TypeError ? LOST : fault.message, true);
    }
    this.asking = null;
    this.save.disabled = false;
  }
}

/** A film from elsewhere, taken in; resolves with its row, null where nothing came of it. */
export async function take(explore, file) {
  explore.say(`“${file.name}” is being looked through …`);
  let told;
  try {
    const answer = await fetch(explore.url('import'), { method: 'POST', body: file.slice(0, file.size, 'application/zip') });
    told = await answer.json();
  } catch {
    told = { problem: LOST };
  }
  if (told.problem) return explore.say(told.problem, true), null;
  explore.emit('runs');
  await explore.select(told.run.id);
  explore.say(told.told.join(' ') || 'The film is here: look into it, or branch off any of its steps.');
  return told.run;
}

/** A button that asks for a film's file. */
export function opener(explore, text) {
  const input = el('input', { type: 'file', accept: '.zip,application/zip', hidden: true, 'aria-label': text });
  input.addEventListener('change', () => {
    if (input.files[0]) take(explore, input.files[0]);
    input.value = '';
  });
  return el('span.share-open', {}, input, el('button.run-trashed', { type: 'button', onclick: () => input.click() }, text));
}

/** Takes in what is dropped on the tab. */
export function catchFilms(explore) {
  const { root } = explore;
  const film = (event) => [...(event.dataTransfer?.items ?? [])].find(({ kind, type }) => kind === 'file' && /zip|^$/.test(type));
  const catching = (now) => root.classList.toggle('catching', now);
  root.addEventListener('dragover', (event) => !event.defaultPrevented && film(event) && (event.preventDefault(), catching(true)));
  root.addEventListener('dragleave', (event) => root.contains(event.relatedTarget) || catching(false));
  root.addEventListener('drop', (event) => {
    catching(false);
    const file = film(event) && event.dataTransfer.files[0];
    if (event.defaultPrevented || !file) return;
    event.preventDefault();
    take(explore, file);
  });
}

function download(blob, name) {
  const href = URL.createObjectURL(blob);
  const link = el('a', { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}
