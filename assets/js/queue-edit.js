// A waiting job whose settings are in the form: what Generate sends takes its place, until that is called off.

import { el, heard } from './dom.js';

export class Editing {
  /** settled: called with the job once it is no longer edited, and whether it is to go on as it was. */
  constructor(props, settled) {
    Object.assign(this, { props, settled, job: null });
    const leave = el('button.queue-word', { type: 'button', onclick: () => this.end(true) }, 'Leave it as it was');
    this.note = el('p.queue-editing', { role: 'status' }, 'These are the settings of a job that waits: Generate puts them in its place. ', leave);
    heard('replaced', (job) => job === this.job && this.end(false));
    heard('problems', ({ editing }) => editing && this.end(false)); // it has begun meanwhile
  }

  begin({ job }, held) {
    if (this.job && this.job !== job) this.end(true);
    this.job = job;
    this.held = held;
    this.props.value = { editing: job };
    document.getElementById('actions')?.after(this.note);
    document.querySelector('#ask-prompt textarea')?.focus();
  }

  end(back) {
    const { job, held } = this;
    if (!job) return;
    this.job = null;
    this.props.value = {};
    this.note.remove();
    this.settled(job, back && held);
  }
}
