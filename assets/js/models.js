// The Models tab: its two views, and what they share: the server, what it tells, and sentences to the person.

import { el, heard, say, tell } from './dom.js';
import { Feed } from './models-feed.js';
import { Fetch } from './models-fetch.js';
import { Shelf } from './models-shelf.js';
import { ask, upload } from './upload.js';
import './words.js';

const VIEWS = { shelf: 'On this computer', fetch: 'Fetch' };
const SHOWN = 6000; // milliseconds that a sentence stays in sight

const parts = new Map(); // element id -> the part that is in the page under it

heard('models-view', (view) => parts.forEach((part) => part.root.isConnected && part.turn(view)));

// Before the page: there Escape stops a run and arrows turn frames.
addEventListener('keydown', (event) => {
  for (const part of parts.values()) {
    if (!part.root.isConnected || !part.seen || event.defaultPrevented || !part.key(event)) continue;
    event.preventDefault();
    event.stopImmediatePropagation();
  }
}, true);

export function mount(part) {
  const models = new Models(part);
  parts.get(models.id)?.feed?.close();
  parts.set(models.id, models);
  return models;
}

class Models {
  constructor({ root, props, trigger, server }) {
    Object.assign(this, { root, props, trigger, server });
    this.host = root.closest('.block') ?? root;
    this.id = this.host.id;
    this.build();
    this.library = props.listed; // the edition of which the page's lists are
    this.feed = new Feed(props.feed, (told) => (tell('news', told), this.hear(told))); // the page's one stream
    // The shelf is asked for when it is first seen; the tab may be turned without any event of ours.
    this.sight = new IntersectionObserver((entries) => this.see(entries.at(-1).isIntersecting));
    this.sight.observe(root);
  }

  build() {
    const told = (sentence, bad) => this.say(sentence, bad);
    const asks = (name, asked, file) => this.ask(name, asked, file);
    this.shelf = new Shelf({ ask: asks, told, trigger: this.trigger });
    this.fetch = new Fetch({ ask: asks, told, show: (state) => this.reveal(state), count: (count) => this.count(count) });
    this.buttons = new Map();
    const bar = el('div.models-views', { role: 'tablist', 'aria-label': 'Models' });
    for (const [view, title] of Object.entries(VIEWS)) {
      const number = el('span.models-number');
      const button = el('button.models-view', { type: 'button', role: 'tab', id: `${this.id}-${view}`, onclick: () => this.turn(view) }, title, number);
      this.buttons.set(view, button);
      const panel = this[view].root;
      panel.setAttribute('role', 'tabpanel');
      panel.setAttribute('aria-labelledby', button.id);
      bar.append(button);
    }
    bar.addEventListener('keydown', (event) => this.step(event));
    this.toast = el('p.models-told', { role: 'status' });
    this.alarm = el('p.models-told.bad', { role: 'alert' });
    this.root.className = 'models-panel';
    this.root.append(el('div.models-top', {}, el('h2', {}, 'Models'), bar), this.shelf.root, this.fetch.root, this.toast, this.alarm);
    this.turn('shelf');
  }

  // What comes from the server

  /** {model: key of the one that is chosen}. */
  show(value) {
    if (!value) return;
    if ('model' in value && value.model !== this.model) {
      this.model = value.model;
      this.shelf.choose(value.model);
      this.stale = true;
      this.refresh();
    }
  }

  hear({ library, fetches }) {
    if (library !== undefined && library !== this.library) {
      this.library = library;
      if (library !== this.edition) this.stale = true; // else the shelf was asked for after that change
      this.known = false;
      this.refresh();
      this.trigger('listed');
    }
    if (fetches) this.fetch.progress(fetches);
  }

  see(seen) {
    this.seen = seen;
    this.refresh();
  }

  /** Asks for what is not known yet or has changed, once it is in sight. */
  async refresh() {
    if (!this.seen || this.asking) return;
    this.asking = true;
    try {
      if (this.view === 'shelf' && this.stale !== false) {
        this.stale = false;
        const answer = await this.ask('shelf', { model: this.model ?? '' });
        if (answer.problem) this.stale = true;
        this.edition = answer.edition;
        this.shelf.take(answer);
        this.root.dataset.ready = 'shelf';
      } else if (this.view === 'fetch' && !this.known) {
        this.known = true;
        const answer = await this.ask('catalogue', {});
        if (answer.problem) this.known = false;
        this.fetch.take(answer);
      } else return;
    } finally {
      this.asking = false;
    }
    if ((this.view === 'shelf' && this.stale !== false && !this.shelf.problem) || (this.view === 'fetch' && !this.known && !this.fetch.problem)) this.refresh();
  }

  /** A question to the server; a file goes along by Gradio's own upload. {problem} where nothing came of it. */
  async ask(name, asked, file) {
    if (!file) return ask(this.server[name], asked);
    try {
      return ask(this.server[name], { ...asked, path: await upload(file, file.name || 'picture.png') });
    } catch (fault) {
      return { problem: fault.status === 413 ? 'The file is too large to be sent.' : 'The picture did not arrive: try it once more.' };
    }
  }

  // The views

  turn(view) {
    if (!(view in VIEWS)) return;
    this.view = view;
    for (const [one, button] of this.buttons) {
      button.setAttribute('aria-selected', String(one === view));
      button.tabIndex = one === view ? 0 : -1;
      this[one].root.hidden = one !== view;
    }
    this.refresh();
  }

  step(event) {
    const to = { ArrowLeft: 'shelf', ArrowRight: 'fetch', Home: 'shelf', End: 'fetch' }[event.key];
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    this.turn(to);
    this.buttons.get(to).focus();
  }

  /** Where a fetched file now lies. */
  reveal({ title }) {
    this.turn('shelf');
    this.shelf.search.value = '';
    this.shelf.sort = '';
    this.shelf.find(title);
  }

  count(running) {
    say(this.buttons.get('fetch').lastChild, running ? String(running) : '');
    this.buttons.get('fetch').title = running ? `${running} under way` : '';
  }

  /** A sentence in sight for a while, and read aloud. */
  say(sentence, bad = false) {
    const [one, other] = bad ? [this.alarm, this.toast] : [this.toast, this.alarm];
    say(other, '');
    say(one, sentence);
    clearTimeout(this.fading);
    this.fading = setTimeout(() => [this.toast, this.alarm].forEach((part) => say(part, '')), bad ? 2 * SHOWN : SHOWN);
  }

  key(event) {
    const { key, target } = event;
    if (document.querySelector('dialog[open]') && !this.shelf.details.dialog.open) return false;
    if (key === '/' && !target.closest?.('input, textarea, select') && !event.ctrlKey && !event.metaKey) {
      const { search } = this[this.view];
      search.focus();
      search.select();
      return true;
    }
    return this.view === 'shelf' && this.shelf.key(event);
  }
}
