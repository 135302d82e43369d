// The words of the Models tab: what the sorts are called and drawn with, bytes and times as people say them.

export const SORTS = {
  checkpoint: { one: 'Checkpoint', many: 'Checkpoints', path: 'M12 3l8 4.5v9L12 21l-8-4.5v-9z M4 7.5l8 4.5 8-4.5 M12 12v9' },
  lora: { one: 'LoRA', many: 'LoRAs', path: 'M12 4l9 4.5-9 4.5-9-4.5z M3 12.5l9 4.5 9-4.5 M3 16.5l9 4.5 9-4.5' },
  controlnet: { one: 'ControlNet', many: 'ControlNets', path: 'M12 3a2 2 0 1 0 0 4 2 2 0 0 0 0-4 M5 10l7 1 7-1 M12 11v4 M8 21l4-6 4 6' },
  vae: { one: 'VAE', many: 'VAEs', path: 'M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z' },
  embedding: { one: 'Embedding', many: 'Embeddings', path: 'M9 7l-5 5 5 5 M15 7l5 5-5 5' },
  'text encoder': { one: 'Text encoder', many: 'Text encoders', path: 'M5 7V4h14v3 M12 4v16 M9 20h6' },
  upscaler: { one: 'Upscaler', many: 'Upscalers', path: 'M14 4h6v6 M20 4l-7 7 M10 20H4v-6 M4 20l7-7' },
};

/** Sorts that people look for under another's name. */
const UNDER = { model: 'checkpoint', 'diffusion model': 'checkpoint', adapter: 'controlnet' };

/** The sort under which a file is listed. */
export const groupOf = (sort) => UNDER[sort] ?? sort;

export const sortOf = (sort) => SORTS[groupOf(sort)] ?? { one: sort, many: sort, path: 'M5 4h9l5 5v11H5z M14 4v5h5' };

/** What a single file of that sort is called. */
export function kindOf(sort) {
  if (sort === 'diffusion model') return 'Diffusion model';
  if (sort === 'adapter') return 'T2I-Adapter';
  return sortOf(sort).one;
}

/** Bytes as the disk's makers count them: 6.9 GB, 144 MB, 12 kB. */
export function size(bytes) {
  const [scale, unit] = unitOf(bytes);
  return `${figure(bytes / scale).replace(/\.0$/, '')} ${unit}`;
}

/** "2.0 of 6.9 GB": both in the unit of the larger one. */
export function sizeOf(done, total) {
  if (!total) return size(done);
  const [scale, unit] = unitOf(total);
  const whole = figure(total / scale);
  return `${(done / scale).toFixed(whole.includes('.') ? 1 : 0)} of ${whole} ${unit}`;
}

const unitOf = (bytes) => (bytes >= 1e9 ? [1e9, 'GB'] : bytes >= 1e6 ? [1e6, 'MB'] : [1e3, 'kB']);
const figure = (amount) => (amount >= 100 ? String(Math.round(amount)) : amount.toFixed(1));

/** Seconds that are left, as roughly as they are known. */
export function left(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return '';
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s left`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min left`;
  const hours = Math.floor(seconds / 3600);
  return `${hours} h ${Math.round((seconds % 3600) / 60)} min left`;
}

export const counted = (count, one, many) => `${count.toLocaleString('en')} ${count === 1 ? one : many}`;

/** Letters alone count in a search: case and accents do not. */
export const plain = (text) => text.toLowerCase().normalize('NFD').replace(/\p{M}/gu, '');
