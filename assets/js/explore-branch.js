// Branch: at the step that is looked at something is changed, and the run goes on from there differently.
// The form holds what the open run was asked with; what differs from that is what a branch is asked for.

import { Curve } from './curve.js';
import { el, heard, say, tell } from './dom.js';
import { Leave } from './explore-branch-leave.js';
import { Paint } from './explore-branch-paint.js';
import { Things } from './explore-branch-things.js';
import { kind } from './guidance.js';

const SAME = 'Nothing is changed yet: the branch would come to the same picture, bit for bit.';
const OTHERS = (step) => `Nothing is changed yet. The steps before step ${step + 1} were taken with the settings of the run above it; from here on they would be computed with those of this one.`;
const ENDED = { finished: 'The branch is finished.', failed: 'The branch failed.', cancelled: 'The branch was stopped.' };

export function mount(host, explore) {
  return new Branch(host, explore);
}

class Branch {
  constructor(host, explore) {
    Object.assign(this, { host, explore });
    this.known = null; // what the server told of the open run
    this.followed = null; // { job, run, compare } of the branch that develops
    this.build();
    explore.on('run', () => this.load());
    explore.on('film', () => this.draw());
    explore.on('step', () => this.draw());
    heard('progress', (job) => this.follow(job));
    this.load();
  }

