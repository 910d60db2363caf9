// An attention: what each of its heads does over the images, and where it looks in a few photographs.

import { NotFound, attentionUrl, getAttended, getAttention, getRowsOf, imageUrl } from "./api.js";
import { facts, h, svg, withWidth } from "./dom.js";
import { attentionHash, count, counted, imageHash, networkHash, number, plain } from "./format.js";
import { gridPad } from "./gridpad.js";
import { SCALE, TRUTH, headCells } from "./heads.js";
import { coming, lacks } from "./making.js";
import { nearest } from "./nearest.js";
import { bars, called, pager, photo, unkept } from "./pieces.js";

const MEASURES = {
  distance: { title: "How far heads look", unit: "px", about: "the distance from a patch to the patches that it attends to, weighted by its attention among them (Dosovitskiy et al. 2021)" },
  entropy: { title: "How widely heads look", unit: "bits", about: "the entropy of a patch’s attention to all tokens, so that 0 is one token alone" },
};

export async function attentionView({ name, query, network, setQuery }) {
  if (lacks(network, "attention")) {
    return { section: "network", title: name, waits: ["attention"], node: [h("header", { class: "opening" }, h("h1", {}, name)), coming(network, "attention", "The maps of attention are")] };
  }
  const layers = network.attention?.layers ?? [];
  const place = layers.findIndex((one) => one.name === name);
  if (place < 0) throw missing(network, layers, name);
  const layer = layers[place];
  const [{ likeness }, rows] = await Promise.all([getAttention(place), getRowsOf(network, network.attention.photographs)]);
  const { distance, entropy, grid, heads, tokens, prefix } = layer;
  return {
    section: "network",
    title: name,
    node: [
      h("header", { class: "opening" },
        pager("Attentions", { prev: link(layers[place - 1]), up: { href: networkHash(), text: network.name }, next: link(layers[place + 1]) }),
        h("h1", {}, name),
        h("p", { class: "lead" }, `${counted(heads, "attention head")}. ${TRUTH}`),
        facts([
          ["Tokens", `${count(tokens)}: ${prefix > 0 ? `${count(prefix)} before ` : ""}${grid.map(count).join(" × ")} patches`],
          ["How far heads look", distance && `${span(distance)} px`],
          ["How widely", entropy && `${span(entropy)} of at most ${number(Math.log2(tokens))} bits`],
          ["Measured over", distance && counted(network.attention.images, "image")],
        ])),
      await looking(network, layer, place, rows, query, setQuery),
      distance && h("section", { "aria-labelledby": "heads-title" },
        h("h2", { id: "heads-title" }, "What each head does"),
        h("p", { class: "note" }, `In the mean over patches and ${counted(network.attention.images, "image")}. Bar: ${MEASURES.distance.about}. Beside it: ${MEASURES.entropy.about}.`),
        h("div", { id: "heads" }, bars(distance.map((far, head) => ({ name: `head ${head}`, href: null, value: far, text: `${number(far)} px`, note: `${number(entropy[head])} bits` })),
          Math.max(...layers.flatMap((one) => one.distance ?? []))))),
      likeness && h("section", { "aria-labelledby": "alike-title" },
        h("h2", { id: "alike-title" }, "Heads that do the same"),
        h("p", { class: "note" }, "The correlation of two heads’ weights over patches and images: red where they look alike (1), white where they have nothing in common (0), blue where one looks less where the other looks more."),
        h("p", { id: "alike" }, pairs(likeness, network.attention.alike)),
        matrix(likeness)),
      distance && h("section", { "aria-labelledby": "spread-title" }, h("h2", { id: "spread-title" }, "Beside the other attentions"), spread(network, place)),
    ],
  };
}

function missing(network, layers, name) {
  const near = nearest(name, layers.map((one) => one.name));
  const why = network.attention?.skipped[name];
  return new NotFound(why ? `${name} can’t be shown: ${why}.` : `There is no attention “${name}” in ${network.name}.`, near && { text: near, href: attentionHash(near) });
}

const link = (layer) => (layer === undefined ? null : { href: attentionHash(layer.name), text: layer.name });

const span = (values) => `${number(Math.min(...values))} to ${number(Math.max(...values))}`;

