// The button that keeps what a section of the studio shows, where the studio was started with a folder to keep in.

import { h } from "./dom.js";
import { start } from "./live.js";

/** `asked()` gives {photo, crop, settings} of what is shown, or null where nothing is. */
export function keeping(studio, section, asked) {
  if (!studio.keeps || !studio.keepable.includes(section)) return { node: null, leave: () => {} };
  const said = h("span", { class: "note", role: "status" });
  const button = h("button", { type: "button", class: "framed keep", onclick: keep }, "Keep");
  let stop = { leave: () => {} };

  function keep() {
    const what = asked();
    if (what === null) { said.textContent = "There is nothing to keep yet."; return; }
    const { settings, ...rest } = what;
    button.disabled = true;
    said.textContent = "Keeping …";
    stop = start("save", { ...rest, settings: { section, settings } }, (kind, data) => {
      if (!["done", "failed", "cancelled"].includes(kind)) return;
      button.disabled = false;
      if (kind === "done") said.replaceChildren("Kept: ", h("a", { href: `#/kept/${data.kept}` }, "see it"), ".");
      else said.textContent = data.message ?? "";
    });
  }
  return { node: h("span", { class: "keeping" }, button, " ", said), leave: () => stop.leave() };
}

/** A section that can say its settings, with the button in its first line. */
export function keepable(studio, part, of) {
  if (part.name === undefined) return part;
  const { node, leave } = keeping(studio, part.name, () => {
    const { about, ...seen } = of();
    const own = part.settings === undefined ? {} : part.settings();
    return seen.crop === null || own === null ? null : { ...seen, settings: { about, ...own } };
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
