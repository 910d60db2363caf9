// What the sections have in common that act when they are asked to: a form, a button, and what comes of it.

import { h } from "./dom.js";
import { start } from "./live.js";

const key = ({ photo, crop }) => JSON.stringify([photo, crop]);

/** A section: {node, show, leave, stop, go}.
 *  controls: elements. read(now): what is sent, as {settings, like}, or a sentence that says what is missing; write(sent)
 *  puts the controls back. hear(kind, data, sent): its events. clear(now): another photo is there, and nothing known of it.
 *  asked: what was asked of each section, which outlives the view. go: the button's text; null for none. */
export function onDemand({ name, title, says, go, controls, read, write = () => {}, hear, clear, body, asked }) {
  const status = h("p", { class: "note", role: "status", id: `try-${name}-status` });
  const button = go === null ? null : h("button", { type: "button", class: "framed", id: `try-${name}-go`, onclick: () => begin() }, go);
  const node = h("section", { id: `try-${name}`, "aria-labelledby": `try-${name}-title` },
    h("div", { class: "bar-line" }, h("h2", { id: `try-${name}-title` }, title)),
    h("p", { class: "note" }, says),
    h("div", { class: "form-line" }, controls, button), status, body);
  let stop = null;
  let state = null;

  function run(sent, known) {
    const { photo, crop } = state;
    stop?.();
    stop = start(name, { photo, crop, ...sent }, (kind, data) => {
      if (kind === "progress") status.textContent = `${data.done} of ${data.total} …`;
      if (kind === "done") status.textContent = "";
      if (kind === "failed" || kind === "cancelled") status.textContent = data.message;
      hear(kind, data, sent);
    }, { known });
  }

  function begin() {
    if (state === null) return;
    const sent = read(state);
    if (typeof sent === "string") { status.textContent = sent; return; }
    asked[name] = { of: key(state), sent };
    run(sent, false);
  }

  function show(now) {
    const same = state !== null && key(state) === key(now);
    state = now;
    if (same) return; // only what all is about is another
    stop?.();
    stop = null;
    status.textContent = "";
    clear(now);
    const before = asked[name];
    if (before?.of !== key(now)) return;
    write(before.sent);
    run(before.sent, true);
  }

  const sent = () => (state !== null && asked[name]?.of === key(state) ? asked[name].sent : null); // for what is shown
  return { name, sent, node, show, begin, leave: () => stop?.leave(), stop: () => stop?.() };
}

/** A labeled control of a form. */
export const labeled = (text, control) => h("label", { class: "filter" }, h("span", {}, text), control);

/** A select of [value, text] pairs; chosen: a value. */
export const choice = (id, pairs, chosen) => h("select", { id },
  pairs.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));

/** A picture with a caption, empty at first. */
export function frame(caption, alt, more = {}) {
  const picture = h("img", { alt, hidden: true });
  const text = h("figcaption", { class: "caption" }, caption);
  const node = h("figure", { class: "frame", ...more }, h("span", { class: "mat" }, picture), text);
  return {
    node,
    say: (said) => { text.replaceChildren(...[said].flat()); },
    show: (src) => { picture.hidden = src === null; if (src !== null) picture.src = src; },
  };
}

/** The class that was typed, as {index, label}, by its name or number; null for none. */
export function classOf({ labels }, typed) {
  const wanted = typed.trim().toLowerCase();
  const index = labels.findIndex((label) => label.toLowerCase() === wanted);
  const found = index >= 0 ? index : /^\d+$/.test(wanted) && Number(wanted) < labels.length ? Number(wanted) : -1;
  return found < 0 ? null : { index: found, label: labels[found] };
}

/** A field for a class's name. */
export const classField = (id, more = {}) => h("input", { id, type: "text", list: "about-list", autocomplete: "off", spellcheck: "false", placeholder: "a class", ...more });
