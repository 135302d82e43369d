// What a run will need, asked for when the setting pauses, and again once a run has ended and taught the speed.

import { el, heard, say } from './dom.js';

const PAUSE = 300;

export function mount({ root, server }) {
  return new Forecast(root, server);
}

class Forecast {
  constructor(root, server) {
    this.server = server;
    this.asked = null;
    this.text = el('p');
    root.append(this.text);
    heard('engine', ({ ready }) => ready && this.ask());
    heard('queue', (length) => {
      if (!length && this.busy) this.ask();
      this.busy = length > 0;
    });
  }

  show(value) {
    if (!value?.values) return;
    this.asked = value.values;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), PAUSE);
  }

  async ask() {
    const { asked } = this;
    if (!asked) return;
    const told = await this.server.forecast(asked);
    if (asked === this.asked) say(this.text, told?.sentence ?? '');
  }
}
