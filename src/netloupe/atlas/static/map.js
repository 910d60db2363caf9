// The map: all images where the network's features, or their pixels, place them; to look around, search and lasso.

import { h } from "./dom.js";
import { count, counted, imageHash, percent } from "./format.js";
import { colorsOf, drawLegend } from "./mapcolors.js";
import { NONE, getMap } from "./mapdata.js";
import { METHODS, MapFrame, kinds, select } from "./mapframe.js";
import { Names, groupsOf } from "./mapnames.js";
import { inside, showGroup } from "./mapgroup.js";
import { coming, lacks } from "./making.js";
import { named, nearest } from "./nearest.js";
import { photo, unkept } from "./pieces.js";

const VIEW = "layer:"; // begins the name of a space by another layer's features
const spaceName = (name) => (name.startsWith(VIEW) ? `features of ${name.slice(VIEW.length)}` : name);
const COLORS = { none: "nothing", label: "label", prediction: "prediction", error: "right or wrong" };

export async function mapView({ query, network, setQuery }) {
  const opened = document.getElementById("view").dataset.view === undefined ? 0 : performance.now(); // 0: with the page
  if (!network.map || network.map.spaces.length === 0) return { section: "map", title: "Map", waits: ["map"], node: empty(network) };
  const view = new MapView(network, await getMap(network), query, setQuery);
  view.scene.times.opened = opened;
  return { section: "map", title: "Map", node: view.nodes, leave: () => view.leave() };
}

function empty(network) {
  const { map } = network;
  const head = h("header", { class: "opening" }, h("h1", {}, "Map"));
  if (lacks(network, "map")) return [head, coming(network, "map", "The map is")];
  const why = map ? Object.entries(map.missing).map(([space, reason]) => h("p", { class: "note" }, `${space}: ${reason}`))
    : h("p", { class: "note" }, "It was built with --map none. Built again without that, it has one.");
  return [head, h("p", { class: "notice", id: "no-map" }, "This atlas has no map."), why].flat();
}

/** The state of the page: what is chosen in the bar, the search, the group; and the elements that show it. */
class MapView {
  constructor(network, map, query, setQuery) {
    Object.assign(this, { network, map, setQuery });
    this.refused = this.refusals();
    const chosen = (key, choices) => (choices.includes(query.get(key)) ? query.get(key) : choices[0]);
    this.chosen = {
      space: chosen("space", map.spaces.map(({ name }) => name)),
      color: chosen("color", Object.keys(COLORS).filter((by) => !(by in this.refused))),
      show: chosen("show", map.sprites.length > 0 ? ["thumbnails", "dots"] : ["dots"]),
      names: chosen("names", ["shown", "none"]),
      find: query.get("find") ?? "",
    };
    this.lassoing = false;
    this.polygon = readPolygon(query.get("lasso"));
    this.sharing = this.polygon === null && query.get("group") === "found"; // the group is what the search names
    this.members = [];
    this.turn = 0; // counts groups, so that a slow answer does not fill the panel of a later one
    this.build();
    this.frame.start(query.get("at"));
    this.apply();
    this.expose();
  }

  /** Choices of colors that this atlas can't offer, and why. */
  refusals() {
    const { network, map } = this;
    const refused = {};
    if (!map.labels.some((label) => label !== NONE)) refused.label = refused.error = "the images bear no labels";
    else if (!network.comparable) refused.error = "the labels are not the network’s classes";
    if (!map.predictions.some((guess) => guess !== NONE)) refused.prediction = refused.error = "the network gives no classes";
    return refused;
  }

