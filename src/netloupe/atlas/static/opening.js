// The top of the first page: what this network recognizes, how well, and where to begin.

import { getExamples, spriteUrl, stripUrl } from "./api.js";
import { h, svg } from "./dom.js";
import { count, counted, layerHash, percent } from "./format.js";
import { mode } from "./live.js";
import { lacks } from "./making.js";
import { classHref, cut, outputHref, pictured, thumbnail } from "./pieces.js";

const NAMED = 4; // classes in the first sentence

/** The sentences under the name, and the sections below them. */
export async function opening(network) {
  const { surest, mistaken } = await getExamples();
  return {
    lead: h("p", { class: "lead" }, recognizes(network, surest), " ", howWell(network)),
    sections: [
      doors(network),
      shown(network, "surest", "What it is surest of", network.comparable && network.labeled
        ? `Of the ${count(network.images)} images here those that it is surest of, one a class: ✓ it is what it is taken for, ✗ it is something else.`
        : `Of the ${count(network.images)} images here those that it is surest of, one a class, with what it takes each for. ${network.labeled
          ? "Their own labels name other classes than it knows." : "They bear no labels, so nothing here says that it is right."}`, surest),
      shown(network, "mistaken", "Where it is surest, and wrong", "The label, and after the ✗ what it takes the image for.", mistaken),
    ],
  };
}

/** What it is that it answers, in a sentence. */
function recognizes(network, surest) {
  const { head, labels, input } = network;
  const size = `${input.size.map(count).join(" × ")} pixels`;
  if (head === "detections") return `A network that looks at images of ${size} and finds boxes in them.`;
  if (head === "maps") return `A network that looks at images of ${size} and says of each pixel which class it is.`;
  if (labels.length === 0) return `A network that looks at images of ${size}. It knows no classes by name.`;
  if (surest.length === 0) return `A network that looks at images of ${size} and tells ${counted(labels.length, "class", "classes")} apart.`;
  const names = surest.slice(0, NAMED).map(({ prediction, index }) => {
    const href = outputHref(network, index) ?? (network.comparable ? classHref(network, index) : null);
    return href === null ? prediction : h("a", { href }, prediction);
  });
  const listed = names.flatMap((name, i) => (i === 0 ? [name] : [i === names.length - 1 ? " or " : ", ", name]));
  return [`A network that looks at an image of ${size} and says which of ${counted(labels.length, "class", "classes")} it is, as `, listed, "."];
}

/** How well it does, where that was measured. */
function howWell({ accuracy, images, labels }) {
  if (labels.length === 0 || images === 0) return null;
  if (!accuracy) return "How often it is right was not measured here: these images bear no labels of its classes.";
  const five = labels.length > 5 ? `; the right class is among its first five for ${percent(accuracy.top5)}` : "";
  const of = accuracy.count === images ? `${count(images)} images` : `${count(accuracy.count)} labeled images`;
  return `It is right for ${percent(accuracy.top1)} of the ${of} here${five}.`;
}

function shown(network, id, title, note, rows) {
  if (rows.length === 0 || !pictured(network)) return null;
  return h("section", { id, "aria-labelledby": `${id}-title`, class: "examples" },
    h("h2", { id: `${id}-title` }, title),
    h("p", { class: "note" }, note),
    h("div", { class: "thumbnails" }, rows.map((row) => thumbnail(network, row))));
}

/** The ways on: your own photo where there is a studio, the layers, the map. */
function doors(network) {
  return h("nav", { id: "doors", "aria-label": "Where to begin" }, [
    mode === "atlas" && door("#/try", "try", camera(), "Try your photo", "What it is taken for, and why: moved, hidden, and seen layer by layer."),
    network.layers.length > 0 && network.images > 0 && door(layerHash(network.layers[0].name), "layers", pictured(network) && tiles(network), "Walk the layers",
      `From ${network.layers[0].name} to ${network.layers.at(-1).name}: what each channel answers to most.`),
    lacks(network, "map") && door("#/map", "map", null, "See the map", "It is being made, and first if you go there now."),
    network.map !== null && network.map.spaces.length > 0 && door("#/map", "map", h("span", { class: "door-map", style: pictured(network) ? { "background-image": `url("${spriteUrl(32, 0)}")` } : {} }),
      "See the map", `All ${counted(network.images, "image")}, those alike for the network near each other.`),
  ]);
}

function door(href, kind, picture, title, text) {
  return h("a", { class: "door", href, "data-door": kind },
    h("span", { class: "door-picture", "aria-hidden": "true" }, picture), h("span", {}, h("b", {}, title), h("small", {}, text)));
}

/** A channel of the first layer, one of a middle and one of the last. */
function tiles({ layers, tile: { size } }) {
  const some = [layers[0], layers[Math.floor(layers.length / 2)], layers.at(-1)].filter(({ typical }) => typical.length > 0);
  return some.map(({ name }) => h("span", { class: "tile" }, cut(() => ({ url: stripUrl(name), size: [size, size], column: 0, row: 0 }))));
}

const camera = () => svg("svg", { viewBox: "0 0 48 48", width: 48, height: 48, fill: "none", stroke: "currentColor", "stroke-width": 2 },
  svg("path", { d: "M6 15h9l3-5h12l3 5h9v23H6z" }), svg("circle", { cx: 24, cy: 26, r: 8 }));
