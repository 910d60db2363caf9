// What everything below is about: a class, or a unit of a layer; at first what the photo is taken for.

import { h } from "./dom.js";

/** `changed` is called when state.about changed: null, or an address such as "class:12" or "conv5:17". */
export function chooser(studio, state, changed) {
  const input = h("input", { id: "about", type: "text", list: "about-list", autocomplete: "off", spellcheck: "false",
    value: state.about === null ? "" : named(studio, state.about) });
  const list = h("datalist", { id: "about-list" }, studio.labels.map((label) => h("option", { value: label })));
  const note = h("p", { id: "about-note", class: "note", role: "status" });
  const back = h("button", { type: "button", class: "plain", onclick: () => choose(null) }, "what it is taken for");
  const node = h("div", { class: "about" },
    h("label", { for: "about" }, "All below is about"), input, list, note);

  function choose(about) {
    state.about = about;
    input.value = about === null ? "" : named(studio, about);
    tell();
    changed();
  }

  function tell(problem = null) {
    note.replaceChildren(...(problem !== null ? [problem]
      : state.about === null ? ["A class by its name, or a unit, as in ", h("code", {}, example(studio)), "."] : ["Or again about ", back, "."]));
  }

  input.addEventListener("change", () => {
    const typed = input.value.trim();
    const found = read(studio, typed);
    if (typed === "") choose(null);
    else if (found === null) tell(`Nothing here is called “${typed}”: a class, or a unit as ${example(studio)}.`);
    else choose(found);
  });
  tell();
  return { node, choose, taken: (best) => { input.placeholder = best === null ? "" : best.label; } };
}

function example({ layers }) {
  const [name, [channels]] = Object.entries(layers).at(-1);
  return `${name}:${Math.min(17, channels - 1)}`;
}

/** The address of what was typed; null where there is nothing of that name. */
function read({ labels, layers }, typed) {
  const wanted = typed.toLowerCase();
  const index = labels.findIndex((label) => label.toLowerCase() === wanted);
  if (index >= 0) return `class:${index}`;
  const [, layer, channel] = /^(.+):(\d+)$/.exec(typed) ?? [];
  return layer in layers && Number(channel) < layers[layer][0] ? `${layer}:${Number(channel)}` : null;
}

/** What to call an address. */
export function named({ labels }, about) {
  const index = /^class:(\d+)$/.exec(about)?.[1];
  return index === undefined ? about : labels[Number(index)];
}
