// An atlas that is being made while one looks: how far it is, and what a page shows that is not there yet.
// data/making.json tells it, and is told what the page on display waits for, so that this is made first.

import { getMaking, renew } from "./api.js";
import { h } from "./dom.js";
import { count, counted } from "./format.js";

const EVERY = 1000; // ms between questions
const STAGES = {
  sweep: "images go through the network", layers: "channels", tiles: "tiles", neighbors: "nearest images", "attention heads": "attention heads",
  attention: "attention maps", projections: "projections", map: "the map", "unit maps": "maps of units", synthesis: "synthesized images",
};

/** Whether something of the atlas is not there yet, by its name, as "projections/conv1". */
export const lacks = ({ making }, name) => making !== undefined && making.missing.includes(name);

/** Whether only some of the images are in. */
export const partly = ({ making }) => making !== undefined && making.images < making.of;

/** In place of what is not there yet. `what` begins a sentence. */
export const coming = (network, name, what) => (lacks(network, name) ? h("p", { class: "notice coming" }, `${what} being made, and will be shown here.`) : null);

/** "256 so far, of 1,503", where the others are on their way; else "1,503". */
export const soFar = (network) => (partly(network) ? `${count(network.images)} so far, of ${count(network.making.of)}` : count(network.images));

/** Keeps the page up with the making. shown(): {seen: the atlas as it was drawn, waits: what the page on display waits for}.
 *  came(network): called when some of that is there, or there are more images. */
export function setUpMaking(network, shown, came) {
  if (network?.making === undefined) return;
  const meter = h("progress", { "aria-label": "How much of it is made" });
  const title = h("strong");
  const told = h("span", { class: "told" });
  const bar = h("section", { id: "making", "aria-label": "The making of this atlas" }, meter, h("p", {}, title, " ", told));
  document.getElementById("status").before(bar);

  const state = ({ version, missing }) => JSON.stringify([version, missing]);
  let known = state({ ...network.making, version: network.version });
  let late = null; // what came while the page could not be drawn anew

  async function ask() {
    const { seen, waits = [] } = shown();
    const found = await getMaking(seen === null ? [] : waits.filter((name) => lacks(seen, name)));
    tell(found);
    if (state(found) !== known) {
      late = await renew();
      known = state({ missing: [], ...late.making, version: late.version });
    }
    if (late !== null && came(late)) late = null;
    return found.whole && late === null;
  }

  function tell({ whole, images, of, progress }) {
    bar.hidden = whole;
    const swept = images === of;
    title.textContent = images === 0 ? "This atlas begins" : swept ? "All images are in" : `After ${count(images)} of ${counted(of, "image")}`;
    const { name, done, total } = progress ?? {};
    told.textContent = [!swept && images > 0 && "what is shown is of these",
      progress && `${STAGES[name] ?? name}, ${count(done)} of ${count(total)}`].filter(Boolean).join("; ");
    if (total > 0) Object.assign(meter, { max: total, value: done });
    else meter.removeAttribute("value");
  }

  async function tend() {
    try {
      if (await ask()) return;
    } catch {
      Object.assign(title, { textContent: "The server does not answer" });
      told.textContent = "this is what was made by then; the same command goes on";
    }
    setTimeout(tend, EVERY);
  }
  tend();
}
