// What is known of the picture that is looked at: its words, what it was made with and from, a note; and what can be
// done with it.

import { el, icon, say, tell } from './dom.js';
import { boardMenu } from './gallery-choice.js';
import { lineage } from './gallery-lineage.js';
import { Verify } from './gallery-verify.js';
import { moment, size, taskOf } from './gallery-words.js';

const COPY = 'M9 9h11v11H9z M5 15H4V4h11v1';
const REST = 600; // milliseconds of rest after which a note is kept
const SENDS = [['Image', 'image-image'], ['Inpaint', 'inpaint-image'], ['Control', 'ask-controls']];

export class About {
  constructor(gallery, viewer) {
    Object.assign(this, { gallery, viewer });
    this.known = null; // what the server tells of the picture
    this.build();
  }

  build() {
    const { gallery } = this;
    const deed = (text, onclick) => el('button.deed', { type: 'button', onclick }, text);
    this.facts = el('p.gallery-facts');
    this.prompt = this.words('Prompt');
    this.negative = this.words('Leave out (negative prompt)');
    this.reuse = el('button.gallery-go', { type: 'button', title: 'The form takes them', onclick: () => this.use() }, 'Use these settings');
    this.film = deed('Open its film', () => this.openFilm());
    this.save = el('a.deed', { download: '' }, 'Download');
    this.back = deed('Put back', () => this.putBack());
    this.verify = new Verify(gallery);
    const send = ([tab, to]) => el('button.send', { type: 'button', onclick: () => this.send(tab, to) }, tab);
    this.sends = el('span.sends', { role: 'group', 'aria-label': 'Send this picture to' }, 'Send to', ...SENDS.map(send));
    this.deeds = el('div.gallery-deeds', {}, this.reuse, this.back, this.sends, this.film, this.verify.button, this.save);
    this.board = boardMenu((board) => this.put(board), gallery);
    this.kept = el('span.gallery-kept', { role: 'status' });
    this.note = el('textarea', { rows: 2, maxLength: 4000, placeholder: 'What to remember of it', 'aria-label': 'Note' });
    this.note.addEventListener('input', () => {
      say(this.kept, '');
      clearTimeout(this.resting);
      this.resting = setTimeout(() => this.keep(), REST);
    });
    this.note.addEventListener('blur', () => this.keep());
    this.lineage = el('div.gallery-lineage');
    this.pairs = el('dl.gallery-pairs');
    this.text = el('pre', { tabIndex: 0, 'aria-label': 'Generation text' });
    this.copyAll = this.copier(() => this.known?.parameters ?? '', 'Copy parameters');
    this.parameters = el('section.gallery-part', {}, el('div.gallery-head', {}, el('h3', {}, 'Parameters'), this.copyAll), this.pairs,
      el('details', {}, el('summary', {}, 'Generation text'), this.text));
    this.notes = el('section.gallery-part', {}, el('div.gallery-head', {}, el('h3', {}, 'Note'), this.kept), this.note);
    this.problem = el('p.gallery-problem', { role: 'alert' });
    this.root = el('aside.gallery-about', { 'aria-label': 'About this picture', tabIndex: -1 },
      this.facts, this.problem, this.prompt.root, this.negative.root, this.deeds, this.verify.root, this.board, this.notes, this.lineage, this.parameters);
  }

  words(title) {
    const text = el('p.gallery-text');
    const copy = this.copier(() => text.textContent, `Copy: ${title}`);
    return { root: el('section.gallery-part', {}, el('div.gallery-head', {}, el('h3', {}, title), copy), text), text };
  }

  copier(text, title) {
    return el('button.gallery-copy', { type: 'button', title, 'aria-label': title, onclick: () => this.copy(text()) }, icon(COPY));
  }

  async copy(text) {
    if (!navigator.clipboard) return this.gallery.say('This address has no clipboard (it is not https). Select the text and copy it by hand.', { bad: true });
    await navigator.clipboard.writeText(text);
    return this.gallery.say('Copied.');
  }

  /** Another picture: what the list tells at once, the rest when it comes. */
  async open(entry, known) {
    this.keep();
    this.entry = entry;
    this.known = null;
    this.verify.open(entry);
    this.draw(entry);
    const answer = known ?? (await this.ask(entry.id));
    if (this.entry !== entry || answer.dropped) return;
    if (answer.problem !== undefined) return say(this.problem, answer.problem);
    this.known = answer;
    this.draw({ ...entry, ...answer });
    this.note.value = answer.note ?? '';
    this.verify.known(answer);
  }

  /** One question at a time: what was passed by with the arrows is not waited for. */
  ask(id) {
    this.cut?.abort();
    this.cut = new AbortController();
    return this.gallery.server.get('entry', { id }, this.cut.signal);
  }

  draw(entry) {
    const { known, gallery } = this;
    say(this.problem, '');
    say(this.facts, [taskOf(entry.task), moment(entry.date), `${entry.width} × ${entry.height}`, known?.bytes ? size(known.bytes) : ''].filter(Boolean).join(' · '));
    say(this.prompt.text, entry.prompt ?? '');
    this.prompt.root.hidden = !entry.prompt;
    say(this.negative.text, entry.negative_prompt ?? '');
    this.negative.root.hidden = !entry.negative_prompt;
    const inTrash = Boolean(gallery.view.trash);
    this.reuse.hidden = inTrash || !known?.parameters;
    this.film.hidden = !known?.run;
    this.sends.hidden = this.board.hidden = inTrash;
    this.back.hidden = !inTrash;
    this.verify.button.hidden = inTrash || !known?.parameters;
    this.save.href = known?.url ? new URL(known.url, document.baseURI).href : gallery.server.url('file', { id: entry.id });
    this.save.download = entry.name ?? '';
    this.board.fill(entry.board ?? null);
    this.note.disabled = !known;
    this.lineage.replaceChildren(...(known ? lineage(known, gallery, (id) => this.viewer.openId(id)) : []));
    this.parameters.hidden = !known?.pairs?.length && !known?.parameters;
    const rows = (known?.pairs ?? []).filter(([name]) => !['Prompt', 'Negative prompt', 'prompt', 'negative_prompt', 'Control poses'].includes(name));
    this.pairs.replaceChildren(...rows.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, String(value))]));
    say(this.text, known?.parameters ?? '');
    this.root.scrollTop = known ? this.root.scrollTop : 0;
  }

  // What is done with it

  use() {
    const { known } = this;
    this.viewer.close();
    this.gallery.reuse(known);
  }

  async send(tab, to) {
    if (await this.gallery.send(this.entry, tab, to)) this.viewer.close();
  }

  openFilm() {
    const { run } = this.known;
    this.viewer.close();
    tell('explore', { run });
  }

  async putBack() {
    this.viewer.leaves = this.entry.id;
    await this.gallery.restore([this.entry.id]);
  }

  async put(board) {
    const { entry } = this;
    if (!(await this.gallery.change([entry.id], { board }))) return;
    if (this.entry.id === entry.id) this.draw({ ...(this.entry = { ...entry, board }), ...this.known, board });
    if (this.known) this.known.board = board;
    this.gallery.say(board === null ? 'On no board now.' : `On “${board}” now.`);
  }

  /** Sends a note that has changed. */
  async keep() {
    clearTimeout(this.resting);
    const { known, note } = this;
    const text = note.value;
    if (!known || text === (known.note ?? '')) return;
    const before = known.note;
    known.note = text;
    const kept = await this.gallery.change([known.id], { note: text });
    if (!kept) known.note = before;
    if (this.known === known) say(this.kept, kept ? 'Kept' : 'Not kept');
  }
}
