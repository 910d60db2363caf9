// Parts that several views share.

import { getLayer, getSheet, imageUrl, projectionsUrl, stripUrl, synthesisUrl, tilesUrl } from "./api.js";
import { h, svg, whenNear } from "./dom.js";
import { count, imageHash, imagesHash, percent, unitHash } from "./format.js";

/** Whether an atlas keeps pictures of images at all. */
export const pictured = (network) => network.pictures.of !== "none";

/** Of which images an atlas keeps no picture, in a sentence; null where it keeps all. */
export function unkept({ pictures: { of, kept }, images, making }) {
  if (of === "none" && making && making.images < making.of) return "Pictures come once all images are in.";
  if (of === "none") return "This atlas keeps no pictures of images: it was built with --images none.";
  if (of === "all" || kept === images) return null;
  return `This atlas keeps pictures of ${count(kept)} of the ${count(images)} images, those that its pages show large; of the others it keeps small thumbnails.`;
}

/** One small picture cut from a sheet of pictures that are `size` = [height, width] pixels large; `find` gives, maybe later,
 *  {url, size, column, row}. The row is counted in heights of this picture, and need not be whole. */
export function cut(find) {
  const picture = h("span", { class: "cut" });
  whenNear(picture, async () => {
    try {
      const { url, size: [height, width], column, row } = await find();
      const sheet = await getSheet(url);
      picture.style.backgroundImage = `url("${url}")`;
      picture.style.backgroundSize = `${(100 * sheet.width) / width}cqw ${(100 * sheet.height) / height}cqw`;
      picture.style.backgroundPosition = `${-100 * column}cqw ${-100 * row}cqw`;
      picture.classList.add("there");
    } catch {
      picture.classList.add("missing");
      picture.textContent = "no picture";
    }
  });
  return picture;
}

/** A channel as the mosaic of its nine best patches, or as its synthesized image, linked to its unit.
 *  strip: its place in the layer's strip, whose sheet is at hand sooner. */
export function tile(network, layer, channel, { captions = [], dead = false, synthesized = false, strip = null, query = {} } = {}) {
  const find = synthesized ? onSynthesis : onTiles;
  const meaning = standsFor(network, layer, channel);
  const name = `${layer.name}, channel ${channel}${meaning === null ? "" : `, ${meaning}`}${dead ? ", dead" : ""}`;
  return h("a", { class: dead ? "tile dead" : "tile", href: unitHash(layer.name, channel, query), "data-channel": channel, title: name,
    "aria-label": [name, ...captions.slice(1)].join(", ") },
    dead || !(synthesized || pictured(network)) ? h("span", { class: "cut missing" }, dead ? "dead" : "no picture") : cut(() => (strip === null ? find(network, layer, channel) : onStrip(network, layer, strip))),
    captions.length === 0 ? null
      : h("span", { class: "caption" }, captions.map((text, i) => h("span", { class: ["", "value", "label"][i] }, text))));
}

function onSheet({ columns, size }, place, url) {
  return { url, size: [size, size], column: place % columns, row: Math.floor(place / columns) };
}

const onStrip = (network, layer, place) => ({ ...onSheet(network.tile, 0, stripUrl(layer.name)), column: place });

/** Sheets of tiles are in the order in which a layer's page shows them at first. */
async function onTiles(network, layer, channel) {
  const { count } = network.tile;
  const place = (await getLayer(layer.name)).place[channel];
  return onSheet(network.tile, place % count, tilesUrl(layer.name, Math.floor(place / count)));
}

function onSynthesis(network, layer, channel) {
  const { units_per_block: count } = network;
  return onSheet(network.tile, channel % count, synthesisUrl(layer.name, Math.floor(channel / count)));
}

