// Positions in color: which of a layer have like vectors; point at one to see how like it all others are.

import { h } from "./dom.js";
import { percent } from "./format.js";
import { gridPad } from "./gridpad.js";
import { start } from "./live.js";

const ENOUGH = 64; // positions of the layer that is shown at first

/** null for a network without positions. */
export function colorsSection(studio) {
  const layers = Object.keys(studio.colored);
  if (layers.length === 0) return null;
  const usual = layers.findLast((name) => studio.colored[name][0] * studio.colored[name][1] >= ENOUGH) ?? layers.at(-1);
  const chosen = h("select", { id: "try-colored", "aria-label": "Layer", onchange: () => { at = null; again(); } },
    layers.map((name) => h("option", { value: name, selected: name === usual }, name)));
  const pad = gridPad("Your photo, to choose a place.", studio.input.size, (place) => { at = place; again(); });
  const shape = { "aspect-ratio": `${studio.input.size[1]} / ${studio.input.size[0]}` };
  const picture = (id, alt) => h("img", { class: "fine", id, alt });
  const colors = picture("try-colors", "The positions in color");
  const likeness = picture("try-likeness", "How like each position is to the chosen one");
  const like = h("figcaption", { class: "caption" });
  const status = h("p", { id: "try-colors-status", class: "note", role: "status" });
  const told = h("p", { id: "try-colors-told", class: "note" });
  const node = h("section", { "aria-labelledby": "try-colors-title" },
    h("div", { class: "bar-line" }, h("h2", { id: "try-colors-title" }, "Positions in color"), h("label", { class: "filter" }, h("span", {}, "Layer"), chosen)),
    h("p", { class: "note" }, "Each position of the layer has a vector of all channels; its first three principal components over this photo are red, green and blue. "
      + "Like colors mean like vectors within this picture only, and which color stands for what is arbitrary. Places that look alike to a layer need not count alike for the answer."),
    status,
    h("div", { class: "color-trio" },
      h("figure", {}, pad.node, h("figcaption", { class: "caption" }, "point at a place")),
      h("figure", {}, h("div", { class: "lay", style: shape }, colors), h("figcaption", { class: "caption" }, "components as color")),
      h("figure", {}, h("div", { class: "lay", style: shape }, likeness), like)),
    told);
  let at = null;
  let state = null;
  let stop = () => {};
  let busy = false;

  /** One question after the other, so that a pointer that moves on is not left without answers. */
  function again() {
    if (busy || state === null) return;
    busy = true;
    const layer = chosen.value;
    const grid = studio.colored[layer];
    at ??= grid.map((count) => Math.floor(count / 2));
    const asked = at;
    pad.show(state.cropped, grid);
    pad.mark(asked);
    stop = start("colors", { ...state.asked, settings: { layer, at: asked } }, (kind, data) => {
      if (kind === "progress") return;
      busy = false;
      status.textContent = kind === "failed" ? data.message : "";
      if (kind === "done") tell(data, asked);
      if (kind !== "failed" && (asked !== at || layer !== chosen.value)) again();
    });
  }

  function tell({ grid, explained, outliers, ...found }, place) {
    colors.src = found.colors;
    likeness.src = found.likeness;
    like.textContent = `cosine to row ${place[0]}, column ${place[1]}: red 1, white 0, blue −1`;
    const [rows, columns] = grid;
    const shares = explained.map(percent).join(", ");
    told.textContent = `${rows} × ${columns} positions. The components hold ${shares} of the variance. `
      + `${outliers === 0 ? "No vector is" : outliers === 1 ? "One vector is" : `${outliers} vectors are`} longer than three times the median.`;
  }

  function show({ photo, crop, cropped }) {
    stop();
    busy = false;
    state = { asked: { photo, crop }, cropped };
    again();
  }
  const sent = () => (state === null || at === null ? null : { settings: { layer: chosen.value, at } });
  return { name: "colors", sent, node, show, leave: () => stop() };
}
