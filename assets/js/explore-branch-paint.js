// Painting for a branch: on the picture that a step predicts (x0), or another mask for a run that has one. The
// painter is the page's own, in a dialog.

import { el, icon, say } from './dom.js';
import { Painter } from './painter.js';
import { upload } from './upload.js';

const AWAY = 'M6 6l12 12 M18 6L6 18';

export class Paint {
  constructor(explore, changed, complain) {
    Object.assign(this, { explore, changed, complain });
    this.painted = null; // the picture that was painted, and the step that it is of
    this.mask = null;
    this.onto = el('button.branch-word', { type: 'button', onclick: () => this.openPicture() }, 'Paint on the predicted picture …');
    this.masked = el('button.branch-word', { type: 'button', onclick: () => this.openMask() }, 'Change the mask …');
    this.thumb = el('img.branch-painted', { alt: 'What was painted' });
    this.away = el('button.branch-away', { type: 'button', 'aria-label': 'Discard what was painted', onclick: () => this.discard() }, icon(AWAY));
    this.kept = el('span.branch-kept', { hidden: true }, this.thumb, this.away);
    this.root = el('div.branch-paint', {}, this.onto, this.kept, this.masked);
  }

  fill(known) {
    this.known = known;
    this.painted = this.mask = null;
    this.masked.hidden = !known.mask;
    this.draw(this.explore.step);
  }

  /** What was painted belongs to its step: at another it is not taken along. */
  draw(step) {
    if (this.painted && this.painted.step !== step) this.painted = null;
    this.kept.hidden = !this.painted;
    if (this.painted) this.thumb.src = this.painted.url;
    this.masked.classList.toggle('set', Boolean(this.mask));
  }

  discard() {
    this.painted = null;
    this.changed();
    this.onto.focus();
  }

  async openPicture() {
    const { run, step } = this.explore;
    this.onto.disabled = true;
    const picture = this.painted ?? (await this.explore.ask('canvas', { run: run.id, step }));
    this.onto.disabled = false;
    if (picture.problem) return this.complain(picture.problem);
    const title = `What step ${step + 1} predicts`;
    const done = ({ image }) => {
      if (image.key !== picture.key) this.painted = { ...image, step, on: picture.on ?? picture.key };
    };
    return this.open('sketch', title, 'What you paint, erase or paste is encoded and noised again to this step.', { image: picture }, done);
  }

  openMask() {
    const { image, mask } = this.known;
    const done = (now) => (this.mask = now.mask);
    return this.open('mask', 'The mask', 'White is painted anew from this step on.', { image, mask: this.mask ?? mask }, done);
  }

  async open(mode, title, hint, shown, done) {
    const place = el('div.branch-easel');
    const keep = async (blob, name) => this.explore.ask('keep_painted', { path: await upload(blob, name) });
    const trouble = el('p.branch-alert', { role: 'alert', hidden: true });
    const use = el('button.branch-go', { type: 'button' }, 'Use this');
    const leave = el('button.branch-word', { type: 'button', onclick: () => dialog.close() }, 'Cancel');
    const dialog = el('dialog.branch-dialog', { 'aria-label': title }, el('h3', {}, title), el('p.branch-hint', {}, hint), place, trouble,
      el('div.branch-deeds', {}, leave, use));
    this.root.closest('.explore-panel').append(dialog);
    const painter = new Painter(place, { mode, keep, label: title });
    dialog.addEventListener('close', () => (painter.destroy(), dialog.remove(), this.changed()));
    use.addEventListener('click', async () => {
      const value = await painter.flush();
      if (value.problem) return (say(trouble, value.problem), (trouble.hidden = false));
      done(painter.shown);
      return dialog.close();
    });
    dialog.showModal();
    await painter.show(shown);
  }
}