/** The part of image `id` inside `box`, in a frame that has room for `frame` = [height, width] pixels of the input. */
export function crop(network, id, box, frame) {
  if (!pictured(network)) return h("span", { class: "crop missing", style: { "aspect-ratio": `${frame[1]} / ${frame[0]}` } }, "no picture");
  const [height, width] = network.input.size;
  const [top, left, bottom, right] = box;
  return framed(imageUrl(id), box, frame, [height / (bottom - top), width / (right - left)], [top / (bottom - top), left / (right - left)]);
}

/** The same of a photo of one's own, of size [height, width], of which the network saw the part in `crop`; box: px of the input. */
export function ownCrop(network, { url, size, crop: [top, left, bottom, right] }, box, frame) {
  const [down, across] = [(bottom - top) / network.input.size[0], (right - left) / network.input.size[1]]; // px of the photo for one of the input
  const [tall, wide] = [box[2] - box[0], box[3] - box[1]];
  return framed(url, box, frame, [size[0] / down / tall, size[1] / across / wide], [(top / down + box[0]) / tall, (left / across + box[1]) / wide]);
}

/** The projection of the patch of some rank, out of `count`, in the same frame as `crop` gives it. */
export function projection(network, layer, channel, rank, count, box, frame) {
  const { columns } = network.projections;
  const across = Math.min(columns, count);
  return framed(projectionsUrl(layer.name, channel), box, frame,
    [Math.ceil(count / columns), across], [Math.floor(rank / columns), rank % columns]);
}

/** One of `count` pictures of the input's proportions that stand in one row at `url`. */
export function part(network, url, place, count) {
  const [height, width] = network.input.size;
  return framed(url, [0, 0, height, width], [height, width], [1, count], [0, place]);
}

/** A part of the picture at `url` as large as `box` in a frame: the picture is `times` as large, moved by `steps`. */
function framed(url, box, frame, times, steps) {
  const [top, left, bottom, right] = box;
  const share = (part, whole) => `${(100 * part) / whole}%`;
  const picture = h("img", { src: url, alt: "", style: {
    width: share(times[1], 1), height: share(times[0], 1), left: share(-steps[1], 1), top: share(-steps[0], 1) } });
  return h("span", { class: "crop", style: { "aspect-ratio": `${frame[1]} / ${frame[0]}` } },
    h("span", { class: "window", style: { width: share(right - left, frame[1]), height: share(bottom - top, frame[0]) } }, picture));
}

/** How alike the projections of a layer are that ought to differ, in a sentence; null where that was not measured. */
export function likeness({ alike }) {
  if (!alike || alike.random === null) return null;
  const channels = alike.channels === null ? "" : `, those of different channels at one place ${alike.channels.toFixed(2)}`;
  return `With random weights the projections of this layer look ${alike.random.toFixed(2)} alike${channels} (1: the same).`;
}

/** Image `id`, with `box` drawn on it if there is one. */
export function photo(network, id, { box = null, alt = "", lazy = true } = {}) {
  const [height, width] = network.input.size;
  const share = (part, whole) => `${(100 * part) / whole}%`;
  const there = pictured(network);
  return h("span", { class: there ? "photo" : "photo missing", style: { "aspect-ratio": `${width} / ${height}` } },
    there && h("img", { src: imageUrl(id), alt, loading: lazy ? "lazy" : null, width, height,
      onerror: (event) => event.target.parentElement.classList.add("missing") }),
    box && h("span", { class: "box", style: {
      top: share(box[0], height), left: share(box[1], width),
      height: share(box[2] - box[0], height), width: share(box[3] - box[1], width) } }));
}

/** True or false where the label of an image can be compared with the prediction, otherwise null. */
export function isRight(network, image) {
  if (image.label === null || image.prediction === null || !network.comparable) return null;
  return image.label === image.prediction;
}

/** What to call an image: its label, otherwise its name. */
export const called = (image) => image.label ?? image.name;

/** A name whose lines end after a slash or a dot or before an @ where it does not fit on one. */
export const broken = (name) => name.split(/(?<=[/.])|(?=@)/).flatMap((part, i) => (i === 0 ? part : [h("wbr"), part]));

