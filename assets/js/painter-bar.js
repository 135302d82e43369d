// The painter's buttons and sliders.

import { el, icon, say } from './dom.js';

const PATHS = {
  brush: 'M9.500 14.500L18.300 4.700a1.800 1.800 0 0 1 2.700 2.500L12 17 M9.500 14.500c-2.600-.6-4.500 1-4.500 3.200 0 1.300-.9 2-2 2.300 3.700 1.200 8.700.4 9-3-.4-1.300-1.200-2.100-2.500-2.500z',
  eraser: 'M9 20h11 M4.600 13.200l8.600-8.600a2 2 0 0 1 2.800 0l3.400 3.400a2 2 0 0 1 0 2.800L11.200 19a2.500 2.500 0 0 1-3.500 0l-3.100-3a2 2 0 0 1 0-2.800z M9 9l6 6',
  line: 'M6.500 17.500l11-11 M3.500 17.500h3v3h-3z M17.500 3.500h3v3h-3z',
  lasso: 'M7 14.600C4.600 13.600 3 11.900 3 10c0-3.300 4-6 9-6s9 2.700 9 6-4 6-9 6c-1 0-2-.1-2.900-.3 M8 13.200a2 2 0 1 1-2 2.500 M7 17c.3 1.500-.4 2.800-2 3.500',
  rectangle: 'M4 6h16v12H4z',
  fill: 'M10.500 5.500l7 7-6.300 6.300a2 2 0 0 1-2.800 0l-4.200-4.200a2 2 0 0 1 0-2.800z M8 3l5 5 M4 13h13 M20 15.500c1.100 1.600 1.700 2.500 1.700 3.400a1.700 1.700 0 0 1-3.400 0c0-.9.6-1.800 1.700-3.400z',
  pick: 'M13 7l4 4 M15 9l2-2 1.800-1.800a2 2 0 0 0 0-2.800 2 2 0 0 0-2.800 0L12.200 6.200 M14 8l-8.600 8.600L4 20l3.400-1.400L16 10',
  undo: 'M8.500 13.500L4 9l4.500-4.500 M4 9h9.500a5.500 5.500 0 0 1 0 11H9',
  redo: 'M15.500 13.500L20 9l-4.500-4.500 M20 9h-9.500a5.500 5.500 0 0 0 0 11H15',
  large: 'M9 4H4v5 M15 4h5v5 M20 15v5h-5 M9 20H4v-5',
  small: 'M4 9h5V4 M20 9h-5V4 M15 20v-5h5 M9 20v-5H4',
  invert: 'M12 3.500a8.500 8.500 0 1 0 0 17a8.500 8.500 0 0 0 0-17z M12 3.500v17 M12 7.500h7 M12 12h8.300 M12 16.500h7',
  clear: 'M4 8V5a1 1 0 0 1 1-1h3 M16 4h3a1 1 0 0 1 1 1v3 M20 16v3a1 1 0 0 1-1 1h-3 M8 20H5a1 1 0 0 1-1-1v-3 M9.500 9.500l5 5 M14.500 9.500l-5 5',
  grow: 'M12 8.500a3.500 3.500 0 1 0 0 7a3.500 3.500 0 0 0 0-7z M12 5.500v-3 M10.500 3.700L12 2.300l1.500 1.400 M12 18.500v3 M10.500 20.300l1.500 1.400 1.500-1.400 M5.500 12h-3 M3.700 10.500L2.300 12l1.400 1.500 M18.500 12h3 M20.300 10.500l1.400 1.500-1.400 1.500',
  shrink: 'M12 9.500a2.500 2.500 0 1 0 0 5a2.500 2.500 0 0 0 0-5z M12 2v4.500 M10.300 5L12 6.500 13.700 5 M12 22v-4.500 M10.300 19l1.700-1.500 1.700 1.500 M2 12h4.500 M5 10.300L6.500 12 5 13.700 M22 12h-4.500 M19 10.300L17.500 12l1.500 1.700',
  load: 'M12 15V4 M8 8l4-4 4 4 M5 20h14',
  save: 'M12 4v11 M8 11l4 4 4-4 M5 20h14',
  replace: 'M4 5h16v14H4z M4 16l5-5 4 4 2.500-2.500L20 17 M15.500 9.500h.01',
  remove: 'M5 7h14 M10 7V4.500h4V7 M7 7l.8 12.500h8.400L17 7 M10.500 10.500v5.500 M13.500 10.500v5.500',
  fit: 'M4 8V5a1 1 0 0 1 1-1h3 M16 4h3a1 1 0 0 1 1 1v3 M20 16v3a1 1 0 0 1-1 1h-3 M8 20H5a1 1 0 0 1-1-1v-3 M9 9h6v6H9z',
  out: 'M6 12h12',
  in: 'M6 12h12 M12 6v12',
};

