// What the gallery asks the server: JSON on the tab's own routes, with a sentence where nothing came of it.

import { el } from './dom.js';

const ZIP = 'darkroom-pictures.zip';
const MANY = 300; // more go straight to the disk, where the browser can do that, not through memory
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

  /** The chosen pictures as one ZIP that the browser saves: {}, or {problem}. */
  async pack(ids) {
    try {
      const file = ids.length > MANY ? await window.showSaveFilePicker?.({ suggestedName: ZIP }) : null;
      const headers = { 'Content-Type': 'application/json' };
      const response = await fetch(this.url('export'), { method: 'POST', headers, body: JSON.stringify({ ids }) });
      if (!response.ok) return { problem: await sentence(response) };
      if (file) await response.body.pipeTo(await file.createWritable());
      else save(await response.blob());
      return {};
    } catch (fault) {
      return fault.name === 'AbortError' ? { problem: '', dropped: true } : { problem: LOST };
    }
  }
}

function save(blob) {
  const address = URL.createObjectURL(blob);
  el('a', { href: address, download: ZIP }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // the browser reads it after the click
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
