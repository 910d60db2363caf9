// The resources of an atlas, fetched once each. See "The atlas" in docs/architecture.md.

/** Something that the address names and that is not there. */
export class NotFound extends Error {}

/** A resource that could not be read. */
export class FetchError extends Error {}

const answers = new Map();

function json(path) {
  if (!answers.has(path)) {
    const answer = load(path);
    answer.catch(() => answers.delete(path)); // so that a later visit tries again
    answers.set(path, answer);
  }
  return answers.get(path);
}

async function load(path) {
  let response;
  try {
    response = await fetch(path);
  } catch {
    throw new FetchError(`${path} could not be fetched: the server does not answer.`);
  }
  if (!response.ok) throw new FetchError(`${path} could not be fetched: the server answered ${response.status}.`);
  try {
    return await response.json();
  } catch {
    throw new FetchError(`${path} could not be read: it is not JSON.`);
  }
}

// A layer's SLUG is its name with everything but A-Z a-z 0-9 _ . - ~ percent-encoded, and it names a file or folder. As a part of
// an address it is encoded once more, since a web server decodes an address before it looks for the file.
function slug(name) {
  const strict = encodeURIComponent(name).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return encodeURIComponent(strict);
}

export const tilesUrl = (layer, sheet) => `tiles/${slug(layer)}/${sheet}.jpg`;
export const mapsUrl = (id) => `maps/${id}.jpg`;
export const imageUrl = (id) => `img/${id}.jpg`;

/** data/network.json, with `byName` (layer by name), `classes` (of the images' labels) and `comparable` (label against prediction). */
let prepared = null;
export async function getNetwork() {
  const network = await json("data/network.json");
  prepared ??= {
    ...network,
    byName: new Map(network.layers.map((layer, index) => [layer.name, { ...layer, index }])),
    classes: network.source_classes ?? network.labels ?? [],
    comparable: network.source_classes === null || network.source_classes === undefined,
  };
  return prepared;
}

export const getLayer = (name) => json(`data/layer/${slug(name)}.json`);
export const getImage = (id) => json(`data/image/${id}.json`);

export async function getUnit(network, name, channel) {
  const block = Math.floor(channel / network.units_per_block);
  const { units } = await json(`data/units/${slug(name)}/${block}.json`);
  return units.find((unit) => unit.channel === channel);
}

const getImageBlock = async (block) => (await json(`data/images/${block}.json`)).images;

/** The rows of images `start` up to but not including `stop`, in order. */
export async function getImageRows(network, start, stop) {
  const size = network.images_per_block;
  const blocks = [];
  for (let block = Math.floor(start / size); block * size < stop; block += 1) blocks.push(getImageBlock(block));
  return (await Promise.all(blocks)).flat().filter(({ id }) => id >= start && id < stop);
}

/** The rows of the images with the given ids, as a map. */
export async function getRowsOf(network, ids) {
  const blocks = new Set(ids.map((id) => Math.floor(id / network.images_per_block)));
  const rows = (await Promise.all([...blocks].map(getImageBlock))).flat();
  return new Map(rows.map((row) => [row.id, row]));
}

/** All rows that `keep` accepts; reads every block, a few at a time. */
export async function filterImageRows(network, keep) {
  const atOnce = 8 * network.images_per_block;
  const kept = [];
  for (let start = 0; start < network.images; start += atOnce) {
    const rows = await getImageRows(network, start, Math.min(start + atOnce, network.images));
    kept.push(...rows.filter(keep));
  }
  return kept;
}

const sheets = new Map();

/** A picture with many pictures in it, loaded once; resolves to its size in pixels. */
export function getSheet(url) {
  if (!sheets.has(url)) {
    const image = new Image();
    image.src = url;
    sheets.set(url, image.decode().then(() => ({ width: image.naturalWidth, height: image.naturalHeight })));
  }
  return sheets.get(url);
}
