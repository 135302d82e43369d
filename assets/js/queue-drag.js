// Dragging a row of a list to another place: with mouse, pen or finger, by its grip.

const EDGE = 40; // pixels from the list's ends within which it scrolls by itself

export class Drag {
  /** drop: called with the job and {before} or {after}. settled: called once the hand is off. */
  constructor(list, drop, settled) {
    Object.assign(this, { list, drop, settled, row: null });
  }

  get busy() {
    return this.row !== null;
  }

  begin(event, row) {
    if (event.button || this.busy) return;
    event.preventDefault();
    const grip = event.currentTarget;
    grip.setPointerCapture(event.pointerId);
    this.row = row;
    this.from = event.clientY;
    this.ended = new AbortController();
    const { signal } = this.ended;
    grip.addEventListener('pointermove', (move) => this.move(move), { signal });
    grip.addEventListener('pointerup', () => this.end(true), { signal });
    grip.addEventListener('pointercancel', () => this.end(false), { signal });
    row.classList.add('dragged');
  }

  move(event) {
    const { row, list } = this;
    row.style.translate = `0 ${event.clientY - this.from}px`;
    const others = [...list.children].filter((one) => one !== row);
    const below = others.find((one) => {
      const box = one.getBoundingClientRect();
      return event.clientY < box.top + box.height / 2;
    });
    this.mark(below ?? others.at(-1), below ? 'before' : 'after');
    const scroller = list.parentElement;
    const box = scroller.getBoundingClientRect();
    if (event.clientY < box.top + EDGE) scroller.scrollTop -= EDGE / 4;
    if (event.clientY > box.bottom - EDGE) scroller.scrollTop += EDGE / 4;
  }

  mark(target, side) {
    for (const one of this.list.children) delete one.dataset.drop;
    this.target = target ? { job: target.dataset.job, side, row: target } : null;
    if (target) target.dataset.drop = side;
  }

  end(dropped) {
    const { row, target } = this;
    this.ended.abort();
    row.classList.remove('dragged');
    row.style.translate = '';
    this.mark(null);
    this.row = null;
    const beside = target?.side === 'before' ? target.row.previousElementSibling : target?.row.nextElementSibling;
    if (dropped && target && beside !== row) this.drop(row.dataset.job, { [target.side]: target.job });
    else this.settled();
  }

  /** Puts the row back; whether there was one in the hand. */
  cancel() {
    if (!this.busy) return false;
    this.end(false);
    return true;
  }
}
