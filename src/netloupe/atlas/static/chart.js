// Charts, drawn at the width they get so that their type keeps its size: a histogram, and curves over layers.

import { h, svg, withWidth } from "./dom.js";
import { count, number, plain } from "./format.js";

const HEIGHT = 240;
const EDGE = { top: 12, right: 14, bottom: 46, left: 48 };

/** `marks` are values to point out below the bars, `own` another, which may lie beyond them. */
export function histogram({ low, high, counts }, marks, own = null) {
  const frame = h("div", { class: "chart", id: "histogram" });
  withWidth(frame, (width) => frame.replaceChildren(draw(width, low, high, counts, marks, own)));
  return frame;
}

function draw(width, low, high, counts, marks, own) {
  const inner = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
  const most = Math.max(1, ...counts);
  const span = high > low ? high - low : 1;
  const x = (value) => EDGE.left + ((value - low) / span) * inner.width;
  const y = (images) => EDGE.top + inner.height * (1 - Math.sqrt(images / most)); // square root: a tail of single images stays visible
  const base = y(0);
  const step = inner.width / counts.length;
  const bars = counts.map((images, i) => images > 0 && svg("rect", {
    class: "column", x: EDGE.left + i * step + 0.5, y: y(images), width: Math.max(1, step - 1), height: base - y(images) },
    svg("title", {},
      `${number(low + (i * span) / counts.length)} to ${number(low + ((i + 1) * span) / counts.length)}: ${count(images)}`)));
  const levels = [0, ...[1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6].filter((n) => n <= most)]
    .filter((n, i, all) => n === 0 || y(n) < base - 14 && (i === all.length - 1 || y(all[i + 1]) < y(n) - 14));
  const grid = levels.map((images) => [
    svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(images), y2: y(images) }),
    svg("text", { x: EDGE.left - 8, y: y(images) + 4, "text-anchor": "end" }, count(images))]);
  const ticks = round(low, low + span, Math.max(2, Math.floor(inner.width / 80))).map((value) =>
    svg("text", { x: x(value), y: base + 24, "text-anchor": "middle" }, plain(value)));
  const best = marks.map((value) => svg("path", { class: "mark", d: `M${x(value)} ${base + 1}l4 8h-8z` }));
  const place = own === null ? null : x(Math.min(low + span, Math.max(low, own)));
  const mine = own !== null && svg("path", { class: "mark own", d: `M${place} ${base - 5}l5 5l-5 5l-5 -5z` }, svg("title", {}, `your photo: ${number(own)}`));
  return svg("svg", { width, height: HEIGHT, role: "img", "aria-label":
    `Histogram of the peak activation over images, from ${number(low)} to ${number(high)}, at most ${count(most)} images in one column` },
    grid, bars, best, mine, ticks,
    svg("text", { class: "axis", x: EDGE.left + inner.width / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "peak activation"),
    svg("text", { class: "axis", transform: `translate(11 ${EDGE.top + inner.height / 2}) rotate(-90)`, "text-anchor": "middle" },
      "images, square-root scale"));
}

/** About `wanted` round values from low to high. */
function round(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => size >= rough);
  const values = [];
  for (let i = Math.ceil(low / step); i * step <= high; i += 1) values.push(i * step);
  return values;
}

/** Curves of numbers in [-1, 1] over named places; each is {key, text, values}, null where a value is missing. */
export function lines(places, curves, axis) {
  const frame = h("div", { class: "chart curves" });
  const keys = h("ul", { class: "legend" }, curves.map(({ key, text }) => h("li", { class: key }, text)));
  withWidth(frame, (width) => frame.replaceChildren(drawLines(width, places, curves, axis)));
  return h("div", {}, frame, keys);
}

function drawLines(width, places, curves, axis) {
  const known = curves.flatMap(({ values }) => values).filter((value) => value !== null);
  const low = Math.min(0, Math.floor(Math.min(0, ...known) * 5) / 5);
  const inner = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
  const x = (place) => EDGE.left + (places.length === 1 ? 0.5 : place / (places.length - 1)) * inner.width;
  const y = (value) => EDGE.top + ((1 - value) / (1 - low)) * inner.height;
  const levels = [-0.6, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 1].filter((value) => value >= low);
  const grid = levels.map((value) => [
    svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
    svg("text", { x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, plain(value))]);
  const room = Math.max(1, Math.floor(inner.width / (8 * Math.max(...places.map((name) => name.length), 5))));
  const step = Math.ceil(places.length / room);
  const last = places.length - 1;
  const names = places.map((name, i) => ((last - i) % step === 0) && svg("text", { x: x(i), y: y(low) + 20,
    "text-anchor": places.length === 1 ? "middle" : i === last ? "end" : i === 0 ? "start" : "middle" }, name));
  const drawn = curves.map(({ key, text, values }) => {
    const points = values.map((value, i) => [value, i]).filter(([value]) => value !== null);
    return [svg("path", { class: `curve ${key}`, d: points.map(([value, i], n) => `${n === 0 ? "M" : "L"}${x(i)} ${y(value)}`).join("") },
      svg("title", {}, text)),
    points.map(([value, i]) => svg("circle", { class: `dot ${key}`, cx: x(i), cy: y(value), r: 3 },
      svg("title", {}, `${text} at ${places[i]}: ${number(value)}`)))];
  });
  return svg("svg", { width, height: HEIGHT, role: "img", "aria-label":
    `${axis}, layer by layer: ${curves.map(({ text, values }) => `${text} ${values.map(number).join(", ")}`).join("; ")}` },
    grid, names, drawn,
    svg("text", { class: "axis", transform: `translate(11 ${EDGE.top + inner.height / 2}) rotate(-90)`, "text-anchor": "middle" }, axis));
}
