// The way of a picture into the store: Gradio's own upload, which asks for the password where there is one, then `keep`.

const LOST = 'The program did not answer. Is it still running? Try it again when it is.';

/** Answers of a server function, with a sentence where there is no answer at all. */
export async function ask(answer, asked) {
  try {
    return (await answer(asked)) ?? { problem: LOST };
  } catch {
    return { problem: LOST };
  }
}

/** Sends a file or a blob; resolves with the path that the server's `keep` takes. Throws with the `status` it was answered. */
export async function upload(blob, name) {
  const form = new FormData();
  form.append('files', blob, name);
  const answer = await fetch(new URL('gradio_api/upload', document.baseURI), { method: 'POST', body: form });
  if (!answer.ok) throw Object.assign(new Error(`The upload was answered ${answer.status}.`), { status: answer.status });
  return (await answer.json())[0];
}

/** Sends a file or a blob to the store: {key, width, height, url} or {problem}. on: the key of what it was painted on. */
export async function keepFile(file, keep, name = file.name, on = null) {
  try {
    return ask(keep, { path: await upload(file, name || 'picture.png'), on });
  } catch (fault) {
    return { problem: fault.status === 413 ? 'The file is too large to be sent. Make it smaller.' : LOST };
  }
}
