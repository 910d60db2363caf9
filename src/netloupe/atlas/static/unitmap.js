// The map of the units of a layer: those that respond to the same images lie near each other.

import { movedApart } from "./apart.js";
import { getLayer, getTiles, getUnitMap, tilesUrl } from "./api.js";
import { h } from "./dom.js";
import { count, counted, layerHash, number, unitHash } from "./format.js";
import { findLayer, meant } from "./layer.js";
import { coming, lacks } from "./making.js";
import { colorsOf, drawLegend } from "./mapcolors.js";
import { NONE } from "./mapdata.js";
import { METHODS, MapFrame, kinds, mappedLayers, select, unitMapHash } from "./mapframe.js";
import { named, nearest } from "./nearest.js";
import { pictured, tile } from "./pieces.js";

const SHEET = { columns: 16, count: 256 }; // of thumbnails, made of the sheets of tiles
const ACROSS = 3; // patches in a row of a tile
const ALL_ABOVE = 100; // px of the screen: larger thumbnails show all patches of a tile

export async function unitMapView({ name, query, network, setQuery }) {
  const layer = findLayer(network, name);
  const page = { section: "map", title: `Map of ${name}`, waits: [`unitmap/${name}`] };
  if (!network.unit_map?.layers.includes(name)) return { ...page, node: empty(network, layer) };
  const [columns, found] = await Promise.all([getLayer(name), getUnitMap(name)]);
  const view = new UnitMapView(network, layer, pointsOf(network, layer, meant(network, layer, columns), found), query, setQuery);
  return { ...page, waits: undefined, node: view.nodes, leave: () => view.leave() };
}

function empty(network, layer) {
  const head = h("header", { class: "opening" }, h("h1", {}, `Map of ${layer.name}`));
  if (lacks(network, `unitmap/${layer.name}`)) return [head, coming(network, `unitmap/${layer.name}`, "The map of its units is")];
  const why = network.unit_map?.missing[layer.name] ?? "It was built with --map none. Built again without that, it has one.";
  return [head, h("p", { class: "notice", id: "no-map" }, "There is no map of the units of this layer."), h("p", { class: "note" }, why)];
}

/** The units as points of a map, see `getMap`; by place their `channels`, and `labels`: the classes they prefer, of `names`. */
function pointsOf(network, layer, columns, found) {
  const { channels, x, y } = found;
  const index = (channel) => (layer.classes ? channel : columns.class[channel]) ?? NONE;
  const names = [];
  for (const channel of channels) if (index(channel) !== NONE) names[index(channel)] = columns.label[channel];
  const { size, count: perSheet, columns: across } = network.tile;
  const where = (place) => { // of its tile: the sheet, and in it the left and top
    const at = columns.place[channels[place]];
    const on = at % perSheet;
    return [Math.floor(at / perSheet), (on % across) * size, Math.floor(on / across) * size];
  };
  const exact = { name: layer.name, x: Uint16Array.from(x), y: Uint16Array.from(y) };
  const { side, space } = pictured(network) ? movedApart(exact) : { space: exact };
  return {
    ...found, columns, side, names: Array.from(names, (text) => text ?? ""), count: channels.length, shape: [1, 1], colors: null,
    labels: Uint16Array.from(channels, index),
    spaces: [space, exact], // of thumbnails, and of dots
    sprites: pictured(network) ? [8, 32].map((side) => ({ side, ...SHEET })) : [],
    draw: (level, sheet) => drawn(layer, size, where, level, sheet * SHEET.count, channels.length),
    picture: (place, side) => {
      const [sheet, left, top] = where(place);
      const shown = side < ALL_ABOVE ? patchOf(size) : size;
      return { url: tilesUrl(layer.name, sheet), part: [left, top, shown, shown] };
    },
  };
}

/** The side of one of the patches of a tile, which are one px apart. */
const patchOf = (size) => Math.floor((size - ACROSS + 1) / ACROSS);

/** The best patches of the units of the places `first` and on, cut from the sheets of tiles. */
async function drawn(layer, size, where, { side, columns, count: most }, first, total) {
  const patch = patchOf(size);
  const places = Array.from({ length: Math.min(most, total - first) }, (_, i) => first + i);
  const canvas = new OffscreenCanvas(columns * side, Math.ceil(places.length / columns) * side);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const sheets = new Map();
  for (const place of places) (sheets.get(where(place)[0]) ?? sheets.set(where(place)[0], []).get(where(place)[0])).push(place);
  await Promise.all([...sheets].map(async ([sheet, those]) => {
    const tiles = await createImageBitmap(await getTiles(layer.name, sheet));
    for (const place of those) {
      const [, left, top] = where(place);
      const at = place - first;
      context.drawImage(tiles, left, top, patch, patch, (at % columns) * side, Math.floor(at / columns) * side, side, side);
    }
    tiles.close();
  }));
  return canvas;
}

