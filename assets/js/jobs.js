// What the page knows of its session's jobs: each one's story, taken in from the server's messages.

import { objectUrl } from './dom.js';

const ENDINGS = new Set(['finished', 'failed', 'cancelled']);
const FILMS_KEPT = 24;

export class Job {
  constructor(id, request, tab) {
    this.id = id;
    this.request = request;
    this.tab = tab; // the one in which a run like this is asked for
    this.restart();
  }

  restart() {
    this.seen = 0; // events taken in
    this.films = []; // by picture: frames { step, total, url, seed }
    this.pictures = []; // by picture: what is on disk
    this.state = 'queued';
    this.text = '';
    this.seconds = 0;
    this.steps = 0; // step events so far, of all pictures
    this.total = this.request.steps_run; // of one picture; the engine's own figure follows
    this.abridged = false; // its steps have not been sent
    this.notes = [];
  }

  get done() {
    return ENDINGS.has(this.state);
  }

  get count() {
    return this.request.num_images_per_prompt * this.request.batch_count;
  }

  /** Frames of a picture: its steps, then the finished picture. */
  frames(picture) {
    const kept = this.pictures[picture];
    const film = this.films[picture] ?? [];
    return kept ? [...film, { ...kept, final: true }] : film;
  }

  /** Pictures that have something to show. */
  get begun() {
    return Math.max(this.films.length, this.pictures.length);
  }

  take(event) {
    if (event.kind === 'queued') {
      this.state = 'queued';
      this.text = event.ahead ? `Waiting: ${event.ahead} before it.` : 'Starting…';
    } else if (event.kind === 'loading') {
      this.state = 'loading';
      this.text = event.message;
    } else if (event.kind === 'step') {
      this.state = 'running';
      this.total = event.total;
      this.steps += 1;
      this.seconds = event.seconds;
      const film = (this.films[event.picture] ??= []);
      if (event.step <= film.length) film.length = event.step - 1; // taken up anew after the engine's death
      film.push({
        step: event.step,
        total: event.total,
        seed: event.seed,
        url: objectUrl(event.image) || film.at(-1)?.url || '',
      });
    } else if (event.kind === 'paused') {
      this.state = 'paused';
      this.text = event.step ? `Paused after step ${event.step} of ${event.total}.` : 'Paused before its first step.';
    } else if (event.kind === 'picture') {
      this.pictures[event.picture] = { ...event, thumb: objectUrl(event.image), image: undefined };
    } else {
      this.state = event.kind;
      this.text = event.message ?? '';
      this.stopped = event.stopped ?? false;
      this.notes = event.notes ?? [];
      this.problems = event.problems ?? {};
      if (event.seconds) this.seconds = event.seconds;
    }
  }

  forgetFilm() {
    for (const film of this.films) for (const frame of film ?? []) URL.revokeObjectURL(frame.url);
    this.films = [];
    this.abridged = true;
  }
}

export class Jobs {
  /** story: asks the server for a job's story from an event on. changed: called when something came in late. */
  constructor(story, changed) {
    this.story = story;
    this.changed = changed;
    this.list = [];
    this.asking = new Set();
  }

  find(id) {
    return this.list.find((job) => job.id === id);
  }

  /** Those that have not ended, first the one that runs: a hand may have changed the order. */
  get running() {
    const begun = (job) => job.state === 'running' || job.state === 'loading';
    return this.list.filter((job) => !job.done).sort((one, other) => begun(other) - begun(one));
  }

  /** Those that run or wait for their turn. */
  get active() {
    return this.running.filter((job) => job.state !== 'paused');
  }

  /** Takes a message in; returns the jobs that are new. */
  take(message) {
    const fresh = [];
    for (const chapter of message.jobs ?? []) {
      let job = this.find(chapter.id);
      if (!job) {
        job = new Job(chapter.id, chapter.request, chapter.tab);
        this.list.push(job);
        fresh.push(job);
      }
      this.continue(job, chapter);
    }
    for (const id of message.forgotten ?? []) this.list = this.list.filter((job) => job.id !== id);
    this.trim();
    return fresh;
  }

  continue(job, chapter) {
    job.request = chapter.request; // one that waits may be changed
    if (chapter.abridged) {
      if (job.seen) return;
      job.abridged = true;
    } else if (job.abridged) {
      if (chapter.from > 0) return;
      job.restart();
    }
    if (chapter.from > job.seen) return this.ask(job);
    for (const event of chapter.events.slice(job.seen - chapter.from)) {
      job.take(event);
      job.seen += 1;
    }
  }

  /** Asks for what is missing of a job: a gap, or the film of one that ended long ago. */
  async ask(job) {
    if (this.asking.has(job.id)) return;
    this.asking.add(job.id);
    try {
      const from = job.abridged ? 0 : job.seen;
      this.take(await this.story({ job: job.id, from }));
    } finally {
      this.asking.delete(job.id);
    }
    this.changed();
  }

  trim() {
    const films = this.list.filter((job) => job.done && !job.abridged);
    for (const job of films.slice(0, Math.max(0, films.length - FILMS_KEPT))) job.forgetFilm();
  }
}

const KEY = 'darkroom.session';
const REMEMBERED = 40;

/** The session's job ids, kept by the browser, so that a page that comes back finds them. */
export const memory = {
  read() {
    try {
      const ids = JSON.parse(localStorage.getItem(KEY) ?? '[]');
      return Array.isArray(ids) ? ids.filter((id) => typeof id === 'string') : [];
    } catch {
      return []; // someone else's value, or none allowed
    }
  },
  write(ids) {
    try {
      localStorage.setItem(KEY, JSON.stringify(ids.slice(-REMEMBERED)));
    } catch {
      // A browser that keeps nothing: the session lasts as long as the page.
    }
  },
  add(id) {
    const ids = this.read();
    if (!ids.includes(id)) this.write([...ids, id]);
  },
  drop(gone) {
    this.write(this.read().filter((id) => !gone.includes(id)));
  },
};
