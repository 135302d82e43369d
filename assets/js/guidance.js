// Guidance over the steps: a curve that takes the place of the slider's one value.

import { Curve } from './curve.js';
import { el, heard, say } from './dom.js';

const TOP = 12; // the guidance at the sheet's upper edge, unless more is asked for
const REST = 150; // milliseconds until changes that follow each other closely are told

/** How guidance is drawn at a level of the slider. */
export function kind({ low, high, step }, level, points) {
  const top = Math.max(TOP, level, ...points.map(([, value]) => value));
  return { title: 'Curve', label: 'Guidance over the steps', low, high, top, step, off: low, level, text: (value) => `Guidance ${value}` };
}

export function mount({ root, props, trigger }) {
  let value = { points: [], low: 1, high: 30, step: 0.5 };
  let level = Number(document.querySelector('#ask-guidance_scale input')?.value) || 7; // what the slider says
  let resting = null;
  const curve = new Curve((points) => changed(points));
  const hint = el('p.guidance-hint');
  root.className = 'guidance-curve';
  root.append(curve.root, hint);

  const changed = (points) => {
    value = { ...value, points: points.map((point) => [...point]) };
    props.value = value;
    draw();
    clearTimeout(resting);
    resting = setTimeout(() => root.isConnected && trigger('changed'), REST);
  };

  const draw = () => {
    document.getElementById('ask-guidance_scale')?.classList.toggle('overruled', value.points.length > 0);
    curve.show(value.points, kind(value, level, value.points));
    say(hint, value.points.length
      ? 'The curve counts, from the first step on the left to the last on the right; the slider does not.'
      : `${level} at every step. Click on the sheet to draw a curve; 1 switches guidance off.`);
  };

  heard('level', (now) => root.isConnected && ((level = now), draw()));

  /** A value, or a part of one: what it does not name stays as it is. */
  const show = (told) => {
    if (told && typeof told === 'object') {
      value = { ...value, ...Object.fromEntries(Object.entries(told).filter(([, one]) => one !== null)) };
      if (JSON.stringify(told) !== JSON.stringify(value)) props.value = value;
    }
    draw();
  };
  return { show };
}
