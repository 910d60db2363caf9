// Where it looks: the attention of every head, from the first token or from the place that is pointed at.

import { h } from "./dom.js";
import { gridPad } from "./gridpad.js";
import { SCALE, TRUTH, headCells } from "./heads.js";
import { start } from "./live.js";

/** null for a network without attention. */
export function looksSection(studio) {
  if (studio.attentions.length === 0) return null;
  const pad = gridPad("Your photo, to look from a place.", studio.input.size, (place) => { origin = place; again(); });
  const first = h("button", { type: "button", class: "framed", id: "try-looks-first", onclick: () => { origin = null; pad.mark(null); again(); } }, "From the first token");
  const status = h("p", { id: "try-looks-status", class: "note", role: "status" });
  const from = h("figcaption", { class: "caption", id: "try-looks-from" });
  const rows = h("div", { id: "try-looks" });
  const node = h("section", { "aria-labelledby": "try-looks-title" },
    h("div", { class: "bar-line" }, h("h2", { id: "try-looks-title" }, "Where it looks"), first),
    h("p", { class: "note" }, `The attention of every head, at first from the token that stands before the patches, mostly that of the class; point at the photo to look from there. ${SCALE} ${TRUTH}`),
    status,
    h("div", { class: "pad-pair" }, h("figure", {}, pad.node, from), rows));
  const drawn = new Map(); // attention -> its cells
  let laid = null; // {name, head}, whose map lies over the photo
  let origin = null;
  let state = null;
  let stop = () => {};
  let busy = false;

  function lay(name, head) {
    if (laid !== null && laid.name !== name) drawn.get(laid.name)?.release();
    laid = head === null ? null : { name, head };
    relay();
  }

  const relay = () => pad.lay(laid === null ? null : drawn.get(laid.name)?.style(laid.head) ?? null);

  function row({ layer, grid, sheet, peaks }) {
    if (!drawn.has(layer)) {
      const cells = headCells(layer, peaks.length, grid, (head) => lay(layer, head));
      drawn.set(layer, cells);
      rows.append(h("div", { class: "head-row" }, h("h3", {}, layer), cells.node));
    }
    drawn.get(layer).show(sheet, 0, 1, peaks);
  }

  /** One question after the other, so that a pointer that moves on is not left without answers. */
  function again() {
    if (busy || state === null) return;
    busy = true;
    const asked = origin;
    stop = start("looks", { ...state.asked, settings: { origin: asked } }, (kind, data) => {
      if (kind === "progress") return;
      busy = false;
      status.textContent = kind === "failed" ? data.message : "";
      if (kind === "done") {
        const [{ grid }] = data.layers;
        pad.show(state.cropped, grid);
        from.textContent = `from ${data.from}`;
        data.layers.forEach(row);
        for (const [name, why] of Object.entries(data.skipped)) status.append(`${name} is left out: ${why}. `);
        relay();
      }
      if (kind !== "failed" && asked !== origin) again();
    });
  }

  function show({ photo, crop, cropped }) {
    stop();
    busy = false;
    state = { asked: { photo, crop }, cropped };
    again();
  }
  const sent = () => (state === null ? null : { settings: { origin } });
  return { name: "looks", sent, node, show, leave: () => stop() };
}
