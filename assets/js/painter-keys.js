// What each key does in the painter.

const TOOLS = { b: 'brush', e: 'eraser', l: 'line', s: 'lasso', r: 'rectangle', g: 'fill' };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SIZES = { '[': -1, ']': 1 };
const EDGES = { '{': -0.1, '}': 0.1 };

/** Does what a pressed key says; returns whether it was one of the painter's. */
export function heardKey(hand, event) {
  const { painter, view } = hand;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (event.altKey) return false;
    if (key === 'z') return event.shiftKey ? painter.redo() : painter.undo(), true;
    if (key === 'y') return painter.redo(), true;
    return false;
  }
  if (event.altKey || !painter.picture) return false;
  if (key in TOOLS && !event.shiftKey) return painter.use(TOOLS[key]), true;
  if (key === 'i' && painter.coloured) return painter.use('pick'), true;
  if (key === 'x') return painter.use(painter.kit.tool === 'eraser' ? 'brush' : 'eraser'), true;
  if (key in SIZES) return painter.resize(SIZES[key]), true;
  if (key in EDGES) return painter.set({ hardness: painter.kit.hardness + EDGES[key] }, 'hardness'), true;
  if (event.target !== view.easel) return false;
  if (key in ARROWS) return hand.step(...ARROWS[key], event.shiftKey), true;
  if (key === 'Enter') return hand.stamp(event.shiftKey), true;
  if (key === ' ') {
    if (!hand.space) {
      hand.space = 'down'; // a drag moves the picture; let go without one, it paints
      view.easel.classList.add('grabs');
      hand.outline();
    }
    return true;
  }
  if (key === 'Escape') return hand.unkey();
  if (key === '0') return view.fit(), true;
  if (key === '1') return view.zoom(1 / view.scale), true;
  if (key === '+' || key === '=') return view.zoom(1.25), true;
  if (key === '-') return view.zoom(0.8), true;
  return false;
}

/** The space bar was let go. */
export function heardKeyUp(hand, event) {
  if (event.key !== ' ' || !hand.space) return;
  const dragged = hand.space === 'dragged';
  hand.let();
  if (!dragged && event.target === hand.view.easel) hand.stamp(event.shiftKey);
  hand.outline();
}
