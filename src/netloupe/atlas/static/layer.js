// A layer: all its channels as tiles, in an order to choose, narrowed to those that prefer some class.

import { NotFound, getLayer } from "./api.js";
import { facts, h } from "./dom.js";
import { count, counted, layerHash, networkHash, number, percent, receptiveField, shape } from "./format.js";
import { nearest } from "./nearest.js";
import { likeness, pager, tile } from "./pieces.js";
import { aboutLayer, pathChart } from "./synthesized.js";

const SORTS = {
  strength: { by: "strength", text: number, note: "Strength: the highest activation that any image caused." },
  sparsity: { by: "sparsity", text: percent, note: "Sparsity: the share of images that left the channel silent." },
  selectivity: { by: "selectivity", text: number,
    note: "Selectivity: how far the favorite class stands above all others, from 0 (not at all) to 1 (it alone)." },
  channel: { by: null, text: number, note: "In the order of the network. Beside the number: strength." },
};

export function findLayer(network, name) {
  const layer = network.byName.get(name);
  if (layer !== undefined) return layer;
  const near = nearest(name, network.byName.keys());
  throw new NotFound(`There is no layer “${name}” in ${network.name}.`, near && { text: near, href: layerHash(near) });
}

export async function layerView({ name, query, network, setQuery }) {
  const layer = findLayer(network, name);
  const columns = await getLayer(name);
  const sort = Object.hasOwn(SORTS, query.get("sort") ?? "") ? query.get("sort") : "strength";
  const filter = query.get("filter") ?? "";
  const made = layer.synthesized !== null && query.get("tiles") === "synthesized";
  const kind = made ? "synthesized" : null;
  const tiles = inOrder(columns, SORTS[sort].by).map((channel) => channelTile(network, layer, columns, channel, sort, made));
  const grid = h("div", { id: "tiles", class: "tiles" }, tiles.map(({ element }) => element));
  const shown = h("span", { id: "shown", role: "status" });
  const choices = h("nav", { class: "choices", "aria-label": "Sort by" });
  const looks = h("nav", { id: "looks", class: "choices", "aria-label": "Show" });

  function narrow(text) {
    const wanted = text.trim().toLowerCase();
    let visible = 0;
    for (const { element, label } of tiles) {
      element.hidden = wanted !== "" && !label.includes(wanted);
      visible += element.hidden ? 0 : 1;
    }
    shown.textContent = wanted === "" ? counted(tiles.length, "channel") : `${count(visible)} of ${counted(tiles.length, "channel")}`;
    choices.replaceChildren(...Object.keys(SORTS).map((key) =>
      h("a", { href: layerHash(name, { sort: key, filter: text, tiles: kind }), "aria-current": key === sort && "true", "data-sort": key },
        key === "channel" ? "number" : key)));
    looks.replaceChildren(...[[null, "patches"], ["synthesized", "synthesized"]].map(([tiles, look]) =>
      h("a", { href: layerHash(name, { sort: query.get("sort"), filter: text, tiles }), "aria-current": tiles === kind && "true", "data-tiles": look }, look)));
    setQuery({ sort: query.get("sort"), filter: text, tiles: kind });
  }
  narrow(filter);

  return {
    section: "network",
    title: name,
    node: [
      h("header", { class: "opening" },
        pager("Layers", around(network, layer)),
        h("h1", {}, name),
        facts([
          ["Kind", layer.kind],
          [layer.shape.length === 1 ? "Shape" : "Channels × height × width", shape(layer.shape)],
          ["Each position sees", receptiveField(layer.receptive_field)],
          ["Parameters", layer.parameters > 0 ? count(layer.parameters) : null],
          ["Dead channels", `${count(layer.dead)} of ${count(layer.shape[0])}`],
        ]),
        layer.alike && h("p", { id: "likeness", class: "note" }, likeness(layer)),
        layer.synthesized && h("p", { id: "synthesis", class: "note" }, aboutLayer(network, layer)),
        layer.synthesized?.path && h("details", { class: "more" },
          h("summary", {}, "Are the synthesized images on the path that photographs take?"), pathChart(layer.synthesized.path))),
      h("section", { "aria-label": "Channels" },
        h("div", { class: "bar-line" },
          layer.synthesized && [h("span", { class: "quiet-label" }, "Show"), looks],
          h("span", { class: "quiet-label" }, "Sort by"), choices,
          hasClasses(columns) && h("label", { class: "filter" }, h("span", {}, "Class"),
            h("input", { id: "filter", type: "search", value: filter, placeholder: "any", autocomplete: "off",
              oninput: (event) => narrow(event.target.value) })),
          shown),
        h("p", { class: "note" }, SORTS[sort].note),
        grid),
    ],
  };
}

const hasClasses = (columns) => columns.label.some((label) => label !== null);

/** Channel numbers, highest value first; those without a value and then the dead ones come last. */
function inOrder(columns, by) {
  const channels = [...columns.strength.keys()];
  if (by === null) return channels;
  const value = (channel) => columns[by][channel] ?? -Infinity;
  return channels.sort((a, b) =>
    columns.dead[a] - columns.dead[b] || (value(a) === value(b) ? a - b : value(b) - value(a)));
}

function channelTile(network, layer, columns, channel, sort, synthesized) {
  const label = columns.label[channel] ?? "";
  const { by, text } = SORTS[sort];
  const captions = [channel, text(columns[by ?? "strength"][channel])];
  if (label !== "") captions.push(label);
  return { element: tile(network, layer, channel, { captions, dead: columns.dead[channel], synthesized }), label: label.toLowerCase() };
}

function around(network, layer) {
  const to = (index) => (index < 0 || index >= network.layers.length ? null
    : { href: layerHash(network.layers[index].name), text: network.layers[index].name });
  return { prev: to(layer.index - 1), up: { href: networkHash(), text: network.name }, next: to(layer.index + 1) };
}
