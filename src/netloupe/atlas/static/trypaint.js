// Paint: the photo in styles that a network has learned, blended by sliders; or like another picture.

import { h } from "./dom.js";
import { percent, number } from "./format.js";
import { photoUrl, putPhoto } from "./live.js";
import { choice, frame, labeled, onDemand } from "./tryform.js";

const titled = (name) => `${name[0].toUpperCase()}${name.slice(1)}`.replaceAll("-", " ");

export function paintSection(studio, { asked }) {
  const sliders = studio.styles.map((name, i) => h("input", { type: "range", min: 0, max: 100, value: i === 0 ? 100 : 0, "data-style": name, oninput: () => form.begin() }));
  const photo = frame("your photo", "Your photo");
  const image = frame("", "The painted photo", { id: "try-painted" });
  const form = onDemand({
    name: "paint", title: "Paint", asked, go: "Paint",
    says: "Another network, which has learned the manner of four pictures, paints your photo in one of them or a blend. It is for play: it tells nothing of the network above.",
    controls: h("div", { class: "sliders" }, studio.styles.map((name, i) => labeled(titled(name), sliders[i]))),
    read: () => (sliders.some((slider) => Number(slider.value) > 0)
      ? { settings: { style: Object.fromEntries(sliders.map((slider) => [slider.dataset.style, Number(slider.value)])) } } : "Give one style more than nothing."),
    write: ({ settings }) => { for (const slider of sliders) slider.value = settings.style[slider.dataset.style]; },
    hear: (kind, data) => {
      if (kind !== "done") return;
      image.show(data.src);
      image.say(Object.entries(data.shares).map(([name, share]) => `${titled(name)} ${percent(share)}`).join(", "));
    },
    clear: ({ cropped }) => { photo.show(cropped); image.show(null); image.say("painted"); },
    body: h("div", { class: "frames two" }, photo.node, image.node),
  });
  return form;
}

export function likeSection(studio, { asked }) {
  let like = null; // {id}
  const shown = frame("the picture to paint it like", "The picture to paint it like", { id: "try-like-picture" });
  const image = frame("", "The photo, painted like it", { id: "try-like-painted" });
  const steps = choice("try-like-steps", [["30", "30 steps"], ["60", "60 steps"], ["150", "150 steps"]], "60");
  const file = h("input", { id: "try-like-file", type: "file", accept: "image/jpeg,image/png,image/webp", class: "quiet", tabindex: -1, "aria-label": "The picture to paint it like", onchange: () => choose() });
  const problem = h("p", { class: "note", role: "alert" });

  function take(found) {
    like = found;
    shown.show(photoUrl(found.id));
  }

  async function choose() {
    const [picked] = file.files;
    file.value = "";
    if (picked === undefined) return;
    problem.textContent = "";
    try {
      take(await putPhoto(picked));
      form.begin();
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  const form = onDemand({
    name: "like", title: "Like this picture", asked, go: "Paint like it",
    says: "Your photo is changed until, for the network above, its textures and colors are those of a picture of your choice, while what it shows stays. It shows what the network’s features hold of a manner; "
      + "a network with other features paints otherwise.",
    controls: [h("button", { type: "button", class: "framed", onclick: () => file.click() }, "Choose a picture"), file, labeled("in", steps)],
    read: () => (like === null ? "Choose a picture first." : { like: like.id, settings: { steps: Number(steps.value) } }),
    write: (sent) => { take({ id: sent.like }); steps.value = String(sent.settings.steps); },
    hear: (kind, data) => {
      if (kind === "picture" || kind === "done") image.show(data.src);
      if (kind === "picture") image.say("forming");
      if (kind === "done") image.say(`how far its manner is off (0: not at all): ${number(data.before)} at the start, now ${number(data.style)}`);
    },
    clear: () => { image.show(null); image.say("your photo, painted like it"); },
    body: h("div", {}, problem, h("div", { class: "frames two" }, shown.node, image.node)),
  });
  return form;
}
