// Pictures in and out of the painter: reading files, writing masks as greyscale PNG, flattening.

/** The picture at an address as an <img>, decoded. */
export async function picture(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

/** `image` at a size of its own. */
export function scaled(image, width, height) {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  context.drawImage(image, 0, 0, width, height);
  return canvas;
}

/** Smaller and smaller halves of a picture: drawing from the one that fits is sharp and quick at any zoom. */
export function halves(image, width, height) {
  const levels = [{ source: image, width, height }];
  while (Math.max(width, height) > 512) {
    width = Math.max(1, Math.round(width / 2));
    height = Math.max(1, Math.round(height / 2));
    levels.push({ source: scaled(levels.at(-1).source, width, height), width, height });
  }
  return levels;
}

/** The brightness of a picture as mask values, at the mask's size; where it is see-through it is black. */
export function values(image, width, height) {
  const { data } = scaled(image, width, height).getContext('2d').getImageData(0, 0, width, height);
  const mask = new Uint8Array(width * height);
  for (let at = 0, from = 0; at < mask.length; at += 1, from += 4) {
    const bright = 0.299 * data[from] + 0.587 * data[from + 1] + 0.114 * data[from + 2];
    mask[at] = Math.round((bright * data[from + 3]) / 255);
  }
  return mask;
}

export function blobOf(canvas) {
  return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
}

/** A file with an empty sheet of one colour. */
export async function blank(width, height, colour) {
  const canvas = scaled(new Image(), width, height);
  const context = canvas.getContext('2d');
  context.fillStyle = colour;
  context.fillRect(0, 0, width, height);
  return new File([await blobOf(canvas)], 'sheet.png', { type: 'image/png' });
}

/** A mask as a PNG of one byte a pixel: a quarter of what a canvas would write, in a tenth of the time. */
export async function greyPng(mask, width, height) {
  const rows = new Uint8Array((width + 1) * height); // each row begins with its filter: 0, none
  for (let y = 0; y < height; y += 1) rows.set(mask.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream('deflate'));
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8); // bits; then colour type 0: grey
  return new Blob(
    [
      Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10),
      chunk('IHDR', new Uint8Array(header.buffer)),
      chunk('IDAT', new Uint8Array(await new Response(packed).arrayBuffer())),
      chunk('IEND', new Uint8Array(0)),
    ],
    { type: 'image/png' },
  );
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit += 1) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

function chunk(name, data) {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(data, 8);
  let sum = -1;
  for (let at = 4; at < data.length + 8; at += 1) sum = CRC[(sum ^ bytes[at]) & 255] ^ (sum >>> 8);
  view.setUint32(data.length + 8, ~sum);
  return bytes;
}

/** Hands a file to the browser's downloads. */
export function download(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Lets a person choose a picture; resolves with the file, or never where they change their mind. */
export function choose() {
  return new Promise((resolve) => {
    const input = document.createElement('input');
    input.type = 'file';
    input.accept = 'image/*';
    input.onchange = () => resolve(input.files[0]);
    input.click();
  });
}

export function pictureIn(files) {
  return [...(files ?? [])].find((file) => file.type.startsWith('image/')) ?? null;
}
