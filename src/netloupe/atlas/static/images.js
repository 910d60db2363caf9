// The images, some at a time, all of them or those of a class.

import { NotFound, filterImageRows, getImageRows } from "./api.js";
import { h } from "./dom.js";
import { count, counted, imagesHash } from "./format.js";
import { outputHref, pager, pictured, thumbnail, unkept } from "./pieces.js";

const PER_PAGE = 60;

/** The page of all images that shows image `id`. */
export const pageOf = (id) => imagesHash({ page: id < PER_PAGE ? null : Math.floor(id / PER_PAGE) + 1 });

export async function imagesView({ query, network, say }) {
  const chosen = query.get("class");
  const page = query.get("page") ?? "1";
  if (chosen !== null && !(/^\d+$/.test(chosen) && Number(chosen) < network.classes.length)) {
    throw new NotFound(`There is no class number “${chosen}” in ${network.name}: it has ${count(network.classes.length)}.`);
  }
  const index = chosen === null ? null : Number(chosen);
  if (index !== null && network.images > 10 * network.images_per_block) say("Looking through all images …");
  const kept = index === null ? null : await filterImageRows(network, ofClass(network, index));
  const total = kept === null ? network.images : kept.length;
  const pages = Math.max(1, Math.ceil((kept === null ? network.ids : total) / PER_PAGE));
  if (!/^\d+$/.test(page) || Number(page) < 1 || Number(page) > pages) {
    throw new NotFound(`There is no page “${page}” of images: the pages are 1 to ${count(pages)}.`);
  }
  const start = (Number(page) - 1) * PER_PAGE;
  const rows = kept === null
    ? await getImageRows(network, start, Math.min(start + PER_PAGE, network.ids)) : kept.slice(start, start + PER_PAGE);
  const title = index === null ? "Images" : network.classes[index];
  const to = (other) => (other < 1 || other > pages ? null
    : { href: imagesHash({ class: chosen, page: other === 1 ? null : other }), text: `page ${other}` });
  const turn = () => pages > 1 && pager("Pages", { prev: to(Number(page) - 1), next: to(Number(page) + 1) });
  return {
    section: "images",
    waits: [],
    title: pages > 1 ? `${title}, page ${page}` : title,
    node: [
      h("header", { class: "opening" },
        turn(),
        h("h1", {}, title),
        h("p", { class: "lead" }, summary(network, index, total), pages > 1 && ` Page ${page} of ${count(pages)}.`),
        unkept(network) !== null && h("p", { class: "note", id: "unkept" }, unkept(network))),
      h("div", { class: "bar-line" }, classChoice(network, index),
        index !== null && network.comparable && outputHref(network, index) !== null && h("a", { id: "class-unit", href: outputHref(network, index) },
          `Its unit, ${network.output.name}:${index}`),
        index !== null && h("a", { href: imagesHash() }, "Show all images")),
      total === 0 ? h("p", { class: "notice" }, network.labeled ? "No image is of this class, and none was taken for it." : "No image was taken for this class.")
        : h("div", { id: "images", class: "thumbnails" }, rows.map((row) => thumbnail(network, row))),
      turn() && h("footer", { class: "closing" }, turn()),
      pictured(network) && h("p", { class: "note", id: "images-tools" }, "For the study of correspondence: ", h("a", { href: "#/points" }, "mark the same parts in several images"), "."),
    ],
  };
}

/** Images of the class, and those that the network took for it where it knows the same classes. */
function ofClass(network, index) {
  const name = network.classes[index];
  return (row) => row.label === name || (network.comparable && row.index === index);
}

function summary(network, index, total) {
  if (index === null) return `${counted(total, "image")} from “${network.source}”.`;
  const how = !network.labeled ? "taken for this class" : network.comparable ? "of this class or taken for it" : "of this class";
  return `${counted(total, "image")} ${how}.`;
}

function classChoice(network, index) {
  if (network.classes.length === 0) return null;
  const sorted = network.classes.map((name, i) => [name, i]).sort(([a], [b]) => a.localeCompare(b, "en"));
  return h("label", { class: "filter" }, h("span", {}, "Class"),
    h("select", { id: "class", onchange: (event) => { location.hash = imagesHash({ class: event.target.value }); } },
      h("option", { value: "" }, "any"),
      sorted.map(([name, i]) => h("option", { value: i, selected: i === index }, name))));
}
