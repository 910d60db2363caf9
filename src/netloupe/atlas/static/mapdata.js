// The map's data: where the images lie, what they are, their thumbnails as pixels, their features.
// An image is known by its place, a number that follows the map; see "The map" in docs/architecture.md.

import { FetchError, getMapDocument, getMapPoints, getSprites, getMapFeatures, imageUrl } from "./api.js";

export const NONE = 65535; // in place of a class where there is none
const KEPT = 32; // sheets of a size held at once, about 5 MB each

/** Everything about the points of the map: typed arrays by place. Besides, as of every map: `shape`, [height, width] of what
 *  lies there in any unit; draw(level, number): a sheet of thumbnails, as what can be drawn on a canvas; picture(place, side): what
 *  one is replaced by where there are `side` px for it, {url, part: [left, top, width, height] of it, or null}; colors: of dots, or null. */
export async function getMap(network) {
  const [document, buffer] = await Promise.all([getMapDocument(), getMapPoints()]);
  const { count, spaces, sprites } = document;
  const bytes = count * (10 + 4 * spaces.length);
  if (buffer.byteLength !== bytes + (sprites.length > 0 ? 3 * count : 0)) throw new FetchError("data/map/points.bin has another length than data/map.json tells.");
  const column = (index) => new Uint16Array(buffer, count * (4 + 2 * index), count);
  const [labels, predictions, probabilities] = [0, 1, 2].map(column);
  const ids = new Uint32Array(buffer, 0, count);
  return {
    ...document, colors: colorsFrom(new Uint8Array(buffer, bytes)), ids, labels, predictions, probabilities, shape: network.input.size,
    draw: async ({ side }, number) => createImageBitmap(await getSprites(side, number)),
    picture: (place) => ({ url: imageUrl(ids[place]), part: null }),
    spaces: spaces.map((space, i) => ({ ...space, x: column(3 + 2 * i), y: column(4 + 2 * i) })),
  };
}

/** Three bytes a place as a pixel for each. */
function colorsFrom(bytes) {
  const colors = new Uint32Array(bytes.length / 3);
  for (let place = 0, at = 0; place < colors.length; place += 1, at += 3) {
    colors[place] = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (255 << 24);
  }
  return colors;
}

/** Thumbnails as pixels: small ones of all images, large ones of those looked at. `changed` is called when more are there. */
export class Sprites {
  constructor(map, changed) {
    [this.small, this.large] = map.sprites;
    this.count = map.count;
    this.draw = map.draw;
    this.changed = changed;
    this.sheets = new Map(); // "side/sheet" -> {tiles} or a promise; in order of use
    this.loading = 0;
    this.stopped = false;
  }

  /** The sheet of a level, or null while it is not there; it is fetched then. */
  sheet(level, number) {
    const key = `${level.side}/${number}`;
    const found = this.sheets.get(key);
    if (found === undefined) this.fetch(level, number, key);
    else { this.sheets.delete(key); this.sheets.set(key, found); } // now the latest used
    return found?.tiles ? found : null;
  }

  /** Resolves to the sheet. */
  async load(level, number) {
    const key = `${level.side}/${number}`;
    return this.sheets.get(key)?.promise ?? this.sheets.get(key) ?? this.fetch(level, number, key);
  }

  fetch(level, number, key) {
    this.loading += 1;
    const promise = this.read(level, number).then((sheet) => {
      this.sheets.set(key, sheet);
      return sheet;
    }, (error) => {
      console.error(error);
      this.sheets.set(key, { failed: true });
      return null;
    }).finally(() => {
      this.loading -= 1;
      this.trim();
      this.changed();
    });
    this.sheets.set(key, { promise });
    return promise;
  }

  async read(level, number) {
    const drawn = await this.draw(level, number);
    const canvas = new OffscreenCanvas(drawn.width, drawn.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(drawn, 0, 0);
    drawn.close?.();
    const pixels = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    const shown = Math.min(level.count, this.count - number * level.count);
    const tiles = apart(pixels, canvas.width, level, shown);
    return level === this.small ? { tiles } : { tiles, half: halved(tiles, level.side, shown) };
  }

  /** Lets go of the sheets of each size that were used longest ago. */
  trim() {
    for (const { side } of [this.small, this.large]) {
      const there = [...this.sheets].filter(([key, sheet]) => key.startsWith(`${side}/`) && sheet.tiles);
      for (const [key] of there.slice(0, Math.max(0, there.length - KEPT))) this.sheets.delete(key);
    }
  }
}

/** The pixels of a sheet, tile after tile. */
function apart(pixels, width, { side, columns }, shown) {
  const tiles = new Uint32Array(shown * side * side);
  for (let place = 0; place < shown; place += 1) {
    let from = Math.floor(place / columns) * side * width + (place % columns) * side;
    for (let to = place * side * side, y = 0; y < side; y += 1, to += side, from += width) {
      for (let x = 0; x < side; x += 1) tiles[to + x] = pixels[from + x];
    }
  }
  return tiles;
}

/** Tiles of half the side, each pixel the mean of four. */
function halved(tiles, side, shown) {
  const half = new Uint32Array((shown * side * side) / 4);
  let to = 0;
  for (let row = 0; row < shown * side; row += 2) {
    for (let i = row * side; i < row * side + side; i += 2, to += 1) {
      const [a, b, c, d] = [tiles[i], tiles[i + 1], tiles[i + side], tiles[i + side + 1]];
      const even = ((a & 0xff00ff) + (b & 0xff00ff) + (c & 0xff00ff) + (d & 0xff00ff) + 0x20002) >>> 2;
      const odd = (((a >> 8) & 255) + ((b >> 8) & 255) + ((c >> 8) & 255) + ((d >> 8) & 255) + 2) >> 2;
      half[to] = (even & 0xff00ff) | (odd << 8) | (255 << 24);
    }
  }
  return half;
}

/** The features of the image at a place, as numbers 0 to 255 within the range of each channel; resolves to a row getter. */
export async function getFeatureRows(map, block) {
  const values = new Uint8Array(await getMapFeatures(block));
  const width = map.channels.low.length;
  return (place) => values.subarray((place - block * map.block) * width, (place - block * map.block + 1) * width);
}
