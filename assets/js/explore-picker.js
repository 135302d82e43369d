// The bar on top: which run is open, all others in a list that can be searched, and what may be done to one.

import { el, icon, say } from './dom.js';
import { Share, catchFilms, opener } from './explore-share.js';

const DOWN = 'M6 9l6 6 6-6';
const PIN = 'M9 4h6l-1 6 3 3v2H7v-2l3-3z M12 15v5';
const PEN = 'M4 20l1-5L16 4l4 4L9 19z';
const BIN = 'M4 7h16 M9 7V4h6v3 M6 7l1 13h10l1-13';
const SEND = 'M12 15V4 M8 8l4-4 4 4 M5 12v8h14v-8';
const STATES = { running: 'developing', paused: 'paused', stopped: 'stopped early', failed: 'failed' };
const FILMS_OFF = 'Films are off (--no-film): a run can be opened while it goes on, and is not kept after its end.';
const OPEN = 200; // rows that are drawn at once

export function mount(host, explore) {
  return new Picker(host, explore);
}

class Picker {
  constructor(host, explore) {
    Object.assign(this, { host, explore });
    this.runs = [];
    this.build();
    explore.on('runs', () => this.refresh());
    explore.on('run', () => (this.bar(), this.draw()));
    explore.on('lessons-left', () => !host.hidden && this.teach.focus());
    document.addEventListener('pointerdown', (event) => !host.contains(event.target) && this.close());
    // Before the page: there Escape stops a run.
    addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || (this.sheet.hidden && this.naming.hidden)) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      this.close();
      this.name(false);
      this.face.focus();
    }, true);
  }

  build() {
    this.thumb = el('img', { alt: '', hidden: true });
    this.title = el('span.run-title');
    this.about = el('span.run-about');
    this.face = el('button.run-face', { type: 'button', 'aria-expanded': 'false', 'aria-haspopup': 'true', onclick: () => this.toggle() },
      el('span.run-thumb', {}, this.thumb), el('span.run-words', {}, this.title, this.about), icon(DOWN));
    const deed = (path, text, onclick) => el('button.run-deed', { type: 'button', onclick, title: text, 'aria-label': text }, icon(path));
    this.pin = deed(PIN, 'Keep this run', () => this.change('pin', { pinned: !this.explore.run.pinned }));
    this.pen = deed(PEN, 'Name this run', () => this.name(true));
    this.share = new Share(this.explore);
    this.send = deed(SEND, 'Share this run', () => this.share.open());
    this.teach = el('button.run-lessons', { type: 'button', onclick: () => this.explore.emit('lessons') }, 'Lessons');
    this.bin = deed(BIN, 'Move this run to the trash', () => this.trash());
    this.field = el('input', { type: 'text', maxLength: 200, 'aria-label': 'Name of this run' });
    this.naming = el('form.run-naming', { hidden: true, onsubmit: (event) => (event.preventDefault(), this.rename()) },
      this.field, el('button.run-save', { type: 'submit' }, 'Keep the name'));
    this.off = el('p.run-off', { hidden: true }, FILMS_OFF);
    this.undo = el('p.run-undo', { hidden: true, role: 'status' });
    this.search = el('input', { type: 'search', placeholder: 'Search prompts and names', 'aria-label': 'Search runs', oninput: () => this.draw() });
    this.bin2 = el('button.run-trashed', { type: 'button', 'aria-pressed': 'false', onclick: () => this.turn() });
    this.list = el('ul.run-list');
    this.none = el('p.run-none');
    this.sheet = el('div.run-sheet', { hidden: true, role: 'dialog', 'aria-label': 'Recorded runs' },
      el('div.run-bar', {}, this.search, this.bin2, opener(this.explore, 'Open a film …')), this.list, this.none);
    this.sheet.addEventListener('keydown', (event) => this.move(event));
    this.host.append(el('div.run-row', {}, this.face, this.naming, this.pin, this.pen, this.send, this.bin, this.teach), this.off, this.undo, this.sheet);
    this.host.hidden = true;
    catchFilms(this.explore);
  }

  // The list

  async refresh() {
    if (this.asking) return (this.again = true);
    this.asking = true;
    const answer = await this.explore.ask('runs');
    this.asking = false;
    if (answer.problem) return this.explore.say(answer.problem, true);
    this.runs = answer.runs;
    const there = this.runs.filter((run) => !run.trashed);
    this.host.hidden = !this.runs.length;
    this.off.hidden = answer.films;
    if (!answer.films) this.explore.emit('off', FILMS_OFF);
    this.explore.emit('listed', there);
    const open = this.runs.find((run) => run.id === this.explore.run?.id);
    if (open) this.explore.describe(open);
    else if (!this.explore.run && !this.explore.asked && !this.explore.begun && there.length) this.explore.select(there[0].id);
    this.bar();
    this.draw();
    if (!this.again) return;
    this.again = false;
    this.refresh();
  }

  draw() {
    if (this.sheet.hidden) return;
    const words = this.search.value.trim().toLowerCase().split(/\s+/);
    const fits = (run) => words.every((word) => `${run.name} ${run.prompt} ${run.model}`.toLowerCase().includes(word));
    const trashed = this.runs.filter((run) => run.trashed).length;
    if (!trashed) this.inTrash = false;
    const found = this.runs.filter((run) => run.trashed === Boolean(this.inTrash) && fits(run));
    found.sort((one, other) => Number(other.pinned) - Number(one.pinned)); // else as told: the newest first
    this.list.replaceChildren(...found.slice(0, OPEN).map((run) => this.line(run)));
    say(this.none, found.length ? '' : 'Nothing of that kind was recorded.');
    this.bin2.hidden = !trashed;
    this.bin2.setAttribute('aria-pressed', String(Boolean(this.inTrash)));
    say(this.bin2, `Trash (${trashed})`);
  }

  line(run) {
    const picture = run.thumb ? el('img', { src: new URL(run.thumb, document.baseURI).href, alt: '', loading: 'lazy' }) : '';
    const open = el('button.run-open', { type: 'button', onclick: () => this.choose(run) },
      el('span.run-thumb', {}, picture), el('span.run-words', {}, el('span.run-title', {}, titled(run)), el('span.run-about', {}, about(run))));
    if (run.id === this.explore.run?.id) open.setAttribute('aria-current', 'true');
    const row = el('li', {}, open);
    if (run.trashed) row.append(el('button.run-back', { type: 'button', onclick: () => this.restore(run) }, 'Put it back'));
    else if (run.pinned) row.append(el('span.run-pinned', { title: 'Kept' }, icon(PIN)));
    return row;
  }

  async choose(run) {
    this.close();
    this.face.focus();
    await this.explore.select(run.id);
  }

  toggle() {
    if (!this.sheet.hidden) return this.close();
    this.sheet.hidden = false;
    this.face.setAttribute('aria-expanded', 'true');
    this.draw();
    this.search.focus();
  }

  close() {
    this.sheet.hidden = true;
    this.face.setAttribute('aria-expanded', 'false');
  }

  turn() {
    this.inTrash = !this.inTrash;
    this.draw();
  }

  move(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    const rows = [this.search, ...this.list.querySelectorAll('.run-open')];
    event.preventDefault();
    rows[Math.max(0, Math.min(rows.length - 1, rows.indexOf(document.activeElement) + by))]?.focus();
  }

  // The open run

  bar() {
    const { run } = this.explore;
    for (const part of [this.pin, this.pen, this.send, this.bin]) part.hidden = !run;
    say(this.title, run ? titled(run) : 'Choose a run');
    say(this.about, run ? about(run) : '');
    this.thumb.hidden = !run?.thumb;
    if (run?.thumb && this.drawn !== run.thumb) this.thumb.src = this.drawn = run.thumb;
    this.pin.setAttribute('aria-pressed', String(Boolean(run?.pinned)));
    this.send.disabled = run?.state === 'running';
    this.bin.disabled = Boolean(run?.trashed) || ['running', 'paused'].includes(run?.state);
  }

  async change(verb, asked, run = this.explore.run) {
    const answer = await this.explore.ask(verb, { run: run.id, ...asked });
    if (answer.problem) return this.explore.say(answer.problem, true), false;
    this.runs = this.runs.map((one) => (one.id === run.id ? answer.run : one));
    this.explore.describe(answer.run);
    this.draw();
    return true;
  }

  name(on) {
    this.naming.hidden = !on;
    this.face.hidden = on;
    if (!on) return;
    this.field.value = this.explore.run.name || this.explore.run.prompt;
    this.field.focus();
    this.field.select();
  }

  async rename() {
    await this.change('rename', { name: this.field.value });
    this.name(false);
    this.face.focus();
  }

  async trash() {
    const { run } = this.explore;
    if (!(await this.change('trash', {}))) return;
    this.undo.replaceChildren('Moved to the trash. ', el('button', { type: 'button', onclick: () => this.restore(run) }, 'Undo'));
    this.undo.hidden = false;
    const next = this.runs.find((one) => !one.trashed);
    if (next) await this.explore.select(next.id);
  }

  async restore(run) {
    this.undo.hidden = true;
    if (await this.change('restore', {}, run)) await this.explore.select(run.id);
  }
}

const titled = (run) => run.name || run.prompt || 'Without words';

function about(run) {
  const parts = [when(run.created), run.model, `${run.total} steps`];
  if (run.state in STATES) parts.push(STATES[run.state]);
  if (run.parent) parts.push(`branched at step ${run.parent_step + 1}`);
  return parts.filter(Boolean).join(' · ');
}

function when(seconds) {
  const time = new Date(seconds * 1000);
  const clock = time.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(time).setHours(0, 0, 0, 0)) / 86400000);
  if (days === 0) return `today ${clock}`;
  if (days === 1) return `yesterday ${clock}`;
  return `${time.toLocaleDateString([], { day: 'numeric', month: 'short', year: days > 300 ? 'numeric' : undefined })} ${clock}`;
}
