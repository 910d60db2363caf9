// What was made by gradient ascent: a channel's image and facets, and whether they can be trusted.

import { lines } from "./chart.js";
import { h } from "./dom.js";
import { count, counted, imageHash, number, percent } from "./format.js";
import { coming } from "./making.js";
import { crop, part } from "./pieces.js";
import { synthesizedUrl } from "./api.js";

/** The section of a unit's page; null where the atlas holds no image of the channel. waiting: the name by which it is waited for. */
export function synthesized(network, layer, unit, waiting) {
  const soon = coming(network, waiting, "Its image is");
  if (soon !== null) return h("section", { id: "synthesized", "aria-labelledby": "synthesized-title" }, h("h2", { id: "synthesized-title" }, "Synthesized"), soon);
  if (layer.synthesized === null) return null;
  const made = unit.synthesized;
  if (made === null) {
    return h("section", { id: "synthesized", "aria-labelledby": "synthesized-title" },
      h("h2", { id: "synthesized-title" }, "Synthesized"),
      h("p", { class: "note" }, "Nothing that was tried changed this channel, so there was nothing to climb."));
  }
  const pictures = 1 + made.facets.length;
  const picture = (i) => part(network, synthesizedUrl(layer.name, unit.channel), i, pictures);
  return h("section", { id: "synthesized", "aria-labelledby": "synthesized-title" },
    h("h2", { id: "synthesized-title" }, "Synthesized"),
    h("div", { class: "climbed" },
      h("figure", {}, picture(0),
        h("figcaption", { class: "caption" }, h("span", { class: "value" }, number(made.value)), compared(made.value, made.best))),
      made.path && h("div", { class: "path" }, pathChart(made.path),
        h("p", { id: "path-note", class: "note" }, verdict(made.path)))),
    made.facets.length > 0 && h("h3", {}, "Facets"),
    made.facets.length > 0 && h("ol", { id: "facets", class: "facets" },
      made.facets.map((facet, i) => facetRow(network, facet, picture(i + 1), i))),
    h("p", { class: "note" }, aboutImages(network, made)));
}

function compared(value, best) {
  if (best === null) return h("span", { class: "label" }, "no photograph excites it");
  const ratio = best <= 0 ? `the best photograph ${number(best)}` : value > best ? `${(value / best).toFixed(1)} times the best photograph, ${number(best)}`
    : `less than the best photograph, ${number(best)}`;
  return h("span", { class: "label" }, ratio);
}

function facetRow(network, facet, picture, i) {
  const frame = [0, 1].map((axis) => Math.max(...facet.patches.map(({ box }) => box[axis + 2] - box[axis])));
  return h("li", { class: "facet" },
    h("div", { class: "facet-pictures" }, picture, facet.patches.map(({ image, box }) =>
      h("a", { class: "plate", href: imageHash(image), "aria-label": `Image ${image}, of facet ${i + 1}` }, crop(network, image, box, frame)))),
    h("p", { class: "caption" },
      h("span", { class: "value" }, number(facet.value)),
      h("span", { class: "label" }, `${counted(facet.count, "photograph")}, the best ${number(facet.best)}`,
        facet.own ? null : "; the image went over to another facet")));
}

function aboutImages(network, made) {
  const { preset, steps } = network.synthesis;
  return [`Made by ${count(steps)} steps of gradient ascent, preset ${preset}: one of many images that would do. `,
    made.facets.length > 0 && "A facet begins with the mean of photographs that excite the channel and are alike in features; beside it are some of them. "];
}

/** Three curves: how like the best photographs an image is at each layer, beside themselves and any others. */
export function pathChart(path) {
  return lines(path.layers, [
    { key: "same", text: "the best photographs, each other", values: path.same },
    { key: "synthesized", text: "the synthesized image", values: path.synthesized },
    { key: "other", text: "other photographs", values: path.other }],
  "likeness to the best photographs");
}

function verdict(path) {
  const before = path.layers.length - 1;
  if (before === 0) return "There is no earlier layer to compare.";
  if (path.other.every((value) => value === null)) return "There are no other photographs to compare with.";
  const way = path.aside === 0 ? "At no earlier layer is it" : `At ${path.aside} of ${counted(before, "earlier layer")} it is`;
  return [`${way} less like the best photographs than other photographs are`,
    path.aside === 0 ? "." : ": there it excites the channel along a path that photographs don't take.",
    " Likeness is the rank correlation of the channels' means."];
}

/** What a layer's page tells of its images; null where there are none. */
export function aboutLayer(network, { synthesized: made }) {
  if (made === null) return null;
  const facets = made.facets > 0 ? ` and ${counted(made.facets, "facet")}` : "";
  const ahead = made.compared === 0 ? "" : `${count(made.ahead)} of ${count(made.compared)} (${percent(made.ahead / made.compared)}) excite their channel more than any photograph does. `;
  return `${counted(made.images, "synthesized image")}${facets}: ${ahead}${made.images === 0 ? "" : `They took ${number(made.seconds / (made.images + made.facets))} s each.`}`;
}
