// Hide parts: a window goes over the photo, and the heat of what it costs fills in; point at a place to see it hidden.

import { h } from "./dom.js";
import { number, percent } from "./format.js";
import { latest, look, start } from "./live.js";
import { named } from "./trychooser.js";
import { maskPad } from "./trymask.js";
import { taken } from "./trytaken.js";

export function hideSection(studio) {
  const side = Math.min(...studio.input.size);
  const sizes = [...new Set([14, 7, 4].map((part) => Math.max(2, Math.round(side / part))))];
  const size = h("select", { id: "try-window", "aria-label": "Size of the window", onchange: () => again() },
    sizes.map((px) => h("option", { value: px, selected: px === sizes[1] }, `${px} px`)));
  const status = h("p", { id: "try-hide-status", class: "note", role: "status" });
  const heat = h("img", { class: "over", alt: "What hiding each part costs", hidden: true });
  const under = h("img", { class: "beneath", alt: "" });
  const map = h("div", { class: "lay", id: "try-heat", tabindex: 0, role: "group",
    "aria-label": "What hiding each part costs. Arrows move the window." }, under, heat);
  const [red, green, blue] = [...studio.cover, ...studio.cover, ...studio.cover]; // of one color where the network sees gray
  const hidden = h("span", { class: "window", hidden: true, style: { "background-color": `rgb(${red}, ${green}, ${blue})` } });
  const scale = h("figcaption", { class: "caption", id: "try-hide-scale" }, "what hiding costs");
  const photo = h("img", { class: "beneath", alt: "The photo with a part hidden" });
  const then = h("div", { id: "try-then" });
  const own = maskPad(studio);
  const node = h("section", { "aria-labelledby": "try-hide-title" },
    h("div", { class: "bar-line" }, h("h2", { id: "try-hide-title" }, "Hide parts"), h("label", { class: "filter" }, h("span", {}, "Window"), size)),
    h("p", { class: "note" }, "A window of the network’s mean color hides each place in turn: red where that costs the score, blue where it raises it. It shows what this window hides at once; "
      + "two parts that can stand in for each other both look unimportant. Point at a place to see it hidden, or paint a mask of your own below."),
    status,
    h("div", { class: "hide-pair" }, h("figure", {}, map, scale),
      h("figure", {}, h("div", { class: "lay" }, photo, hidden), h("figcaption", { class: "caption" }, "with the window")), then), own.node);
  let stop = () => {};
  let state = null;
  let found = null;
  let place = null; // [row, column]

  const peek = latest((box) => look({ photo: state.photo, crop: state.crop, hidden: box }), (answer) => {
    if (answer === null || place === null || found === null) return;
    const score = found.scores[place[0]][place[1]];
    then.replaceChildren(h("p", {}, `${subject()}: ${text(found.clean)}, then ${text(score)}.`),
      answer.top.length === 0 ? "" : taken(answer.top));
  });

  const classes = () => state.about === null || state.about.startsWith("class:");
  const subject = () => (state.about === null ? state.best?.label ?? "it" : named(studio, state.about));
  const text = (value) => (classes() ? percent(value) : number(value));

  const change = (by) => `${by < 0 ? "−" : "+"}${classes() ? `${percent(Math.abs(by)).slice(0, -1)} points` : number(Math.abs(by))}`;

  function again() {
    stop();
    if (state === null) return;
    found = place = null;
    hidden.hidden = true;
    scale.textContent = "what hiding costs";
    then.replaceChildren();
    for (const one of [under, photo]) one.src = state.cropped;
    const { photo: id, crop, about } = state;
    stop = start("hide", { photo: id, crop, settings: { about, window: Number(size.value) } }, (kind, data) => {
      if (kind === "picture") { heat.src = data.src; heat.hidden = false; heat.classList.add("filling"); }
      if (kind === "progress") status.textContent = `${data.done} of ${data.total} places …`;
      if (kind === "cancelled") status.textContent = data.message;
      if (kind === "failed") { status.textContent = data.message; heat.hidden = true; }
      if (kind === "done") {
        status.textContent = "";
        found = data;
        heat.classList.remove("filling");
        heat.src = data.overlay;
        heat.hidden = false;
        scale.textContent = `what hiding costs, as the mean of the windows over each place: deepest red ${change(-found.strongest)}, deepest blue ${change(found.strongest)}`;
        point(worst());
      }
    });
  }

  /** Where hiding costs most. */
  function worst() {
    let best = [0, 0];
    found.scores.forEach((row, y) => row.forEach((score, x) => { if (score < found.scores[best[0]][best[1]]) best = [y, x]; }));
    return best;
  }

  function point([row, column]) {
    if (found === null || (place !== null && place[0] === row && place[1] === column)) return;
    place = [row, column];
    const [top, bottom] = found.rows[row];
    const [left, right] = found.columns[column];
    const [height, width] = studio.input.size;
    const share = (part, all) => `${(100 * part) / all}%`;
    Object.assign(hidden.style, { top: share(top, height), left: share(left, width), height: share(bottom - top, height), width: share(right - left, width) });
    hidden.hidden = false;
    peek([top, left, bottom, right]);
  }

  function nearest(spans, at) {
    let best = 0;
    spans.forEach(([low, high], i) => { if (Math.abs((low + high) / 2 - at) < Math.abs((spans[best][0] + spans[best][1]) / 2 - at)) best = i; });
    return best;
  }

  map.addEventListener("pointermove", (event) => {
    if (found === null) return;
    const { left, top, width, height } = map.getBoundingClientRect();
    const [tall, wide] = studio.input.size;
    point([nearest(found.rows, ((event.clientY - top) / height) * tall), nearest(found.columns, ((event.clientX - left) / width) * wide)]);
  });
  map.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step === undefined || found === null) return;
    event.preventDefault();
    event.stopPropagation();
    const counts = [found.rows.length, found.columns.length];
    point((place ?? [0, 0]).map((at, i) => Math.min(counts[i] - 1, Math.max(0, at + step[i]))));
  });
  return { name: "hide", sent: () => ({ settings: { window: Number(size.value) } }), node, show: (now) => { state = now; again(); own.show(now); }, leave: () => { stop(); peek.leave(); own.leave(); } };
}
