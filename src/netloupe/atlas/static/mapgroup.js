// A group of images that was lassoed, and what its members share.

import { h } from "./dom.js";
import { count, counted, imageHash, percent } from "./format.js";
import { NONE, getFeatureRows } from "./mapdata.js";
import { bars, nameHref, outputHref, photo, tile } from "./pieces.js";

const CLASSES = 6;
const CHANNELS = 8;
const MEMBERS = 48;

/** The places whose points lie inside a polygon [[x, y], ...] in the map's coordinates, by the even-odd rule. */
export function inside(polygon, { x, y }) {
  const [left, right] = [Math.min(...polygon.map(([px]) => px)), Math.max(...polygon.map(([px]) => px))];
  const places = [];
  for (let place = 0; place < x.length; place += 1) {
    const [px, py] = [x[place], y[place]];
    if (px < left || px > right) continue;
    let within = false;
    for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
      const [ax, ay] = polygon[i];
      const [bx, by] = polygon[j];
      if (ay > py !== by > py && px < ((bx - ax) * (py - ay)) / (by - ay) + ax) within = !within;
    }
    if (within) places.push(place);
  }
  return places;
}

/** Classes of the members, most frequent first: {index, members, share, lift}; lift is how much more frequent than over all images. */
export function classShares(classes, places) {
  const tally = (indices) => {
    const found = new Map();
    for (const index of indices) if (index !== NONE) found.set(index, (found.get(index) ?? 0) + 1);
    return found;
  };
  const all = tally(classes);
  return [...tally(places.map((place) => classes[place]))].map(([index, members]) => ({
    index, members, share: members / places.length, lift: (members / places.length) / (all.get(index) / classes.length),
  })).sort((a, b) => b.members - a.members || b.lift - a.lift || a.index - b.index);
}

/** How many members have their label predicted: {right, share, all}; null where no label can be compared. */
export function rightness({ labels, predictions }, places) {
  const known = places.filter((place) => labels[place] !== NONE);
  if (known.length === 0) return null;
  const right = known.filter((place) => labels[place] === predictions[place]).length;
  let [total, allRight] = [0, 0];
  labels.forEach((label, place) => {
    total += label === NONE ? 0 : 1;
    allRight += label !== NONE && label === predictions[place] ? 1 : 0;
  });
  return { right, share: right / known.length, all: allRight / total };
}

/** The members in the order of places, in groups that share a sheet or block of `size` places: [number, places]. */
function byBlock(places, size) {
  const blocks = new Map();
  for (const place of places) {
    const number = Math.floor(place / size);
    (blocks.get(number) ?? blocks.set(number, []).get(number)).push(place);
  }
  return [...blocks];
}

/** The mean over the members of each pixel of their thumbnails: {side, values} with values in [0, 255], RGB after RGB. */
export async function meanImage(sprites, places, going) {
  if (sprites.large === undefined) return null;
  const { side, count: perSheet } = sprites.large;
  const area = side * side;
  const sums = new Float64Array(3 * area);
  let used = 0;
  for (const [number, members] of byBlock(places, perSheet)) {
    const sheet = await sprites.load(sprites.large, number);
    if (!going()) return null;
    if (!sheet?.tiles) continue;
    used += members.length;
    for (const place of members) {
      const first = (place % perSheet) * area;
      for (let i = 0; i < area; i += 1) {
        const color = sheet.tiles[first + i];
        sums[3 * i] += color & 255;
        sums[3 * i + 1] += (color >> 8) & 255;
        sums[3 * i + 2] += (color >> 16) & 255;
      }
    }
  }
  return used === 0 ? null : { side, values: sums.map((sum) => sum / used) };
}

/** Channels by how far the members' mean lies above that of all images, in standard deviations of all: [{channel, above}]. */
export async function strongChannels(map, places, going) {
  const { low, high, mean, deviation } = map.channels;
  const sums = new Float64Array(low.length);
  for (const [number, members] of byBlock(places, map.block)) {
    const row = await getFeatureRows(map, number);
    if (!going()) return null;
    for (const place of members) {
      const values = row(place);
      for (let channel = 0; channel < sums.length; channel += 1) sums[channel] += values[channel];
    }
  }
  return [...sums.keys()].filter((channel) => deviation[channel] > 0).map((channel) => {
    const value = low[channel] + ((high[channel] - low[channel]) * sums[channel]) / (255 * places.length);
    return { channel, above: (value - mean[channel]) / deviation[channel] };
  }).sort((a, b) => b.above - a.above || a.channel - b.channel);
}

