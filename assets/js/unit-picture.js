// A unit's picture and the map that is made of it, side by side: taken, shown live, edited by hand, replaced.

import { el, icon, say } from './dom.js';
import { Latest, fileOf } from './unit-server.js';
import { ask, keepFile } from './upload.js';

const REMOVE = 'M6 6l12 12 M18 6L6 18';
const SAVE = 'M12 4v11 M7 11l5 5 5-5 M5 20h14';
const PICTURE = 'M4 5h16v14H4z M4 16l5-5 4 4 3-3 4 4 M15.5 9.5h.01';

/** What of a unit decides how its map looks. */
export function mapWish(unit, { width, height }, fields) {
  const asked = Object.fromEntries(Object.keys(fields).filter((name) => name in unit).map((name) => [name, unit[name]]));
  return { unit: { ...asked, model: unit.model || 'none' }, width, height };
}

export function sameLook({ unit, width, height }) {
  const { map_image, pose, image, preprocessor, resize_mode, low_threshold, high_threshold } = unit;
  return JSON.stringify([map_image, map_image ? 0 : [pose, image, preprocessor, low_threshold, high_threshold], resize_mode, width, height]);
}

export class Source {
  /** panel: units.js's. changed(): the unit was changed. */
  constructor(unit, panel, changed) {
    Object.assign(this, { unit, panel, changed });
    this.pending = new Set(); // what `settled` waits for
    this.map = null; // {url, key}: as the server drew it last
    this.look = ''; // what that map was drawn of
    this.problems = { picture: '', map: '' };
    this.latest = new Latest({
      answer: (wish) => ask(panel.server.draw_map, wish),
      done: (result) => this.drawn(result),
      wait: (on) => this.root.classList.toggle('waits', on),
    });
    this.build();
  }

  build() {
    this.drop = new Drop((file) => this.take(file, 'image'), () => this.remove());
    this.image = el('img', { alt: '', hidden: true, draggable: false });
    this.hint = el('p.unit-hint');
    this.screen = el('div.unit-screen', {}, this.image, this.hint, el('i.unit-wait'));
    this.chip = el('div.unit-chip', { hidden: true });
    this.edit = el('button.unit-deed', { type: 'button', onclick: () => this.paint() }, 'Edit map');
    this.ready = el('input', { type: 'file', accept: 'image/*', hidden: true, tabIndex: -1 });
    this.ready.addEventListener('change', () => this.chosen(this.ready));
    this.use = el('button.unit-deed', { type: 'button', onclick: () => this.ready.click() }, 'Use a ready map');
    this.save = el('a.unit-deed.unit-icon', { download: 'map.png', title: 'Download the map', 'aria-label': 'Download the map' }, icon(SAVE));
    this.trouble = el('p.unit-problem', { role: 'alert', hidden: true });
    const half = el('div.unit-half.takes-pictures', {}, el('span.unit-label', {}, 'Map'), this.screen);
    takesPictures(half, (file) => this.take(file, 'map'));
    this.pair = el(
      'div.unit-pair',
      {},
      el('div.unit-half', {}, el('span.unit-label', {}, 'Picture'), this.drop.root),
      half,
    );
    this.deeds = el('div.unit-deeds', {}, this.chip, this.edit, this.use, this.save, this.ready);
    this.host = el('div.unit-painter', { hidden: true });
    this.done = el('button.unit-deed.unit-main', { type: 'button', onclick: () => this.finish() }, 'Done');
    this.cancel = el('button.unit-deed', { type: 'button', onclick: () => this.giveUp() }, 'Discard');
    this.editing = el('div.unit-deeds', { hidden: true }, this.done, this.cancel);
    this.root = el('div.unit-source', {}, this.pair, this.host, this.editing, this.deeds, this.trouble);
  }

  chosen(input) {
    const [file] = input.files;
    input.value = ''; // the same file may be chosen once more
    if (file) this.take(file, 'map');
  }

  // Pictures

  /** A file becomes the picture ('image') or the map ('map'). */
  take(file, what) {
    const task = this.keep(file, what).finally(() => this.pending.delete(task));
    this.pending.add(task);
    return task;
  }