  build() {
    const { map } = this;
    this.legend = h("div", { id: "map-legend" });
    this.found = h("span", { id: "found", role: "status" });
    this.panel = h("aside", { id: "group", hidden: true, "aria-labelledby": "group-title" });
    this.readout = h("span", { id: "map-times" });
    this.search = h("input", { id: "map-find", type: "search", value: this.chosen.find, placeholder: "any", autocomplete: "off",
      oninput: (event) => this.choose("find", event.target.value) });
    this.lassoButton = h("button", { type: "button", id: "lasso", "aria-pressed": "false", title: "Draw around images; or drag with Shift held",
      onclick: () => this.setLassoing(!this.lassoing) }, "Lasso");
    this.names = new Names((group) => { this.sharing = false; this.chosen.find = this.search.value = ""; this.light(); this.select(group.places, null); });
    this.frame = new MapFrame(map, {
      label: `Map of ${counted(map.count, "image")}. Arrow keys move, plus and minus zoom, 0 shows all, Enter opens the image in the middle.`,
      over: [this.names.node, this.legend],
      card: (place) => this.cardOf(place),
      href: (place) => imageHash(map.ids[place]),
      remember: () => this.remember(),
      drawn: () => this.afterDraw(),
      lassoing: () => this.lassoing,
      lasso: (path, done) => this.draw(path, done),
      escape: () => (this.lassoing ? this.setLassoing(false) : this.clear()),
    });
    Object.assign(this, { canvas: this.frame.canvas, camera: this.frame.camera, scene: this.frame.scene, sprites: this.frame.sprites });
    this.bar = h("div", { class: "bar-line", id: "map-bar" }, this.choices());
    this.nodes = [h("h1", { class: "quiet" }, "Map"), this.bar, h("div", { id: "map-body" }, this.frame.node, this.panel), this.about()];
  }

  /** What can be chosen, in one line. */
  choices() {
    const choice = (id, text, key, options) => select(id, text, options, this.chosen[key], (value) => this.choose(key, value));
    return [
      kinds(this.network, null),
      choice("map-space", "Near by", "space", [...this.map.spaces.map(({ name }) => [name, spaceName(name)]), ["", "features of another layer", "built with --map-layer"]]),
      choice("map-color", "Color", "color", Object.entries(COLORS).map(([by, name]) => [by, name, this.refused[by]])),
      choice("map-show", "Show", "show", [["thumbnails", "thumbnails", ...(this.map.sprites.length > 0 ? [] : ["none are kept"])], ["dots", "dots"]]),
      choice("map-names-choice", "Names", "names", [["shown", "shown"], ["none", "none"]]),
      h("label", { class: "filter" }, h("span", {}, "Class"), this.search), this.found, this.lassoButton];
  }

  about() {
    const texts = this.map.spaces.map(({ name, about }) => {
      const of = name.startsWith(VIEW) ? `features of layer ${name.slice(VIEW.length)}`
        : name === "features" ? `features of layer ${this.map.channels.layer}` : "pixels of the thumbnails";
      const perplexity = about.perplexity ? `, perplexity ${about.perplexity}` : "";
      return h("p", {}, `By ${spaceName(name)}: ${METHODS[about.method] ?? about.method} of the ${of}${perplexity}, seed ${about.seed ?? 0}. ${(about.notes ?? []).join(" ")}`);
    });
    const missing = Object.entries(this.network.map.missing).map(([space, reason]) => h("p", {}, `By ${spaceName(space)}: none, ${reason}.`));
    return h("details", { class: "more", id: "map-about" }, h("summary", {}, "How this map was made"), texts, missing,
      unkept(this.network) !== null && h("p", { id: "unkept" }, unkept(this.network)),
      h("p", {}, "Where there are more dots than pixels, a pixel has the mean color of its dots, the stronger the more they are."),
      h("p", {}, "Near each other is alike; how far apart groups lie says little, nor does how large they are, least of all by t-SNE or UMAP."),
      h("p", {}, "A name stands over images that lie close together: the one or two classes that are most over-represented among them, at least three times as frequent as among all "
        + "images, and an eighth of the group together. Most groups hold other classes too, and some have no name; the pointer on a name says how many."),
      h("p", {}, this.readout));
  }

  /** Lets go of all that would keep it after another view is shown. */
  leave() {
    this.frame.leave();
    this.turn += 1;
    if (window.netloupe?.map === this.exposed) delete window.netloupe.map;
  }

  choose(key, value) {
    this.chosen[key] = value;
    this.apply();
  }

