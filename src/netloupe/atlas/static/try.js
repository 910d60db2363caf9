// The studio: your own photo, a crop to move over it, what the network takes it for, and section by section why.

import { FetchError } from "./api.js";
import { h } from "./dom.js";
import { keepable } from "./keep.js";
import { getStudio, latest, look, putPhoto } from "./live.js";
import { chooser } from "./trychooser.js";
import { colorsSection } from "./trycolors.js";
import { cropper } from "./trycrop.js";
import { dreamSection } from "./trydream.js";
import { field } from "./tryfield.js";
import { foolSection } from "./tryfool.js";
import { hideSection } from "./tryhide.js";
import { keepSection } from "./trykeep.js";
import { layersSection } from "./trylayers.js";
import { looksSection } from "./trylooks.js";
import { likeSection, paintSection } from "./trypaint.js";
import { pixelsSection } from "./trypixels.js";
import { madeBy } from "./trymade.js";
import { stateOf } from "./trystate.js";
import { taken } from "./trytaken.js";

// In the order in which they stand below one another; each gives null where it means nothing.
const SECTIONS = [layersSection, looksSection, colorsSection, pixelsSection, hideSection, keepSection, foolSection, dreamSection, paintSection, likeSection];
const SETTLED = 300; // ms after the last move of the crop, until the sections follow

export async function tryView({ say }) {
  const studio = await getStudio();
  const state = stateOf(studio);
  const problem = h("p", { class: "notice", id: "try-problem", role: "alert", hidden: true });
  const stage = h("div", { id: "stage" });
  const body = h("div", { class: "try", hidden: true }, stage);
  const places = field(studio, choose, fail);
  const made = madeBy(studio, (about) => { state.about = about; open(); });
  let parts = [];
  let leaveStage = () => {};

  function fail(error) {
    if (!(error instanceof FetchError)) console.error(error);
    problem.textContent = error.message;
    problem.hidden = false;
  }

  async function choose(found) {
    problem.hidden = true;
    say("Opening the photo …");
    try {
      const { told = null, ...photo } = found instanceof Blob ? await putPhoto(found) : found;
      Object.assign(state, { photo, crop: null, asked: {} });
      for (const part of parts) part.stop?.();
      made.show(told);
      open();
    } catch (error) {
      fail(error);
    } finally {
      say("");
    }
  }

  function open() {
    leaveStage();
    const opened = staged(studio, state, { fail, say });
    leaveStage = opened.leave;
    stage.replaceChildren(...opened.nodes);
    for (const { node } of parts) node.remove();
    parts = SECTIONS.map((make) => make(studio, { overlay: opened.overlay, about: opened.about, asked: state.asked })).filter((part) => part !== null)
      .map((part) => keepable(studio, part, () => ({ photo: state.photo.id, crop: state.crop, about: state.about })));
    body.append(h("div", { class: "try-sections" }, parts.map(({ node }) => node)));
    body.querySelectorAll(".try-sections:not(:last-child)").forEach((old) => old.remove());
    opened.follow(parts);
    body.hidden = false;
    places.node.classList.add("small");
  }

  if (state.photo !== null) open();
  return {
    section: "try",
    title: "Try it",
    node: [
      h("header", { class: "opening" },
        h("h1", {}, "Try it"),
        h("p", { class: "lead" }, lead(studio)),
        h("p", { class: "ways" }, studio.keeps && h("a", { id: "try-kept", href: "#/kept" }, "What was kept"), " ",
          studio.others.length > 0 && h("a", { id: "try-compare", href: "#/compare" }, `Compare with ${studio.others.join(", ")}`))),
      places.node, problem, made.node, body,
    ],
    leave: () => { places.leave(); leaveStage(); },
  };
}

function lead({ name, input, labels }) {
  const [height, width] = input.size;
  const known = labels.length > 0 ? ` and knows ${labels.length.toLocaleString("en-US")} classes` : "";
  return `A photo of yours, as the network ${name} sees it. It looks at ${height} × ${width} pixels${known}. Nothing leaves this machine.`;
}

/** The photo with its crop, and what the network takes that for. */
function staged(studio, state, { fail, say }) {
  const predictions = h("div", { id: "try-predictions", "aria-live": "off" });
  const small = h("img", { class: "try-seen", alt: "What the network sees", width: 64, height: 64 });
  const quick = Math.max(...studio.input.size) <= 128; // then what it sees is small enough to send with every look
  const summary = h("p", { class: "quiet", role: "status" });
  let parts = [];
  let timer = null;
  let turn = 0; // counts moves, so that a slow answer does not follow a later one
  let best = null;

  const asked = () => ({ photo: state.photo.id, crop: state.crop });
  const ask = latest((more) => look({ ...asked(), ...more }), (found, error) => {
    if (error !== null) { fail(error); return; }
    best = found.top[0] ?? null;
    predictions.replaceChildren(taken(found.top));
    if (found.seen !== null) small.src = found.seen;
    choice.taken(best);
  });

  function settle() {
    clearTimeout(timer);
    const mine = ++turn;
    timer = setTimeout(async () => {
      let found;
      try {
        found = await look({ ...asked(), seen: true });
        if (mine !== turn) return;
        small.src = found.seen;
        best = found.top[0] ?? null;
        predictions.replaceChildren(taken(found.top));
        choice.taken(best);
        if (best !== null) summary.textContent = `Taken for ${best.said}.`;
      } catch (error) {
        fail(error);
        return;
      }
      for (const part of parts) part.show({ ...asked(), about: state.about, best, cropped: crop.picture(), seen: found.seen });
    }, SETTLED);
  }

  const crop = cropper(studio, state, () => { ask({ seen: quick }); settle(); });
  const choice = chooser(studio, state, () => settle());
  return {
    nodes: [
      crop.node,
      h("div", { class: "try-look" }, h("figure", {}, small, h("figcaption", { class: "caption" }, "what it sees")),
        h("div", {}, h("h2", {}, "Taken for"), predictions)),
      choice.node, summary,
    ],
    overlay: crop.overlay,
    about: choice.choose,
    follow: (made) => { parts = made; },
    leave: () => { clearTimeout(timer); turn += 1; ask.leave(); crop.leave(); for (const part of parts) part.leave(); },
  };
}
