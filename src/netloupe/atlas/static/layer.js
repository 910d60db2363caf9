// A layer: all its channels as tiles, in an order to choose, narrowed to those that prefer some class.

import { NotFound, getLayer } from "./api.js";
import { facts, h } from "./dom.js";
import { count, counted, layerHash, networkHash, number, percent, receptiveField, shape, unitHash } from "./format.js";
import { lacks } from "./making.js";
import { mappedLayers, unitMapHash } from "./mapframe.js";
import { nearest } from "./nearest.js";
import { likeness, pager, pictured, standsFor, tile, unkept } from "./pieces.js";
import { aboutLayer, pathChart } from "./synthesized.js";

const SORTS = {
  strength: { by: "strength", text: number, note: "Strength: the highest activation that any image caused." },
  sparsity: { by: "sparsity", text: percent, note: "Sparsity: the share of images that left the channel silent." },
  selectivity: { by: "selectivity", text: number,
    note: "Selectivity: how far the favorite class stands above all others, from 0 (not at all) to 1 (it alone)." },
  channel: { by: null, text: number, note: "In the order of the network. Beside the number: strength." },
};

/** What the query chooses: in which order channels are, and which. */
const chosenBy = (query) => ({
  sort: Object.hasOwn(SORTS, query.get("sort") ?? "") ? query.get("sort") : "strength",
  filter: query.get("filter") ?? "",
});

export function findLayer(network, name) {
  const layer = network.byName.get(name);
  if (layer !== undefined) return layer;
  const near = nearest(name, network.byName.keys());
  throw new NotFound(`There is no layer “${name}” in ${network.name}.`, near && { text: near, href: layerHash(near) });
}

export async function layerView({ name, query, network, setQuery }) {
  const layer = findLayer(network, name);
  const columns = meant(network, layer, await getLayer(name));
  const { sort, filter } = chosenBy(query);
  const blocks = synthesizedBlocks(network, layer);
  const whole = layer.synthesized !== null && !blocks.some((block) => lacks(network, block));
  const made = whole && query.get("tiles") === "synthesized";
  const kind = made ? "synthesized" : null;
  const tiles = inOrder(columns, SORTS[sort].by).map((channel) => channelTile(network, layer, columns, channel, sort, made));
  const grid = h("div", { id: "tiles", class: "tiles" }, tiles.map(({ element }) => element));
  const empty = h("p", { class: "notice", id: "none", hidden: true });
  const beside = h("div", {});
  const shown = h("span", { id: "shown", role: "status" });
  const choices = h("nav", { class: "choices", "aria-label": "Sort by" });
  const looks = h("nav", { id: "looks", class: "choices", "aria-label": "Show" });

  function narrow(text) {
    const wanted = wording(text);
    let visible = 0;
    for (const { element, channel } of tiles) {
      element.hidden = !named(columns, channel, wanted);
      element.href = unitHash(name, channel, { sort, filter: text });
      visible += element.hidden ? 0 : 1;
    }
    empty.hidden = visible > 0;
    if (visible === 0) empty.replaceChildren(...nothing(network, layer, columns, text, () => { field.value = ""; narrow(""); }));
    beside.replaceChildren(pager("Layers", around(network, layer, { sort: query.get("sort"), filter: text, tiles: kind })));
    shown.textContent = wanted === "" ? counted(tiles.length, "channel") : `${count(visible)} of ${counted(tiles.length, "channel")}`;
    choices.replaceChildren(...Object.keys(SORTS).map((key) =>
      h("a", { href: layerHash(name, { sort: key, filter: text, tiles: kind }), "aria-current": key === sort && "true", "data-sort": key },
        key === "channel" ? "number" : key)));
    looks.replaceChildren(...[[null, "patches"], ["synthesized", "synthesized"]].map(([tiles, look]) =>
      h("a", { href: layerHash(name, { sort: query.get("sort"), filter: text, tiles }), "aria-current": tiles === kind && "true", "data-tiles": look }, look)));
    setQuery({ sort: query.get("sort"), filter: text, tiles: kind });
  }
  const field = h("input", { id: "filter", type: "search", value: filter, placeholder: "any", autocomplete: "off",
    oninput: (event) => narrow(event.target.value) });
  narrow(filter);

  return {
    section: "network",
    title: name,
    waits: [`projections/${name}`, ...blocks],
    node: [
      h("header", { class: "opening" },
        beside,
        h("h1", {}, name),
        facts([
          ["Kind", layer.kind],
          [layer.shape.length === 1 ? "Shape" : "Channels × height × width", shape(layer.shape)],
          ["Each position sees", receptiveField(layer.receptive_field, layer.shape)],
          ["Parameters", layer.parameters > 0 ? count(layer.parameters) : null],
          ["Dead channels", `${count(layer.dead)} of ${count(layer.shape[0])}`],
          ["Map", unitMapped(network, layer) ? h("a", { id: "to-map", href: unitMapHash(name) }, "what responds alike") : null],
        ]),
        !pictured(network) && h("p", { id: "unkept", class: "note" }, unkept(network)),
        layer.alike && h("p", { id: "likeness", class: "note" }, likeness(layer)),
        network.synthesis !== null && blocks.some((block) => lacks(network, block)) && h("p", { class: "note coming" }, "Its images are being synthesized, and will be shown here."),
        whole && h("p", { id: "synthesis", class: "note" }, aboutLayer(network, layer)),
        whole && layer.synthesized.path && h("details", { class: "more" },
          h("summary", {}, "Are the synthesized images on the path that photographs take?"), pathChart(layer.synthesized.path))),
      h("section", { "aria-label": "Channels" },
        h("div", { class: "bar-line" },
          whole && [h("span", { class: "quiet-label" }, "Show"), looks],
          h("span", { class: "quiet-label" }, "Sort by"), choices,
          (hasClasses(columns) || filter !== "") && h("label", { class: "filter" },
            h("span", {}, layer.classes || network.labeled ? "Class" : "Taken for"), field),
          shown),
        h("p", { class: "note" }, SORTS[sort].note, " ", aboutNames(network, layer, columns)),
        grid, empty),
    ],
  };
}

