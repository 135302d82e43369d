// Beside the stage: the session's pictures, newest first, and prompts to try.

import { el, say } from './dom.js';

export class Session {
  constructor({ choose }) {
    this.choose = choose;
    this.tiles = new Map();
    this.grid = el('ul.tiles');
    this.none = el('p.none', {}, 'Finished pictures gather here.');
    this.tries = el('div.chips');
    this.tryBox = el('section.try', { hidden: true }, el('h2', {}, 'Try'), this.tries);
    const session = el('section.session', {}, el('h2', {}, 'This session'), this.none, this.grid);
    this.root = el('aside.side', { 'aria-label': 'This session' }, session, this.tryBox);
  }

  invite(chips) {
    this.tries.replaceChildren(...chips);
  }

  paint(jobs, shown, picture) {
    this.tryBox.hidden = !shown || !this.tries.children.length; // the empty stage shows them itself
    const wanted = jobs.list.flatMap((job) => places(job)).reverse();
    this.none.hidden = wanted.length > 0;
    const keys = new Set(wanted.map((place) => place.key));
    for (const [key, tile] of this.tiles) {
      if (keys.has(key)) continue;
      tile.remove();
      this.tiles.delete(key);
    }
    wanted.forEach((place, index) => {
      const tile = this.tiles.get(place.key) ?? this.add(place);
      if (this.grid.children[index] !== tile) this.grid.insertBefore(tile, this.grid.children[index] ?? null);
      this.fill(tile, place, place.job === shown && place.picture === picture);
    });
  }

  add(place) {
    const button = el('button.tile', { type: 'button', onclick: () => this.choose(place.job, place.picture) });
    button.append(el('img', { alt: '', draggable: false }), el('span'));
    const tile = el('li', {}, button);
    this.tiles.set(place.key, tile);
    return tile;
  }

  fill(tile, { job, picture, url, seed, word }, current) {
    const drawn = [url, word, current].join();
    if (tile.dataset.drawn === drawn) return;
    tile.dataset.drawn = drawn;
    const button = tile.firstChild;
    const [image, label] = button.children;
    image.hidden = !url;
    if (url && image.getAttribute('src') !== url) image.src = url;
    image.alt = url ? `${job.request.prompt.slice(0, 120)}, ${seed === undefined ? 'developing' : `seed ${seed}`}` : '';
    say(label, word);
    label.hidden = !word;
    button.title = job.request.prompt.slice(0, 300);
    button.classList.toggle('developing', Boolean(word));
    button.setAttribute('aria-pressed', String(current));
  }
}

/** A job's tiles: its finished pictures, and one for what develops or waits. */
function places(job) {
  const kept = job.pictures.flatMap((one, picture) =>
    one ? [{ key: `${job.id}/${picture}`, job, picture, url: one.thumb || one.url, seed: one.seed, word: '' }] : [],
  );
  if (job.done) return kept;
  const picture = job.begun && !job.pictures[job.begun - 1] ? job.begun - 1 : kept.length;
  const url = job.films[picture]?.at(-1)?.url;
  const word = job.state === 'paused' ? 'paused' : url ? 'develops' : job.state === 'loading' ? 'engine starts' : 'waits';
  // The same key as the finished picture's, so that the tile stays where it is.
  return [...kept, { key: `${job.id}/${picture}`, job, picture, url, word }];
}
