// What a unit asks of the server beside keeping pictures: maps to be drawn, the latest wish first.

/** Draws what was wished for last: one request at a time, and what was overtaken is never sent. */
export class Latest {
  /** answer(wish): a promise. done(result, wish). wait(on): there has been no answer for a while. */
  constructor({ answer, done, wait, patience = 300 }) {
    Object.assign(this, { answer, done, wait, patience });
    this.next = null;
    this.running = null;
  }

  wish(wish) {
    this.next = wish;
    this.running ??= this.run();
    return this.running;
  }

  /** Nothing is wished for any more: what is under way is not shown. */
  drop() {
    this.next = null;
    this.dropped = true;
  }

  async run() {
    const slow = setTimeout(() => this.wait(true), this.patience);
    while (this.next) {
      const wish = this.next;
      this.next = null;
      this.dropped = false;
      const result = await this.answer(wish);
      if (!this.dropped) this.done(result, wish); // also where another waits: the map follows the hand
    }
    this.running = null;
    clearTimeout(slow);
    this.wait(false);
  }
}

/** A picture that came as a data URL, as bytes. */
export async function fileOf(url) {
  return (await fetch(url)).blob();
}
