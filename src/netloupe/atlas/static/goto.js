// The box to go to a layer (conv3), a channel (conv3:17), an image (42) or a class by typing; with suggestions.

import { h } from "./dom.js";
import { imageHash, imagesHash, layerHash, unitHash } from "./format.js";

const AT_MOST = 10;

/** What the typed text may mean, best first: [{text, kind, hash}]. */
function suggestions(network, typed) {
  const text = typed.trim();
  if (text === "") return [];
  return [...image(network, text), ...units(network, text), ...layers(network, text), ...classes(network, text)].slice(0, AT_MOST);
}

function image(network, text) {
  const id = Number(text);
  return /^\d+$/.test(text) && id < network.ids && !network.gaps.has(id) ? [{ text: String(id), kind: "image", hash: imageHash(id) }] : [];
}

function units(network, text) {
  const [, name, digits] = /^(.*):\s*(\d+)$/.exec(text) ?? [];
  if (name === undefined) return [];
  const channel = Number(digits);
  return matching(network.layers, name, (layer) => layer.name).filter((layer) => channel < layer.shape[0])
    .map((layer) => ({ text: `${layer.name}:${channel}`, kind: "channel", hash: unitHash(layer.name, channel) }));
}

const layers = (network, text) => matching(network.layers, text.replace(/:$/, ""), (layer) => layer.name)
  .slice(0, 6).map((layer) => ({ text: layer.name, kind: "layer", hash: layerHash(layer.name) }));

const classes = (network, text) => matching(network.classes.map((name, index) => ({ name, index })), text, ({ name }) => name)
  .slice(0, 6).map(({ name, index }) => ({ text: name, kind: "class", hash: imagesHash({ class: index }) }));

/** Items whose name holds the text: the same name first, then those that begin with it. */
function matching(items, text, nameOf) {
  const wanted = text.trim().toLowerCase();
  const rank = (item) => {
    const name = nameOf(item).toLowerCase();
    return name === wanted ? 0 : name.startsWith(wanted) ? 1 : name.includes(wanted) ? 2 : 3;
  };
  return items.map((item) => [rank(item), item]).filter(([order]) => order < 3).sort(([a], [b]) => a - b).map(([, item]) => item);
}

export function setUpGoto(getNetwork) {
  const input = document.getElementById("goto");
  const list = document.getElementById("goto-list");
  let found = [];
  let active = 0;
  let refused = false;

  function draw() {
    const nothing = refused && input.value.trim() !== "" && found.length === 0;
    list.hidden = found.length === 0 && !nothing;
    input.setAttribute("aria-expanded", String(!list.hidden));
    list.replaceChildren(...found.map(({ text, kind, hash }, i) =>
      h("li", { id: `goto-${i}`, role: "option", "aria-selected": String(i === active),
        onmousedown: (event) => { event.preventDefault(); go(hash); } },
        h("span", {}, text), h("small", {}, kind))));
    if (nothing) list.append(h("li", { role: "option", "aria-disabled": "true" }, `Nothing here is called “${input.value.trim()}”.`));
    if (found.length > 0) input.setAttribute("aria-activedescendant", `goto-${active}`);
    else input.removeAttribute("aria-activedescendant");
  }

  async function look() {
    const typed = input.value;
    const network = await getNetwork().catch(() => null); // the view tells about the failure
    if (network === null || input.value !== typed) return;
    found = suggestions(network, typed);
    active = 0;
    draw();
  }

  function close() {
    found = [];
    refused = false;
    draw();
  }

  function go(hash) {
    input.value = "";
    close();
    input.blur();
    location.hash = hash;
  }

  input.addEventListener("input", () => { refused = false; look(); });
  input.addEventListener("blur", close);
  input.addEventListener("focus", look);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined && found.length > 0) {
      event.preventDefault();
      active = (active + step + found.length) % found.length;
      draw();
    } else if (event.key === "Escape") {
      if (list.hidden) input.blur();
      close();
    }
  });
  document.getElementById("goto-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = active;
    if (found.length === 0) await look();
    if (found.length > 0) go(found[Math.min(chosen, found.length - 1)].hash);
    else { refused = true; draw(); }
  });
}
