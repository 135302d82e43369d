// The count of a prompt's tokens, asked for when the typing pauses.

import { el, heard, say } from './dom.js';

const PAUSE = 250;

export function mount({ root, server }) {
  return new TokenCount(root, server);
}

class TokenCount {
  constructor(root, server) {
    this.server = server;
    this.asked = null;
    this.text = el('span', { title: 'Longer prompts are read in parts of 75 tokens' });
    root.className = 'token-count';
    root.append(this.text);
    heard('engine', ({ ready }) => ready && this.ask());
  }

  show(value) {
    if (!value || typeof value.prompt !== 'string') return;
    this.asked = value;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), PAUSE);
  }

  async ask() {
    const asked = this.asked;
    if (!asked) return;
    const counted = await this.server.count(asked);
    if (asked !== this.asked) return; // typed on meanwhile
    say(this.text, counted ? `${counted.used} / ${counted.limit} tokens` : '');
  }
}
