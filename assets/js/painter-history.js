// Undo and redo. An entry is {bytes, swap}: swap() makes the change undone and returns the entry that redoes it.

const LEAST = 50; // entries that are kept whatever they take
const MOST = 400;
const BYTES = 96 * 2 ** 20;

export class History {
  constructor() {
    this.done = [];
    this.undone = [];
  }

  add(entry) {
    this.done.push(entry);
    this.undone = [];
    let bytes = this.done.reduce((sum, one) => sum + one.bytes, 0);
    while (this.done.length > MOST || (bytes > BYTES && this.done.length > LEAST)) bytes -= this.done.shift().bytes;
  }

  undo() {
    return this.move(this.done, this.undone);
  }

  redo() {
    return this.move(this.undone, this.done);
  }

  move(from, to) {
    const entry = from.pop();
    if (!entry) return false;
    to.push(entry.swap());
    return true;
  }
}