function prediction(network, image) {
  const chance = percent(image.probability);
  if (image.prediction === null) return null;
  if (isRight(network, image)) return [h("b", { class: "right" }, "✓"), ` ${chance}`];
  if (isRight(network, image) === false) return [h("b", { class: "wrong" }, "✗"), ` ${image.prediction}, ${chance}`];
  return `taken for ${image.prediction}, ${chance}`;
}

/** An image of a grid, linked to its page; `note` replaces the prediction. */
export function thumbnail(network, image, note = null) {
  return h("a", { class: "thumbnail", href: imageHash(image.id), "data-image": image.id },
    photo(network, image.id),
    h("span", { class: "caption" },
      h("span", { class: "label" }, broken(called(image))),
      h("span", { class: "value" }, note ?? prediction(network, image))));
}

/** Rows of {name, href, value, text, note, noteHref, mark}, each with a bar as long as its value; the longest stands for `full`. */
export function bars(rows, full) {
  return h("ul", { class: "bars" }, rows.map(({ name, href, value, text, note, noteHref, mark, color }) =>
    h("li", {},
      h("span", { class: "name" }, href === null ? name : h("a", { href }, name), mark && h("em", {}, mark)),
      h("span", { class: "track" },
        h("span", { class: "bar", style: { width: `${full > 0 ? (100 * Math.max(0, value)) / full : 0}%`, ...(color && { background: color }) } })),
      h("span", { class: "amount" }, text),
      note && h("small", {}, noteHref ? h("a", { href: noteHref }, note) : note))));
}

/** Links to the previous, upper and next page; each is {href, text} or null. The arrow keys follow them. */
export function pager(label, { prev = null, up = null, next = null }) {
  const link = (rel, target, before, after) => (target === null
    ? h("span", { class: `blank ${rel}`, "aria-hidden": "true" }, before, after)
    : h("a", { rel, href: target.href, title: target.title ?? null }, before, h("span", {}, target.text), after));
  return h("nav", { class: "pager", "aria-label": label },
    up && link("up", up, "↑ ", null), link("prev", prev, "← ", null), link("next", next, null, " →"));
}

/** A frame in the proportions of the input, and in it the part that one position of a layer sees. */
export function fieldGlyph(network, field) {
  const [height, width] = network.input.size;
  const [tall, wide] = field.whole ? [height, width] : field.size.map((size, i) => Math.min(size, [height, width][i]));
  const unit = Math.max(height, width) / 24;
  return svg("svg", { class: "field", viewBox: `${-unit} ${-unit} ${width + 2 * unit} ${height + 2 * unit}`, "aria-hidden": "true" },
    svg("rect", { width, height, fill: "none", stroke: "currentColor", "stroke-width": unit, opacity: 0.45 }),
    svg("rect", { x: (width - wide) / 2, y: (height - tall) / 2, width: wide, height: tall, fill: "currentColor", opacity: 0.75 }));
}

/** The class that a channel stands for; null where it is no output of the network. */
export function standsFor(network, layer, channel) {
  if (!layer.classes) return null;
  const name = network.labels?.[channel] ?? String(channel);
  return name === String(channel) ? `class ${channel}` : name;
}

/** The link to the unit that stands for class `index` of the network; null where the atlas shows none. */
export const outputHref = (network, index) =>
  (network.output !== null && index !== null && index < network.output.shape[0] ? unitHash(network.output.name, index) : null);

/** The link of the name of class `index` of the images: to its unit, or where the network has none, to its images. */
export const nameHref = (network, index) =>
  (network.comparable ? outputHref(network, index) : null) ?? classHref(network, index);

/** The link to the images of class `index`, or null where the label is not among the classes. */
export const classHref = (network, index) =>
  (index !== null && index < network.classes.length ? imagesHash({ class: index }) : null);
