// Sending what is painted, once the hand rests or someone waits for it, and telling that it has new keys.

const PAUSE = 300; // milliseconds after the last stroke

export class Post {
  constructor(painter) {
    this.painter = painter;
    this.sending = Promise.resolve();
    this.told = '';
    this.failed = null; // the sentence of the last stroke that could not be kept
  }

  /** Something may have changed: in a moment it is sent, unless the hand goes on. */
  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.painter.hand.act ? this.later() : this.flush()), PAUSE);
  }

  /** Sends what is not sent yet; resolves with the value, which has a `problem` where that could not be. */
  flush() {
    clearTimeout(this.timer);
    const { painter } = this;
    this.sending = this.sending.then(() => this.save()).catch((fault) => painter.complain(String(fault.message ?? fault)));
    return this.sending.then(() => {
      this.tell();
      return painter.unsaved && painter.problem ? { ...painter.value, problem: painter.problem } : painter.value;
    });
  }

  async save() {
    const { painter } = this;
    const { sheet } = painter;
    if (!sheet.unsaved) return;
    const { version, surface } = sheet;
    let kept = null;
    if (surface && !surface.blank) {
      const [name, on] = painter.coloured ? ['painted.png', sheet.picture.key] : ['mask.png'];
      kept = await this.send(await painter.paintBlob(), name, on);
      if (!kept) {
        this.failed = painter.problem;
        return; // told already; the next time tries again
      }
      // What else is told of, a file that could not be read, is not mended by a stroke that was kept.
      if (painter.problem === this.failed) painter.complain('');
    }
    if (surface === sheet.surface) sheet.keep(kept, version); // else another picture came meanwhile
  }

  /** Has a file kept; tells what stands in the way, and is null then. */
  async send(blob, name, on) {
    const { painter } = this;
    let answer = null;
    let problem = 'It could not be sent: the program does not answer. Nothing is lost; the next stroke tries again.';
    try {
      answer = await painter.keep(blob, name, on);
      problem = answer?.problem ?? (answer?.key ? '' : 'It could not be kept: the program cannot read it. Nothing is lost.');
    } catch {
      // the sentence stands
    }
    if (problem) painter.complain(problem);
    return problem ? null : answer;
  }

  /** Tells the value where it is another than was told last. */
  tell() {
    const { painter } = this;
    const now = JSON.stringify(painter.value);
    if (now === this.told) return;
    this.told = now;
    painter.onChange(painter.value);
  }

  /** What is there now is known already, and nothing waits to be sent. */
  note() {
    clearTimeout(this.timer);
    this.told = JSON.stringify(this.painter.value);
  }
}
