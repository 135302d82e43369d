// The words of the gallery: what tasks are called, dates and numbers as people say them.

export { counted, plain, size } from './models-words.js';

const TASKS = { text2image: 'Text', image2image: 'Image', inpaint: 'Inpaint', imported: 'Imported' };
const DAY = { weekday: 'short', day: 'numeric', month: 'long', year: 'numeric' };
const SHORT = { day: 'numeric', month: 'short', year: 'numeric' };

export const taskOf = (task) => TASKS[task] ?? (task ? task[0].toUpperCase() + task.slice(1) : '');

export const dayOf = (entry) => (entry?.date ?? '').slice(0, 10);

/** "Sat, 28 November 2026", with today and yesterday by their names. */
export function day(iso, form = DAY) {
  if (!iso) return '';
  const date = new Date(`${iso.slice(0, 10)}T12:00`);
  const today = new Date().setHours(12, 0, 0, 0);
  const ago = Math.round((today - date) / 86400000);
  if (ago === 0) return 'Today';
  if (ago === 1) return 'Yesterday';
  return date.toLocaleDateString('en-GB', form);
}

export const shortDay = (iso) => day(iso, SHORT);

/** "2026-11" as "November 2026". */
export const month = (name) => new Date(`${name}-15T12:00`).toLocaleDateString('en-GB', { month: 'long', year: 'numeric' });

/** The first and the last day of "2026-11". */
export function monthRange(name) {
  const [year, count] = name.split('-').map(Number);
  return [`${name}-01`, `${name}-${String(new Date(year, count, 0).getDate()).padStart(2, '0')}`];
}

/** The day so many days before today, as the server takes it. */
export function daysAgo(count) {
  const date = new Date();
  date.setDate(date.getDate() - count);
  return [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((part) => String(part).padStart(2, '0')).join('-');
}

export function moment(iso) {
  if (!iso) return '';
  return `${shortDay(iso)}, ${iso.slice(11, 16)}`;
}

/** What a picture is called where it cannot be seen. */
export function label(entry) {
  const words = entry.prompt || entry.name || 'Without words';
  return [words.slice(0, 160), taskOf(entry.task), moment(entry.date), entry.star ? 'starred' : ''].filter(Boolean).join(', ');
}

export const picturesOf = (count) => `${count.toLocaleString('en')} ${count === 1 ? 'picture' : 'pictures'}`;
