// The buttons that keep what a section of the studio shows, where the studio was started with a folder to keep in, and
// that go on to a contact sheet of it.

import { h } from "./dom.js";
import { start } from "./live.js";
import { stateOf } from "./trystate.js";

const NOTHING = "There is nothing yet.";

/** `asked()` gives {photo, crop, like, settings} of what is shown, or null where nothing is. */
export function keeping(studio, section, asked) {
  const said = h("span", { class: "note", role: "status" });
  const keeps = studio.keeps && studio.keepable.includes(section);
  const sheets = Object.hasOwn(studio.sheets, section);
  if (!keeps && !sheets) return { node: null, leave: () => {} };
  const button = keeps && h("button", { type: "button", class: "framed keep", onclick: () => heeded(keep) }, "Keep");
  const onward = sheets && h("button", { type: "button", class: "framed to-sheet", onclick: () => heeded(sheet) }, "Contact sheet");
  let stop = { leave: () => {} };

  function heeded(act) {
    const what = asked();
    if (what === null) said.textContent = NOTHING;
    else act(what);
  }

  function keep({ settings, ...rest }) {
    button.disabled = true;
    said.textContent = "Keeping …";
    stop = start("save", { ...rest, settings: { section, settings } }, (kind, data) => {
      if (!["done", "failed", "cancelled"].includes(kind)) return;
      button.disabled = false;
      if (kind === "done") said.replaceChildren("Kept: ", h("a", { href: `#/kept/${data.kept}` }, "see it"), ".");
      else said.textContent = data.message ?? "";
    });
  }

  function sheet(what) {
    stateOf(studio).sheet = { section, from: location.hash, ...what };
    location.hash = "#/sheet";
  }
  return { node: h("span", { class: "keeping" }, button, onward, said), leave: () => stop.leave() };
}

/** A section that can say what was sent for what it shows, with the buttons in its first line. */
export function keepable(studio, part, of) {
  if (part.name === undefined) return part;
  const { node, leave } = keeping(studio, part.name, () => {
    const { about, ...seen } = of();
    const sent = part.sent === undefined ? { settings: {} } : part.sent();
    return seen.crop === null || sent === null ? null : { ...seen, ...sent, settings: { about, ...sent.settings } };
  });
  if (node === null) return part;
  const title = part.node.querySelector("h2");
  if (title.closest(".bar-line") === null) {
    const line = h("div", { class: "bar-line" });
    title.replaceWith(line);
    line.append(title);
  }
  title.closest(".bar-line").append(node);
  return { ...part, leave: () => { leave(); part.leave(); } };
}
