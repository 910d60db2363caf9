// What a layer keeps: images that a layer can't tell from the photo, one for each layer that one comes by.

import { h } from "./dom.js";
import { percent } from "./format.js";
import { broken } from "./pieces.js";
import { choice, frame, labeled, onDemand } from "./tryform.js";

export function keepSection(studio, { asked }) {
  const layers = studio.kept;
  if (layers.length === 0) return null;
  const slider = h("input", { id: "try-layer", type: "range", min: 0, max: layers.length - 1, value: Math.floor(layers.length / 2),
    oninput: () => name(), onchange: () => form.begin() });
  const named = h("output", { for: "try-layer" });
  const steps = choice("try-keep-steps", [["100", "100 steps"], ["300", "300 steps"], ["600", "600 steps"]], "100");
  const photo = frame("your photo, as the network sees it", "Your photo");
  const image = frame("", "What the layer keeps", { id: "try-inverted" });
  const line = h("ul", { id: "try-inverted-line", class: "lined" });
  const found = new Map(); // layer -> its picture and errors

  const layer = () => layers[Number(slider.value)];
  const name = () => { named.textContent = layer(); slider.setAttribute("aria-valuetext", layer()); };
  const errors = ({ feature_error: [error], psnr: [psnr] }) => `${percent(error)} of its answer off; pixels like the photo’s to ${psnr.toFixed(1)} dB (PSNR: the higher, the more alike)`;

  function hear(kind, data, { settings }) {
    if (kind === "picture") { image.show(data.src); image.say(`${settings.layer}, forming`); }
    if (kind !== "done") return;
    image.show(data.src);
    image.say(broken(`${data.layer}: ${errors(data)}`));
    found.set(data.layer, data);
    line.replaceChildren(...layers.filter((one) => found.has(one)).map((one) => h("li", {},
      h("button", { type: "button", title: errors(found.get(one)), onclick: () => {
        slider.value = layers.indexOf(one);
        name();
        image.show(found.get(one).src);
        image.say(broken(`${one}: ${errors(found.get(one))}`));
      } }, h("img", { src: found.get(one).src, alt: "" }), h("span", { class: "caption" }, broken(one))))));
  }

  const form = onDemand({
    name: "keep", title: "What a layer keeps", asked, go: "Find out",
    says: "An image is made, from noise, to which the layer answers as it does to your photo. What it has in common with the photo, the layer holds; where it goes its own way, "
      + "the layer lets it, or the steps were too few. It does not show what later layers make of it.",
    controls: [labeled("Layer", slider), named, labeled("in", steps)],
    read: () => ({ settings: { layer: layer(), steps: Number(steps.value), quick: true } }),
    write: ({ settings }) => { slider.value = layers.indexOf(settings.layer); steps.value = String(settings.steps); name(); },
    hear,
    clear: ({ seen }) => {
      found.clear();
      photo.show(seen);
      image.show(null);
      image.say("what the layer keeps");
      line.replaceChildren();
    },
    body: h("div", {}, h("div", { class: "frames two" }, photo.node, image.node), line),
  });
  name();
  return form;
}
