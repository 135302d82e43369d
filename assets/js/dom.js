// Small helpers that every part of the page uses.

/** An element: el('button.frame', { title: 'x', onclick }, 'text', child). Properties that an element lacks are attributes. */
export function el(kind, properties = {}, ...children) {
  const [tag, ...classes] = kind.split('.');
  const node = document.createElement(tag);
  node.className = classes.join(' ');
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Sets a text only where it differs, so that nothing is laid out or read aloud anew. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function tell(name, detail) {
  document.dispatchEvent(new CustomEvent(`darkroom:${name}`, { detail }));
}

export function heard(name, listener) {
  document.addEventListener(`darkroom:${name}`, (event) => listener(event.detail));
}

/** Seconds as people say them: 0.5 s, 12 s, 3 min 20 s. */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** A line icon: a path in a box of 24 x 24. */
export function icon(path) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  svg.classList.add('icon');
  const line = document.createElementNS(svg.namespaceURI, 'path');
  line.setAttribute('d', path);
  svg.append(line);
  return svg;
}

/** A JPEG that came as a data URL, as an address that is short and decoded once. */
export function objectUrl(dataUrl) {
  if (!dataUrl) return '';
  const bytes = Uint8Array.from(atob(dataUrl.slice(dataUrl.indexOf(',') + 1)), (letter) => letter.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: 'image/jpeg' }));
}
