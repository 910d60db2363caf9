// Dream: what a layer or a class sees in the photo, made stronger over several sizes.

import { h } from "./dom.js";
import { number } from "./format.js";
import { named } from "./trychooser.js";
import { choice, frame, labeled, onDemand } from "./tryform.js";

const STRENGTHS = [["0.003", "gentle"], ["0.006", "usual"], ["0.012", "strong"], ["0.024", "very strong"]];
const OWN = ""; // what all is about

export function dreamSection(studio, { asked }) {
  const layers = Object.keys(studio.layers);
  const what = choice("try-dream-layer", [...layers.map((name) => [name, `layer ${name}`]), [OWN, "what all is about"]], layers[Math.floor((2 * layers.length) / 3)]);
  const strength = choice("try-strength", STRENGTHS, "0.006");
  const octaves = choice("try-octaves", [1, 2, 3, 4, 5, 6].map((n) => [String(n), String(n)]), "4");
  const image = frame("", "The dream", { id: "try-dreamed" });
  const photo = frame("your photo", "Your photo");
  const called = (layer) => (layer in studio.layers ? `layer ${layer}` : named(studio, layer));
  const measured = (layer) => (layer.startsWith("class:") ? "its score" : "half the sum of its squared answers,");

  return onDemand({
    name: "dream", title: "Dream", asked, go: "Dream",
    says: "The photo is changed so that what the layer or class sees in it grows, from a small size to the full one. It shows what the network is ready to see, far beyond what it sees here; "
      + "what appears was not in the photo.",
    controls: [labeled("More of", what), labeled("Strength", strength), labeled("Octaves", octaves)],
    read: ({ about, best }) => {
      const own = about ?? (best?.index === undefined ? null : `class:${best.index}`);
      if (what.value === OWN && own === null) return "Choose a layer: this network has no classes.";
      return { settings: { layer: what.value === OWN ? own : what.value, lr: Number(strength.value), octaves: Number(octaves.value) } };
    },
    write: ({ settings }) => {
      what.value = settings.layer in studio.layers ? settings.layer : OWN;
      strength.value = String(settings.lr);
      octaves.value = String(settings.octaves);
    },
    hear: (kind, data, { settings }) => {
      if (kind === "picture" || kind === "done") image.show(data.src ?? null);
      if (kind === "picture") image.say(`${called(settings.layer)}, forming`);
      if (kind === "done") image.say(`${called(settings.layer)}: ${measured(settings.layer)} from ${number(data.before)} in the photo to ${number(data.score)}`);
    },
    clear: ({ cropped }) => { photo.show(cropped); image.show(null); image.say("the dream"); },
    body: h("div", { class: "frames two" }, photo.node, image.node),
  });
}
