// A mask of one's own: painted over the photo, and what the network takes it for with that hidden.

import { h } from "./dom.js";
import { number, percent } from "./format.js";
import { latest, look } from "./live.js";
import { named } from "./trychooser.js";
import { taken } from "./trytaken.js";

const STROKE = 1 / 8; // of the shorter side: how wide a stroke is

/** {node, show, leave}, for the section that hides parts. */
export function maskPad(studio) {
  const [height, width] = studio.input.size;
  const radius = Math.max(1, (Math.min(height, width) * STROKE) / 2);
  const canvas = h("canvas", { id: "try-mask", width, height, tabindex: 0, role: "img",
    "aria-label": "Your photo. Paint over what shall be hidden. Arrows move the brush, Enter paints." });
  const brush = h("span", { class: "brush", hidden: true, style: { width: `${(200 * radius) / width}%`, height: `${(200 * radius) / height}%` } });
  const under = h("img", { class: "beneath", alt: "" });
  const then = h("div", { id: "try-masked" });
  const clear = h("button", { type: "button", class: "framed", onclick: () => begin() }, "Uncover all");
  const node = h("div", { class: "hide-pair", id: "try-own-mask" },
    h("figure", {}, h("div", { class: "lay painted" }, under, canvas, brush), h("figcaption", { class: "caption" }, "your own: paint over it", clear)), then);
  const ink = canvas.getContext("2d");
  const [red, green, blue] = [...studio.cover, ...studio.cover, ...studio.cover]; // of one color where the network sees gray
  let covered = new Uint8Array(height * width);
  let state = null;
  let clean = null; // the value of the whole photo
  let at = [height / 2, width / 2];

  const classes = () => state.about === null || state.about.startsWith("class:");
  const index = () => (state.about === null ? state.best?.index : state.about.slice("class:".length));
  const subject = () => (state.about === null ? state.best?.label ?? "it" : named(studio, state.about));
  const score = () => (!classes() ? state.about : index() === undefined ? null : `probability(${index()})`);
  const text = (value) => (classes() ? percent(value) : number(value));

  const ask = latest(async () => {
    const asked = { photo: state.photo, crop: state.crop, about: score() };
    clean ??= (await look(asked)).about;
    return look({ ...asked, mask: packed() });
  }, (found, error) => {
    if (error !== null) { then.replaceChildren(h("p", {}, error.message)); return; }
    if (!covered.includes(1)) return;
    then.replaceChildren(found.about === null ? "" : h("p", {}, `${subject()}: ${text(clean)}, then ${text(found.about)}.`),
      found.top.length === 0 ? "" : taken(found.top));
  });

  /** The pixels that are covered, as bits in base64. */
  function packed() {
    const bytes = new Uint8Array(Math.ceil(covered.length / 8));
    covered.forEach((on, i) => { if (on) bytes[i >> 3] |= 0x80 >> (i & 7); });
    let raw = "";
    for (const byte of bytes) raw += String.fromCharCode(byte);
    return btoa(raw);
  }

  function begin() {
    covered = new Uint8Array(height * width);
    ink.clearRect(0, 0, width, height);
    then.replaceChildren(h("p", { class: "note" }, "What you paint over is hidden under the network’s mean color, and it is told here what is left."));
  }

  /** Covers all within the brush at (y, x), px of the input. */
  function paint([y, x]) {
    ink.fillStyle = `rgb(${red}, ${green}, ${blue})`;
    for (let row = Math.max(0, Math.floor(y - radius)); row < Math.min(height, y + radius); row += 1) {
      for (let column = Math.max(0, Math.floor(x - radius)); column < Math.min(width, x + radius); column += 1) {
        if (Math.hypot(row + 0.5 - y, column + 0.5 - x) > Math.max(radius, 0.75)) continue;
        covered[row * width + column] = 1;
        ink.fillRect(column, row, 1, 1);
      }
    }
    if (state !== null) ask({});
  }

  function stand(where) {
    at = where.map((value, i) => Math.min([height, width][i], Math.max(0, value)));
    Object.assign(brush.style, { top: `${(100 * at[0]) / height}%`, left: `${(100 * at[1]) / width}%` });
    brush.hidden = false;
  }

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientY - box.top) / box.height) * height, ((event.clientX - box.left) / box.width) * width];
  };
  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    stand(place(event));
    paint(at);
  });
  canvas.addEventListener("pointermove", (event) => {
    stand(place(event));
    if (event.buttons & 1) paint(at);
  });
  canvas.addEventListener("pointerleave", () => { brush.hidden = document.activeElement !== canvas; });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step === undefined && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation(); // arrows lead to other pages elsewhere
    if (step === undefined) paint(at);
    else stand(at.map((value, i) => value + step[i] * radius));
  });

  return {
    node,
    show: (now) => {
      const other = state === null || now.cropped !== state.cropped;
      state = now;
      clean = null;
      under.src = now.cropped;
      if (other) begin();
      else if (covered.includes(1)) ask({});
    },
    leave: () => ask.leave(),
  };
}
