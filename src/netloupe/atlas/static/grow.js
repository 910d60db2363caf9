// Grow it: the image of a unit or class climbs before one's eyes, with its response beside the best photograph's.

import { h, svg, withWidth } from "./dom.js";
import { count, counted, number, plain } from "./format.js";
import { keeping } from "./keep.js";
import { getStudio, mode, start } from "./live.js";
import { control } from "./settings.js";
import { lastPhoto } from "./trystate.js";

const PRESETS = [["lucid", "lucid (Olah et al.)"], ["maco", "MACO (Fel et al.)"], ["simonyan", "Simonyan et al."], ["yosinski", "Yosinski et al."], ["none", "nothing at all"]];
const STEPS = [32, 64, 128, 256, 512];
const FACETED = { count: "Facets, at most", images: "of so many photographs", pull: "kept apart, how strongly" }; // settings of facets, as they are called here
const HEIGHT = 220;
const EDGE = { top: 14, right: 14, bottom: 40, left: 52 };

/** {node, leave}: the section of a unit's page, where there is a studio. best: the answer to the best photograph.
 *  asked: with which it begins at once, see `climbing`. */
export function growing(layer, channel, best, asked = null) {
  if (mode !== "atlas") return { node: null, leave: () => {} };
  const unit = layer.classes ? `class:${channel}` : `${layer.name}:${channel}`;
  const section = h("section", { id: "grow", "aria-labelledby": "grow-title" }, h("h2", { id: "grow-title" }, "Grow it"));
  const part = { leave: () => {} };
  const open = h("button", { type: "button", class: "framed", id: "grow-open", onclick: () => begin() }, "Make an image of it");
  const told = h("p", { class: "note", role: "status" }, "Step by step a gray picture is changed so that this ", layer.classes ? "class" : "channel", " answers more.");
  section.append(h("p", {}, open), told);

  async function begin() {
    open.disabled = true;
    told.textContent = "Loading the network …";
    try {
      const made = climbing(await getStudio(), unit, best, asked);
      part.leave = made.leave;
      section.replaceChildren(section.firstChild, ...made.nodes);
      made.begin();
    } catch (error) {
      told.textContent = error.message;
      open.disabled = false;
    }
  }
  if (asked !== null) begin();
  return { node: section, leave: () => part.leave() };
}