  async keep(file, what) {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const place = what === 'image' ? 'picture' : 'map';
    this.problems = { picture: '', map: '' };
    const local = URL.createObjectURL(file); // seen at once, while it is on its way
    if (what === 'image') this.drop.show({ url: local }, true);
    const kept = await keepFile(file, this.panel.server.keep);
    URL.revokeObjectURL(local);
    if (turn !== this.turn) return; // another one was chosen meanwhile
    if (kept.problem) {
      this.problems[place] = kept.problem;
      this.show();
    } else this.put(kept, what);
  }

  /** A kept picture {key, width, height, url} becomes the picture or the map. */
  put(kept, what) {
    this.close();
    const { unit } = this;
    this.problems = { picture: '', map: '' };
    unit.shown ??= {};
    if (what === 'image') {
      Object.assign(unit, { image: kept.key, map_image: null, by: null });
      Object.assign(unit.shown, { image: kept, map: null });
    } else {
      Object.assign(unit, { map_image: kept.key, by: 'file' });
      unit.shown.map = kept;
    }
    this.changed();
  }

  remove() {
    this.turn = (this.turn ?? 0) + 1;
    this.problems = { picture: '', map: '' };
    this.unit.image = null;
    this.unit.shown = { ...this.unit.shown, image: null };
    if (this.unit.by === 'hand') this.backToMade(); // an edited map goes with what it was made of
    this.changed();
    this.drop.button.focus();
  }

  backToMade() {
    Object.assign(this.unit, { map_image: null, by: null });
    this.unit.shown = { ...this.unit.shown, map: null };
  }

  // The map by hand

  async paint() {
    if (this.painter || !this.map?.url) return;
    this.edit.disabled = true;
    const { unit } = this;
    const from = await this.editable();
    const { Painter } = await import('./painter.js');
    this.edit.disabled = false;
    if (from.problem || this.painter || !this.root.isConnected) {
      this.problems.map = from.problem ?? '';
      return this.show();
    }
    this.before = { map_image: unit.map_image ?? null, by: unit.by ?? null, map: unit.shown?.map ?? null, key: from.key };
    this.turnPages(true);
    const on = unit.map_image ?? unit.image; // a map that was made is known by the picture that it was made of
    const keep = (blob, name) => keepFile(blob, this.panel.server.keep, name, on);
    this.painter = new Painter(this.host, { mode: 'map', keep, onChange: (value) => this.painted(value) });
    await this.painter.show({ image: from, mask: null });
    this.done.scrollIntoView({ block: 'nearest' });
  }

  /** The map as the painter takes it: the one that is followed, else what was drawn, put into the store. */
  async editable() {
    const { map_image, shown } = this.unit;
    if (map_image && shown?.map?.url) return shown.map;
    const { width, height } = this.panel.value;
    if (this.map.key) return { width, height, ...this.map };
    return keepFile(await fileOf(this.map.url), this.panel.server.keep, 'map.png');
  }

  painted({ image }) {
    const { unit, before, painter } = this;
    if (!painter) return;
    if (!image || image === before.key) this.restore();
    else {
      Object.assign(unit, { map_image: image, by: 'hand' });
      unit.shown = { ...unit.shown, map: painter.shown.image };
    }
    this.changed();
  }

  restore() {
    const { map_image, by, map } = this.before;
    Object.assign(this.unit, { map_image, by });
    this.unit.shown = { ...this.unit.shown, map };
  }

  async finish() {
    this.done.disabled = true;
    const { problem } = await this.painter.flush();
    this.done.disabled = false;
    if (problem) return; // it stands in the painter, and nothing is lost
    this.close();
    this.edit.focus();
  }

  giveUp() {
    this.close();
    this.restore();
    this.changed();
    this.edit.focus();
  }

  close() {
    const { painter } = this;
    this.painter = null;
    painter?.destroy();
    this.host.replaceChildren();
    this.turnPages(false);
  }

  turnPages(painting) {
    this.host.hidden = this.editing.hidden = !painting;
    this.pair.hidden = this.deeds.hidden = painting;
  }

  /** Resolves when nothing is on its way any more. */
  settled() {
    return Promise.all([...this.pending, this.painter?.flush()]);
  }

  retry() {
    if (this.problems.map) this.look = '';
    this.show();
  }

  dispose() {
    this.latest.drop();
    this.close();
  }

  // Drawing

  drawn(result) {
    this.problems.map = result.problem ?? '';
    this.map = result.url ? result : null;
    this.show();
  }

