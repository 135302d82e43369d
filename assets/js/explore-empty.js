// What the tab says while nothing has been recorded: what it is for, and a first run to look into.

import { el } from './dom.js';
import { opener } from './explore-share.js';

const THINGS = [
  ['Scrub', 'Every step of a run is kept. Move through them like through film, and see the picture come out of the noise.'],
  ['Look inside', 'Beside the picture: what the model takes for noise, what a step changed, where your words pull.'],
  ['Go on from there', 'Stop at any step, change the prompt, and let it develop another way.'],
];

const NOTE = 'The embedded model needs a second or two. Or paint anything in the other tabs: it is recorded, and waits for you here.';

export function mount(host, explore) {
  const button = el('button.explore-begin', { type: 'button' }, 'Paint a first run');
  button.onclick = async () => {
    button.disabled = true;
    button.textContent = 'It begins…';
    await explore.begin();
    button.disabled = false;
    button.textContent = 'Paint a first run';
  };
  const note = el('p', {}, NOTE);
  host.hidden = true;
  host.append(
    el('h2', {}, 'Open a run and look inside'),
    el('ul', {}, ...THINGS.map(([title, text]) => el('li', {}, el('h3', {}, title), el('p', {}, text)))),
    el('div.explore-offer', {}, el('div.explore-offers', {}, button, el('button.run-lessons', { type: 'button', onclick: () => explore.emit('lessons') }, 'Take a lesson')), note, opener(explore, 'Open a film that was shared with you …')),
  );
  explore.on('listed', (runs) => (host.hidden = runs.length > 0 || Boolean(explore.film)));
  explore.on('off', (sentence) => (note.textContent = sentence));
  explore.on('film', () => (host.hidden = true));
}