const TOOLS = [
  ['brush', 'Brush', 'B'],
  ['eraser', 'Eraser', 'E, X swaps; or the right button'],
  ['line', 'Line', 'L, or Shift with the brush'],
  ['lasso', 'Lasso', 'S'],
  ['rectangle', 'Rectangle', 'R'],
  ['fill', 'Fill', 'G'],
];
const SWATCHES = ['#000000', '#ffffff', '#c0392b', '#e0912f', '#f2d24b', '#3f8f5a', '#3a6ea5', '#7a4fa0'];
const LARGEST = 400;

/** The size that a slider's place stands for, and back: small brushes need the finer steps. */
const sizeAt = (place) => Math.max(1, Math.round(LARGEST * (place / 1000) ** 2));
const placeOf = (size) => Math.round(1000 * Math.sqrt(size / LARGEST));

export class Bar {
  /** painter: what the buttons act on. */
  constructor(painter) {
    this.painter = painter;
    const button = (name, label, keys, onclick) => press(name, label, keys, onclick);
    this.tools = Object.fromEntries(
      TOOLS.map(([tool, label, keys]) => [tool, button(tool, label, keys, () => painter.use(tool))]),
    );
    if (painter.coloured) {
      this.tools.pick = button('pick', 'Pick a colour', 'I, or Alt', () => painter.use('pick'));
    }
    this.undo = button('undo', 'Undo', 'Ctrl+Z', () => painter.undo());
    this.redo = button('redo', 'Redo', 'Ctrl+Y', () => painter.redo());
    this.large = button('large', 'Large', 'fills the window; Esc leaves', () => painter.enlarge(!painter.isLarge));
    this.top = el(
      'div.tools',
      { role: 'toolbar', 'aria-label': 'Painting' },
      el('div.set', { role: 'group', 'aria-label': 'Tools' }, ...Object.values(this.tools)),
      el('div.set', {}, this.undo, this.redo),
      el('div.set.last', {}, this.large),
    );
    this.sliders = el('div.sliders', {}, ...this.buildSliders(), ...this.buildColours());
    this.foot = el('div.foot', {}, this.buildWord(), this.buildZoom());
    this.bottom = el('div.tools.after', {}, ...this.buildMask(), this.buildPicture());
  }

  buildSliders() {
    const { painter } = this;
    const slider = (label, hint, max, set) => {
      const figure = el('b');
      const input = el('input', { type: 'range', min: 0, max, step: 1, 'aria-label': label, title: hint });
      input.oninput = () => set(Number(input.value));
      return { box: el('label', {}, el('span', {}, label, figure), input), input, figure };
    };
    this.size = slider('Size', 'Size of the brush in pixels of the picture  ( [ and ] )', 1000, (place) =>
      painter.set({ size: sizeAt(place) }, 'size'),
    );
    this.hardness = slider('Hardness', 'How sharp the edge of the brush is  ( { and } )', 100, (value) =>
      painter.set({ hardness: value / 100 }, 'hardness'),
    );
    this.strength = slider(
      painter.coloured ? 'Opacity' : 'Strength',
      painter.coloured ? 'How much of what is under it the paint hides' : 'How much is repainted: grey parts change less',
      100,
      (value) => painter.set({ strength: Math.max(1, value) / 100 }, 'strength'),
    );
    return [this.size.box, this.hardness.box, this.strength.box];
  }

  buildColours() {
    if (!this.painter.coloured) return [];
    const { painter } = this;
    this.swatches = (painter.mode === 'map' ? SWATCHES.slice(0, 2).reverse() : SWATCHES).map((colour) =>
      el('button.swatch', {
        type: 'button',
        title: colour === '#000000' ? 'Black' : colour === '#ffffff' ? 'White' : colour,
        'aria-label': `Colour ${colour}`,
        style: `--colour: ${colour}`,
        onclick: () => painter.set({ colour }, 'colour'),
      }),
    );
    this.colour = el('input.colour', { type: 'color', 'aria-label': 'Colour', title: 'Any other colour (Alt picks one from the picture)' });
    this.colour.oninput = () => painter.set({ colour: this.colour.value }, 'colour');
    return [el('div.colours', { role: 'group', 'aria-label': 'Colour' }, this.colour, ...this.swatches)];
  }

  buildWord() {
    this.word = el('span.word-of-tool');
    this.reset = el('button.reset', { type: 'button', onclick: () => this.painter.resetBorders() }, 'reset');
    this.room = el('span.room', { hidden: true }, el('span'), this.reset);
    return el('div.words-of-tool', {}, this.word, this.room);
  }

