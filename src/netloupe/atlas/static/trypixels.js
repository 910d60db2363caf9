// Which pixels matter: every method's map as it comes, over the photo, of one class or of two side by side; on demand how
// far each can be trusted.

import { h } from "./dom.js";
import { hundredths } from "./format.js";
import { start } from "./live.js";
import { named } from "./trychooser.js";
import { classField, classOf, labeled } from "./tryform.js";

export function pixelsSection(studio) {
  const cells = new Map(); // method -> {node, lays, said, sides: [{node, over, under}]}
  const strength = h("input", { id: "try-opacity", type: "range", min: 0, max: 100, value: 100, oninput: () => grid.style.setProperty("--lay", Number(strength.value) / 100) });
  const other = classField("try-rival", { placeholder: "another class", onchange: () => again(false) });
  const status = h("p", { id: "try-pixels-status", class: "note", role: "status" });
  const subject = h("p", { class: "note", id: "try-pixels-subject" });
  const trust = h("button", { type: "button", class: "framed", id: "try-trust", onclick: () => again(true) }, "How far to trust these?");
  const grid = h("div", { id: "try-pixels", class: "methods", style: { "--lay": 1 } });
  const node = h("section", { "aria-labelledby": "try-pixels-title" },
    h("div", { class: "bar-line" }, h("h2", { id: "try-pixels-title" }, "Which pixels matter")),
    h("p", { class: "note" }, "Several ways to say which pixels the score depends on: red to yellow where they matter; in those with a sign, red speaks for it and blue against. "
      + "Each map has a scale of its own. They answer different questions and often disagree. None says that the network would do without the rest."),
    h("div", { class: "form-line" }, labeled("Photo to map", strength), studio.labels.length > 1 && labeled("Beside it", other), trust),
    subject, status, grid);
  let stops = [];
  let state = null;

  const leave = () => { for (const stop of stops) stop(); stops = []; };

  function again(whole) {
    leave();
    if (state === null) return;
    const { photo, crop, about, best } = state;
    const rival = classOf(studio, other.value);
    const main = about === null ? best?.label ?? "it" : named(studio, about);
    tell(rival === null && other.value.trim() !== "" ? `There is no class “${other.value.trim()}”.` : "");
    subject.textContent = rival !== null ? `On the left about ${main}, on the right about ${rival.label}.`
      : about === null ? `About ${main}, what it is taken for.` : `About ${main}.`;
    if (rival === null) for (const { sides } of cells.values()) sides.splice(1).forEach((side) => side.node.remove());
    const shown = new Set();
    stops.push(start("pixels", { photo, crop, settings: { about, whole } }, (kind, data) => {
      if (kind === "picture") { shown.add(data.name); lay(data.name, 0, data.src, main, whole); }
      if (kind === "progress") tell(data.part === "maps" ? `${data.done} of ${data.total} methods …` : `Testing ${data.done} of ${data.total} …`);
      if (kind === "done") {
        const others = studio.methods.filter(({ name }) => !shown.has(name)).map(({ title }) => title);
        const what = about === null || about.startsWith("class:") ? "" : "a unit of ";
        tell(others.length > 0 ? `These can’t explain ${what}this network: ${others.join(", ")}.` : "");
        if (data.figures) figures(data);
      }
      if (kind === "cancelled") tell(data.message);
      if (kind === "failed") { tell(data.message); grid.replaceChildren(); cells.clear(); }
    }));
    if (rival === null) return;
    stops.push(start("rival", { photo, crop, settings: { about: `class:${rival.index}` } }, (kind, data) => {
      if (kind === "picture") lay(data.name, 1, data.src, rival.label, false);
      if (kind === "failed" || kind === "cancelled") tell(data.message);
    }));
  }

  const tell = (text) => { status.textContent = text; };

  function cell(name) {
    const method = studio.methods.find((one) => one.name === name);
    const lays = h("div", { class: "lays" });
    const said = h("div", { class: "figures" });
    const node = h("figure", { class: "method", "data-method": name }, lays,
      h("figcaption", { class: "caption" }, h("span", {}, method.title), h("span", { class: "value" }, method.paper)), said);
    const order = studio.methods.map((one) => one.name);
    const after = order.slice(order.indexOf(name) + 1).map((next) => cells.get(next)?.node).find(Boolean);
    grid.insertBefore(node, after ?? null);
    return { node, lays, said, method, sides: [] };
  }

  /** Shows a map in its method's place: 0 on the left, 1 on the right. */
  function lay(name, side, src, subject, whole) {
    if (!cells.has(name)) cells.set(name, cell(name));
    const { lays, sides, said, method } = cells.get(name);
    while (sides.length <= side) {
      const over = h("img", { class: "over", alt: "" });
      const under = h("img", { class: "beneath", alt: "" });
      sides.push({ node: h("span", { class: "lay" }, under, over), over, under });
      lays.append(sides.at(-1).node);
    }
    const { over, under } = sides[side];
    over.alt = `${method.title} of ${subject}, over the photo`;
    over.src = src;
    under.src = state.cropped;
    if (side === 0 && !whole) said.replaceChildren();
  }

  function figures({ figures: found, chance, rival }) {
    for (const [name, one] of Object.entries(found)) {
      cells.get(name)?.said.replaceChildren(h("dl", {},
        [[`like its map for ${rival ?? "a rival"}`, hundredths(one.class_likeness)], ["like the map of random weights", hundredths(one.random_likeness)],
          ["deletion, by chance " + hundredths(chance.deletion), hundredths(one.deletion)], ["insertion, by chance " + hundredths(chance.insertion), hundredths(one.insertion)]]
          .map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value)))));
    }
    tell("Likeness is rank correlation, 1 for the same order of all pixels: a map that looks alike for another class or for random weights says little about this network. "
      + "Deletion and insertion are the mean score as pixels go, and come back, in the map’s order; good maps have deletion below chance, insertion above.");
  }

  return { name: "pixels", node, show: (now) => { state = now; again(false); }, leave };
}