  show() {
    const { unit } = this;
    const followed = Boolean(unit.image || unit.map_image);
    const wish = mapWish({ ...unit, pose: [] }, this.panel.value, this.panel.value.fields);
    const look = followed ? sameLook(wish) : '';
    if (look !== this.look) {
      this.look = look;
      if (followed) this.latest.wish(wish);
      else {
        this.latest.drop();
        this.map = null;
      }
    }
    this.drop.show(unit.image ? (unit.shown?.image ?? {}) : null, false);
    this.root.style.setProperty('--shape', this.panel.value.width / this.panel.value.height);
    this.image.hidden = !this.map;
    if (this.map && this.image.getAttribute('src') !== this.map.url) this.image.src = this.map.url;
    this.image.alt = this.map ? 'The map that is followed' : '';
    say(this.hint, this.map ? '' : followed ? '' : 'Its map appears here.');
    this.edit.hidden = this.save.hidden = !this.map;
    if (this.map) this.save.href = this.map.url;
    this.save.download = `map-${unit.map_image ? 'edited' : unit.preprocessor}.png`;
    this.showChip();
    const sentence = this.problems.picture || this.problems.map;
    say(this.trouble, sentence);
    this.trouble.hidden = !sentence;
  }

  showChip() {
    const { unit } = this;
    const text = !unit.map_image ? '' : unit.by === 'hand' ? 'edited by hand' : 'a ready map';
    this.chip.hidden = !text;
    if (this.chip.dataset.text === `${text}${Boolean(unit.image)}`) return;
    this.chip.dataset.text = `${text}${Boolean(unit.image)}`;
    const back = el('button', { type: 'button', onclick: () => (this.backToMade(), this.changed()) }, unit.image ? 'back to the made one' : 'remove it');
    this.chip.replaceChildren(el('span', {}, text), back);
  }
}

/** A place where a picture is dropped, pasted or chosen. */
class Drop {
  constructor(take, remove) {
    this.input = el('input', { type: 'file', accept: 'image/*', hidden: true, tabIndex: -1 });
    this.image = el('img', { alt: '', hidden: true, draggable: false });
    this.words = el('span.unit-invite', {}, icon(PICTURE), el('span', {}, 'Drop, paste or choose a picture'));
    this.button = el('button.unit-choose', { type: 'button', onclick: () => this.input.click() }, this.image, this.words);
    this.remove = el('button.unit-x', { type: 'button', title: 'Remove the picture', 'aria-label': 'Remove the picture', onclick: remove }, icon(REMOVE));
    this.root = el('div.unit-drop.takes-pictures', {}, this.button, this.remove, this.input);
    this.input.addEventListener('change', () => {
      const [file] = this.input.files;
      this.input.value = '';
      if (file) take(file);
    });
    takesPictures(this.root, take);
  }

  /** picture: {url} or null; sending: it is on its way to the store. */
  show(picture, sending) {
    this.image.hidden = !picture?.url;
    this.words.hidden = Boolean(picture);
    this.remove.hidden = !picture || sending;
    this.root.classList.toggle('full', Boolean(picture));
    this.root.classList.toggle('sends', sending);
    if (picture?.url && this.image.getAttribute('src') !== picture.url) this.image.src = picture.url;
    this.button.setAttribute('aria-label', picture ? 'Choose another picture' : 'Drop, paste or choose a picture');
  }
}

/** Pictures that are dropped on `root`, or pasted while the hand or the focus is there, go to `take`. */
export function takesPictures(root, take) {
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
  const over = (on) => root.classList.toggle('over', on);
  const chosen = (files) => [...(files ?? [])].find((one) => one.type.startsWith('image/'));
  root.addEventListener('dragover', (event) => carries(event) && (event.preventDefault(), over(true)));
  root.addEventListener('dragleave', (event) => root.contains(event.relatedTarget) || over(false));
  root.addEventListener('drop', (event) => {
    over(false);
    if (!carries(event)) return;
    event.preventDefault();
    take(chosen(event.dataTransfer.files) ?? event.dataTransfer.files[0]);
  });
  const pasted = (event) => {
    if (!root.isConnected) return window.removeEventListener('paste', pasted, true);
    const file = chosen(event.clipboardData?.files);
    if (!file || !(root.contains(event.target) || root.matches(':hover'))) return;
    event.preventDefault();
    event.stopImmediatePropagation(); // the page would read it for its parameters
    take(file);
  };
  window.addEventListener('paste', pasted, true);
}