/** What one does on that page. asked: "PRESET.STEPS.SEED" or "PRESET.STEPS.SEED.COUNT", of so many facets. */
function climbing(studio, unit, best, asked) {
  const [wanted = "lucid", often = "64", first = "0", count = null] = asked?.split(".") ?? [];
  const select = (id, text, options, chosen) => h("label", { class: "filter" }, h("span", {}, text),
    h("select", { id }, options.map(([value, name]) => h("option", { value, selected: value === chosen }, name))));
  const what = select("grow-what", "Make", [["grow", "one image"], ["facets", "its facets"]], count === null ? "grow" : "facets");
  const preset = select("grow-preset", "Kept natural by", PRESETS, wanted);
  const steps = select("grow-steps", "Steps", [...new Set([...STEPS, Number(often)])].map((n) => [n, String(n)]), Number(often));
  const mine = h("input", { id: "grow-mine", type: "checkbox" });
  const tried = lastPhoto();
  const from = h("label", { class: "filter" }, mine, h("span", {}, tried === null ? "from my photo (first try one)" : "from my photo"));
  mine.disabled = tried === null;
  const facet = Object.entries(FACETED).map(([name, text]) => [name, control(studio.sections.facets, name, { id: `grow-${name}`, text, value: name === "count" && count !== null ? Number(count) : null })]);
  const ofFacets = h("div", { class: "bar-line grow-bar", id: "grow-of-facets" }, facet.map(([, { node }]) => node));
  const again = h("button", { type: "button", class: "framed", id: "grow-again", onclick: () => begin(seed) }, "Again");
  const another = h("button", { type: "button", class: "framed", id: "grow-another", onclick: () => begin(seed + 1) }, "Another");
  const status = h("p", { id: "grow-status", class: "note", role: "status" });
  let seed = Number(first);
  let stop = Object.assign(() => {}, { leave: () => {} });
  let last = null;

  const value = (part) => part.querySelector("select").value;
  const one = climb(unit, best);
  const several = facetRows(unit);
  const kinds = { grow: { ...one, keep: keeping(studio, "grow", () => last) }, facets: { ...several, keep: keeping(studio, "facets", () => last) } };
  what.querySelector("select").addEventListener("change", () => choose());

  /** Shows what belongs to one image or to facets. */
  function choose() {
    for (const [name, kind] of Object.entries(kinds)) {
      kind.node.hidden = name !== value(what);
      if (kind.keep.node !== null) kind.keep.node.hidden = name !== value(what);
    }
    ofFacets.hidden = value(what) !== "facets";
    from.hidden = value(what) === "facets";
    last = null;
    status.textContent = value(what) === "facets" ? "The photographs that excite it most are grouped by what else the network sees in them; from the mean of each group an image is climbed." : "";
  }

  function begin(next = seed) {
    stop();
    seed = next;
    last = null;
    const name = value(what);
    const kind = kinds[name];
    const shared = { unit, preset: value(preset), steps: Number(value(steps)), seed };
    const own = name === "facets" ? Object.fromEntries(facet.map(([each, { read }]) => [each, read()])) : { quick: true };
    const photo = name === "grow" && mine.checked && tried !== null ? { photo: tried.photo, crop: tried.crop } : {};
    const sent = { ...photo, settings: { ...shared, ...own } };
    kind.clear(sent.settings);
    status.textContent = "It waits for its turn …";
    stop = start(name, sent, (event, data) => {
      if (event === "picture") status.textContent = kind.add(data);
      if (event === "progress" && data.part === "photographs") status.textContent = `Looking through ${plain(data.total)} photographs, ${plain(data.done)} so far …`;
      if (event === "failed" || event === "cancelled") status.textContent = data.message ?? "Stopped.";
      if (event === "done") { last = sent; status.textContent = kind.finish(data); }
    });
  }

  choose();
  return {
    nodes: [
      h("div", { class: "bar-line grow-bar" }, what, preset, steps, from, again, another, Object.values(kinds).map(({ keep }) => keep.node)),
      ofFacets, one.node, several.node, status,
    ],
    begin,
    leave: () => { stop.leave(); for (const { keep } of Object.values(kinds)) keep.leave(); },
  };
}

/** One image, with its answers by step and the slider through them: {node, clear, add, finish}; these say how it stands. */
function climb(unit, best) {
  const picture = h("img", { id: "grow-picture", alt: `What ${unit} answers to, as it grows`, width: 64, height: 64 });
  const scrub = h("input", { id: "grow-frame", type: "range", min: 0, max: 0, value: 0, "aria-label": "Go back and forth through the climb", oninput: () => look(Number(scrub.value)) });
  const chart = h("div", { class: "chart grow-chart" });
  let frames = []; // {step, value, src}
  let width = 0;
  let shown = null; // which of the frames is looked at; null: the latest
  let settings = null;

  const draw = () => { if (width > 0) chart.replaceChildren(curve(width, frames, Number(settings?.steps ?? 64), best, shown)); };
  withWidth(chart, (found) => { width = found; draw(); });

  function look(place) {
    shown = place === frames.length - 1 ? null : place;
    if (frames[place] !== undefined) picture.src = frames[place].src;
    draw();
  }

  function put(step, data) {
    frames.push({ step, value: data.value, src: data.src });
    scrub.max = frames.length - 1;
    if (shown === null) { scrub.value = frames.length - 1; picture.src = data.src; }
    draw();
  }

  function add(data) {
    const every = Math.max(1, Math.floor(settings.steps / 32));
    put(Math.min(settings.steps, (frames.length + 1) * every), data);
    return `Step ${count(frames.at(-1).step)} of ${count(settings.steps)}.`;
  }

  function finish(data) {
    if (frames.at(-1)?.step === settings.steps) frames.pop();
    put(settings.steps, data);
    return said(data);
  }

  function said({ value: reached, bounded }) {
    const compare = best === null ? "" : best <= 0 ? ` The best photograph: ${number(best)}.`
      : reached > best ? ` ${(reached / best).toFixed(1)} times the best photograph’s ${number(best)}.` : ` Less than the best photograph’s ${number(best)}.`;
    const colors = bounded ? "" : " Its colors leave what a screen can show, and are cut off.";
    return `It answers ${number(reached)}.${compare}${colors} One of many images that would do, found with seed ${settings.seed}.`;
  }

  return {
    node: h("div", { class: "climbed" },
      h("figure", {}, h("span", { class: "grow-frame" }, picture), scrub),
      h("div", {}, chart, h("ul", { class: "legend" }, h("li", { class: "synthesized" }, "its answer to the image"),
        best !== null && h("li", { class: "other" }, "to the best photograph")))),
    clear: (now) => { frames = []; shown = null; settings = now; },
    add, finish,
  };
}

