// The controls that a control unit is set with: a slider, a range with two ends, a choice, a switch.
// Each has a `root` and a `show(value)`, and calls `change` with what a hand chose.

import { el, say } from './dom.js';

let count = 0;

const share = (value, { low, high }) => `${(100 * (value - low)) / (high - low)}%`;
const within = (value, { low, high }) => Math.min(high, Math.max(low, value));

/** `value` on the field's steps, without the dust that floating point leaves. */
function stepped(value, { low, step }) {
  return Number((low + Math.round((value - low) / step) * step).toFixed(6));
}

/** A control's hint, shown while a hand or the focus rests on it. */
function tip(hint, ...controls) {
  const id = `unit-field-${(count += 1)}`;
  for (const control of controls) control.setAttribute('aria-describedby', id);
  return el('span.unit-tip', { id, role: 'tooltip' }, hint);
}

export function slider(field, change) {
  const { low, high, step, title, hint } = field;
  const id = `unit-field-${(count += 1)}`;
  const range = el('input', { type: 'range', min: low, max: high, step, id });
  const number = el('input.unit-number', { type: 'number', min: low, max: high, step, 'aria-label': title });
  const show = (value) => {
    range.value = value;
    range.style.setProperty('--part', share(value, field));
    if (document.activeElement !== number) number.value = value;
  };
  range.addEventListener('input', () => (show(Number(range.value)), change(Number(range.value))));
  number.addEventListener('change', () => {
    const value = number.value === '' ? field.default : within(stepped(Number(number.value), field), field);
    number.value = value;
    show(value);
    change(value);
  });
  const head = el('div.unit-line', {}, el('label', { htmlFor: id }, title), number);
  return { root: el('div.unit-field', {}, head, range, tip(hint, range, number)), show };
}

/** Two handles on one rail: `show(from, to)`, `change(from, to)`. They never meet: from stays below to. */
export function between(title, from, to, change) {
  const handle = (field) =>
    el('input', { type: 'range', min: field.low, max: field.high, step: field.step, 'aria-label': `${title}: ${field.title}` });
  const [first, last] = [handle(from), handle(to)];
  const rail = el('div.unit-rail', {}, el('i'), first, last);
  const words = el('span.unit-words');
  const show = (start, end) => {
    first.value = start;
    last.value = end;
    rail.style.setProperty('--from', share(start, from));
    rail.style.setProperty('--to', share(end, to));
    first.style.zIndex = start > (from.low + from.high) / 2 ? 2 : 1; // both at the right end: the lower one is on top
    const [a, b] = [percent(start), percent(end)];
    say(words, span(start, end) || 'all steps');
    first.setAttribute('aria-valuetext', `from ${a} of the steps on`);
    last.setAttribute('aria-valuetext', `up to ${b} of the steps`);
  };
  const moved = (event) => {
    let [start, end] = [Number(first.value), Number(last.value)];
    if (event.target === first) start = Math.min(start, stepped(end - from.step, from));
    else end = Math.max(end, stepped(start + to.step, to));
    show(start, end);
    change(start, end);
  };
  rail.addEventListener('input', moved);
  const head = el('div.unit-line', {}, el('span', {}, title), words);
  const hints = tip(`${from.title}: ${from.hint} ${to.title}: ${to.hint}`, first, last);
  return { root: el('div.unit-field', { role: 'group', 'aria-label': title }, head, rail, hints), show };
}

/** A part of the run in few words; '' for all of it. */
export function span(start, end) {
  const [a, b] = [percent(start), percent(end)];
  if (start <= 0) return end >= 1 ? '' : `up to ${b}`;
  return end >= 1 ? `from ${a} on` : `${a.slice(0, -1)}–${b}`;
}

function percent(value) {
  return `${Math.round(100 * value)}%`;
}

/**
 * A list to choose from: `show(value, groups)`, where groups: [{title, options: [{value, title, why}]}];
 * an option with a `why` cannot be chosen, and says so. A group without a title stands by itself.
 */
export function choice(title, hint, change) {
  const id = `unit-field-${(count += 1)}`;
  const list = el('select', { id });
  let drawn = '';
  list.addEventListener('change', () => change(list.value));
  const show = (value, groups) => {
    const text = JSON.stringify(groups);
    if (text !== drawn) {
      drawn = text;
      list.replaceChildren(...groups.flatMap(group));
    }
    list.value = value;
    const chosen = list.selectedOptions[0];
    list.title = chosen?.textContent ?? ''; // a long name is cut off in its box
  };
  const about = el('p.unit-about');
  return { root: el('div.unit-field', {}, el('label', { htmlFor: id }, title), list, about, tip(hint, list)), list, about, show };
}

function group({ title, options }) {
  const made = options.map((option) => {
    const words = option.why ? `${option.title} (${option.why.replace(/\.$/, '')})` : option.title;
    return el('option', { value: option.value, disabled: Boolean(option.why) }, words);
  });
  return title ? [el('optgroup', { label: title }, ...made)] : made;
}

/** On or off: `show(on, label)`. */
export function toggle(change) {
  const root = el('button.unit-switch', { type: 'button', role: 'switch' }, el('i'));
  root.onclick = () => change(root.getAttribute('aria-checked') !== 'true');
  const show = (on, label) => {
    root.setAttribute('aria-checked', String(on));
    root.setAttribute('aria-label', label);
    root.title = on ? 'On: switch it off' : 'Off: switch it on';
  };
  return { root, show };
}

/** A few choices side by side: `choices`: [{value, title, icon}]. Arrow keys go from one to the next. */
export function picks(label, choices, change) {
  const name = `unit-pick-${(count += 1)}`;
  const inputs = choices.map(({ value }) => el('input', { type: 'radio', name, value, onchange: () => change(value) }));
  const faces = choices.map((one, at) => el('label.unit-pick', {}, inputs[at], one.icon, el('span', {}, one.title)));
  const root = el('div.unit-picks', { role: 'radiogroup', 'aria-label': label }, ...faces);
  const show = (value) => inputs.forEach((input) => (input.checked = input.value === value));
  return { root, show };
}