/** The photographs, and the maps of all heads in the one that is chosen. */
async function looking(network, layer, place, rows, query, setQuery) {
  const { photographs } = network.attention;
  if (photographs.length === 0) return h("p", { class: "note", id: "unkept" }, unkept(network));
  const { grid, heads, name } = layer;
  const asked = Number(query.get("image") ?? photographs[0]);
  let image = photographs.includes(asked) ? asked : photographs[0];
  let at = layer.asks ? placeOf(query.get("from"), grid) : null;
  let peaks = [];
  let head = null; // whose map lies over the photograph
  let turn = 0;
  const frameRows = layer.asks ? 1 + grid[0] * grid[1] : 1;
  const cells = headCells(name, heads, grid, (chosen) => { head = chosen; relay(); });
  const pad = gridPad("The photograph, to look from a place.", network.input.size, (chosen) => { at = chosen; tell(); });
  const from = h("figcaption", { class: "caption", id: "from" });
  const first = h("button", { type: "button", class: "framed", id: "from-first", onclick: () => { at = null; pad.mark(null); tell(); } }, `From ${layer.from.split(",")[0]}`);
  const beside = h("p", { class: "note" });
  const choices = photographs.map((id) => h("button", { type: "button", class: "choice", "data-image": id, "aria-label": called(rows.get(id)),
    onclick: () => { image = id; open(); } }, photo(network, id)));

  const relay = () => pad.lay(head === null ? null : cells.style(head));

  function tell() {
    const row = at === null ? 0 : 1 + at[0] * grid[1] + at[1];
    cells.show(attentionUrl(place, image), row, frameRows, peaks[row]);
    from.textContent = at === null ? `from ${layer.from}` : `from the patch in row ${at[0]}, column ${at[1]}`;
    relay();
    setQuery({ image: image === photographs[0] ? null : image, from: at === null ? null : at.join(",") });
  }

  async function open() {
    const mine = ++turn;
    const found = await getAttended(place, image);
    if (mine !== turn) return;
    peaks = found.peaks;
    pad.show(imageUrl(image), layer.asks ? grid : null);
    pad.mark(at);
    for (const one of choices) one.setAttribute("aria-pressed", String(Number(one.dataset.image) === image));
    beside.replaceChildren(h("a", { href: imageHash(image) }, called(rows.get(image))), ` is one of ${counted(photographs.length, "photograph")} whose maps this atlas keeps.`);
    tell();
  }

  await open();
  return h("section", { "aria-labelledby": "looks-title" },
    h("div", { class: "bar-line" }, h("h2", { id: "looks-title" }, "Where it looks"), layer.asks && first),
    h("p", { class: "note" }, `${layer.asks ? "Point at the photograph to look from there; choose a head to lay its map over it." : "Choose a head to lay its map over the photograph."} ${SCALE}`),
    h("div", { class: "choices-row" }, choices),
    h("div", { class: "pad-pair wide" }, h("figure", {}, pad.node, from), h("div", { class: "head-row" }, cells.node)),
    beside);
}

/** [row, column] of text such as "3,5"; null where there is no such place. */
function placeOf(text, grid) {
  const [, row, column] = /^(\d+),(\d+)$/.exec(text ?? "") ?? [];
  return Number(row) < grid[0] && Number(column) < grid[1] ? [Number(row), Number(column)] : null;
}

/** Which heads are alike, in a sentence. */
function pairs(likeness, from) {
  const found = likeness.flatMap((row, a) => row.map((value, b) => ({ a, b, value })).filter(({ b, value }) => b > a && value >= from));
  if (found.length === 0) return `No two heads look alike (${from} or more).`;
  return `${found.map(({ a, b, value }) => `Heads ${a} and ${b} look alike (${value.toFixed(2)}).`).join(" ")}`;
}

const ENDS = { high: [178, 24, 43], low: [33, 102, 172], middle: [247, 247, 247] };

function colorOf(value) {
  const end = value < 0 ? ENDS.low : ENDS.high;
  const size = Math.min(1, Math.abs(value));
  return `rgb(${end.map((one, i) => Math.round(ENDS.middle[i] + (one - ENDS.middle[i]) * size)).join(" ")})`;
}

