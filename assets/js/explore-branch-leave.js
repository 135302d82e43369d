// "What did this do?": each word, LoRA and control unit of a run as a button that leaves it out.

import { el } from './dom.js';

const HINT = 'One click runs this once more without it, from the first step at which it counts, and compares both.';

export class Leave {
  /** leave(what, index): "word", "lora" or "control", and which of them. */
  constructor(leave) {
    this.leave = leave;
    this.chips = el('div.branch-chips', { role: 'group', 'aria-label': 'Leave out' });
    this.root = el('div', {}, el('p.branch-hint', {}, HINT), this.chips);
  }

  fill({ prompt, words, loras, controls, titles }) {
    const chip = (what, index, text, kind = '') =>
      el('button.chip', { type: 'button', 'aria-label': `Leave out ${kind}${text}`, onclick: () => this.leave(what, index) }, text);
    const letters = [...prompt]; // the server counts characters, a script halves of some
    this.chips.replaceChildren(
      ...words.map(([start, end], index) => chip('word', index, letters.slice(start, end).join(''))),
      ...(loras ?? []).map(({ name }, index) => chip('lora', index, titles[name] ?? name, 'the LoRA ')),
      ...(controls ?? []).map(({ model }, index) => chip('control', index, titles[model] ?? model, 'the control unit ')),
    );
  }
}