  build() {
    const changed = () => this.draw();
    this.title = el('h3.branch-title');
    this.hint = el('p.branch-hint');
    this.prompt = el('textarea.branch-text', { rows: 2, maxLength: 20000, oninput: changed, 'aria-label': 'Prompt of the branch' });
    this.guidance = el('input.branch-number', { type: 'number', step: 0.5, oninput: changed, 'aria-label': 'Guidance of the branch' });
    this.go = el('button.branch-go', { type: 'button', onclick: () => this.branch() }, 'Branch here');
    this.alert = el('p.branch-alert', { role: 'alert', hidden: true });
    this.negative = el('textarea.branch-text', { rows: 1, maxLength: 20000, oninput: changed, 'aria-label': 'Leave out (negative prompt) of the branch' });
    this.noise = el('input.branch-number', { type: 'number', min: 0, max: 4294967294, step: 1, placeholder: 'goes on', oninput: changed, 'aria-label': 'Seed of the remaining noise' });
    this.things = new Things(changed);
    this.curve = new Curve(() => changed());
    this.paint = new Paint(this.explore, changed, (sentence) => this.complain(sentence));
    this.leave = new Leave((what, index) => this.without(what, index));
    this.more = fold('More to change', labelled('Leave out (negative prompt)', this.negative), this.curve.root, this.things.root,
      el('div.branch-pair', {}, labelled('Seed of the remaining noise', this.noise), this.paint.root));
    this.locked = el('dl.branch-locked');
    this.bar = el('div.bar', { hidden: true, role: 'progressbar', 'aria-label': 'Progress of the branch', 'aria-valuemin': 0 }, el('i'));
    this.progress = el('p.branch-progress', { role: 'status' });
    this.stop = el('button.branch-word', { type: 'button', hidden: true, onclick: () => tell('stop', { keep: false }) }, 'Stop');
    const line = el('div.branch-line', {}, labelled('Prompt', this.prompt, 'wide'), labelled('Guidance', this.guidance), this.go);
    this.body = el('div.branch-body', {}, line, this.alert, this.more.root,
      (this.why = fold('What did this do?', this.leave.root)).root, (this.stays = fold('What stays as it is', this.locked)).root);
    this.host.append(this.title, this.hint, this.body,
      el('div.branch-going', {}, this.progress, this.stop), this.bar);
    this.host.setAttribute('aria-label', 'Branch');
    // Ctrl+Enter is the page's word for Generate; here it is the branch's.
    this.host.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) event.preventDefault(), this.branch();
    });
  }

  // What the open run was asked with

  async load() {
    const { run } = this.explore;
    this.host.hidden = !run;
    if (!run) return (this.known = null);
    if (this.known?.run === run.id) return this.draw();
    this.known = null;
    this.draw();
    const known = await this.explore.ask('branching', { run: run.id });
    if (this.explore.run?.id !== run.id) return undefined;
    if (known.problem) return this.complain(known.problem);
    this.known = known;
    return this.fill();
  }

  fill() {
    const { values, fields, locked, titles, loras, words } = this.known;
    const { low, high, step } = fields.guidance_scale;
    this.prompt.value = values.prompt;
    this.negative.value = values.negative_prompt;
    Object.assign(this.guidance, { min: low, max: high, step, value: values.guidance_scale });
    this.noise.value = '';
    this.showCurve(values.guidance_points ?? []);
    this.things.fill({ values, fields, titles, loras });
    this.paint.fill(this.known);
    this.leave.fill({ prompt: values.prompt, words, loras: values.loras, controls: values.controls, titles });
    this.locked.replaceChildren(...locked.flatMap(({ title, value, why }) => [el('dt', {}, title), el('dd', {}, el('b', {}, value), ` ${why}`)]));
    say(this.stays.word, `${locked.slice(0, 2).map(({ value }) => value).join(', ')} …`);
    this.complain('');
    this.draw();
  }

  /** The line of the whole run; what it says of the steps before is taken over with them. */
  showCurve(points) {
    const { fields, values } = this.known;
    this.curve.root.hidden = !fields.guidance_points;
    this.guidance.disabled = points.length > 0;
    const level = this.guidance.value === '' ? values.guidance_scale : Number(this.guidance.value);
    this.curve.show(points, { ...kind(fields.guidance_scale, level, points), title: 'Guidance over the steps' });
  }

  /** What differs from the run: fields of the request by name. */
  changes() {
    const { values } = this.known;
    const now = {
      prompt: this.prompt.value,
      negative_prompt: this.negative.value,
      guidance_scale: this.guidance.value === '' ? values.guidance_scale : Number(this.guidance.value),
      guidance_points: this.curve.points,
      ...this.things.value,
      mask_image: this.paint.mask?.key ?? values.mask_image,
    };
    return Object.fromEntries(Object.entries(now).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(values[name])));
  }

  get asked() {
    const asked = { changes: this.changes() };
    if (this.noise.value !== '') asked.noise_seed = Number(this.noise.value);
    if (this.paint.painted) Object.assign(asked, { painted: this.paint.painted.key, painted_on: this.paint.painted.on });
    return asked;
  }

  // What a hand asks for

  async branch() {
    if (!this.known || this.going) return;
    const { run, step } = this.explore;
    await this.submitted(this.explore.ask('branch', { run: run.id, step, ...this.asked }), false);
  }

  /** The run once more without one thing; both are compared once it is finished. */
  async without(what, index) {
    if (!this.known || this.going) return;
    await this.submitted(this.explore.ask('leave_out', { run: this.explore.run.id, what, index }), true);
  }

  async submitted(asking, compare) {
    const parent = this.explore.run.id;
    this.going = true;
    this.complain('');
    say(this.progress, '');
    this.draw();
    const answer = await asking;
    this.going = false;
    this.draw();
    if (answer.problem) return this.complain(answer.problem);
    this.followed = { job: answer.job, run: answer.run, parent, compare };
    say(this.progress, 'The branch waits for its turn.');
    tell('jobs', [answer.job]); // the stage follows it, as every run of this page
    this.explore.emit('runs');
    return undefined;
  }

  /** How far the branch is: told by the stage, which hears of every run. */
  follow(job) {
    const { followed } = this;
    if (job.id !== followed?.job) return;
    const share = job.done ? Number(job.state === 'finished') : Math.min(1, job.steps / Math.max(1, job.total));
    this.bar.hidden = job.done;
    this.bar.firstChild.style.transform = `scaleX(${share})`;
    this.bar.setAttribute('aria-valuenow', Math.round(100 * share));
    this.stop.hidden = job.done;
    const waiting = ['queued', 'loading', 'paused'].includes(job.state) ? job.text : `The branch develops: step ${job.steps} of ${job.total}.`;
    if (!job.done) {
      say(this.progress, waiting);
      return;
    }
    this.followed = null;
    say(this.progress, job.state === 'failed' ? '' : ENDED[job.state]);
    if (job.state === 'failed') this.complain(job.text);
    this.explore.emit('runs');
    if (job.state === 'finished') this.explore.emit('branched', followed);
  }

  complain(sentence) {
    say(this.alert, sentence);
    this.alert.hidden = !sentence;
  }

  // Drawing

  draw() {
    const { run, film, step } = this.explore;
    if (!run) return;
    const total = run.total || film?.steps.length || 0;
    say(this.title, `From step ${step + 1}${total ? ` of ${total}` : ''} on`);
    const changed = this.known ? Object.keys(this.asked.changes).length > 0 || this.noise.value !== '' || this.paint.painted : false;
    const taken = step ? `${steps(step)} taken over` : '';
    const same = run.parent && step < run.parent_step ? OTHERS(run.parent_step) : SAME;
    say(this.hint, this.known && !changed ? same : `${[taken, `${steps(total - step)} computed anew`].filter(Boolean).join(', ')}.`);
    this.go.disabled = !this.known || this.going || !film?.steps.length;
    this.paint.draw(step);
    if (this.known) this.showCurve(this.curve.points);
    say(this.more.word, this.known ? this.words() : '');
  }

  /** What is set inside the fold. */
  words() {
    const { changes, noise_seed: noise, painted } = this.asked;
    return [
      'negative_prompt' in changes ? 'leave out' : '',
      'guidance_points' in changes ? 'guidance curve' : '',
      'loras' in changes ? 'LoRAs' : '',
      'controls' in changes ? 'control' : '',
      noise !== undefined ? 'noise' : '',
      'mask_image' in changes ? 'mask' : '',
      painted ? 'painted on' : '',
    ].filter(Boolean).join(', ') || 'leave out, guidance curve, LoRAs, control, noise, paint';
  }
}

const steps = (count) => `${count} ${count === 1 ? 'step is' : 'steps are'}`;

function labelled(title, input, kind = '') {
  return el(`label.branch-label${kind ? `.${kind}` : ''}`, {}, el('span', {}, title), input);
}

/** A folded part with a word on what is inside. */
function fold(title, ...content) {
  const word = el('span.branch-inside');
  return { word, root: el('details.branch-fold', {}, el('summary', {}, el('span', {}, title), word), el('div.branch-inner', {}, ...content)) };
}
