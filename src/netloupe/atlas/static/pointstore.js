// Points on images: parts by name, where they are, what can be undone, and the file that `netloupe study correspondence` reads.
// Positions are [y, x] in px of the network's input, from its top left corner.

const USUAL = ["left eye", "right eye", "nose"];

/** A file of points that can't be used. */
export class PointsError extends Error {}

export class PointStore {
  constructor(frame) {
    this.frame = frame; // [height, width]
    this.parts = [...USUAL];
    this.images = new Map(); // name -> Map of part -> [y, x]
    this.past = [];
    this.saved = true;
  }

  at(image, part) {
    return this.images.get(image)?.get(part) ?? null;
  }

  countOf(image) {
    return this.images.get(image)?.size ?? 0;
  }

  /** The first part that the image lacks, or null. */
  missing(image) {
    return this.parts.find((part) => this.at(image, part) === null) ?? null;
  }

  /** Puts a part at [y, x], moved into the frame; null takes it away. */
  put(image, part, place) {
    this.remember();
    this.move(image, part, place);
  }

  /** As `put`, as a part of what was done last: while a point is dragged. */
  move(image, part, place) {
    const points = this.images.get(image) ?? new Map();
    if (place === null) points.delete(part);
    else points.set(part, place.map((value, axis) => rounded(Math.min(Math.max(value, 0), this.frame[axis]))));
    if (points.size > 0) this.images.set(image, points);
    else this.images.delete(image);
    this.saved = false;
  }

  /** Keeps what there is, for `undo`. */
  remember() {
    this.past.push({ parts: [...this.parts], images: copied(this.images) });
    if (this.past.length > 200) this.past.shift();
  }

  undo() {
    const before = this.past.pop();
    if (before === undefined) return;
    this.parts = before.parts;
    this.images = before.images;
    this.saved = false;
  }

  addPart() {
    this.remember();
    let number = this.parts.length + 1;
    while (this.parts.includes(`part ${number}`)) number += 1;
    this.parts.push(`part ${number}`);
    return this.parts.at(-1);
  }

  /** Gives a part another name, everywhere; throws PointsError for one that is empty or taken. */
  rename(part, given) {
    const name = given.trim();
    if (name === part) return;
    if (name === "" || name === "random") throw new PointsError(name === "" ? "A part needs a name." : "“random” is the name of the control.");
    if (this.parts.includes(name)) throw new PointsError(`There is a part “${name}” already.`);
    this.remember();
    this.parts = this.parts.map((other) => (other === part ? name : other));
    for (const [image, points] of this.images) {
      this.images.set(image, new Map([...points].map(([other, place]) => [other === part ? name : other, place])));
    }
    this.saved = false;
  }

  removePart(part) {
    this.remember();
    this.parts = this.parts.filter((other) => other !== part);
    for (const image of [...this.images.keys()]) this.move(image, part, null);
    this.saved = false;
  }

  /** The text of the file. */
  written() {
    const inOrder = (points) => this.parts.filter((part) => points.has(part)).map((part) => [part, points.get(part)]);
    const images = Object.fromEntries([...this.images].map(([name, points]) => [name, Object.fromEntries(inOrder(points))]));
    return `${JSON.stringify({ frame: this.frame, images }, null, 1)}\n`;
  }

  /** Takes over what such a file holds; images that the atlas lacks are kept. Throws PointsError. */
  read(text) {
    const { frame, images } = checked(text);
    const [scale, other] = this.frame.map((side, axis) => side / frame[axis]);
    if (Math.abs(scale / other - 1) > 1e-6) {
      throw new PointsError(`The file's positions are in a frame of ${frame.join(" × ")} px, of another shape than this atlas's images (${this.frame.join(" × ")}).`);
    }
    this.remember();
    this.images = new Map();
    const found = new Set();
    for (const [image, points] of Object.entries(images)) {
      for (const [part, place] of Object.entries(points)) {
        found.add(part);
        if (place !== null) this.move(image, part, place.map((value) => value * scale));
      }
    }
    this.parts = [...found, ...USUAL.filter((part) => found.size === 0 && !found.has(part))];
    this.saved = true;
  }
}

function checked(text) {
  let content;
  try {
    content = JSON.parse(text);
  } catch {
    throw new PointsError("The file is not JSON.");
  }
  const pair = (value) => Array.isArray(value) && value.length === 2 && value.every(Number.isFinite);
  if (!content || !pair(content.frame) || Math.min(...content.frame) <= 0) {
    throw new PointsError("The file has no “frame”: its positions are in pixels of image files, whose sizes the atlas does not know. It reads files that it wrote.");
  }
  const isMap = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const good = isMap(content.images) && Object.values(content.images).every(
    (points) => isMap(points) && Object.values(points).every((place) => place === null || pair(place)));
  if (!good) throw new PointsError("The file's “images” are in an unknown form: {\"image\": {\"part\": [y, x]}} is wanted.");
  const out = Object.entries(content.images).find(([, points]) => Object.values(points).some(
    (place) => place !== null && place.some((value, axis) => value < 0 || value > content.frame[axis])));
  if (out !== undefined) throw new PointsError(`The file has a point outside of its frame, on “${out[0]}”.`);
  return content;
}

const copied = (images) => new Map([...images].map(([name, points]) => [name, new Map(points)]));

const rounded = (value) => Math.round(value * 100) / 100;
