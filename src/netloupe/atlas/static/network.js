// The network: what it is, and its layers in order, each with a strip of typical channels.

import { attentionSection } from "./attention.js";
import { facts, h } from "./dom.js";
import { count, counted, layerHash, networkHash, percent, receptiveField, shape } from "./format.js";
import { soFar } from "./making.js";
import { opening } from "./opening.js";
import { fieldGlyph, pictured, tile, unkept } from "./pieces.js";

export async function networkView({ query, network }) {
  const list = query.get("view") === "list" || !pictured(network);
  const { lead, sections } = list ? { lead: null, sections: [] } : await opening(network);
  const modes = [["Pictures", networkHash(), !list], ["List", `${networkHash()}?view=list`, list]];
  return {
    section: "network",
    waits: ["map", "attention"],
    node: [
      h("header", { class: "opening" },
        h("h1", {}, network.name),
        lead,
        list ? facts(about(network)) : null),
      ...sections,
      list ? null : facts(about(network)),
      list ? null : attentionSection(network),
      h("section", { "aria-labelledby": "layers-title" },
        h("div", { class: "bar-line" },
          h("h2", { id: "layers-title" }, "Layers"),
          pictured(network) && h("nav", { class: "choices", "aria-label": "Show layers as" },
            modes.map(([text, href, chosen]) => h("a", { href, "aria-current": chosen && "true" }, text)))),
        list ? null : h("p", { class: "note" }, introduction(network)),
        h("ol", { id: "layers", class: list ? "list" : "strips" }, list ? network.layers.map((layer, index) => row(network, layer, index, list))
          : folded(network.layers).map(([layer, index, again]) => row(network, layer, index, list, again)))),
      skipped(network),
      provenance(network),
    ],
  };
}

function introduction(network) {
  const most = network.per_photograph === null ? "" : `, at most ${count(network.per_photograph)} from one photograph`;
  if (network.images === 0) return `Tiles come with the first images: each is one channel of a layer, the nine pieces of images that it answered most strongly${most}.`;
  return `Each tile is one channel of a layer: the nine pieces of images, out of ${count(network.images)}, that it answered most strongly${most}.`;
}

function about(network) {
  const { input, accuracy, projections } = network;
  return [
    ["Input", `${input.size.map(count).join(" × ")} px, ${input.channels === 3 ? "color" : counted(input.channels, "channel")}`],
    ["Layers", count(network.layers.length)],
    ["Parameters", count(network.parameters)],
    ["Images", `${soFar(network)} (${network.source})`],
    ["Pictures", unkept(network)],
    ["Accuracy", accuracy && `${percent(accuracy.top1)}, in the top five ${percent(accuracy.top5)}`],
    ["Projections", projections.rule ?? (projections.missing && `none: ${projections.missing}`)],
    ["Classes", network.labels && network.labels.length > 0 ? classes(network) : null],
    ["Made", new Date(network.created).toLocaleDateString("en-US", { year: "numeric", month: "long", day: "numeric" })],
  ];
}

function classes({ labels, output }) {
  const text = count(labels.length);
  return output === null ? text : h("a", { href: layerHash(output.name, { sort: "channel" }) }, text);
}

/** [layer, its place, those right after it whose pictures would repeat its own]. */
function folded(layers) {
  const rows = [];
  layers.forEach((layer, index) => {
    if (layer.repeats && rows.at(-1)?.[0].name === layer.repeats) rows.at(-1)[2].push(layer);
    else rows.push([layer, index, []]);
  });
  return rows;
}

function repeating(again) {
  if (again.length === 0) return null;
  const links = again.map(({ name }) => h("a", { href: layerHash(name) }, name));
  return h("p", { class: "note again" }, "The same images in ", links.flatMap((link, i) => (i === 0 ? [link] : [i === links.length - 1 ? " and " : ", ", link])), ".");
}

function row(network, layer, index, list, again = []) {
  const sees = receptiveField(layer.receptive_field);
  return h("li", { class: "layer", "data-layer": layer.name },
    h("div", { class: "layer-line" },
      h("span", { class: "ordinal" }, index + 1),
      h("h3", {}, h("a", { href: layerHash(layer.name) }, layer.name)),
      h("span", { class: "kind" }, layer.kind),
      h("span", { class: "shape" }, shape(layer.shape)),
      h("span", { class: "sees" }, sees && [fieldGlyph(network, layer.receptive_field), ` sees ${sees}`]),
      h("span", { class: "dead-count" }, layer.dead > 0 ? `${count(layer.dead)} dead` : null)),
    list ? null : h("div", { class: "strip" }, layer.typical.map((channel, strip) => tile(network, layer, channel, { strip }))),
    repeating(again));
}

function skipped({ skipped: files }) {
  if (files.length === 0) return null;
  return h("details", { id: "skipped", class: "more" },
    h("summary", {}, `${counted(files.length, "image")} skipped`),
    h("ul", {}, files.map(({ name, reason }) => h("li", {}, h("b", {}, name), ` ${reason}`))));
}

function provenance({ provenance: entries }) {
  if (!entries || Object.keys(entries).length === 0) return null;
  return h("details", { id: "provenance", class: "more" },
    h("summary", {}, "How this atlas was made"),
    facts(Object.entries(entries).filter(([, value]) => !vacant(value)).map(([term, value]) => [term, flat(value)])));
}

/** Whether a value says nothing. */
const vacant = (value) => value === null || value === "" || (typeof value === "object" && Object.values(value).every(vacant));

/** Nested values on one line, without those that say nothing: "torch 2.6.0, netloupe 0.1.0". */
function flat(value) {
  if (Array.isArray(value)) return value.map(flat).join(" ");
  if (value === null || typeof value !== "object") return String(value);
  return Object.entries(value).filter(([, inner]) => !vacant(inner)).map(([key, inner]) => `${key} ${flat(inner)}`).join(", ");
}
