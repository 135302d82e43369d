// Pictures that can be looked at closely: wheel, two fingers, double click and keys zoom, a drag moves them. Several
// are zoomed together, at the same place.

const MOST = 16; // times the pixels of the picture
const STEP = 1.25;

export class Zoom {
  /** panes: [what is looked through, the picture that moves in it] each. changed(zoomed): whether they are larger than
   *  they fit. swiped(by): a finger went sideways over a picture that is not zoomed. */
  constructor(panes, { changed = () => {}, swiped = () => {} } = {}) {
    Object.assign(this, { panes, changed, swiped });
    this.fingers = new Map();
    this.reset();
    for (const [box] of panes) this.listen(box);
  }

  listen(box) {
    box.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    box.addEventListener('dblclick', (event) => this.toggle(event));
    box.addEventListener('pointerdown', (event) => this.down(event));
    box.addEventListener('pointermove', (event) => this.move(event));
    for (const end of ['pointerup', 'pointercancel']) box.addEventListener(end, (event) => this.up(event));
  }

  get zoomed() {
    return this.scale > 1.001;
  }

  reset() {
    [this.scale, this.x, this.y] = [1, 0, 0];
    this.apply();
  }

  /** The scale at which one pixel of the picture is one of the screen's. */
  get whole() {
    const { naturalWidth, offsetWidth } = this.panes[0][1];
    return offsetWidth && naturalWidth ? naturalWidth / devicePixelRatio / offsetWidth : 1;
  }

  apply() {
    const [first, picture] = this.panes[0];
    const across = Math.max(0, (picture.offsetWidth * this.scale - first.clientWidth) / 2);
    const down = Math.max(0, (picture.offsetHeight * this.scale - first.clientHeight) / 2);
    this.x = Math.max(-across, Math.min(across, this.x));
    this.y = Math.max(-down, Math.min(down, this.y));
    for (const [box, image] of this.panes) {
      image.style.transform = this.zoomed ? `translate(${this.x}px, ${this.y}px) scale(${this.scale})` : '';
      image.classList.toggle('sharp', this.scale > 2 * this.whole);
      box.classList.toggle('zoomed', this.zoomed);
    }
    this.changed(this.zoomed);
  }

  /** Zooms about a point of the window, by default the middle. */
  to(scale, at = null) {
    const next = Math.max(1, Math.min(MOST * Math.max(1, this.whole), scale));
    const pane = at?.currentTarget ?? at?.box ?? this.panes[0][0];
    const box = pane.getBoundingClientRect();
    const [x, y] = at ? [at.clientX - box.left - box.width / 2, at.clientY - box.top - box.height / 2] : [0, 0];
    const by = next / this.scale;
    [this.x, this.y, this.scale] = [x - (x - this.x) * by, y - (y - this.y) * by, next];
    this.apply();
  }

  in() {
    this.to(this.scale * STEP);
  }

  out() {
    this.to(this.scale / STEP);
  }

  toggle(at = null) {
    this.to(this.zoomed ? 1 : Math.max(2, this.whole), at);
  }

  wheel(event) {
    event.preventDefault();
    this.to(this.scale * STEP ** (-event.deltaY / 80), event);
  }

  down(event) {
    if (event.button) return;
    this.fingers.set(event.pointerId, event);
    if (this.fingers.size === 1) this.began = event;
    event.currentTarget.setPointerCapture(event.pointerId);
  }

  move(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) return;
    const [one, other] = [...this.fingers.values()];
    this.fingers.set(event.pointerId, event);
    if (other) {
      const still = before === one ? other : one;
      const apart = (finger) => Math.hypot(finger.clientX - still.clientX, finger.clientY - still.clientY);
      const middle = { clientX: (event.clientX + still.clientX) / 2, clientY: (event.clientY + still.clientY) / 2, box: event.currentTarget };
      this.began = null;
      this.to(this.scale * (apart(event) / Math.max(1, apart(before))), middle);
    } else if (this.zoomed) {
      this.x += event.clientX - before.clientX;
      this.y += event.clientY - before.clientY;
      this.apply();
    }
  }

  up(event) {
    if (!this.fingers.delete(event.pointerId) || !this.began || this.zoomed) return;
    const by = event.clientX - this.began.clientX;
    if (event.pointerType === 'touch' && event.type === 'pointerup' && Math.abs(by) > 48 && Math.abs(event.clientY - this.began.clientY) < Math.abs(by)) this.swiped(by < 0 ? 1 : -1);
  }
}
