// Which pixels matter: every method's map as it comes, over the photo; on demand how far each can be trusted.

import { h } from "./dom.js";
import { start } from "./live.js";
import { named } from "./trychooser.js";

export function pixelsSection(studio) {
  const cells = new Map();
  const strength = h("input", { id: "try-opacity", type: "range", min: 0, max: 100, value: 100, oninput: () => grid.style.setProperty("--lay", Number(strength.value) / 100) });
  const status = h("p", { id: "try-pixels-status", class: "note", role: "status" });
  const subject = h("p", { class: "note" });
  const trust = h("button", { type: "button", class: "framed", id: "try-trust", onclick: () => again(true) }, "How far to trust these?");
  const grid = h("div", { id: "try-pixels", class: "methods", style: { "--lay": 1 } });
  const node = h("section", { "aria-labelledby": "try-pixels-title" },
    h("div", { class: "bar-line" }, h("h2", { id: "try-pixels-title" }, "Which pixels matter"),
      h("label", { class: "filter" }, h("span", {}, "Map"), strength), trust),
    h("p", { class: "note" }, "Several ways to say which pixels the score depends on: red to yellow where they matter; in those with a sign, red speaks for it and blue against. "
      + "They answer different questions and often disagree. None says that the network would do without the rest."),
    subject, status, grid);
  let stop = () => {};
  let state = null;
  let whole = false;

  function again(wanted = whole) {
    whole = wanted;
    stop();
    if (state === null) return;
    const { photo, crop, about } = state;
    subject.textContent = about === null ? `About ${state.best?.label ?? "it"}, what it is taken for.` : `About ${named(studio, about)}.`;
    let shown = 0;
    stop = start("pixels", { photo, crop, settings: { about, whole } }, (kind, data) => {
      if (kind === "picture") { shown += 1; cell(data.name, data.src); }
      if (kind === "progress") status.textContent = data.part === "maps" ? `${data.done} of ${data.total} methods …` : `Testing ${data.done} of ${data.total} …`;
      if (kind === "done") {
        status.textContent = shown < studio.methods.length ? `${studio.methods.length - shown} of the methods can’t explain this network.` : "";
        if (data.figures) figures(data);
      }
      if (kind === "cancelled") status.textContent = data.message;
      if (kind === "failed") { status.textContent = data.message; grid.replaceChildren(); cells.clear(); }
    });
  }

  function cell(name, src) {
    const method = studio.methods.find((one) => one.name === name);
    if (!cells.has(name)) {
      const over = h("img", { class: "over", alt: `${method.title}, over the photo` });
      const under = h("img", { class: "beneath", alt: "" });
      const said = h("div", { class: "figures" });
      const node = h("figure", { class: "method", "data-method": name }, h("span", { class: "lay" }, under, over),
        h("figcaption", { class: "caption" }, h("span", {}, method.title), h("span", { class: "value" }, method.paper)), said);
      cells.set(name, { node, over, under, said });
      const order = studio.methods.map((one) => one.name);
      const after = order.slice(order.indexOf(name) + 1).map((next) => cells.get(next)?.node).find(Boolean);
      grid.insertBefore(node, after ?? null);
    }
    const { over, under, said } = cells.get(name);
    over.src = src;
    under.src = state.cropped;
    if (!whole) said.replaceChildren();
  }

  function figures({ figures: found, chance, rival }) {
    const text = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));
    for (const [name, one] of Object.entries(found)) {
      cells.get(name)?.said.replaceChildren(h("dl", {},
        [[`like its map for ${rival ?? "a rival"}`, text(one.class_likeness)], ["like the map of random weights", text(one.random_likeness)],
          ["deletion, by chance " + text(chance.deletion), text(one.deletion)], ["insertion, by chance " + text(chance.insertion), text(one.insertion)]]
          .map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value)))));
    }
    status.textContent = "A map that looks alike for another class or for random weights says little about this network. Good maps: deletion below chance, insertion above.";
  }

  return { name: "pixels", node, show: (now) => { state = now; again(false); }, leave: () => stop() };
}
