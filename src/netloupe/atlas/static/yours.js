// Your own photo on a unit's page, as the studio holds it: where it excites the unit most, and how much.

import { histogram } from "./chart.js";
import { h } from "./dom.js";
import { number, percent } from "./format.js";
import { look, photoUrl } from "./live.js";
import { ownCrop } from "./pieces.js";
import { lastPhoto } from "./trystate.js";

/** The section, empty until the studio has answered, and null where there is no photo; `chart` gets a histogram with its value. */
export function yours(network, layer, unit, chart) {
  const own = lastPhoto();
  if (own === null) return null;
  const node = h("section", { id: "yours", "aria-labelledby": "yours-title", hidden: true });
  look({ photo: own.photo, crop: own.crop, unit: `${layer.name}:${unit.channel}` }).then(({ unit: { value, box } }) => {
    const boxes = [box, ...unit.patches.map((patch) => patch.box)];
    const frame = [0, 1].map((axis) => Math.max(...boxes.map((one) => one[axis + 2] - one[axis])));
    node.replaceChildren(
      h("h2", { id: "yours-title" }, "Your photo"),
      h("div", { class: "own" },
        ownCrop(network, { ...own, url: photoUrl(own.photo) }, box, frame),
        h("div", {},
          h("p", {}, "It brings this channel to ", h("b", { id: "yours-value" }, number(value)), `, ${standing(unit.histogram, value)}.`),
          h("p", { class: "note" }, "The part of it that the channel answers most to. ", h("a", { href: "#/try" }, "Back to your photo")))));
    node.hidden = false;
    chart.replaceChildren(histogram(unit.histogram, unit.patches.map((patch) => patch.value), value),
      h("p", { class: "note" }, h("span", { class: "key-mark own", "aria-hidden": "true" }, "◆ "), "your photo"));
  }, () => {}); // the studio does not hold that photo any more, so there is none to show
  return node;
}

/** How a value stands among those of the images, by the columns of their histogram. */
function standing({ low, high, counts }, value) {
  const all = counts.reduce((sum, one) => sum + one, 0);
  if (value > high) return "more than any of the images";
  const column = Math.floor(((value - low) / (high - low || 1)) * counts.length);
  const below = counts.slice(0, Math.max(0, column)).reduce((sum, one) => sum + one, 0);
  return all === 0 ? "as no image here can tell" : `more than about ${percent(below / all)} of the images`;
}
