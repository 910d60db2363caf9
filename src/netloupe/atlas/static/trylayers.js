// Layer by layer: the strongest channels, laid over the photo under the pointer; a click makes one of them the subject.

import { h } from "./dom.js";
import { number, unitHash } from "./format.js";
import { mode, start } from "./live.js";
import { broken } from "./pieces.js";

export function layersSection(studio, { overlay, about }) {
  const rows = h("div", { id: "try-layers" });
  const status = h("p", { class: "note", role: "status" });
  const node = h("section", { "aria-labelledby": "try-layers-title" },
    h("h2", { id: "try-layers-title" }, "Layer by layer"),
    h("p", { class: "note" }, "The channels of each layer that answer most, brightest where they do. Each layer has a scale of its own, up to its strongest value; below a map stand the channel’s number and its highest value. "
      + "Bright does not mean important: the network may make little of it. Point at a map to lay it over the photo; click it to make that channel what all is about."),
    status, rows);
  let stop = () => {};

  function show({ photo, crop }) {
    stop();
    stop = start("layers", { photo, crop }, (kind, data) => {
      if (kind === "done") { status.textContent = ""; rows.replaceChildren(...data.rows.map((row) => layerRow(studio, row, overlay, about))); }
      if (kind === "failed" || kind === "cancelled") status.textContent = data.message;
    });
  }
  return { name: "layers", node, show, leave: () => stop() };
}

function layerRow(studio, { layer, channels, peaks, sheet }, overlay, about) {
  const last = Math.max(1, channels.length - 1);
  return h("div", { class: "map-row", "data-layer": layer },
    h("h3", {}, broken(layer)),
    h("div", { class: "map-cells" }, channels.map((channel, i) => {
      const look = { "background-image": `url("${sheet}")`, "background-size": `${100 * channels.length}% 100%`, "background-position": `${(100 * i) / last}% 0` };
      const dropped = () => overlay(null);
      return h("div", { class: "map" },
        h("button", { type: "button", "aria-label": `${layer}, channel ${channel}, peak ${number(peaks[i])}`, "data-channel": channel,
          onclick: () => about(`${layer}:${channel}`), onpointerenter: () => overlay(sized(studio, look)), onpointerleave: dropped,
          onfocus: () => overlay(sized(studio, look)), onblur: dropped },
        h("span", { class: "cut there", style: look })),
        h("span", { class: "caption" },
          mode === "atlas" ? h("a", { href: unitHash(layer, channel) }, channel) : h("span", {}, channel),
          h("span", { class: "value" }, number(peaks[i]))));
    })));
}

const sized = (studio, look) => ({ backgroundImage: look["background-image"], backgroundSize: look["background-size"], backgroundPosition: look["background-position"] });
