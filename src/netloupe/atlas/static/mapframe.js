// What every map is: points to look around in, a card beside the pointer, buttons to zoom. Of images and of units.

import { h } from "./dom.js";
import { layerHash } from "./format.js";
import { Camera, listen } from "./mapcamera.js";
import { Sprites } from "./mapdata.js";
import { Scene } from "./mapscene.js";
import { lacks } from "./making.js";

export const METHODS = { tsne: "t-SNE", pca: "PCA", umap: "UMAP", none: "no method" };

const MIDDLE = 32767.5; // of the map's coordinates
const BESIDE = 20; // px between the pointer and the card

export class MapFrame {
  /** map: {count, spaces, sprites, shape, draw, picture}, as `getMap` tells. on: {label of the canvas, over: what lies over it,
   *  card(place): what the card shows, href(place): where a click leads, remember(): the view was moved, drawn(), and what else
   *  `listen` takes}. */
  constructor(map, { label, over = [], card, href, remember, drawn = () => {}, ...hands }) {
    Object.assign(this, { cardOf: card, href, remember });
    this.canvas = h("canvas", { id: "map", tabindex: 0, role: "application", "aria-roledescription": "map", "aria-label": label });
    this.card = h("div", { id: "map-card", hidden: true });
    this.node = h("div", { id: "map-frame" }, this.canvas, over, this.card, h("div", { id: "map-zoom" },
      this.zoom("zoom-in", "+", "Zoom in", 1.6), this.zoom("zoom-out", "−", "Zoom out", 1 / 1.6), this.zoom("zoom-all", "Show all", "Show all", null)));
    this.camera = new Camera();
    this.sprites = new Sprites(map, () => this.scene.request());
    this.scene = new Scene(this.canvas, map, this.sprites, this.camera);
    this.scene.drawn = drawn;
    this.listen(hands);
  }

  zoom(id, text, label, times) {
    return h("button", { type: "button", id, "aria-label": label, title: label, onclick: () => {
      if (times === null) this.camera.look(MIDDLE, MIDDLE, 1);
      else this.camera.zoomAt(this.camera.width / 2, this.camera.height / 2, times);
      this.moved();
    } }, text);
  }

  listen(hands) {
    const { canvas, scene, node } = this;
    listen(canvas, this.camera, {
      changed: () => this.moved(),
      hover: (left, top) => this.hover(left === null ? null : scene.hit(left, top), [left, top]),
      open: (left, top, apart) => this.open(scene.hit(left, top), apart),
      touched: (left, top) => this.touched(scene.hit(left, top), [left, top]),
      lassoing: () => false, lasso() {}, escape() {}, ...hands,
    });
    this.sizes = new ResizeObserver(() => { if (canvas.isConnected) scene.resize(node.clientWidth, node.clientHeight); });
    this.sizes.observe(node);
    this.themes = new MutationObserver(() => scene.request());
    this.themes.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  }

  /** Lets go of all that would keep it after another view is shown. */
  leave() {
    this.sizes.disconnect();
    this.themes.disconnect();
    clearTimeout(this.later);
  }

  /** Looks where an address says, as `at` wrote it. */
  start(text) {
    const numbers = (text ?? "").split(",").map(Number);
    if (text === null || numbers.length !== 3 || !numbers.every(Number.isFinite)) return;
    this.camera.most = Infinity; // until the size of the page says how far one can zoom
    this.camera.look(...numbers);
  }

  /** What is in view, for an address; null where all is. */
  get at() {
    const { x, y, zoom } = this.camera;
    const whole = zoom === 1 && Math.abs(x - MIDDLE) < 1 && Math.abs(y - MIDDLE) < 1;
    return whole ? null : `${Math.round(x)},${Math.round(y)},${Number(zoom.toPrecision(4))}`;
  }

  moved() {
    this.scene.request();
    clearTimeout(this.later);
    this.later = setTimeout(() => this.remember(), 300);
  }

  hover(place, at) {
    this.canvas.classList.toggle("over", place !== null);
    if (this.scene.marked !== place) this.scene.request();
    this.scene.marked = place;
    this.card.hidden = place === null;
    if (place === null) return;
    if (this.card.dataset.place !== String(place)) {
      this.card.dataset.place = place;
      this.card.replaceChildren(...this.cardOf(place));
    }
    const { width, height } = this.camera;
    const [left, top] = at;
    const { offsetWidth, offsetHeight } = this.card;
    const beside = left + BESIDE + offsetWidth > width ? Math.max(0, left - BESIDE - offsetWidth) : left + BESIDE;
    this.card.style.left = `${beside}px`;
    this.card.style.top = `${Math.max(0, Math.min(height - offsetHeight, top - offsetHeight / 2))}px`;
  }

  open(place, apart) {
    if (place === null || !this.canvas.isConnected) return;
    if (apart) open(this.href(place), "_blank", "noopener");
    else location.hash = this.href(place);
  }

  /** By finger: the first tap shows the card, the second on the same point opens it. */
  touched(place, at) {
    if (place !== null && this.scene.marked === place && !this.card.hidden) this.open(place, false);
    else this.hover(place, at);
  }
}

/** One choice of the bar. options: [value, text], and why it can't be chosen, if it can't. */
export function select(id, text, options, chosen, choose) {
  return h("label", { class: "filter" }, h("span", {}, text),
    h("select", { id, onchange: (event) => choose(event.target.value) }, options.map(([value, name, why]) =>
      h("option", { value, selected: chosen === value, disabled: why !== undefined, title: why ?? null },
        why === undefined ? name : `${name} (${why})`))));
}

/** The address of the map of a layer's units. */
export const unitMapHash = (name, query = {}) => layerHash(name, query).replace("#/layer/", "#/map/");

/** The layers whose units have a map, now or once it is made. */
export const mappedLayers = (network) => network.layers.filter(({ name }) =>
  network.unit_map?.layers.includes(name) || lacks(network, `unitmap/${name}`));

/** Between the map of the images and that of the units of some layer. layer: whose units are on display; null for images. */
export function kinds(network, layer) {
  const layers = mappedLayers(network);
  if (layers.length === 0) return null;
  const other = layers.findLast(({ shape }) => shape.length === 3) ?? layers.at(-1);
  return h("nav", { id: "map-kinds", class: "choices", "aria-label": "Map of" },
    h("a", { href: "#/map", "aria-current": layer === null && "true" }, "images"),
    h("a", { href: unitMapHash(layer ?? other.name), "aria-current": layer !== null && "true" }, "units"));
}