  /** Brings scene, bar and address in line with what is chosen. */
  apply() {
    const { scene, map, chosen } = this;
    const space = map.spaces.find(({ name }) => name === chosen.space);
    if (scene.space !== space) scene.setSpace(space);
    this.names.show(chosen.names === "none" ? [] : this.groups(space));
    const names = { labels: this.network.classes, predictions: this.network.labels ?? [] };
    const colored = colorsOf(map, space, chosen.color, names);
    scene.colors = colored?.pixels ?? null;
    scene.dots = chosen.show === "dots";
    drawLegend(this.legend, colored, (text) => { this.search.value = text; this.choose("find", text); });
    this.light();
    this.showMembers();
    this.remember();
    scene.request();
  }

  /** Groups of the space with names: by label where images have some, else by what they are taken for. */
  groups(space) {
    const { map, network } = this;
    const labeled = !("label" in this.refused);
    space.groups ??= groupsOf(space, labeled ? map.labels : map.predictions, (labeled ? network.classes : network.labels) ?? [], labeled);
    return space.groups;
  }

  /** Which classes the search names: those of the whole name, otherwise those whose name holds the text. */
  light() {
    const { map, scene, chosen, network } = this;
    const text = chosen.find.trim().toLowerCase();
    const byLabel = chosen.color !== "prediction" && !("label" in this.refused);
    const names = (byLabel ? network.classes : network.labels) ?? [];
    this.lit = null;
    this.found.replaceChildren();
    if (text === "") { this.shared(); return; }
    const indices = named(text, names);
    const classes = byLabel ? map.labels : map.predictions;
    if (indices.size > 0) this.lit = Uint8Array.from(classes, (index) => (indices.has(index) ? 1 : 0));
    const lit = this.lit === null ? 0 : this.lit.reduce((sum, one) => sum + one, 0);
    const near = indices.size === 0 ? nearest(text, names) : null;
    this.found.append(indices.size === 0 ? `No class has “${chosen.find.trim()}” in its name. ` : foundText(lit, byLabel, [...indices].map((index) => names[index])));
    if (near !== null) this.found.append("The nearest name is ", this.link("near", near, () => { this.search.value = near; this.choose("find", near); }), ".");
    if (lit > 0) this.found.append(this.link("select-found", "What do they share?", () => { this.sharing = true; this.shared(); this.remember(); }));
    this.shared();
    scene.request();
  }

  /** Shows the group of what the search names, where that was asked for. */
  shared() {
    if (this.sharing && this.lit !== null) this.select([...this.lit.keys()].filter((place) => this.lit[place] === 1), null);
    else if (this.sharing) this.clear();
    this.dim();
  }

  link(id, text, action) { return h("button", { type: "button", class: "plain", id, onclick: action }, text); }

  /** Dims what is neither found nor in the group. */
  dim() {
    const grouped = this.members.length > 0 && this.lit === null ? new Uint8Array(this.map.count) : null;
    if (grouped !== null) for (const place of this.members) grouped[place] = 1;
    this.scene.setLit(this.lit ?? grouped);
  }

  setLassoing(on) {
    this.lassoing = on;
    this.lassoButton.setAttribute("aria-pressed", String(on));
    this.canvas.classList.toggle("lassoing", on);
  }

  draw(path, done) {
    const corners = path?.map(([left, top]) => this.camera.toMap(left, top).map(Math.round)) ?? null;
    this.scene.outline = corners;
    if (!done) return;
    this.setLassoing(false);
    if (corners === null) { this.clear(); return; }
    this.polygon = thinned(corners, 4 / this.camera.scale);
    this.sharing = false;
    this.showMembers();
    this.remember();
  }

  /** Shows the group inside the polygon, if there is one. */
  showMembers() {
    this.scene.outline = this.polygon;
    if (this.polygon !== null) this.select(inside(this.polygon, this.scene.space), this.polygon);
  }

  select(places, polygon) {
    this.polygon = polygon;
    this.scene.outline = polygon;
    this.members = places;
    this.dim();
    const mine = ++this.turn;
    const { network, map, sprites } = this;
    this.group = showGroup(this.panel, { network, map, sprites, places, clear: () => this.clear(),
      going: () => mine === this.turn && this.canvas.isConnected }).catch((error) => {
      if (mine === this.turn) this.panel.append(h("p", { class: "note", role: "alert" }, error.message));
      return null;
    });
    this.scene.request();
  }

