// A channel: its nine best patches with the photographs they come from, how often it responds, and to which classes.

import { NotFound, getLayer, getRowsOf, getStrictest, getUnit } from "./api.js";
import { histogram } from "./chart.js";
import { facts, h } from "./dom.js";
import { count, counted, imageHash, layerHash, number, percent, receptiveField, unitHash } from "./format.js";
import { growing } from "./grow.js";
import { findLayer, listed, meant, unitMapped } from "./layer.js";
import { coming, lacks, partly } from "./making.js";
import { unitMapHash } from "./mapframe.js";
import { bars, called, classHref, crop, likeness, nameHref, pager, photo, pictured, projection, standsFor, unkept } from "./pieces.js";
import { synthesized } from "./synthesized.js";
import { yours } from "./yours.js";

export async function unitView({ name: address, query, network }) {
  const colon = address.lastIndexOf(":");
  const [name, text] = colon < 0 ? [address, ""] : [address.slice(0, colon), address.slice(colon + 1)];
  const layer = findLayer(network, name);
  const channels = layer.shape[0];
  if (text === "") throw new NotFound(`“${address}” names a layer and no channel.`, { text: `${name}:0`, href: unitHash(name, 0) });
  if (!/^\d+$/.test(text) || Number(text) >= channels) {
    throw new NotFound(`There is no channel “${text}” in layer “${name}”: its channels are 0 to ${channels - 1}.`);
  }
  const channel = Number(text);
  const [held, found] = await Promise.all([getUnit(network, name, channel), getLayer(name)]);
  if (held === undefined) throw new NotFound(`The atlas holds nothing about channel ${channel} of layer “${name}”.`);
  const varied = network.per_photograph !== null && held.patches.length > 0;
  const strict = varied && query.get("best") === "strict";
  const unit = strict ? { ...held, patches: await getStrictest(network, name, channel) } : held;
  const rows = await getRowsOf(network, unit.patches.map(({ image }) => image));
  const columns = meant(network, layer, found);
  const meaning = standsFor(network, layer, channel);
  const chart = h("div", {}, histogram(unit.histogram, unit.patches.map(({ value }) => value)));
  const block = `synthesized/${name}/${Math.floor(channel / network.units_per_block)}`;
  let best = patches(network, layer, unit, rows, columns.dead[channel], !strict);
  let climbed = synthesized(network, layer, unit, block);
  const come = async (now) => {
    const [fresh, made] = [findLayer(now, name), await getUnit(now, name, channel)];
    const next = patches(now, fresh, unit, rows, columns.dead[channel], !strict);
    best.replaceWith(next);
    best = next;
    if (climbed === null) return;
    const other = synthesized(now, fresh, { ...unit, synthesized: made.synthesized }, block);
    climbed.replaceWith(other);
    climbed = other;
  };
  const grow = growing(layer, channel, held.patches[0]?.value ?? null, query.get("grow"));
  return {
    leave: grow.leave,
    section: "network",
    waits: [`projections/${name}`, block],
    come,
    title: meaning === null ? `${name}:${channel}` : `${meaning} (${name}:${channel})`,
    node: [
      h("header", { class: "opening" },
        pager("Channels", around(layer, columns, query, channel)),
        h("h1", {}, meaning === null ? name : meaning, " ",
          h("span", { class: "channel" }, meaning === null ? `channel ${channel}` : `${name} channel ${channel}`)),
        facts([
          ["Strength", number(columns.strength[channel])],
          ["Mean peak", number(columns.mean[channel])],
          ["Sparsity", percent(columns.sparsity[channel])],
          ["Selectivity", columns.selectivity[channel] === null ? null : number(columns.selectivity[channel])],
          ...preference(network, layer, columns, channel),
          ["Each position sees", receptiveField(layer.receptive_field, layer.shape)],
          ["Map", unitMapped(network, layer) && !columns.dead[channel] ? h("a", { id: "to-map", href: unitMapHash(name, { unit: channel }) }, "what responds alike") : null],
        ])),
      varied && choice(network, layer, query, channel, strict),
      best,
      yours(network, layer, unit, chart),
      climbed,
      grow.node,
      h("div", { class: "pair" },
        h("section", { "aria-labelledby": "histogram-title" },
          h("h2", { id: "histogram-title" }, partly(network) ? "Over the images so far" : "Over all images"),
          chart,
          unit.patches.length > 0 && h("p", { class: "note" }, h("span", { class: "key-mark", "aria-hidden": "true" }, "▲ "),
            unit.patches.length === 1 ? "the image above" : `the ${unit.patches.length} images above`)),
        unit.classes.length > 0 && classes(network, layer, unit)),
    ],
  };
}

/** The links to the layer and the channels before and after: in the order in which the layer listed them, else by number. */
function around(layer, columns, query, channel) {
  const order = listed(columns, query);
  const known = order !== null && order.includes(channel);
  const kept = Object.fromEntries([...known ? ["sort", "filter"] : [], "best"].map((key) => [key, query.get(key)]));
  const all = known ? order : [...columns.strength.keys()];
  const to = (place) => (all[place] === undefined ? null : { href: unitHash(layer.name, all[place], kept), text: String(all[place]) });
  const place = all.indexOf(channel);
  return { prev: to(place - 1), up: { href: layerHash(layer.name, { ...kept, best: null }), text: layer.name }, next: to(place + 1) };
}

