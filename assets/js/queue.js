// The queue view: what runs, what waits and what ended in an error. It is opened from the header and the same in
// every page: the server tells when something changed (darkroom:news), and only an open view asks what.

import { el, heard, icon, say, tell } from './dom.js';
import { memory } from './jobs.js';
import { Drag } from './queue-drag.js';
import { Editing } from './queue-edit.js';
import { Row, about } from './queue-row.js';
import { ask } from './upload.js';

const REST = 250; // milliseconds between two questions, at the least
const SHOWN = 8000; // milliseconds that a sentence stays in sight
const MORE = 100;
const CLOSE = 'M6 6l12 12 M18 6L6 18';

const parts = new Map(); // element id -> the part that is in the page under it
const open = () => [...parts.values()].find((part) => part.root.isConnected && !part.panel.hidden);

heard('queue-view', (from) => parts.forEach((part) => part.root.isConnected && part.toggle(from)));
heard('news', (told) => 'queue' in told && parts.forEach((part) => part.root.isConnected && part.hear(told.queue)));

// Before the page: there Escape stops a run and arrows turn frames.
addEventListener('keydown', (event) => {
  const part = open();
  if (!part?.panel.contains(event.target) || document.querySelector('dialog[open]') || !part.key(event)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}, true);

export function mount(part) {
  const queue = new Queue(part);
  parts.set(queue.id, queue);
  tell('queue-open', false);
  return queue;
}

class Queue {
  constructor({ root, props, server }) {
    Object.assign(this, { root, server });
    this.id = (root.closest('.block') ?? root).id;
    this.rows = new Map(); // job id -> its row
    this.most = MORE;
    this.now = { paused: false, running: null };
    this.editing = new Editing(props, (job, back) => back && this.deed({ do: 'go on', job }));
    this.build();
  }

  show() {}

  build() {
    this.sum = el('p.queue-sum');
    this.hold = el('button.deed', { type: 'button', onclick: () => this.deed({ do: this.now.paused ? 'go on queue' : 'pause queue' }) });
    this.close = el('button.queue-icon', { type: 'button', title: 'Close (Esc)', 'aria-label': 'Close the queue', onclick: () => this.toggle() }, icon(CLOSE));
    this.head = el('h2', { id: 'queue-title', tabIndex: -1 }, 'Queue');
    this.paused = el('p.queue-paused', { hidden: true }, 'The queue is paused: what runs is finished, nothing new begins.');
    this.lists = {
      running: el('ol.queue-rows', { 'aria-label': 'Running' }),
      waiting: el('ol.queue-rows', { 'aria-label': 'Waiting, in order' }),
      ended: el('ol.queue-rows', { 'aria-label': 'Ended with an error' }),
    };
    this.rest = el('button.deed.queue-rest', { type: 'button', hidden: true, onclick: () => ((this.most += MORE), this.ask()) });
    this.clear = el('button.queue-word', { type: 'button', onclick: () => this.deed({ do: 'clear' }) }, 'Clear all');
    this.endedHead = el('div.queue-ended', { hidden: true }, el('h3', {}, 'Ended with an error'), this.clear);
    this.empty = el(
      'div.queue-empty',
      { hidden: true },
      el('p', {}, 'Nothing waits.'),
      el('p', {}, 'Go on asking while a picture develops: every run gets in line here, fair between all who use this Darkroom. Drag a row to change its turn, hold it back, change its settings, or run it once more.'),
    );
    this.told = el('p.queue-told', { role: 'status' });
    this.alarm = el('p.queue-told.bad', { role: 'alert' });
    this.panel = el(
      'section.queue-panel',
      { 'aria-labelledby': 'queue-title', id: 'queue-panel', hidden: true },
      el('div.queue-top', {}, el('div', {}, this.head, this.sum), this.hold, this.close),
      el('div.queue-list', {}, this.paused, this.lists.running, this.lists.waiting, this.rest, this.empty, this.endedHead, this.lists.ended),
      el('div.queue-foot', {}, this.told, this.alarm),
    );
    this.root.append(this.panel);
    this.drag = new Drag(this.lists.waiting, (job, place) => this.deed({ do: 'move', job, ...place }), () => this.ask());
    this.draw();
    this.begin();
  }

  // What the server tells

  /** How the queue is now: the stream may have told it before this was there to hear. */
  async begin() {
    const { now } = await ask(this.server.queue, { most: 1 });
    if (now && !this.now.edition) tell('news', { queue: now });
  }

  /** {edition, length, waiting, failed, paused, running: null | {job, step, total, picture, pictures, left, seen}} */
  hear(now) {
    const changed = now.edition !== this.now.edition;
    this.now = now;
    if (this.panel.hidden) return;
    if (changed) this.ask();
    else this.draw();
  }

  /** Asks for the rows: one question at a time, and a rest between two, however much happens. */
  async ask() {
    if (this.panel.hidden || this.drag.busy) return;
    if (this.asking) return void (this.again = true);
    this.asking = true;
    this.again = false;
    this.take(await ask(this.server.queue, { most: this.most }));
    await new Promise((rested) => setTimeout(rested, REST));
    this.asking = false;
    if (this.again || this.edition !== this.now.edition) this.ask();
  }

  take(answer) {
    if (answer.problem) return this.say(answer.problem, true);
    this.edition = answer.edition;
    if (!this.now.edition || answer.now.edition === answer.edition) this.now = answer.now;
    this.answer = answer;
    this.draw();
  }

  /** Does something with a job or the queue, and says what came of it. */
  async deed(asked) {
    const answer = await ask(this.server.queue_deed, { ...asked, most: this.most });
    if (answer.problem) this.say(answer.problem, true);
    else if (answer.said) this.say(answer.said, false, answer.undo);
    if (answer.rows) this.take(answer);
    const taken = asked.do === 'again' && !memory.read().includes(asked.job); // back for who had asked for it
    if (answer.asked && !taken) this.follow(answer.asked);
    return answer;
  }

  /** What this page asked for is among its session's pictures. */
  follow(job) {
    memory.add(job);
    tell('jobs', [job]);
  }

  // Drawing

  draw() {
    const rows = this.answer?.rows ?? [];
    const { paused } = this.now;
    const sections = { running: [], waiting: [], ended: [] };
    const here = new Set(memory.read());
    const own = new Set(rows.filter((row) => here.has(row.job)).map((row) => row.client)); // a visit is a client
    let until = 0; // seconds until all before are done; null where that is not known
    rows.forEach((row) => {
      const section = row.state === 'running' ? 'running' : row.problem ? 'ended' : 'waiting';
      const live = this.now.running?.job === row.job ? this.now.running : null;
      const seconds = live?.left ?? row.seconds;
      const counts = section === 'running' || (row.state === 'waiting' && !paused);
      if (counts) until = until === null || seconds === null ? null : until + seconds;
      const told = { ...row, live, until: counts ? until : undefined, index: sections[section].length, editing: this.editing.job === row.job, elsewhere: own.size > 0 && !own.has(row.client) };
      sections[section].push(told);
    });
    for (const [name, list] of Object.entries(this.lists)) this.fill(list, sections[name]);
    const count = sections.waiting.length;
    for (const [index, told] of sections.waiting.entries()) this.rows.get(told.job).ends(index === 0, index === count - 1);
    const hidden = Math.max(0, (this.answer?.waiting ?? 0) - count);
    this.rest.hidden = !hidden;
    say(this.rest, `Show more: ${hidden.toLocaleString('en')} wait behind these`);
    this.endedHead.hidden = !sections.ended.length;
    this.empty.hidden = !this.answer || rows.length > 0;
    this.paused.hidden = !paused;
    say(this.hold, paused ? 'Go on' : 'Pause the queue');
    this.hold.classList.toggle('lit', paused);
    const runs = sections.running.length;
    const held = this.answer?.held ?? 0;
    const waits = (this.answer?.waiting ?? 0) - held;
    const words = [runs && `${runs} runs`, waits && `${waits.toLocaleString('en')} ${waits === 1 ? 'waits' : 'wait'}`, held && `${held} held back`];
    const left = until && !hidden && !paused ? `done in ${about(until)}` : '';
    say(this.sum, [...words, left].filter(Boolean).join(', '));
    this.panel.dataset.ready = this.answer ? 'yes' : '';
  }

  /** Draws a list; rows that stay are kept, with the focus in them. */
  fill(list, rows) {
    const nodes = rows.map((told) => {
      let row = this.rows.get(told.job);
      if (!row) this.rows.set(told.job, (row = new Row(told.job, this)));
      row.show(told);
      return row.root;
    });
    if (nodes.length === list.children.length && nodes.every((node, index) => node === list.children[index])) return;
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    const gone = focused && !nodes.some((node) => node.contains(focused)) ? [...list.children].findIndex((node) => node.contains(focused)) : -1;
    for (const node of [...list.children]) if (!nodes.includes(node)) node.remove();
    nodes.forEach((node, index) => list.children[index] !== node && list.insertBefore(node, list.children[index] ?? null));
    for (const [job, row] of this.rows) if (!row.root.isConnected && !rows.some((one) => one.job === job)) this.rows.delete(job);
    if (gone >= 0) (nodes[Math.min(gone, nodes.length - 1)]?.querySelector('.queue-name') ?? this.head).focus();
    else if (focused && document.activeElement !== focused) focused.focus();
    list.hidden = !nodes.length;
  }

  // By hand

  toggle(from) {
    const opens = this.panel.hidden;
    this.panel.hidden = !opens;
    tell('queue-open', opens);
    if (!opens) return void (this.from ?? document.getElementById('queue-button'))?.focus();
    this.from = from;
    this.say('');
    this.ask();
    this.head.focus({ preventScroll: true });
  }

  key(event) {
    const { key, altKey, ctrlKey, metaKey, target } = event;
    if (key === 'Escape') {
      if (!this.drag.cancel()) this.toggle(this.from);
      return true;
    }
    if (ctrlKey || metaKey) return false;
    const list = target.closest?.('.queue-rows');
    if (!list || !['ArrowUp', 'ArrowDown', 'Home', 'End'].includes(key)) return false;
    const names = [...this.panel.querySelectorAll('.queue-row .queue-name')];
    const row = target.closest('.queue-row');
    const now = names.findIndex((name) => row.contains(name));
    if (altKey) {
      const job = row.dataset.job;
      const to = { ArrowUp: 'up', ArrowDown: 'down', Home: 'next', End: 'last' }[key];
      if (list === this.lists.waiting) this.rows.get(job).does(to);
      return true;
    }
    const to = { ArrowUp: now - 1, ArrowDown: now + 1, Home: 0, End: names.length - 1 }[key];
    names[Math.max(0, Math.min(names.length - 1, to))]?.focus();
    return true;
  }

  /** A sentence in sight for a while, and read aloud; undo: the deed that takes it back. */
  say(sentence, bad = false, undo = null) {
    const [one, other] = bad ? [this.alarm, this.told] : [this.told, this.alarm];
    other.replaceChildren();
    one.replaceChildren(sentence);
    if (undo) one.append(' ', el('button.queue-word', { type: 'button', onclick: () => this.deed(undo) }, 'Undo'));
    clearTimeout(this.fading);
    if (undo) return; // that stays until something else is said
    this.fading = setTimeout(() => [this.told, this.alarm].forEach((part) => part.replaceChildren()), bad ? 2 * SHOWN : SHOWN);
  }

  /** Takes a waiting job's settings into the form, where Generate puts them in its place. */
  async edit(row) {
    const held = row.state === 'waiting';
    if (held) {
      const answer = await this.deed({ do: 'hold', job: row.job, edit: true });
      if (answer.problem) return;
    }
    this.editing.begin(row, held);
    this.use(row);
  }

  /** Takes a job's settings into the form. */
  use(row) {
    tell('reuse', { job: row.job, tab: row.tab });
    if (matchMedia('(max-width: 800px)').matches) this.toggle();
  }
}

