// The painter as a component of the page: how it uploads, what it tells the program, and what others tell it.
//
// A painter outlives its place: Gradio takes a tab that is not open out of the page, and undo, zoom and
// strokes that are not sent yet are to be there when it is opened again.

import { heard } from './dom.js';
import { Painter } from './painter.js';
import { upload } from './upload.js';

export const painters = new Map(); // by the id of the component
const shapes = new Map(); // by the same: the picture's shape as it was told last
const given = new Map(); // pictures for painters that the page has not shown yet

export function mount({ root, props, trigger, server }) {
  const { id } = root.closest('.block'); // nearer there is one that Gradio makes up
  const known = painters.get(id);
  const serial = known?.serial ?? crypto.getRandomValues(new Uint32Array(1))[0];
  const keep = async (blob, name, on) => server.keep({ path: await upload(blob, name), on });
  const publish = () => (props.value = { ...painter.value, shown: painter.shown, by: serial });
  const onChange = (value) => {
    publish();
    trigger('painted');
    root.dispatchEvent(new Event('input', { bubbles: true })); // a sentence about what was missing goes
    const shape = shapeOf(value);
    if (shape !== shapes.get(id) && value.image) trigger('shaped');
    shapes.set(id, shape);
  };
  const { mode, extendable, examples } = props;
  const painter = known ?? new Painter(root, { mode, extendable, examples, keep, onChange });
  if (known) root.append(known.root);
  painters.set(id, Object.assign(painter, { keep, onChange, serial }));
  const show = async (value) => {
    if (value?.soft !== undefined) painter.setSoft(value.soft);
    if (given.has(id)) {
      const { image, mask } = given.get(id);
      given.delete(id);
      return painter.receive(image, mask);
    }
    if (value?.by === serial) return null; // what it has told itself; it may have been painted on since
    const before = JSON.stringify(props.value);
    const showing = painter.show(value?.shown ?? value ?? {});
    painter.showing = showing;
    await showing;
    if (painter.showing === showing) painter.showing = null;
    shapes.set(id, shapeOf(painter.value)); // what was shown keeps the size that was chosen for it
    // A run and the browser's memory take keys, not the pictures that the server sent.
    if (value?.image && JSON.stringify(props.value) === before) publish();
    return null;
  };
  return { show, painter };
}

const shapeOf = ({ width, height, extend }) => JSON.stringify([width, height, extend]);

/** Someone is about to use what is painted: `wait` gathers what they must wait for. */
heard('settle', ({ wait }) => {
  for (const painter of painters.values()) {
    if (painter.showing) wait.push(painter.showing.then(() => painter.flush()));
    else if (painter.unsaved) wait.push(painter.flush());
  }
});

/** A picture from elsewhere in the page is sent to a painter, with a mask where there is one. */
heard('give', ({ to, image, mask }) => {
  if (painters.has(to)) painters.get(to).receive(image, mask);
  else given.set(to, { image, mask });
});

/** How much the form blurs the mask's edge. */
heard('soft', ({ to, pixels }) => painters.get(to)?.setSoft(pixels));
