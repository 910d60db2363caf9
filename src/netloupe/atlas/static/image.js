// An image: what the network took it for, what it looks like inside, and the images nearest to it.

import { NotFound, getImage, answerUrl, getRowsOf, mapsUrl } from "./api.js";
import { facts, h } from "./dom.js";
import { count, counted, imageHash, layerHash, number, percent, unitHash } from "./format.js";
import { pageOf } from "./images.js";
import { coming } from "./making.js";
import { bars, called, classHref, cut, isRight, outputHref, pager, photo, thumbnail, unkept } from "./pieces.js";

const ANSWERS = { share: "What it sees where, by share of the area", score: "What it finds, by score", value: "The number it gives" };

export async function imageView({ name: text, network }) {
  const id = /^\d+$/.test(text) ? Number(text) : network.ids;
  if (network.gaps.has(id)) {
    const { name, reason } = network.gaps.get(id);
    throw new NotFound(`Image ${id}, “${name}”, was skipped: ${reason}.`);
  }
  if (id >= network.ids) throw new NotFound(`There is no image “${text}”${network.making ? " yet" : ""}: the images are 0 to ${network.ids - 1}.`);
  const image = await getImage(id);
  const { features = [], pixels = [] } = image.neighbors;
  const rows = await getRowsOf(network, [...features, ...pixels].map((neighbor) => neighbor.id));
  return {
    section: "images",
    title: called(image),
    waits: ["neighbors"],
    node: [
      h("header", { class: "opening" },
        pager("Images", {
          prev: beside(network, id, -1), up: { href: pageOf(id), text: "images" }, next: beside(network, id, 1),
        }),
        h("h1", {}, called(image)),
        facts([
          ["Number", String(id)],
          ["Name", image.label === null ? null : image.name],
          ["Height × width", `${image.size.map(count).join(" × ")} px`],
          ["Label", image.label === null ? "none" : null],
        ])),
      image.kept !== "picture" && h("p", { class: "note", id: "unkept" },
        image.kept === null ? unkept(network) : "Of this image only a small thumbnail is kept, for no other page shows it large, and none of its activation maps: the atlas was built with --images shown."),
      h("div", { class: "pair portrait" },
        photo(network, id, { alt: image.label ?? image.name, lazy: false }),
        image.top.length + image.said.length > 0 && h("section", { "aria-labelledby": "predictions-title" },
          h("h2", { id: "predictions-title" }, ANSWERS[image.said[0]?.what] ?? "What the network takes it for"),
          h("div", { id: "predictions" }, image.said.length > 0 ? said(id, image) : predictions(network, image))),
        image.said.length === 0 && network.head === "detections" && h("section", { "aria-labelledby": "predictions-title" },
          h("h2", { id: "predictions-title" }, ANSWERS.score),
          h("div", { id: "predictions" }, h("p", { class: "note" }, "No box: the network finds nothing in this image.")))),
      coming(network, "neighbors", "The nearest images are"),
      rows.size > 0 && h("section", { "aria-labelledby": "neighbors-title", id: "neighbors" },
        h("h2", { id: "neighbors-title" }, "Nearest images"),
        h("p", { class: "note" }, "Below each, how far it is: the Euclidean distance of the two, 0 for the same."),
        nearest(network, "features", "In the network’s features", features, rows),
        nearest(network, "pixels", "In the pixels", pixels, rows), found(network)),
      image.maps.length > 0 && h("section", { "aria-labelledby": "maps-title" },
        h("h2", { id: "maps-title" }, "Activation maps"),
        h("p", { class: "note" }, "The channels that this image drove most, layer by layer: below each map its number and its peak. Each layer has a scale of its own, from black at 0 to the brightest at its highest peak."),
        ...mapRows(network, id, image.maps)),
    ],
  };
}

/** The next image in the direction of `step` that was not skipped. */
function beside(network, id, step) {
  let other = id + step;
  while (network.gaps.has(other)) other += step;
  return other < 0 || other >= network.ids ? null : { href: imageHash(other), text: String(other) };
}

/** The rows of maps; those of layers that repeat the one before, folded. */
function mapRows(network, id, rows) {
  const all = rows.map((row, place) => ({ row: maps(network, id, row, place), repeats: network.byName.get(row.layer)?.repeats ?? null }));
  const again = all.filter(({ repeats }) => repeats !== null).map(({ row }) => row);
  return [h("div", { id: "maps" }, all.filter(({ repeats }) => repeats === null).map(({ row }) => row)),
    again.length > 0 && h("details", { class: "more", id: "maps-again" },
      h("summary", {}, `${counted(again.length, "more layer")}, without weights, whose channels answer most to the same images as those of the layer before`), again)];
}

function predictions(network, image) {
  return bars(image.top.map((guess) => ({
    name: guess.label, href: outputHref(network, guess.index) ?? (network.comparable ? classHref(network, guess.index) : null),
    value: guess.probability, text: percent(guess.probability),
    mark: isRight(network, { label: image.label, prediction: guess.label }) ? " ✓ correct" : null })), 1);
}

/** What a network says that gives no classes of whole images, and the photograph with it drawn over. */
function said(id, image) {
  if (image.said[0].what === "value") return h("p", { class: "answer" }, number(image.said[0].number));
  return [
    image.drawn && h("img", { class: "answer", src: answerUrl(id), alt: `${image.name}, with what the network says` }),
    bars(image.said.map(({ label, number: share, color }) => ({ name: label, href: null, value: share, text: percent(share), color })), 1)];
}

/** How neighbors were searched for, where that was not exact. */
function found({ neighbors, images }) {
  const { features, pixels } = neighbors ?? {};
  if (features?.search !== "index") return null;
  return h("p", { class: "note", id: "searched" },
    `Among ${count(images)} images an index looks for the nearest; it finds ${percent(features.recall)} of them.`,
    pixels?.search === "none" && " By their pixels so many are not compared.");
}

function nearest(network, key, title, neighbors, rows) {
  if (neighbors.length === 0) return null;
  return h("div", { class: "nearest", "data-space": key },
    h("h3", {}, title),
    h("div", { class: "thumbnails", style: { "--across": Math.max(6, neighbors.length) } },
      neighbors.map(({ id, distance }) => thumbnail(network, rows.get(id), number(distance)))));
}

function maps(network, id, { layer, channels, peaks, top }, place) {
  const size = network.maps.sizes[place];
  return h("div", { class: "map-row", "data-layer": layer },
    h("h3", {}, h("a", { href: layerHash(layer) }, layer)),
    h("div", { class: "map-cells" }, channels.map((channel, column) =>
      h("a", { class: "map", href: unitHash(layer, channel), "aria-label": `${layer}, channel ${channel}, peak ${number(peaks[column])}` },
        cut(() => ({ url: mapsUrl(id), size, column, row: top / size[0] })),
        h("span", { class: "caption" }, h("span", {}, channel), h("span", { class: "value" }, number(peaks[column])))))));
}
