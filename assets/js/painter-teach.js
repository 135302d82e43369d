// What stands in a painter that has no picture yet: how one gets there.

import { el, icon } from './dom.js';

const TEACHES = {
  mask: 'Then paint over what is to change. The rest stays as it is.',
  sketch: 'Then paint on it: the new picture takes up colours and shapes.',
  map: 'Then mend it: black and white are drawn into the map itself.',
};
const PICTURE = 'M4 5h16v14H4z M4 16l5-5 4 4 2.500-2.500L20 17 M15.500 9.500h.01';

export class Teach {
  constructor(painter) {
    this.painter = painter;
    const quiet = (text, onclick) => el('button.quiet', { type: 'button', onclick }, text);
    this.choose = el('button.choose', { type: 'button', onclick: () => painter.choosePicture() }, 'Choose a picture');
    this.back = quiet('or bring the last one back', () => painter.undo());
    const blank = quiet('or begin with an empty sheet', () => painter.takeBlank());
    this.root = el(
      'div.teach',
      {},
      icon(PICTURE),
      el('b', {}, 'Drop, paste or choose a picture'),
      el('p', {}, TEACHES[painter.mode]),
      this.choose,
      ...(painter.examples.length ? [this.offer(painter.examples)] : []),
      ...(painter.coloured ? [blank] : []),
      this.back,
    );
  }

  /** Pictures that come with the program: the first try is one click away. */
  offer(examples) {
    const button = ({ title, ...image }) =>
      el('button.example', { type: 'button', title, onclick: () => this.painter.receive(image) }, el('img', { src: image.url, alt: title }));
    return el('div.examples', {}, el('span', {}, 'or try one of these'), ...examples.map(button));
  }

  paint() {
    this.back.hidden = !this.painter.sheet.history.done.length;
  }
}
