// What the gallery asks the server: JSON on the tab's own routes, with a sentence where nothing came of it.

import { el } from './dom.js';

const LOST = 'The program did not answer. Is it still running? Try it again when it is.';
const DENIED = 'The program asks for the password again: reload the page and sign in.';

export class GalleryServer {
  /** routes: where they are, relative to the page. */
  constructor(routes) {
    this.routes = routes;
  }

  url(path, query = {}) {
    return new URL(`${this.routes}/${path}?${new URLSearchParams(query)}`, document.baseURI).href;
  }

  get(path, query, signal) {
    return answered(fetch(this.url(path, query), { signal }));
  }

  post(path, asked) {
    const body = JSON.stringify(asked);
    return answered(fetch(this.url(path), { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }));
  }

  /** One file's bytes go in: {id, known} or {problem}. */
  bring(file, board, signal) {
    const query = { name: file.name, modified: file.lastModified, ...(board ? { board } : {}) };
    const headers = { 'Content-Type': 'application/octet-stream' };
    return answered(fetch(this.url('import', query), { method: 'POST', headers, body: file, signal }));
  }

  /** The chosen pictures as one ZIP, which the browser saves as it comes. failed(sentence): it did not come. */
  pack(ids, failed) {
    const frame = el('iframe', { name: 'gallery-zip', hidden: true, title: 'ZIP' });
    const form = el('form', { method: 'post', action: this.url('export'), target: frame.name, hidden: true }, el('input', { type: 'hidden', name: 'ids', value: ids.join(',') }));
    document.querySelector('iframe[name=gallery-zip]')?.remove();
    document.body.append(frame, form);
    // A file that is saved loads nothing into the frame; what is loaded is an answer that says why there is none.
    frame.addEventListener('load', () => {
      const text = frame.contentDocument?.body?.textContent ?? '';
      if (text) failed(told(text) ?? LOST);
    });
    form.submit();
    form.remove();
  }
}

function told(text) {
  try {
    return JSON.parse(text).problem;
  } catch {
    return null;
  }
}

/** The answer; {problem: sentence} where there is none, {dropped} where it was not waited for. */
async function answered(asking) {
  try {
    const response = await asking;
    if (response.ok) return await response.json();
    return { problem: await sentence(response), status: response.status };
  } catch (fault) {
    return fault.name === 'AbortError' ? { problem: '', dropped: true } : { problem: LOST };
  }
}

async function sentence(response) {
  if (response.status === 401) return DENIED;
  if (response.status === 413) return 'The file is larger than this program takes.';
  const told = await response.json().catch(() => ({}));
  return told.problem ?? told.detail ?? `${LOST} (${response.status})`;
}
