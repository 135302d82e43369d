// One card of the shelf: a picture (or its sort's sign), what it is, and the one thing that most do with it.

import { el, icon } from './dom.js';
import { groupOf, kindOf, size, sortOf } from './models-words.js';

const STAR = 'M12 3.5l2.6 5.4 5.9.8-4.3 4.1 1 5.9-5.2-2.8-5.2 2.8 1-5.9-4.3-4.1 5.9-.8z';
const WORDS_SHOWN = 2;

/** What "use" is called for a sort; sorts that are not here are not used from a card. */
export const USE = {
  checkpoint: 'Use',
  lora: 'Add',
  embedding: 'Add',
  vae: 'Use',
  'text encoder': 'Use',
  controlnet: 'Use',
};

/** What stands where a picture would: the sort's sign. */
export function face(row) {
  const box = el('span.model-picture');
  if (row.picture) {
    const image = el('img', { src: row.picture, alt: '', loading: 'lazy', decoding: 'async', draggable: false });
    image.onerror = () => image.replaceWith(icon(sortOf(row.sort).path));
    box.append(image);
  } else box.append(icon(sortOf(row.sort).path));
  return box;
}

export function starOf(row, change) {
  const button = el('button.model-star', { type: 'button', onclick: () => change(row, { favourite: !row.favourite }) }, icon(STAR));
  button.setAttribute('aria-pressed', String(Boolean(row.favourite)));
  button.setAttribute('aria-label', `Favourite: ${row.title}`);
  button.title = row.favourite ? 'A favourite: listed first' : 'Make it a favourite';
  return button;
}

export class Card {
  /** shelf: what is asked when a hand does something: open, edit, use, words. */
  constructor(row, shelf) {
    this.shelf = shelf;
    this.root = el('li.model-card');
    this.show(row);
  }

  show(row) {
    const drawn = JSON.stringify(row);
    if (drawn === this.drawn) return;
    const focused = this.root.contains(document.activeElement) ? document.activeElement.className : '';
    this.drawn = drawn;
    this.row = row;
    this.title = el('button.model-open', { type: 'button', title: row.title, onclick: () => this.shelf.open(row, this) }, row.title);
    this.line = el('p.model-line', {}, lineOf(row));
    this.star = starOf(row, (one, change) => this.shelf.edit(one, change));
    this.foot = el('div.model-foot', {}, this.words());
    this.root.replaceChildren(face(row), this.star, el('h3.model-title', {}, this.title), this.line);
    if (row.unfit) this.root.append(el('p.model-unfit', { title: row.unfit }, row.unfit));
    this.root.append(this.foot);
    this.root.classList.toggle('unfit', Boolean(row.unfit));
    this.mark();
    if (focused) this.root.querySelector(`.${CSS.escape(focused.split(' ')[0])}`)?.focus();
  }

  /** What changes with the page around it: whether it is open, chosen and in the tab order. */
  mark() {
    const chosen = this.shelf.isChosen(this.row);
    this.root.classList.toggle('chosen', chosen);
    this.title.setAttribute('aria-expanded', String(this.shelf.isOpen(this.row)));
    const deed = this.deed(chosen);
    if (this.use?.textContent !== deed?.textContent) {
      this.use?.remove();
      if (deed) this.foot.append(deed);
      this.use = deed;
    }
    this.reach(this.tabIndex ?? -1);
  }

  reach(tabIndex) {
    this.tabIndex = tabIndex;
    for (const button of this.root.querySelectorAll('button')) button.tabIndex = tabIndex;
  }

  words() {
    const words = el('span.model-words');
    const chip = (word) =>
      el('button.model-word', { type: 'button', title: `Put “${word}” into the prompt`, onclick: () => this.shelf.words(word) }, word);
    words.append(...this.row.words.slice(0, WORDS_SHOWN).map(chip));
    const more = this.row.words.length - WORDS_SHOWN;
    if (more > 0) words.append(el('span.model-more', {}, `+${more}`));
    return words;
  }

  deed(chosen) {
    const { row } = this;
    const word = USE[groupOf(row.sort)];
    if (!word || row.unfit) return null;
    if (chosen) return el('span.model-chosen', {}, 'In use');
    const button = el('button.model-use', { type: 'button', onclick: () => this.shelf.use(row) }, word);
    button.setAttribute('aria-label', `${word} ${row.title}`);
    return button;
  }
}

/** "LoRA · SDXL · 144 MB": the sort only where it is not what the list is filtered by. */
export function lineOf(row) {
  return [kindOf(row.sort), [row.family, row.variant].filter(Boolean).join(' '), size(row.bytes)].filter(Boolean).join(' · ');
}

