// The resources of an atlas, fetched once each. See "The atlas" in docs/architecture.md.

/** Something that the address names and that is not there; `near` may hold the nearest thing that is: {text, href}. */
export class NotFound extends Error {
  constructor(message, near = null) {
    super(message);
    this.near = near;
  }
}

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

const load = async (path) => read(path, "JSON", (response) => response.json());

let version = null; // of the atlas; with it in the address what never changes need not be asked for again
const lasting = (path) => (version === null ? path : `${path}?v=${version}`);

async function read(path, form, parse) {
  let response;
  try {
    response = await fetch(lasting(path));
  } catch {
    throw new FetchError(`${path} could not be fetched: the server does not answer.`);
  }
  heed(response);
  if (!response.ok) throw new FetchError(`${path} could not be fetched: the server answered ${response.status}.`);
  try {
    return await parse(response);
  } catch {
    throw new FetchError(`${path} could not be read: it is not ${form}.`);
  }
}

/** Have the page load again where another atlas lies by now. */
function heed(response) {
  if (response.status === 409) location.reload();
}

/** Ask why a picture could not be loaded, which it does not tell. */
const ask = (url) => fetch(url).then(heed, () => {});

addEventListener("error", ({ target }) => { if (target instanceof HTMLImageElement) ask(target.src); }, true);

/** A layer's name as a part of an address. */
const slug = encodeURIComponent;

export const tilesUrl = (layer, sheet) => lasting(`tiles/${slug(layer)}/${sheet}.webp`);
export const stripUrl = (layer) => lasting(`strips/${slug(layer)}.webp`);
export const projectionsUrl = (layer, channel) => lasting(`projections/${slug(layer)}/${channel}.webp`);
export const synthesisUrl = (layer, sheet) => lasting(`synthesis/${slug(layer)}/${sheet}.jpg`);
export const synthesizedUrl = (layer, channel) => lasting(`synthesized/${slug(layer)}/${channel}.jpg`);
export const mapsUrl = (id) => lasting(`maps/${id}.webp`);
export const answerUrl = (id) => lasting(`answers/${id}.webp`);
export const attentionUrl = (place, image) => lasting(`attention/${place}/${image}.webp`);
export const imageUrl = (id) => lasting(`img/${id}.webp`);

let prepared = null;

/** data/network.json and what follows from it:
 *  `byName` (layers by name), `classes` (those of the images' labels), `comparable` (whether these are the network's own),
 *  `gaps` (skipped images by number: they keep theirs), `ids` (one more than the highest number of an image),
 *  `output` (the layer whose channels are the classes, null where the atlas shows none). */
export async function getNetwork() {
  const network = await json("data/network.json");
  version = network.version ?? null;
  prepared ??= prepare(network);
  return prepared;
}

/** How far an atlas is that is being made: {version, whole, images, of, missing, progress}; wanted: names of what is waited for. */
export async function getMaking(wanted) {
  const response = await fetch(`data/making.json?want=${wanted.map(encodeURIComponent).join(",")}`);
  if (!response.ok) throw new FetchError(`The server answered ${response.status}.`);
  return response.json();
}

/** data/network.json anew, of an atlas of which there is more. */
export async function renew() {
  const network = await load("data/network.json");
  answers.clear();
  answers.set("data/network.json", Promise.resolve(network));
  prepared = null;
  return getNetwork();
}

function prepare(network) {
  const gaps = new Map(network.skipped.filter(({ id }) => id !== undefined).map((file) => [file.id, file]));
  let ids = network.images + gaps.size;
  while (gaps.has(ids - 1)) ids -= 1;
  return {
    ...network,
    byName: new Map(network.layers.map((layer, index) => [layer.name, { ...layer, index }])),
    classes: network.source_classes ?? network.labels ?? [],
    comparable: (network.source_classes ?? null) === null,
    output: network.layers.findLast((layer) => layer.classes) ?? null,
    gaps,
    ids,
  };
}

/** {surest, mistaken}: rows of images, for the first page. */
export const getExamples = () => json("data/examples.json");

export const getMapDocument = () => json("data/map.json");
export const getMapPoints = () => bytes("data/map/points.bin");
export const getMapFeatures = (block) => bytes(`data/map/features/${block}.bin`);
export const spriteUrl = (side, sheet) => lasting(`sprites/${side}/${sheet}.jpg`);
export const getSprites = (side, sheet) => read(`sprites/${side}/${sheet}.jpg`, "whole", (response) => response.blob());
export const getTiles = (layer, sheet) => read(`tiles/${slug(layer)}/${sheet}.webp`, "whole", (response) => response.blob());

/** Where the units of a layer lie: {channels, x, y, images, dead, constant, about}. */
export const getUnitMap = (name) => json(`data/unitmap/${slug(name)}.json`);
const bytes = (path) => read(path, "whole", (response) => response.arrayBuffer());

export const getLayer = (name) => json(`data/layer/${slug(name)}.json`);
export const getImage = (id) => json(`data/image/${id}.json`);

/** {likeness} of the attention heads; {peaks} of their maps in an image, as the rows of its sheet. */
export const getAttention = (place) => json(`data/attention/${place}.json`);
export const getAttended = (place, image) => json(`data/attention/${place}/${image}.json`);

export async function getUnit(network, name, channel) {
  const block = Math.floor(channel / network.units_per_block);
  const { units } = await json(`data/units/${slug(name)}/${block}.json`);
  return units.find((unit) => unit.channel === channel);
}

/** The strictly best patches of a channel, where the atlas shows others; none of a channel without. */
export async function getStrictest(network, name, channel) {
  const block = Math.floor(channel / network.units_per_block);
  const { units } = await json(`data/strictest/${slug(name)}/${block}.json`);
  return units.find((unit) => unit.channel === channel)?.patches ?? [];
}

const getImageBlock = async (block) => (await json(`data/images/${block}.json`)).images;

/** The rows of images numbered `start` up to but not including `stop`, in order. */
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
  for (let start = 0; start < network.ids; start += atOnce) {
    const rows = await getImageRows(network, start, Math.min(start + atOnce, network.ids));
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
    image.addEventListener("error", () => ask(url));
    sheets.set(url, image.decode().then(() => ({ width: image.naturalWidth, height: image.naturalHeight })));
  }
  return sheets.get(url);
}