/** The state of the page: what is chosen in the bar, and the elements that show it. */
class UnitMapView {
  constructor(network, layer, map, query, setQuery) {
    Object.assign(this, { network, layer, map, setQuery });
    this.classed = map.labels.some((label) => label !== NONE);
    const chosen = (key, choices) => (choices.includes(query.get(key)) ? query.get(key) : choices[0]);
    this.chosen = {
      color: chosen("color", this.classed ? ["none", "class"] : ["none"]),
      show: chosen("show", map.sprites.length > 0 ? ["thumbnails", "dots"] : ["dots"]),
      find: query.get("find") ?? "",
      unit: query.get("unit"),
    };
    this.frame = new MapFrame(map, {
      label: `Map of ${counted(map.count, "unit")} of ${layer.name}. Arrow keys move, plus and minus zoom, 0 shows all, Enter opens the unit in the middle.`,
      over: [this.legend = h("div", { id: "map-legend" })],
      card: (place) => this.cardOf(place),
      href: (place) => unitHash(layer.name, map.channels[place]),
      remember: () => this.remember(),
      escape: () => this.choose("find", ""),
    });
    this.found = h("span", { id: "found", role: "status" });
    this.search = h("input", { id: "map-find", type: "search", value: this.chosen.find, placeholder: "any", autocomplete: "off",
      oninput: (event) => this.choose("find", event.target.value) });
    this.nodes = [h("h1", { class: "quiet" }, `Map of ${layer.name}`), h("div", { class: "bar-line", id: "map-bar" }, this.choices()),
      h("p", { class: "note", id: "map-note" }, this.note()), h("div", { id: "map-body", class: "noted" }, this.frame.node), this.about()];
    this.frame.start(query.get("at"));
    this.apply();
    this.expose();
  }

  choices() {
    const { network, layer, map, chosen } = this;
    const choice = (id, text, key, options) => select(id, text, options, chosen[key], (value) => this.choose(key, value));
    return [
      kinds(network, layer.name),
      select("map-layer", "Layer", mappedLayers(network).map(({ name }) => [name, name]), layer.name, (name) => { location.hash = unitMapHash(name, this.query(false)); }),
      choice("map-color", "Color", "color", [["none", "nothing"], ["class", this.layer.classes ? "class" : "preferred class", ...(this.classed ? [] : ["none is preferred"])]]),
      choice("map-show", "Show", "show", [["thumbnails", "thumbnails", ...(map.sprites.length > 0 ? [] : ["none are kept"])], ["dots", "dots"]]),
      this.classed && h("label", { class: "filter" }, h("span", {}, "Class"), this.search), this.found];
  }

  /** What lies near what, and what is left out. */
  note() {
    const { layer, map } = this;
    const all = layer.shape[0];
    const left = [map.dead > 0 && `${counted(map.dead, "dead channel")} left out`,
      map.constant > 0 && `${counted(map.constant, "channel")} left out that responded to each of these images alike`].filter(Boolean);
    return [`Units of `, h("a", { href: layerHash(layer.name) }, layer.name), ` that respond to the same images lie near each other: ${map.count === all ? `all ${count(all)}` : `${count(map.count)} of ${count(all)}`}`,
      `${left.map((text) => `, ${text}`).join("")}.`, ...this.same()];
  }

  /** Whose map this is too. */
  same() {
    const { map: { about: { same_as: name } } } = this;
    return name === undefined ? [] : [" They respond to each of these images exactly as those of ", h("a", { href: unitMapHash(name) }, name), ", so the two maps are one."];
  }

  about() {
    const { map: { about, images }, network, layer } = this;
    const perplexity = about.perplexity ? `, perplexity ${about.perplexity}` : "";
    return h("details", { class: "more", id: "map-about" }, h("summary", {}, "How this map was made"),
      h("p", {}, `Of each unit the highest response in each of ${counted(images, "image")}, evenly spread over the ${count(network.images)}, less its mean and divided by its spread. So near each other are units whose `
        + "responses go up and down with the same images, however strong they are."),
      h("p", {}, `${METHODS[about.method] ?? about.method}${perplexity}, seed ${about.seed ?? 0}. ${(about.notes ?? []).join(" ")}`),
      h("p", {}, "How far apart groups lie says little, nor does how large they are, least of all by t-SNE or UMAP."),
      this.classed && !layer.classes && h("p", {}, `The preferred class of a unit is the one whose images, ${network.labeled ? "by their labels" : "those that the network takes for it"}, excite it most on average.`),
      pictured(network) && h("p", {}, `A thumbnail is the piece of an image that the unit of ${layer.name} responded to most; where there is room, its nine best. Where thumbnails would hide each other they are moved apart, each by its own side at most; dots are just where the map puts them.`));
  }

