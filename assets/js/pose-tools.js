// What stands around the pose editor's canvas: its buttons, the poses to begin with, and files going in and out.

import { el, icon } from './dom.js';
import { openPose } from './pose-figure.js';
import { thumbnail } from './pose-view.js';

const PATHS = {
  undo: 'M9 14L4 9l5-5 M4 9h10a6 6 0 0 1 0 12h-3',
  redo: 'M15 14l5-5-5-5 M20 9H10a6 6 0 0 0 0 12h3',
  add: 'M10 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8z M3 21v-2a5 5 0 0 1 5-5h4 M18 14v7 M14.5 17.5h7',
  copy: 'M9 9h11v11H9z M5 15H4V4h11v1',
  remove: 'M4 7h16 M9 7V4h6v3 M6 7l1 13h10l1-13',
  mirror: 'M12 3v18 M8.5 7L3 17h5.5z M15.5 7L21 17h-5.5z',
  keep: 'M5 19L11 7l8 5 M5 21.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z M11 8.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4z M19 14a2 2 0 1 0 0-4 2 2 0 0 0 0 4z',
  hide: 'M3 12s3.5-6 9-6 9 6 9 6-3.5 6-9 6-9-6-9-6z M12 14.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z M4 20L20 4',
  near: 'M10.5 18a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15z M21 21l-5-5 M10.5 7.5v6 M7.5 10.5h6',
  trace: 'M4 5h16v14H4z M4 16l5-5 4 4 3-3 4 4 M15.5 9.5h.01',
  detect: 'M4 8V4h4 M16 4h4v4 M20 16v4h-4 M8 20H4v-4 M12 11a2 2 0 1 0 0-4 2 2 0 0 0 0 4z M8 17v-1a3 3 0 0 1 3-3h2a3 3 0 0 1 3 3v1',
  load: 'M12 15V4 M7 9l5-5 5 5 M5 20h14',
  save: 'M12 4v11 M7 11l5 5 5-5 M5 20h14',
};
const MOST_TEXT = 4e6; // characters that the server reads

export class Tools {
  /** editor: undo(), redo(), add(), duplicate(), remove(), flip(), toggle(), hold(), magnify(), begin(preset),
   *  trace(file), detect(file), take(text), complain(sentence); reads, detects: whether it can. */
  constructor(editor) {
    this.editor = editor;
    this.buttons = {};
    const button = (key, title, onclick, keys = '') => {
      const node = el('button.tool', { type: 'button', onclick, title: keys ? `${title} (${keys})` : title, 'aria-label': title }, icon(PATHS[key]));
      if (keys) node.setAttribute('aria-keyshortcuts', keys.replaceAll('Ctrl', 'Control'));
      this.buttons[key] = node;
      return node;
    };
    const file = (accept, take) => {
      const input = el('input', { type: 'file', accept, hidden: true });
      input.onchange = () => {
        const [chosen] = input.files;
        input.value = ''; // the same file may be chosen again
        if (chosen) take(chosen);
      };
      return input;
    };
    const group = (label, ...children) => el('div.tools', { role: 'group', 'aria-label': label }, ...children);
    const json = file('.json,application/json', (chosen) => this.read(chosen));
    const picture = file('image/*', (chosen) => editor.trace(chosen));
    const people = file('image/*', (chosen) => editor.detect(chosen));
    const groups = [
      group('Steps', button('undo', 'Undo', () => editor.undo(), 'Ctrl+Z'), button('redo', 'Redo', () => editor.redo(), 'Ctrl+Y')),
      group(
        'People',
        button('add', 'Add a person', () => editor.add(), 'N'),
        button('copy', 'Duplicate this person', () => editor.duplicate()),
        button('mirror', 'Mirror this person', () => editor.flip(), 'M'),
        button('remove', 'Remove this person', () => editor.remove(), 'Delete'),
      ),
      group(
        'Joints',
        button('keep', 'Keep lengths: a drag turns the limb (or hold Alt)', () => editor.hold()),
        button('hide', 'Hide or show this joint', () => editor.toggle(), 'H'),
        button('near', 'Look at this person closely', () => editor.magnify()),
      ),
      group('Files', button('trace', 'Lay a picture underneath, to trace it', () => picture.click()), picture),
    ];
    if (editor.detects) groups[3].append(button('detect', 'Read the pose from a picture', () => people.click()), people);
    if (editor.reads) groups[3].append(button('load', 'Import OpenPose JSON (or paste it here)', () => json.click()), json);
    groups[3].append(button('save', 'Export OpenPose JSON', () => this.save()));
    this.buttons.keep.append(el('span', {}, 'Keep lengths'));
    this.bar = el('div.pose-bar', { role: 'toolbar', 'aria-label': 'Pose' }, ...groups);
    this.presets = el('div.pose-presets', { role: 'group', 'aria-label': 'Poses to begin with' });
  }

  offer(presets) {
    const begin = (preset) => el('button.pose-preset', { type: 'button', title: preset.title, 'aria-label': preset.title, onclick: () => this.editor.begin(preset) }, thumbnail(preset.people));
    this.presets.replaceChildren(...presets.map(begin));
    this.presets.hidden = !presets.length;
  }

  paint({ figures, joint, keep, magnified, past, future, full }) {
    const { buttons } = this;
    const off = { undo: !past, redo: !future, add: full, copy: full || !figures.length, hide: joint === null, save: !figures.length };
    for (const key of ['mirror', 'remove', 'near']) off[key] = !figures.length;
    for (const [key, disabled] of Object.entries(off)) buttons[key].disabled = disabled;
    buttons.keep.setAttribute('aria-pressed', String(keep));
    buttons.near.setAttribute('aria-pressed', String(magnified));
  }

  async read(file) {
    if (file.size > MOST_TEXT) return this.editor.complain(`${file.name} is too large for a pose: over 4 MB. Choose the JSON file that OpenPose or an editor of it wrote.`);
    return this.editor.take(await file.text());
  }

  save() {
    const { people, width, height } = this.editor;
    const text = JSON.stringify(openPose(people, width, height));
    const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
    el('a', { href: url, download: 'pose.json' }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000); // the browser has begun to save it by then
  }
}