  clear() {
    this.turn += 1;
    this.sharing = false;
    [this.polygon, this.members, this.group] = [null, [], null];
    this.scene.outline = null;
    this.panel.hidden = true;
    this.panel.replaceChildren();
    this.dim();
    this.remember();
    this.scene.request();
  }

  remember() {
    const { space, color, show, names, find } = this.chosen;
    this.setQuery({
      space: space === this.map.spaces[0].name ? null : space, color: color === "none" ? null : color,
      show: show === "dots" ? show : null, names: names === "none" ? names : null, find, group: this.sharing ? "found" : null,
      lasso: this.polygon === null ? null : this.polygon.flat().join("."),
      at: this.frame.at,
    });
  }

  cardOf(place) {
    const { network, map } = this;
    const [label, guess] = [map.labels[place], map.predictions[place]];
    const chance = percent(map.probabilities[place] / 65535);
    const right = label !== NONE && network.comparable ? label === guess : null;
    return [
      h("a", { href: imageHash(map.ids[place]), tabindex: -1 }, photo(network, map.ids[place], { lazy: false })),
      h("p", {}, label === NONE ? null : h("span", { class: "label" }, network.classes[label] ?? label),
        guess !== NONE && h("span", { class: "value" }, right === true ? `✓ ${chance}` : `${right === false ? "✗ " : ""}taken for ${(network.labels ?? [])[guess] ?? guess}, ${chance}`),
        h("span", { class: "value" }, `image ${map.ids[place]}`))];
  }

  afterDraw() {
    this.names.place(this.camera);
    const { first } = this.scene.times;
    const { rate } = this.scene;
    const drawn = first === null ? "" : `All ${counted(this.map.count, "image")} first drawn after ${(first / 1000).toFixed(2)} s. `;
    this.readout.textContent = drawn + (rate === null ? "" : `${Math.round(rate)} frames a second while moving.`);
  }

  /** What tests and benchmarks read. */
  expose() {
    const { scene, map, camera } = this;
    const ids = (places) => Array.from(places, (place) => map.ids[place]);
    this.exposed = {
      count: map.count,
      get times() { return { first: scene.times.first, sharp: scene.times.sharp }; },
      get visible() { return scene.visible; },
      get thumbnails() { return !scene.asDots; },
      get view() { return { x: camera.x, y: camera.y, zoom: camera.zoom }; },
      get rate() { return scene.rate; },
      groups: () => this.names.groups.map(({ text, title, places }) => ({ text, title, ids: ids(places) })),
      selected: () => ids(this.members),
      highlighted: () => ids([...(this.lit ?? []).keys()].filter((place) => this.lit[place] === 1)),
      group: () => this.group,
      where: (id) => { const place = map.ids.indexOf(id); return camera.toPage(scene.space.x[place], scene.space.y[place]); },
      pan: (seconds, radius) => scene.pan(seconds, radius),
    };
    window.netloupe = { map: this.exposed };
  }
}

/** How many images the search names, and by which classes. */
function foundText(images, labeled, names) {
  const which = names.length === 1 ? names[0] : `one of ${counted(names.length, "class", "classes")}`;
  return `${counted(images, "image")} ${labeled ? "of" : "taken for"} ${which}. `;
}

/** "x.y.x.y…" as corners; null where the text is none. */
function readPolygon(text) {
  const numbers = (text ?? "").split(".").map(Number);
  if (numbers.length < 6 || numbers.length % 2 === 1 || !numbers.every(Number.isFinite)) return null;
  return Array.from({ length: numbers.length / 2 }, (_, i) => [numbers[2 * i], numbers[2 * i + 1]]);
}

/** The corners that are at least `step` apart, at most a hundred, so that an address can hold them. */
function thinned(corners, step) {
  const kept = [corners[0]];
  for (const [x, y] of corners) if (Math.hypot(x - kept.at(-1)[0], y - kept.at(-1)[1]) >= step) kept.push([x, y]);
  return kept.length > 100 ? thinned(corners, 1.5 * step) : kept;
}
