// The pose editor's keys. They are heard before the page's own, which would stop a run or step through a film.

import { JOINTS, NECK, bounds, copy, scale, turn } from './pose-figure.js';
import { isNear, moveJoint } from './pose-hand.js';

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ALL = JOINTS.map((_, joint) => joint);

/** A key that was pressed anywhere on the page; what the editor makes use of goes no further. */
export function press(editor, event) {
  const deed = deedOf(editor, event);
  if (!deed) return;
  event.preventDefault();
  event.stopPropagation();
  deed();
}

function deedOf(editor, event) {
  const { key, shiftKey, target } = event;
  if (editor.hand.drag && key === 'Escape') return () => editor.hand.cancel();
  if (!editor.root.contains(target) || editor.hand.drag) return null;
  const letter = key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (letter === 'y' || (letter === 'z' && shiftKey)) return () => editor.redo();
    return letter === 'z' ? () => editor.undo() : null;
  }
  if (event.altKey || target.closest('input')) return null;
  const found = editor.view.find(target);
  const here = found ?? (target === editor.view.svg ? { figure: editor.chosen, joint: editor.joint } : null);
  if (letter === 'm') return () => editor.flip();
  if (letter === 'n') return () => editor.add();
  if (here && (key === 'Delete' || key === 'Backspace')) return () => editor.remove();
  if (here && letter === 'h') return () => editor.toggle(here.figure, here.joint);
  return found && changeOf(editor, found, key, shiftKey);
}

/** What a key does to the joint that has the focus, or to its figure. */
function changeOf(editor, { figure: index, joint }, key, large) {
  const start = editor.figures[index];
  const figure = copy(start);
  const { left, right, top, bottom } = bounds(start);
  const middle = [(left + right) / 2, (top + bottom) / 2];
  if (key in ARROWS) {
    const [dx, dy] = ARROWS[key].map((way) => way * (large ? 10 : 1));
    moveJoint(figure, start, joint, [start.at[joint][0] + dx, start.at[joint][1] + dy], editor.keep && joint !== NECK);
  } else if (key === '+' || key === '=') scale(figure, start, middle, 1.02);
  else if (key === '-') scale(figure, start, middle, 1 / 1.02);
  else if (key === '[' || key === ']') turn(figure, start, ALL, middle, ((key === '[' ? -1 : 1) * Math.PI) / 90);
  else return null;
  return () => isNear(figure, editor.view) && editor.nudge(index, joint, figure);
}
