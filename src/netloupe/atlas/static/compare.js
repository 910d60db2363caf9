// Compare: two networks, or two moments of one training, look at the same photo, side by side and on shared scales.

import { h } from "./dom.js";
import { hundredths, percent } from "./format.js";
import { getStudio, start } from "./live.js";
import { lastPhoto } from "./trystate.js";
import { taken } from "./trytaken.js";

const TITLES = { hide: "What hiding each part costs", gradient: "Gradient", grad_cam: "Grad-CAM" };
const ALIKE = "Rank correlation of the two maps on one grid: 1, they order all places alike; 0, not at all.";

export async function compareView() {
  const studio = await getStudio();
  const tried = lastPhoto();
  const missing = studio.others.length === 0
    ? ["There is no second network. Start the studio with ", h("code", {}, "--also NAME"), ", or with weights of the same network, as its training wrote them."]
    : tried === null ? ["First choose a photo under ", h("a", { href: "#/try" }, "Try it"), "; then both look at it."] : null;
  if (missing !== null) return page([header(studio), h("p", { class: "notice" }, missing)]);
  const view = comparing(studio, tried);
  return { ...page([header(studio), ...view.nodes]), leave: view.leave };
}

const page = (node) => ({ section: "try", title: "Compare", node });
const header = (studio) => h("header", { class: "opening" }, h("h1", {}, "Compare"),
  h("p", { class: "lead" }, `One photo, and what ${studio.name} and another network make of it.`));

function comparing(studio, tried) {
  const pick = (id, text, options) => h("label", { class: "filter" }, h("span", {}, text),
    h("select", { id, onchange: () => again() }, options.map(([value, name]) => h("option", { value }, name))));
  const other = pick("compare-with", "With", studio.others.map((name) => [name, name]));
  const wanted = h("input", { id: "compare-class", type: "text", list: "compare-classes", placeholder: "what the first takes it for", autocomplete: "off", onchange: () => again() });
  const list = h("datalist", { id: "compare-classes" }, studio.labels.map((label) => h("option", { value: label })));
  const status = h("p", { id: "compare-status", class: "note", role: "status" });
  const found = h("div", { id: "compare" });
  let stop = Object.assign(() => {}, { leave: () => {} });

  function again() {
    stop();
    status.textContent = "Both look at it …";
    const settings = { with: other.querySelector("select").value, class: wanted.value.trim() || null };
    stop = start("compare", { ...tried, settings }, (kind, data) => {
      if (kind === "failed" || kind === "cancelled") { status.textContent = data.message ?? "Stopped."; found.replaceChildren(); }
      if (kind === "done") { status.textContent = ""; found.replaceChildren(...shown(data)); }
    });
  }

  again();
  return {
    nodes: [h("div", { class: "bar-line compare-bar" }, other, h("label", { class: "filter" }, h("span", {}, "About"), wanted), list), status, found],
    leave: () => stop.leave(),
  };
}

function shown({ class: about, high, sides, alike }) {
  return [
    h("div", { class: "compare-pair" }, sides.map(({ name, seen, top }) => h("section", { class: "compare-side" },
      h("h2", {}, name), h("div", { class: "try-look" }, h("figure", {}, h("img", { class: "try-seen", src: seen, alt: `What ${name} sees`, width: 64, height: 64 })), taken(top))))),
    ...Object.keys(TITLES).filter((kind) => sides.some(({ pictures }) => kind in pictures)).map((kind) => row(kind, about, high, sides, alike[kind] ?? null)),
  ];
}

/** Both pictures of a kind, and the one over the other. */
function row(kind, about, high, sides, alike) {
  const [one, other] = sides;
  const both = kind in one.pictures && kind in other.pictures;
  const over = h("img", { class: "over", src: other.pictures[kind] ?? null, alt: "", style: { opacity: 0.5 } });
  const slide = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": `From ${one.name} to ${other.name}`, oninput: () => { over.style.opacity = Number(slide.value) / 100; } });
  return h("section", { class: "compare-row", "data-kind": kind },
    h("h2", {}, TITLES[kind]),
    h("p", { class: "note" }, kind === "hide" ? scale(high) : "Each on a scale of its own: the numbers of two networks have no common unit.",
      alike === null ? null : [` Likeness ${hundredths(alike)}. `, h("span", {}, ALIKE)]),
    h("div", { class: "compare-maps" },
      sides.map(({ name, pictures, label, clean }) => h("figure", {},
        kind in pictures ? h("img", { src: pictures[kind], alt: `${TITLES[kind]}, ${name}` }) : h("p", { class: "note" }, "This method can’t explain this network."),
        h("figcaption", { class: "caption" }, `${name}: ${label} ${percent(clean)}`, label === about ? null : h("span", { class: "value" }, `knows no ${about}`)))),
      both && h("figure", { class: "compare-over" }, h("span", { class: "lay" }, h("img", { class: "beneath", src: one.pictures[kind], alt: "" }), over), slide,
        h("figcaption", { class: "caption" }, `from ${one.name} to ${other.name}`))));
}

const scale = (high) => `Red where a hidden part costs probability, blue where it adds some; one scale for both, up to ${percent(high).slice(0, -1)} points.`;