/** Fills the panel; resolves to what was found once all of it is there, or to null if `going` turned false meanwhile. */
export async function showGroup(panel, { network, map, sprites, places, clear, going }) {
  const mean = h("div", { class: "mean" });
  const channels = h("div", { class: "group-channels" });
  const right = network.comparable ? rightness(map, places) : null;
  const labeled = classShares(map.labels, places);
  const taken = classShares(map.predictions, places);
  panel.replaceChildren(
    h("div", { class: "bar-line" }, h("h2", { id: "group-title", tabindex: -1 }, counted(places.length, "image")),
      h("button", { type: "button", id: "clear", class: "plain", onclick: clear }, "Close")),
    ...(places.length === 0 ? [h("p", { class: "note" }, "No image lies inside the line.")] : [
      h("div", { class: "group-head" }, mean,
        h("p", { class: "note" }, map.sprites.length > 0 ? "The mean of their pixels." : "No pictures are kept.",
          right && h("span", { id: "group-right" }, ` ${percent(right.share)} of them are taken for what they are, of all images ${percent(right.all)}.`))),
      ...classList("Labels", "group-labels", labeled, network.classes, (index) => nameHref(network, index)),
      ...classList("Taken for", "group-predictions", taken, network.labels ?? [], (index) => outputHref(network, index) ?? (network.comparable ? nameHref(network, index) : null)),
      h("h3", {}, "Channels that stand out"), channels,
      h("h3", {}, "Images"), members(network, map, places)]));
  panel.hidden = false;
  if (places.length === 0) return { mean: null, channels: [], labels: [], predictions: [] };
  const [picture, strongest] = await Promise.all([meanImage(sprites, places, going), strongChannels(map, places, going)]);
  if (!going()) return null;
  mean.replaceChildren(picture !== null ? meanPicture(network, picture) : map.sprites.length > 0 ? "no picture" : "");
  channels.replaceChildren(...channelTiles(network, map, strongest));
  return { mean: picture, channels: strongest, labels: labeled, predictions: taken };
}

function classList(title, id, rows, names, hrefOf) {
  if (rows.length === 0) return [];
  const shown = rows.slice(0, CLASSES).map(({ index, members, share, lift }) => ({
    name: names[index] ?? String(index), href: hrefOf(index), value: share, text: percent(share),
    note: `${count(members)}, ${lift >= 10 ? Math.round(lift) : lift.toFixed(1)}×` }));
  return [h("h3", {}, title), h("div", { id, class: "group-classes" }, bars(shown, 1)),
    h("p", { class: "note" }, rows.length > CLASSES ? `and ${counted(rows.length - CLASSES, "class", "classes")} more. ` : "",
      "×: how much more often than among all images.")];
}

function meanPicture(network, { side, values }) {
  const [height, width] = network.input.size;
  const canvas = h("canvas", { width: side, height: side, role: "img", "aria-label": "The mean of the images’ pixels", style: { "aspect-ratio": `${width} / ${height}` } });
  const image = new ImageData(side, side);
  for (let i = 0; i < side * side; i += 1) image.data.set([...values.subarray(3 * i, 3 * i + 3), 255].map(Math.round), 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function channelTiles(network, map, strongest) {
  const layer = network.byName.get(map.channels.layer);
  const shown = strongest.slice(0, CHANNELS).filter(({ above }) => above > 0);
  const text = ({ above }) => `+${above.toFixed(1)} σ`;
  const note = h("p", { class: "note" }, layer === undefined ? `Of layer ${map.channels.layer}, which has no page in this atlas. ` : `Of layer ${layer.name}. `,
    "σ: how far their mean lies above that of all images, in standard deviations over all images.");
  if (shown.length === 0) return [h("p", { class: "note" }, "None: no channel is above its mean over all images.")];
  if (layer === undefined) return [h("p", {}, shown.map((one) => `${one.channel} (${text(one)})`).join(", ")), note];
  return [h("div", { class: "group-tiles" }, shown.map((one) => tile(network, layer, one.channel, { captions: [one.channel, text(one)] }))), note];
}

function members(network, map, places) {
  const list = h("div", { class: "group-members" });
  const more = h("button", { type: "button", class: "plain", onclick: () => add() });
  let shown = 0;
  function add() {
    for (const place of places.slice(shown, shown + MEMBERS)) {
      const id = map.ids[place];
      list.append(h("a", { href: imageHash(id), "data-image": id, "aria-label": `Image ${id}` }, photo(network, id)));
    }
    shown = Math.min(places.length, shown + MEMBERS);
    more.hidden = shown === places.length;
    more.textContent = `show more, ${count(places.length - shown)} are left`;
  }
  add();
  return h("div", {}, list, more);
}