/** A row for each facet: its image as it grows, and once it is there what it began with and its photographs. */
function facetRows(unit) {
  const node = h("ol", { id: "grow-facets", class: "facets" });
  let rows = [];

  function row(i) {
    while (rows.length <= i) {
      const place = rows.length + 1;
      const picture = h("img", { class: "grow-facet", alt: `Facet ${place} of ${unit}, as it grows` });
      const value = h("span", { class: "value" });
      const label = h("span", { class: "label" });
      const pictures = h("div", { class: "facet-pictures" }, picture);
      rows.push({ picture, pictures, value, label });
      node.append(h("li", { class: "facet" }, pictures, h("p", { class: "caption" }, value, label)));
    }
    return rows[i];
  }

  function add({ facet, src, value }) {
    const one = row(facet);
    one.picture.src = src;
    one.value.textContent = number(value);
    return `${rows.length === 1 ? "One facet grows" : `${rows.length} facets grow`} …`;
  }

  function finish({ facets, of, images }) {
    facets.forEach(({ src, start: begun, value, best: highest, count: many, own, photographs }, i) => {
      const one = row(i);
      one.picture.src = src;
      one.pictures.replaceChildren(one.picture, h("img", { src: begun, alt: "What it began with, the mean of such photographs" }), ...photographs.map((each) => h("img", { src: each, alt: `A photograph of facet ${i + 1}` })));
      one.value.textContent = number(value);
      one.label.textContent = `its answer; the best of its ${counted(many, "photograph")} ${number(highest)}${own ? "" : "; the image went over to another facet"}`;
    });
    return `${counted(facets.length, "facet")}, found among the ${counted(images, "image")} of ${of}. Beside each image: what it began with, and photographs of its group.`;
  }

  return { node, clear: () => { rows = []; node.replaceChildren(); }, add, finish };
}

/** The answers by step, up to `steps`, and the best photograph's as a line. */
function curve(width, frames, steps, best, shown) {
  const values = [...frames.map(({ value }) => value), ...(best === null ? [] : [best]), 0];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const span = high > low ? high - low : 1;
  const inner = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
  const x = (step) => EDGE.left + (step / steps) * inner.width;
  const y = (value) => EDGE.top + (1 - (value - low) / span) * inner.height;
  const levels = [low, low + span / 2, high];
  const now = frames[shown ?? frames.length - 1];
  return svg("svg", { width, height: HEIGHT, role: "img", "aria-label": `The answer by step, so far ${number(now?.value ?? null)}${best === null ? "" : `; to the best photograph ${number(best)}`}` },
    levels.map((value) => [svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
      svg("text", { x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, number(value))]),
    [0, steps / 2, steps].map((step) => svg("text", { x: x(step), y: HEIGHT - 22, "text-anchor": "middle" }, plain(step))),
    best !== null && svg("path", { class: "curve other", d: `M${EDGE.left} ${y(best)}H${width - EDGE.right}` }),
    svg("path", { class: "curve synthesized", d: frames.map(({ step, value }, i) => `${i === 0 ? "M" : "L"}${x(step)} ${y(value)}`).join("") }),
    now && svg("circle", { class: "dot synthesized", cx: x(now.step), cy: y(now.value), r: 4 }),
    svg("text", { class: "axis", x: EDGE.left + inner.width / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "steps"));
}
