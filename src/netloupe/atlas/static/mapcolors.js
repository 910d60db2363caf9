// What color stands for: the class of an image by its label or its prediction, or whether the prediction is right.

import { h } from "./dom.js";
import { NONE } from "./mapdata.js";
import { pixel } from "./mappaint.js";

// Ten colors that people with any color vision can tell apart (Petroff 2021, "Accessible Color Sequences for Data Visualization").
const TEN = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"].map(rgb);
const RIGHT = rgb("#0072b2"); // blue and vermilion of Okabe & Ito 2008
const WRONG = rgb("#d55e00");
const UNKNOWN = [140, 140, 140];

function rgb(hex) {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}

const css = (color) => `rgb(${color.join(", ")})`;

/** {pixels: a color for each place, legend: [{text, color, index}] or null, plane: whether colors tell positions}; null for no colors. */
export function colorsOf(map, space, by, names) {
  if (by === "label") return byClass(map.labels, space, names.labels);
  if (by === "prediction") return byClass(map.predictions, space, names.predictions);
  if (by === "error") return byError(map);
  return null;
}

function byError({ labels, predictions }) {
  const [right, wrong, unknown] = [RIGHT, WRONG, UNKNOWN].map(pixel);
  const pixels = Uint32Array.from(labels, (label, place) => (label === NONE ? unknown : label === predictions[place] ? right : wrong));
  const legend = [{ text: "right", color: css(RIGHT), index: null }, { text: "wrong", color: css(WRONG), index: null }];
  if (pixels.includes(unknown)) legend.push({ text: "no label", color: css(UNKNOWN), index: null });
  return { pixels, legend, plane: false };
}

function byClass(classes, space, names) {
  const used = [...new Set(classes)].filter((index) => index !== NONE).sort((a, b) => a - b);
  const few = used.length <= TEN.length;
  const middles = few ? null : centers(classes, space);
  const colors = new Map(used.map((index, i) => [index, few ? TEN[i] : inPlane(...middles.get(index))]));
  colors.set(NONE, UNKNOWN);
  const packed = new Map([...colors].map(([index, color]) => [index, pixel(color)]));
  const legend = few ? used.map((index) => ({ text: names[index] ?? String(index), color: css(colors.get(index)), index })) : null;
  return { pixels: Uint32Array.from(classes, (index) => packed.get(index)), legend, plane: !few };
}

/** The median x and y of each class, in [0, 1]. */
function centers(classes, { x, y }) {
  const members = new Map();
  classes.forEach((index, place) => (members.get(index) ?? members.set(index, []).get(index)).push(place));
  const median = (values) => values.sort((a, b) => a - b)[values.length >> 1] / 65535;
  return new Map([...members].map(([index, places]) => [index, [median(places.map((p) => x[p])), median(places.map((p) => y[p]))]]));
}

/** A color for a position in [0, 1]: blue to yellow from left to right, light to dark downward, which do not need red and green. */
export function inPlane(x, y) {
  const spread = (value) => Math.min(1, Math.max(0, (value - 0.15) / 0.7)); // medians rarely lie at the edges
  const lightness = 0.86 - 0.46 * spread(y);
  const [a, b] = [-0.03 + 0.05 * spread(x), -0.15 + 0.29 * spread(x)];
  const [l, m, s] = [[0.3963, 0.2158], [-0.1056, -0.0639], [-0.0895, -1.2915]].map(([ka, kb]) => (lightness + ka * a + kb * b) ** 3);
  const linear = [4.0767 * l - 3.3077 * m + 0.231 * s, -1.2684 * l + 2.6098 * m - 0.3413 * s, -0.0042 * l - 0.7034 * m + 1.7076 * s];
  return linear.map((value) => Math.round(255 * Math.min(1, Math.max(0, value)) ** (1 / 2.2)));
}

/** What the colors stand for, in `node`. find(text): looks for the class of that name. */
export function drawLegend(node, colored, find) {
  node.hidden = colored === null;
  if (colored === null) return;
  node.replaceChildren(colored.plane
    ? h("p", {}, planePicture(), "classes that lie near each other have like colors")
    : h("ul", {}, colored.legend.map(({ text, color, index }) => h("li", {}, index === null ? [swatch(color), text]
      : h("button", { type: "button", class: "plain", onclick: () => find(text) }, swatch(color), text)))));
}

const swatch = (color) => h("span", { class: "swatch", style: { background: color }, "aria-hidden": "true" });

/** The colors of all positions, as a small picture. */
function planePicture() {
  const side = 28;
  const canvas = h("canvas", { class: "plane", width: side, height: side, "aria-hidden": "true" });
  const image = new ImageData(side, side);
  for (let i = 0; i < side * side; i += 1) image.data.set([...inPlane((i % side) / side, Math.floor(i / side) / side), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