/** Whether there is a map of its units, or will be. */
export const unitMapped = (network, { name }) => mappedLayers(network).some((layer) => layer.name === name);

/** What is waited for of the images of a layer, block by block. */
const synthesizedBlocks = ({ units_per_block: size }, { name, shape: [channels] }) =>
  Array.from({ length: Math.ceil(channels / size) }, (_, block) => `synthesized/${name}/${block}`);

/** The columns as this layer's page shows them: channels that stand for classes bear their names. */
export function meant(network, layer, columns) {
  if (!layer.classes) return columns;
  const own = (values) => values.map((value, channel) => (network.comparable && columns.class[channel] === channel ? value : null));
  return { ...columns, label: columns.label.map((_, channel) => standsFor(network, layer, channel)), count: columns.label.map(() => null),
    selectivity: own(columns.selectivity) };
}

const hasClasses = (columns) => columns.label.some((label) => label !== null);

const wording = (text) => text.trim().toLowerCase();

/** Whether a channel's class has a name with the text in it. */
const named = (columns, channel, wanted) => wanted === "" || (columns.label[channel] ?? "").toLowerCase().includes(wanted);

/** The channels of a layer as the query chooses and orders them; null where it says nothing of an order. */
export function listed(columns, query) {
  if (!query.has("sort") && !query.has("filter")) return null;
  const { sort, filter } = chosenBy(query);
  return inOrder(columns, SORTS[sort].by).filter((channel) => named(columns, channel, wording(filter)));
}

/** What the names below the tiles mean. */
function aboutNames(network, layer, columns) {
  if (layer.classes) return "Each channel is the network’s answer for one class.";
  if (!hasClasses(columns)) return null;
  if (network.labeled) return "Named is the class that excites a channel most on average, and how many images of it there are.";
  return "The images bear no labels: named is the class whose images, those that the network takes for it, excite a channel most on average, and how many they are.";
}

/** What stands where no channel is left. */
function nothing(network, layer, columns, text, showAll) {
  const near = nearest(text.trim(), new Set(columns.label.filter((label) => label !== null)));
  const what = layer.classes ? "stands for a class" : network.labeled ? "prefers a class" : "prefers images taken for a class";
  return [`No channel of ${layer.name} ${what} with “${text.trim()}” in its name. `,
    ...(near === null ? [] : ["The nearest name is ", h("a", { href: layerHash(layer.name, { filter: near }) }, near), ". "]),
    h("button", { type: "button", class: "plain", onclick: showAll }, "Show all channels")];
}

/** Channel numbers, highest value first; those without a value and then the dead ones come last. */
function inOrder(columns, by) {
  const channels = [...columns.strength.keys()];
  if (by === null) return channels;
  const value = (channel) => columns[by][channel] ?? -Infinity;
  return channels.sort((a, b) =>
    columns.dead[a] - columns.dead[b] || (value(a) === value(b) ? a - b : value(b) - value(a)));
}

function channelTile(network, layer, columns, channel, sort, synthesized) {
  const label = columns.label[channel];
  const { by, text } = SORTS[sort];
  const captions = [channel, text(columns[by ?? "strength"][channel])];
  if (label !== null) captions.push(caption(network, label, columns.count[channel]));
  return { element: tile(network, layer, channel, { captions, dead: columns.dead[channel], synthesized }), channel };
}

function caption(network, label, images) {
  if (images === null) return label;
  return network.labeled ? `${label} (${count(images)})` : `taken for ${label} (${count(images)})`;
}

/** The links to the layers before and after, in the same order and narrowed to the same classes. */
function around(network, layer, query) {
  const to = (index) => {
    const other = network.layers[index];
    if (other === undefined) return null;
    return { href: layerHash(other.name, { ...query, tiles: other.synthesized === null ? null : query.tiles }), text: other.name };
  };
  return { prev: to(layer.index - 1), up: { href: networkHash(), text: network.name }, next: to(layer.index + 1) };
}
