// A unit that follows a drawn pose: the pose editor, and the map as the engine draws it of the pose.

import { el, icon, say } from './dom.js';
import { mapWish, sameLook } from './unit-picture.js';
import { Latest } from './unit-server.js';
import { ask, keepFile } from './upload.js';

const SAVE = 'M12 4v11 M7 11l5 5 5-5 M5 20h14';
const REST = 300; // milliseconds that a pose must have rested before its map is drawn

export class PoseSource {
  constructor(unit, panel, changed) {
    Object.assign(this, { unit, panel, changed });
    this.look = '';
    this.latest = new Latest({
      answer: (wish) => ask(panel.server.draw_map, wish),
      done: (result) => this.drawn(result),
      wait: () => {},
    });
    this.host = el('div.unit-pose');
    this.save = el('a.unit-deed', { download: 'map-pose.png', hidden: true }, icon(SAVE), 'Download the map');
    this.trouble = el('p.unit-problem', { role: 'alert', hidden: true });
    this.root = el('div.unit-source', {}, this.host, el('div.unit-deeds', {}, this.save), this.trouble);
    this.ready = this.mount();
  }

  async mount() {
    const { PoseEditor } = await import('./pose.js');
    if (this.gone) return;
    const { server, value } = this.panel;
    const detects = server.detect_pose && value.detect !== false;
    this.editor = new PoseEditor(this.host, {
      presets: value.presets,
      read: (text) => ask(server.read_pose, { text, ...this.size }),
      detect: detects ? (file) => this.find(file) : undefined,
      onChange: (people) => this.took(people),
    });
    this.show();
  }

  get size() {
    const { width, height } = this.panel.value;
    return { width, height };
  }

  /** The people of a picture, which is kept for that: the server reads only what is in its store. */
  async find(file) {
    const kept = await keepFile(file, this.panel.server.keep);
    return kept.problem ? kept : ask(this.panel.server.detect_pose, { key: kept.key, ...this.size });
  }

  took(people) {
    const pose = JSON.stringify(people ?? []);
    if (pose === JSON.stringify(this.unit.pose ?? [])) return;
    this.unit.pose = JSON.parse(pose); // the editor goes on with its own
    this.takes = true; // what it told itself is not shown to it
    this.changed();
    this.takes = false;
  }

  settled() {
    return Promise.resolve();
  }

  retry() {
    if (!this.trouble.hidden) this.look = '';
    this.show();
  }

  dispose() {
    this.gone = true;
    clearTimeout(this.rest);
    this.latest.drop();
    this.editor?.destroy();
    this.editor = null;
  }

  drawn(result) {
    say(this.trouble, result.problem ?? '');
    this.trouble.hidden = !result.problem;
    this.save.hidden = !result.url;
    if (result.url) this.save.href = result.url;
  }

  show() {
    const { unit, panel } = this;
    // The editor knows by itself what is new in it; asking it only after a change keeps its hand free.
    const told = JSON.stringify([unit.pose, this.size]);
    if (this.editor && told !== this.told) {
      this.told = told;
      if (!this.takes) this.editor.show({ people: unit.pose ?? [], ...this.size });
    }
    const wish = mapWish({ ...unit, map_image: null }, panel.value, panel.value.fields);
    const look = unit.pose?.length ? sameLook(wish) : '';
    if (look === this.look) return;
    this.look = look;
    clearTimeout(this.rest);
    this.latest.drop();
    if (look) this.rest = setTimeout(() => this.latest.wish(wish), REST);
    else this.drawn({});
  }
}