  choose(key, value) {
    this.chosen[key] = value;
    if (key === "find") {
      this.search.value = value;
      this.chosen.unit = null;
    }
    this.apply();
  }

  /** Brings scene, bar and address in line with what is chosen. */
  apply() {
    const { frame: { scene }, map, chosen } = this;
    const colored = chosen.color === "class" ? colorsOf(map, map.spaces[0], "label", { labels: map.names }) : null;
    scene.colors = colored?.pixels ?? null;
    scene.dots = chosen.show === "dots";
    const space = map.spaces[scene.dots ? 1 : 0];
    if (scene.space !== space) scene.setSpace(space);
    drawLegend(this.legend, colored, (text) => this.choose("find", text));
    this.light();
    this.remember();
    scene.request();
  }

  /** Dims all but the units that prefer the classes that the search names, or the one that the address does. */
  light() {
    const { map, chosen, frame: { scene } } = this;
    const text = chosen.find.trim().toLowerCase();
    const show = (lights) => { this.lit = Uint8Array.from(map.channels, (channel, place) => (lights(channel, place) ? 1 : 0)); };
    this.lit = null;
    this.found.replaceChildren();
    if (text !== "") {
      const indices = named(text, map.names);
      show((_, place) => indices.has(map.labels[place]));
      const [lit, near] = [this.standing, indices.size === 0 ? nearest(text, map.names.filter(Boolean)) : null];
      this.found.append(indices.size === 0 ? `No unit here has a class with “${chosen.find.trim()}” in its name. ` : `${counted(lit, "unit")}.`);
      if (near !== null) this.found.append("The nearest name is ", h("button", { type: "button", class: "plain", id: "near", onclick: () => this.choose("find", near) }, near), ".");
      if (indices.size === 0) this.lit = null;
    } else if (map.channels.includes(Number(chosen.unit ?? -1))) {
      show((channel) => channel === Number(chosen.unit));
      this.found.append(`Channel ${chosen.unit} stands out. `, h("button", { type: "button", class: "plain", onclick: () => this.choose("find", "") }, "Show all"));
    }
    scene.setLit(this.lit);
  }

  get standing() { return this.lit === null ? 0 : this.lit.reduce((sum, one) => sum + one, 0); }

  query(placed = true) {
    const { color, show, find, unit } = this.chosen;
    return { color: color === "none" ? null : color, show: show === "dots" ? show : null, find, unit: placed ? unit : null, at: placed ? this.frame.at : null };
  }

  remember() { this.setQuery(this.query()); }

  cardOf(place) {
    const { network, layer, map: { columns, channels } } = this;
    const channel = channels[place];
    const captions = [channel, number(columns.strength[channel]), columns.label[channel]].filter((text) => text !== null);
    const node = tile(network, layer, channel, { captions });
    node.tabIndex = -1;
    return [node];
  }

  leave() {
    this.frame.leave();
    if (window.netloupe?.map === this.exposed) delete window.netloupe.map;
  }

  /** What tests read. */
  expose() {
    const { map, frame: { scene, camera } } = this;
    this.exposed = {
      count: map.count,
      get times() { return { first: scene.times.first, sharp: scene.times.sharp }; },
      get thumbnails() { return !scene.asDots; },
      highlighted: () => map.channels.filter((_, place) => this.lit?.[place] === 1),
      color: (channel) => scene.colors?.[map.channels.indexOf(channel)] ?? null,
      thumbnail: (channel) => { // its pixels, once it is sharp
        const [place, { large }] = [map.channels.indexOf(channel), scene.sprites];
        const at = (place % large.count) * large.side ** 2;
        return [...scene.sprites.sheet(large, Math.floor(place / large.count)).tiles.subarray(at, at + large.side ** 2)];
      },
      where: (channel) => { const place = map.channels.indexOf(channel); return camera.toPage(scene.space.x[place], scene.space.y[place]); },
      get side() { return scene.side; },
    };
    window.netloupe = { map: this.exposed };
  }
}
