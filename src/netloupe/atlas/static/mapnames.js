// Names of groups on the map: where images lie close together, the classes that are more frequent there than elsewhere.

import { h } from "./dom.js";
import { count, plain } from "./format.js";
import { NONE } from "./mapdata.js";

const CELLS = 48; // of the grid in which close is found, a side
const LEAST = 5; // images of a class in a group, before it can name it
const LIFT = 3; // how many times more frequent than among all images
const MOST = 24; // groups that get names
const SHARE = 0.12; // of a group, which the named classes must make up together
const APART = [90, 22]; // px that the middles of two names keep, across and down

/** {x, y, places, text, title} of the groups that can be named, the largest first. classes: one for each place, of `names`. */
export function groupsOf({ x, y }, classes, names, labeled) {
  const total = countOf(classes, classes.keys());
  return regions(x, y).map((places) => named(places, { x, y }, classes, names, total, labeled)).filter((group) => group !== null)
    .sort((a, b) => b.places.length - a.places.length).slice(0, MOST);
}

/** The places of the map apart by hills of their density, on a grid that is smoothed. */
function regions(x, y) {
  const cell = (value) => Math.min(CELLS - 1, Math.floor((value / 65536) * CELLS));
  const raw = new Float32Array(CELLS * CELLS);
  const home = Uint32Array.from(x, (value, place) => cell(y[place]) * CELLS + cell(value));
  for (const at of home) raw[at] += 1;
  const density = smooth(smooth(raw));
  const top = Int32Array.from(density, (_, at) => uphill(density, at));
  const found = new Map();
  home.forEach((at, place) => {
    let peak = at;
    while (top[peak] !== peak) peak = top[peak];
    (found.get(peak) ?? found.set(peak, []).get(peak)).push(place);
  });
  return [...found.values()].filter((places) => places.length >= Math.max(2 * LEAST, x.length / 200));
}

/** The neighboring cell of the highest density, or itself. */
function uphill(density, at) {
  const [row, column] = [Math.floor(at / CELLS), at % CELLS];
  let best = at;
  for (let down = -1; down <= 1; down += 1) {
    for (let right = -1; right <= 1; right += 1) {
      const [r, c] = [row + down, column + right];
      if (r >= 0 && c >= 0 && r < CELLS && c < CELLS && density[r * CELLS + c] > density[best]) best = r * CELLS + c;
    }
  }
  return best;
}

/** Means over three by three cells, nearer ones counting twice. */
function smooth(values) {
  const along = (from, step, inside) => Float32Array.from(from, (value, at) => 2 * value + (inside(at, -1) ? from[at - step] : 0) + (inside(at, 1) ? from[at + step] : 0));
  const across = along(values, 1, (at, by) => (at % CELLS) + by >= 0 && (at % CELLS) + by < CELLS);
  return along(across, CELLS, (at, by) => Math.floor(at / CELLS) + by >= 0 && Math.floor(at / CELLS) + by < CELLS);
}

function countOf(classes, places) {
  const found = new Map();
  for (const place of places) if (classes[place] !== NONE) found.set(classes[place], (found.get(classes[place]) ?? 0) + 1);
  return found;
}

function named(places, { x, y }, classes, names, total, labeled) {
  const all = classes.length;
  const over = [...countOf(classes, places)].map(([index, here]) => ({ index, here, lift: here / places.length / (total.get(index) / all) }))
    .filter(({ here, lift }) => here >= LEAST && lift >= LIFT).sort((a, b) => b.here * Math.log(b.lift) - a.here * Math.log(a.lift)).slice(0, 2);
  if (over.length === 0 || over.reduce((sum, { here }) => sum + here, 0) < SHARE * places.length) return null;
  const middle = (values) => places.map((place) => values[place]).sort((a, b) => a - b)[places.length >> 1];
  const name = ({ index }) => names[index] ?? String(index);
  const what = labeled ? "are" : "are taken for";
  const title = `Of ${count(places.length)} images here ${over.map((one) => `${count(one.here)} ${what} ${name(one)}, ${plain(Number(one.lift.toPrecision(2)))} times as frequent as among all`).join("; ")}`;
  return { x: middle(x), y: middle(y), places, text: over.map(name).join(", "), title };
}

/** The names over the map. open(group) is called for one that was chosen. */
export class Names {
  constructor(open) {
    this.node = h("div", { id: "map-names" });
    this.open = open;
    this.groups = [];
    this.buttons = [];
  }

  show(groups) {
    this.groups = groups;
    this.buttons = groups.map((group) => h("button", { type: "button", class: "map-name", title: group.title, onclick: () => this.open(group) }, group.text));
    this.node.replaceChildren(...this.buttons);
  }

  /** Puts each where its group is, whole; of two that would lie over each other the smaller is left out. */
  place(camera) {
    const taken = [];
    this.groups.forEach(({ x, y }, i) => {
      const [left, top] = camera.toPage(x, y);
      const button = this.buttons[i];
      const clear = taken.every(([l, t]) => Math.abs(l - left) > APART[0] || Math.abs(t - top) > APART[1]);
      const seen = clear && left > 0 && top > 0 && left < camera.width && top < camera.height;
      button.hidden = !seen;
      if (!seen) return;
      taken.push([left, top]);
      const within = (at, length) => `clamp(0px, ${Math.round(at)}px - 50%, ${Math.round(length)}px - 100%)`;
      button.style.translate = `${within(left, camera.width)} ${within(top, camera.height)}`;
    });
  }
}