/** What is told of the class it prefers, or stands for. */
function preference(network, layer, columns, channel) {
  const link = (href, text) => (href === null ? text : h("a", { href }, text));
  if (layer.classes) {
    return [["Answers for", link(network.comparable ? classHref(network, channel) : null, columns.label[channel])]];
  }
  if (columns.label[channel] === null) return [];
  const name = link(nameHref(network, columns.class[channel]), columns.label[channel]);
  return [[network.labeled ? "Prefers" : "Prefers images taken for", [name, ` (${counted(columns.count[channel], "image")})`]]];
}

/** Which patches are shown, and the way to the others. */
function choice(network, layer, query, channel, strict) {
  const kept = Object.fromEntries(["sort", "filter"].map((key) => [key, query.get(key)]));
  const to = (best, text) => h("a", { href: unitHash(layer.name, channel, { ...kept, best }), "data-best": best ?? "varied" }, text);
  const most = `${network.per_photograph === 1 ? "one" : count(network.per_photograph)} from one photograph`;
  return h("p", { id: "choice", class: "note" }, strict ? ["The strictly best, whatever photographs they are pieces of. ", to(null, `Show at most ${most}`)]
    : [`The best patches, at most ${most}. `, to("strict", "Show the strictly best")], ".");
}

function patches(network, layer, unit, rows, dead, withProjections) {
  if (unit.patches.length === 0) {
    return h("p", { class: "notice" }, dead ? `This channel is dead: none of ${count(network.images)} images brought it above zero.`
      : "No patches are kept for this channel.");
  }
  // All patches have the same scale, so the largest sets the frame.
  const frame = [0, 1].map((axis) => Math.max(...unit.patches.map(({ box }) => box[axis + 2] - box[axis])));
  const wanted = network.projections.rule !== null && !layer.unprojected && withProjections;
  const projected = wanted && !lacks(network, `projections/${layer.name}`);
  const pictures = (patch, rank) => [crop(network, patch.image, patch.box, frame),
    projected && projection(network, layer, unit.channel, rank, unit.patches.length, patch.box, frame)];
  return h("section", { "aria-label": "Best patches" },
    h("ol", { id: "patches", class: projected ? "patches projected" : "patches" },
      unit.patches.map((patch, rank) => best(network, patch, rows.get(patch.image), pictures(patch, rank), rank))),
    !pictured(network) && h("p", { class: "note", id: "unkept" }, unkept(network)),
    wanted && coming(network, `projections/${layer.name}`, "The projections of these patches are"),
    layer.unprojected && withProjections && h("p", { id: "unprojected", class: "note" }, `No projections: ${layer.unprojected}.`),
    projected && h("p", { id: "projections-note", class: "note" }, aboutProjections(network, layer)));
}

const RULES = { deconvnet: "deconvnet", guided: "guided backpropagation" };

function aboutProjections(network, layer) {
  return ["Beside each patch is its projection: this one response carried back to the pixels by ", RULES[network.projections.rule],
    ", gray where nothing arrives, each on a scale of its own. It follows the way that the image took through the network, so it ",
    "shows which pixels of this image the response came from, not all that the channel looks for; and it can look alike for different ",
    "channels, even for random weights. ", likeness(layer)];
}

function best(network, patch, row, pictures, rank) {
  const { image: id, value, box } = patch;
  const [height, width] = network.input.size;
  const whole = box[0] <= 0 && box[1] <= 0 && box[2] >= height && box[3] >= width;
  const label = called(row);
  return h("li", { class: whole ? "patch whole" : "patch", "data-image": id },
    h("a", { class: "plate", href: imageHash(id), "aria-label": `Patch ${rank + 1}, from image ${id}, ${label}` }, pictures),
    h("div", { class: "side" },
      whole ? null : h("a", { href: imageHash(id), tabindex: -1 },
        photo(network, id, { box, alt: `Image ${id}, ${label}; the box shows the patch` })),
      h("p", { class: "caption" }, h("span", { class: "value" }, number(value)), h("span", { class: "label" }, label))));
}

function classes(network, layer, unit) {
  const full = Math.max(...unit.classes.map(({ mean }) => mean));
  return h("section", { "aria-labelledby": "classes-title" },
    h("h2", { id: "classes-title" }, `${layer.classes ? "It answers most to" : "It prefers"} ${network.labeled ? "images of" : "images taken for"}`),
    h("div", { id: "classes" }, bars(unit.classes.map((row) => ({
      name: row.label, href: nameHref(network, row.index), value: row.mean, text: number(row.mean),
      note: counted(row.count, "image"), noteHref: classHref(network, row.index) })), full)),
    h("p", { class: "note" }, network.labeled ? "Mean of the peak activation over the images of the class. "
      : "Mean of the peak activation over the images that the network takes for the class, for they bear no labels. ",
    "Classes of fewer than five images are left out."));
}
