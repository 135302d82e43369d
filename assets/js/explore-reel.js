// A run's film in the browser: what each step was, and its small pictures, decoded before a hand asks for them.

const BUDGET = 384 * 2 ** 20; // bytes of decoded pictures of one film
const AT_ONCE = 8;

export class Reel {
  /** Asks for a film from step `from` on. Throws an Error with the server's sentence and `status`. */
  static async fetch(address) {
    const answer = await fetch(address);
    if (!answer.ok) {
      const told = await answer.json().catch(() => ({}));
      throw Object.assign(new Error(told.problem ?? 'The film did not arrive: try it once more.'), { status: answer.status });
    }
    return Reel.read(await answer.arrayBuffer());
  }

  /** A film from its bytes. */
  static read(bytes) {
    const length = new DataView(bytes).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
    return new Reel(head, new Blob([new Uint8Array(bytes, 4 + length)]));
  }

  constructor({ run, steps, still_from: still }, pictures) {
    this.run = run;
    this.still = still;
    this.steps = steps;
    for (const step of steps) step.pictures = pictures;
    this.frames = new Map(); // lane -> ImageBitmap by step
    this.wanted = []; // lanes to be decoded
  }

  /** The lanes that any step has. */
  get lanes() {
    return new Set(this.steps.flatMap((step) => Object.keys(step.lanes)));
  }

  frame(lane, step) {
    return this.frames.get(lane)?.[step];
  }

  /** Takes in the later steps of the same run. */
  add(later) {
    this.run = later.run;
    this.still = later.still;
    this.steps.splice(later.steps[0]?.index ?? this.steps.length, Infinity, ...later.steps);
  }

  /** Decodes the frames of these lanes: those of step `first`, then those of the strip, then all others; the near
   *  ones before the far. */
  async decode(lanes, first, drawn) {
    const round = (this.round = {}); // another choice, and this one goes no further
    const turn = ([lane, step]) => (step === first ? -1 : Math.abs(step - first) + (lane === 'x0' ? 0 : this.steps.length));
    const all = this.steps.flatMap((_, step) => lanes.map((lane) => [lane, step]));
    const waiting = all.filter(([lane, step]) => !this.frame(lane, step)).sort((one, other) => turn(one) - turn(other));
    const most = BUDGET / Math.max(1, this.steps.length * lanes.length);
    while (waiting.length && this.round === round && !this.closed) {
      const batch = waiting.splice(0, Math.max(AT_ONCE, lanes.length));
      await Promise.all(batch.map(([lane, step]) => this.take(lane, step, most)));
      drawn(batch);
    }
  }

  async take(lane, index, most) {
    const step = this.steps[index];
    const place = step?.lanes[lane];
    if (!place) return;
    const blob = step.pictures.slice(place[0], place[0] + place[1], 'image/jpeg');
    let bitmap = await createImageBitmap(blob);
    const size = bitmap.width * bitmap.height * 4;
    if (size > most) {
      const resizeWidth = Math.max(64, Math.round(bitmap.width * Math.sqrt(most / size)));
      bitmap.close();
      bitmap = await createImageBitmap(blob, { resizeWidth, resizeQuality: 'medium' });
    }
    if (this.closed) return bitmap.close();
    if (!this.frames.has(lane)) this.frames.set(lane, []);
    this.frames.get(lane)[index] = bitmap;
  }

  close() {
    this.closed = true;
    for (const frames of this.frames.values()) for (const bitmap of frames) bitmap?.close();
    this.frames.clear();
  }
}
