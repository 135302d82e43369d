// Pictures from elsewhere: files or a whole folder, dropped or chosen, go in one after the other. What was known
// already, and what was refused and why, is said.

import { el, icon, say } from './dom.js';
import { counted, picturesOf } from './gallery-words.js';

const IN = 'M12 15V4 M7 9l5-5 5 5 M5 20h14';
const PICTURE = /\.(png|jpe?g|webp|avif|gif|bmp|tiff?)$/i;
const AT_ONCE = 2;
const TOLD = 200; // refused files that are listed

export class Importer {
  constructor(gallery) {
    this.gallery = gallery;
    this.build();
  }

  build() {
    this.button = el('button.deed.gallery-bring', { type: 'button', onclick: () => this.open() }, icon(IN), 'Import');
    const input = (options) => el('input', { type: 'file', multiple: true, hidden: true, tabIndex: -1, 'aria-label': 'Files to import', ...options });
    this.files = input({ accept: 'image/*' });
    this.folder = input({ webkitdirectory: true });
    for (const one of [this.files, this.folder]) {
      one.onchange = () => {
        this.run([...one.files]);
        one.value = '';
      };
    }
    const choose = (text, one) => el('button.deed', { type: 'button', onclick: () => one.click() }, text);
    this.begin = el('div.gallery-deeds', {}, choose('Choose files', this.files), choose('Choose a folder', this.folder));
    this.hint = el('p', {}, 'Drop pictures or a folder anywhere on the gallery, or choose them. They are copied; what they were made with is read from the files of the webui, Forge, Civitai, InvokeAI, ComfyUI and Fooocus.');
    this.words = el('p.gallery-progress', { role: 'status' });
    this.bar = el('div.bar', { role: 'progressbar', 'aria-label': 'Import', 'aria-valuemin': 0, hidden: true }, el('i'));
    this.refused = el('details.gallery-refused', { hidden: true }, el('summary'), el('ul'));
    this.stop = el('button.deed', { type: 'button', onclick: () => this.cut?.abort(), hidden: true }, 'Stop');
    this.away = el('button.deed', { type: 'button', onclick: () => this.root.close() }, 'Close');
    this.root = el('dialog.gallery-question.gallery-import', { 'aria-labelledby': 'gallery-import' }, el('h2', { id: 'gallery-import' }, 'Import pictures'),
      this.hint, this.begin, this.files, this.folder, this.bar, this.words, this.refused, el('div.gallery-deeds.end', {}, this.stop, this.away));
    this.root.addEventListener('close', () => {
      this.gallery.leave(this.root);
      say(this.button.lastChild, this.cut ? 'Importing …' : 'Import');
    });
  }

  open() {
    this.gallery.enter(this.root);
  }

  /** Files can be dropped on the whole panel. */
  takes(panel) {
    this.cover = el('div.gallery-cover', { hidden: true }, el('p', {}, 'Drop them: they are imported'));
    panel.append(this.cover);
    const carries = ({ dataTransfer }) => !this.gallery.boards.dragging && [...(dataTransfer?.types ?? [])].includes('Files');
    panel.addEventListener('dragenter', (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      this.cover.hidden = false;
    });
    panel.addEventListener('dragover', (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = 'copy';
    });
    panel.addEventListener('dragleave', (event) => {
      if (!panel.contains(event.relatedTarget)) this.cover.hidden = true;
    });
    panel.addEventListener('drop', (event) => {
      this.cover.hidden = true;
      if (!carries(event)) return;
      event.preventDefault();
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean); // gone once this returns
      const files = [...event.dataTransfer.files];
      gathered(entries, files).then((all) => this.run(all), () => this.run(files)); // a folder that cannot be read
    });
    panel.addEventListener('paste', (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length) event.preventDefault(), this.run(files);
    });
  }

  async run(given) {
    const files = given.filter((file) => file.type.startsWith('image/') || PICTURE.test(file.name));
    this.open();
    if (this.cut) return say(this.words, 'One import is running: wait for it, or stop it.');
    const state = { files, left: given.length - files.length, next: 0, done: 0, fresh: 0, known: 0, restored: 0, refused: [] };
    this.refused.hidden = true;
    if (!files.length) return say(this.words, given.length ? 'There is no picture among these files.' : 'There are no files in it.');
    this.cut = new AbortController();
    this.begin.hidden = this.hint.hidden = true;
    this.bar.hidden = this.stop.hidden = false;
    await Promise.all(Array.from({ length: AT_ONCE }, () => this.work(state)));
    const stopped = this.cut.signal.aborted;
    this.cut = null;
    this.begin.hidden = this.hint.hidden = false;
    this.bar.hidden = this.stop.hidden = true;
    this.tell(state, stopped);
    return this.gallery.count();
  }

  async work(state) {
    const { signal } = this.cut;
    const board = this.gallery.view.board ?? '';
    while (state.next < state.files.length && !signal.aborted) {
      const file = state.files[state.next++];
      const answer = await this.gallery.server.bring(file, board, signal);
      if (answer.dropped) return;
      state.done += 1;
      if (answer.problem) state.refused.push([file.webkitRelativePath || file.path || file.name, answer.problem]);
      else if (answer.restored) state.restored += 1;
      else if (answer.known) state.known += 1;
      else state.fresh += 1;
      this.draw(state);
    }
  }

  draw({ done, files }) {
    say(this.words, `${done.toLocaleString('en')} of ${files.length.toLocaleString('en')}`);
    this.bar.setAttribute('aria-valuemax', files.length);
    this.bar.setAttribute('aria-valuenow', done);
    this.bar.firstChild.style.transform = `scaleX(${done / files.length})`;
    if (!this.root.open) say(this.button.lastChild, `${Math.floor((100 * done) / files.length)}%`);
  }

  tell({ fresh, known, restored, refused, left, files, done }, stopped) {
    const sentence = [
      `${picturesOf(fresh)} imported`,
      known && `${known.toLocaleString('en')} known already`,
      restored && `${restored.toLocaleString('en')} taken out of the trash`,
      refused.length && `${refused.length.toLocaleString('en')} refused`,
      left && `${counted(left, 'file', 'files')} left out that ${left === 1 ? 'is no picture' : 'are no pictures'}`,
      stopped && `stopped with ${(files.length - done).toLocaleString('en')} to go`,
    ].filter(Boolean).join(', ');
    say(this.words, `${sentence}.`);
    say(this.button.lastChild, 'Import');
    if (!this.root.open) this.gallery.say(`${sentence}.`);
    this.refused.hidden = !refused.length;
    const [summary, list] = this.refused.children;
    say(summary, `What was refused, and why (${refused.length.toLocaleString('en')})`);
    list.replaceChildren(...refused.slice(0, TOLD).map(([name, why]) => el('li', {}, el('code', {}, name), el('span', {}, why))));
  }
}

/** The files of what was dropped, folders gone through; a browser that knows no folders has the files alone. */
async function gathered(entries, files) {
  if (!entries.length) return files;
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) return found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
      if (!part.length) return null;
      for (const one of part) await walk(one);
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}