function matrix(likeness) {
  const label = (head) => h("th", { scope: "row" }, head);
  return h("div", { class: "matrix" }, h("table", { id: "likeness" },
    h("thead", {}, h("tr", {}, h("th", {}, h("span", { class: "quiet" }, "head")), likeness.map((_, head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, likeness.map((row, head) => h("tr", {}, label(head), row.map((value) =>
      h("td", { style: { background: colorOf(value), color: Math.abs(value) > 0.6 ? "#fff" : "#1f1c18" } }, value.toFixed(2).replace("-", "−"))))))));
}

// All attentions of a network

/** The attentions of a network, for its page; null where it has none. */
export function attentionSection(network) {
  if (!network.attention) return null;
  const { layers, skipped, images } = network.attention;
  const measured = layers.filter(({ distance }) => distance);
  return h("section", { "aria-labelledby": "attention-title", id: "attention" },
    h("h2", { id: "attention-title" }, "Attention"),
    h("p", { class: "note" }, `Where its tokens look, by attention head. ${TRUTH}`),
    layers.length > 0 && h("ul", { class: "attentions" }, layers.map(({ name, heads }) => h("li", {}, h("a", { href: attentionHash(name) }, name), h("span", { class: "value" }, counted(heads, "head"))))),
    measured.length > 0 && h("p", { class: "note" }, `Each dot is a head, in the mean over patches and ${counted(images, "image")}.`),
    measured.length > 0 && spread(network, null),
    Object.entries(skipped).map(([name, why]) => h("p", { class: "note" }, `${name} is left out: ${why}.`)));
}

/** Every head's distance and entropy, attention by attention; `current` is marked. */
function spread(network, current) {
  return h("div", { class: "pair spread" }, Object.keys(MEASURES).map((key) => {
    const frame = h("div", { class: "chart" });
    withWidth(frame, (width) => frame.replaceChildren(dots(width, network, key, current)));
    return h("figure", {}, frame, h("figcaption", { class: "note" }, `${MEASURES[key].title}, in ${MEASURES[key].unit}: ${MEASURES[key].about}. Dashes: a head that looks everywhere alike.`));
  }));
}

const EDGE = { top: 12, right: 14, bottom: 42, left: 48 };
const HEIGHT = 220;

/** What a head has that looks everywhere alike. */
const EVENLY = {
  entropy: (_, { tokens }) => Math.log2(tokens),
  distance([height, width], { grid: [rows, columns] }) {
    let sum = 0;
    for (let down = 1 - rows; down < rows; down += 1) {
      for (let across = 1 - columns; across < columns; across += 1) {
        sum += (rows - Math.abs(down)) * (columns - Math.abs(across)) * Math.hypot((down * height) / rows, (across * width) / columns);
      }
    }
    return sum / (rows * columns) ** 2;
  },
};

function dots(width, network, key, current) {
  const { layers } = network.attention;
  const evenly = layers.map((one) => EVENLY[key](network.input.size, one));
  const most = Math.max(...layers.flatMap((one) => one[key] ?? []), ...evenly);
  const inner = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
  const x = (place) => EDGE.left + ((place + 0.5) / layers.length) * inner.width;
  const y = (value) => EDGE.top + (1 - value / most) * inner.height;
  const levels = [0, 0.5, 1].map((share) => share * most);
  const { unit, title } = MEASURES[key];
  return svg("svg", { width, height: HEIGHT, role: "group", "aria-label": title },
    levels.map((value) => [
      svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
      svg("text", { x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, plain(Number(value.toPrecision(2))))]),
    layers.map(({ name, [key]: values }, place) => values && svg("a", { href: attentionHash(name), class: place === current ? "current" : null,
      "aria-label": `${name}: ${span(values)} ${unit}` },
      svg("rect", { x: x(place) - inner.width / layers.length / 2, y: EDGE.top, width: inner.width / layers.length, height: inner.height + EDGE.bottom, fill: "transparent" }),
      svg("line", { class: "evenly", x1: x(place) - 14, x2: x(place) + 14, y1: y(evenly[place]), y2: y(evenly[place]) }, svg("title", {}, `everywhere alike: ${number(evenly[place])} ${unit}`)),
      values.map((value, head) => svg("circle", { class: "head-dot", cx: x(place), cy: y(value), r: 3.5 }, svg("title", {}, `${name}, head ${head}: ${number(value)} ${unit}`))),
      svg("text", { x: x(place), y: HEIGHT - 22, "text-anchor": "middle" }, place))),
    svg("text", { class: "axis", x: EDGE.left + inner.width / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "attention, in the order of execution"));
}
