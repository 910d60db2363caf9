// A picture that netloupe wrote brings the settings along by which it was made.

import { h } from "./dom.js";
import { unitHash } from "./format.js";
import { mode } from "./live.js";
import { named } from "./trychooser.js";

/** `use(about)` makes that the subject of the page. show(told): of a photo that was sent, or null. */
export function madeBy(studio, use) {
  const node = h("section", { id: "try-made", class: "told-card", "aria-label": "How this picture was made", hidden: true });

  function show(told) {
    node.hidden = told === null;
    node.replaceChildren(...(told === null ? [] : told.problem !== undefined ? [h("p", {}, told.problem)] : card(told)));
  }

  function card({ verb, title, network, own, changed, section, settings }) {
    const whose = own ? `the network ${network}, which looks here` : `${network}, another network than looks here`;
    return [
      h("p", {}, h("b", {}, `Made by netloupe ${verb}`), ` (${title.charAt(0).toLowerCase()}${title.slice(1)}), of ${whose}.`),
      changed.length === 0 ? h("p", { class: "note" }, "All settings are as usual.")
        : h("dl", { class: "settings" }, changed.map(({ name, value, help }) => h("div", { title: help }, h("dt", {}, name), h("dd", {}, value)))),
      back(section, settings),
      h("p", { class: "note" }, "Made again with the images that it was of: ", h("code", {}, "netloupe again THE-PICTURE.png"), "."),
    ];
  }

  function back(section, settings) {
    if (section === "grow" || section === "facets") {
      const href = grown(studio, settings);
      return href === null ? null : h("p", {}, h("a", { href, id: "try-back" }, "Grow it again with these settings"));
    }
    if (section === null || settings.about === undefined) return null;
    const { about } = settings;
    const index = studio.labels.indexOf(/^class:(.+)$/.exec(about ?? "")?.[1]);
    const meant = index >= 0 ? `class:${index}` : about;
    const text = meant === null ? "what it is taken for" : named(studio, meant);
    return text === undefined ? null : h("p", {}, h("button", { type: "button", class: "framed", id: "try-back", onclick: () => use(meant) }, `Make all below about ${text}`));
  }

  return { node, show };
}

/** The address of the unit's page, with the settings of its climb; null where there is no such page. */
function grown(studio, { unit, ...settings }) {
  const [, layer, channel] = /^(.+):(\d+)$/.exec(unit) ?? [];
  if (mode !== "atlas" || layer === undefined || layer === "class") return null;
  return unitHash(layer, Number(channel), { grow: [settings.preset, settings.steps, settings.seed, ...(settings.count === undefined ? [] : [settings.count])].join(".") });
}
