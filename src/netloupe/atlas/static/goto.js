// The box to go to a layer (conv3), a channel (conv3:17), an image (42, or its name) or a class by typing; with suggestions.

import { getImageRows } from "./api.js";
import { h } from "./dom.js";
import { attentionHash, count, imageHash, imagesHash, layerHash, unitHash } from "./format.js";
import { outputHref, standsFor } from "./pieces.js";

const AT_MOST = 8; // of one kind; how many more there are is said
const LOOKED = 50_000; // images whose names are looked through
const PAUSE = 150; // ms after the last letter before that begins

/** What the typed text may mean, best first, but for names of images: groups of {items: [{text, kind, hash}], more: text or null}. */
function suggestions(network, text) {
  if (text === "") return [];
  return [group(image(network, text)), group(units(network, text), "channels"), group(layers(network, text), "layers"), group(attentions(network, text), "attentions"),
    group(classes(network, text), "classes"), group(outputs(network, text), "channels")].filter(({ items }) => items.length > 0);
}

function group(items, noun) {
  const left = items.length - AT_MOST;
  return { items: items.slice(0, AT_MOST), more: left > 0 ? `${count(left)} more ${noun}` : null };
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
    .map((layer) => ({ text: `${layer.name}:${channel}`, kind: standsFor(network, layer, channel) ?? "channel", hash: unitHash(layer.name, channel) }));
}

const layers = (network, text) => matching(network.layers, text.replace(/:$/, ""), (layer) => layer.name)
  .map((layer) => ({ text: layer.name, kind: "layer", hash: layerHash(layer.name) }));

const attentions = (network, text) => matching(network.attention?.layers ?? [], text, ({ name }) => name)
  .map(({ name }) => ({ text: name, kind: "attention", hash: attentionHash(name) }));

const numbered = (names) => names.map((name, index) => ({ name, index }));

const classes = (network, text) => matching(numbered(network.classes), text, ({ name }) => name)
  .map(({ name, index }) => ({ text: name, kind: "images of the class", hash: imagesHash({ class: index }) }));

/** The channels that stand for classes. */
const outputs = (network, text) => matching(numbered(network.labels ?? []), text, ({ name }) => name)
  .filter(({ index }) => outputHref(network, index) !== null)
  .map(({ name, index }) => ({ text: name, kind: `${network.output.name}:${index}`, hash: outputHref(network, index) }));

/** Images with the text in their names, and whether that was all; null if `going` turned false meanwhile. */
async function named(network, text, going) {
  const wanted = text.toLowerCase();
  const step = 8 * network.images_per_block;
  const items = [];
  let start = 0;
  for (; start < Math.min(network.ids, LOOKED) && items.length <= AT_MOST; start += step) {
    const rows = await getImageRows(network, start, Math.min(start + step, network.ids));
    if (!going()) return null;
    for (const { id, name } of rows) if (name.toLowerCase().includes(wanted)) items.push({ text: name, kind: `image ${id}`, hash: imageHash(id) });
  }
  const more = items.length > AT_MOST ? "There are more images of such a name"
    : start < network.ids ? `Of ${count(network.ids)} images the names of ${count(start)} were looked through` : null;
  return { items: items.slice(0, AT_MOST), more };
}

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
  let groups = [];
  let looking = null; // resolves when the names of images were looked through
  let active = 0;
  let turn = 0; // counts letters, so that a slow answer does not follow a later one

  const items = () => groups.flatMap((one) => one.items);
  const said = (text) => h("li", { role: "option", "aria-disabled": "true" }, text);

  function draw() {
    const typed = input.value.trim();
    const all = items();
    list.hidden = typed === "" || document.activeElement !== input;
    input.setAttribute("aria-expanded", String(!list.hidden));
    let next = 0;
    const option = ({ text, kind, hash }) => {
      const i = next++;
      return h("li", { id: `goto-${i}`, role: "option", "aria-selected": String(i === active),
        onmousedown: (event) => { event.preventDefault(); go(hash); } }, h("span", {}, text), h("small", {}, kind));
    };
    list.replaceChildren(...groups.flatMap((one) => [...one.items.map(option), ...(one.more === null ? [] : [said(`${one.more}.`)])]),
      ...(looking !== null ? [said("Looking through the names of images …")] : all.length === 0 ? [said(`Nothing here is called “${typed}”.`)] : []));
    if (all.length > 0 && !list.hidden) {
      input.setAttribute("aria-activedescendant", `goto-${active}`);
      document.getElementById(`goto-${active}`)?.scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  }

  /** Resolves once all that the text may mean is found. */
  async function look() {
    const mine = ++turn;
    const going = () => mine === turn;
    const text = input.value.trim();
    const network = await getNetwork().catch(() => null); // the view tells about the failure
    if (network === null || !going()) return;
    [groups, active, looking] = [suggestions(network, text), 0, null];
    if (text !== "") looking = photographs(network, text, going);
    draw();
    await looking;
  }

  async function photographs(network, text, going) {
    await new Promise((done) => { setTimeout(done, PAUSE); });
    if (!going()) return;
    const found = await named(network, text, going).catch(() => ({ items: [], more: "The names of images could not be read" }));
    if (found === null || !going()) return;
    const there = new Set(items().map(({ hash }) => hash));
    groups = [...groups, { ...found, items: found.items.filter(({ hash }) => !there.has(hash)) }];
    looking = null;
    draw();
  }

  function close() {
    turn += 1;
    [groups, looking] = [[], null];
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function go(hash) {
    input.value = "";
    close();
    input.blur();
    location.hash = hash;
  }

  input.addEventListener("input", look);
  input.addEventListener("blur", close);
  input.addEventListener("focus", look);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const all = items();
    if (step !== undefined && all.length > 0) {
      event.preventDefault();
      active = (active + step + all.length) % all.length;
      draw();
    } else if (event.key === "Escape") {
      if (list.hidden) input.blur();
      close();
    }
  });
  document.getElementById("goto-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = active;
    if (items().length === 0) await (looking ?? look());
    const all = items();
    if (all.length > 0) go(all[Math.min(chosen, all.length - 1)].hash);
  });
}