  buildZoom() {
    const { view } = this.painter;
    this.percent = el('button.percent', { type: 'button', title: 'Show at 100%  (1)', onclick: () => view.zoom(1 / view.scale) });
    return el(
      'div.set',
      { role: 'group', 'aria-label': 'Zoom' },
      press('out', 'Zoom out', '-, or the wheel', () => view.zoom(0.8)),
      this.percent,
      press('in', 'Zoom in', '+, or the wheel', () => view.zoom(1.25)),
      press('fit', 'Fit', '0', () => view.fit()),
    );
  }

  buildMask() {
    const { painter } = this;
    this.clear = press('clear', painter.coloured ? 'Clear what is painted' : 'Clear the mask', '', () => painter.clear());
    if (painter.coloured) return [el('div.set', {}, this.clear)];
    this.pixels = el('input.pixels', {
      type: 'number',
      min: 1,
      max: 64,
      value: 8,
      title: 'Pixels to grow or shrink by',
      'aria-label': 'Pixels to grow or shrink by',
    });
    const by = () => Math.min(64, Math.max(1, Math.round(Number(this.pixels.value)) || 8));
    this.saveMask = press('save', 'Save the mask as a file', '', () => painter.saveMask());
    return [
      el('div.set', {}, press('invert', 'Invert the mask', '', () => painter.invert()), this.clear),
      el(
        'div.set.grows',
        { role: 'group', 'aria-label': 'Grow or shrink the mask' },
        press('shrink', 'Shrink the mask', '', () => painter.growBy(-by())),
        this.pixels,
        press('grow', 'Grow the mask', '', () => painter.growBy(by())),
      ),
      el('div.set', {}, press('load', 'Load a mask from a file', '', () => painter.chooseMask()), this.saveMask),
    ];
  }

  buildPicture() {
    const { painter } = this;
    return el(
      'div.set.last',
      { role: 'group', 'aria-label': 'Picture' },
      press('replace', 'Choose another picture', 'or drop or paste one', () => painter.choosePicture()),
      press('remove', 'Remove the picture', '', () => painter.removePicture()),
    );
  }

  /** Draws what the painter's state is. */
  paint() {
    const { painter } = this;
    const { kit, view } = painter;
    const { history } = painter.sheet;
    for (const [tool, button] of Object.entries(this.tools)) button.setAttribute('aria-pressed', String(kit.tool === tool));
    this.undo.disabled = !history.done.length;
    this.redo.disabled = !history.undone.length;
    fill(this.size, placeOf(kit.size), `${kit.size}`, `${kit.size} pixels`);
    fill(this.hardness, Math.round(kit.hardness * 100), `${Math.round(kit.hardness * 100)}%`);
    fill(this.strength, Math.round(kit.strength * 100), `${Math.round(kit.strength * 100)}%`);
    if (this.colour) {
      this.colour.value = kit.colour;
      for (const swatch of this.swatches) {
        swatch.setAttribute('aria-pressed', String(swatch.style.getPropertyValue('--colour').trim() === kit.colour));
      }
    }
    const { picture } = painter;
    const { left, top, right, bottom } = painter.sheet.extend;
    const [across, down] = picture ? [picture.width + left + right, picture.height + top + bottom] : [0, 0];
    const notes = [picture?.notes ?? []].flat().join(' ');
    say(this.word, picture ? [`${picture.width} × ${picture.height}`, notes].filter(Boolean).join('. ') : '');
    this.room.hidden = !(left || top || right || bottom);
    say(this.room.firstChild, `→ ${across} × ${down}`);
    say(this.percent, `${Math.round(view.scale * 100)}%`);
    const label = painter.isLarge ? 'Back into the page' : 'Large';
    if (this.large.getAttribute('aria-label') !== label) {
      this.large.replaceChildren(icon(PATHS[painter.isLarge ? 'small' : 'large']));
      this.large.setAttribute('aria-label', label);
      this.large.title = painter.isLarge ? `${label}  (Esc)` : `${label}  (fills the window; Esc leaves)`;
    }
  }
}

function press(name, label, keys, onclick) {
  const title = keys ? `${label}  (${keys})` : label;
  return el('button.press', { type: 'button', 'aria-label': label, title, onclick, 'data-deed': name }, icon(PATHS[name]));
}

function fill({ input, figure }, place, text, spoken = text) {
  if (Number(input.value) !== place) input.value = place;
  input.style.setProperty('--part', `${(100 * place) / Number(input.max)}%`);
  input.setAttribute('aria-valuetext', spoken);
  say(figure, text);
}
