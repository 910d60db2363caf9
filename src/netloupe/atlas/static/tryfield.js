// Where a photo comes from: dropped, pasted, chosen, taken with the camera, or one of those that are at hand.

import { h } from "./dom.js";
import { photoUrl } from "./live.js";

/** `choose` is called with a Blob or with {id, size} of a sample. */
export function field(studio, choose, fail) {
  const file = h("input", { id: "try-file", type: "file", accept: "image/jpeg,image/png,image/webp", class: "quiet", tabindex: -1,
    onchange: () => { if (file.files.length > 0) choose(file.files[0]); file.value = ""; } });
  const samples = h("ul", { class: "samples" }, studio.samples.map(({ id, title }) => h("li", {}, sample(id, title, choose, fail))));
  const node = h("section", { id: "try-field", "aria-label": "Your photo" },
    h("p", { class: "invitation" },
      h("button", { type: "button", class: "framed", onclick: () => file.click() }, "Choose a photo"), " ",
      navigator.mediaDevices ? h("button", { type: "button", class: "framed", onclick: () => snapshot(node, choose, fail) }, "Take one") : null,
      h("span", {}, " or drop it here, or paste it. Or begin with one of these:")),
    file, samples);

  const over = (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    node.classList.toggle("over", event.type === "dragover");
  };
  const drop = (event) => {
    node.classList.remove("over");
    const dropped = [...(event.dataTransfer?.files ?? [])][0];
    if (dropped === undefined) return;
    event.preventDefault();
    choose(dropped);
  };
  const paste = (event) => {
    if (event.target.closest?.("input, textarea")) return;
    const pasted = [...(event.clipboardData?.files ?? [])][0];
    if (pasted !== undefined) { event.preventDefault(); choose(pasted); }
  };
  const all = [["dragover", over], ["dragleave", over], ["drop", drop], ["paste", paste]];
  for (const [kind, listener] of all) addEventListener(kind, listener);
  return { node, leave: () => { for (const [kind, listener] of all) removeEventListener(kind, listener); node.dispatchEvent(new Event("leave")); } };
}

function sample(id, title, choose, fail) {
  const picture = h("img", { src: photoUrl(id), alt: "", loading: "lazy" });
  return h("button", { type: "button", title, "aria-label": title, "data-sample": id, onclick: async () => {
    try {
      await picture.decode();
      choose({ id, size: [picture.naturalHeight, picture.naturalWidth] });
    } catch {
      fail(new Error("That photo could not be loaded."));
    }
  } }, picture);
}

/** The camera's picture until one is taken; its light goes off then, and when the view is left. */
async function snapshot(node, choose, fail) {
  if (node.querySelector("video")) return;
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
  } catch {
    fail(new Error("The camera could not be used: it was not allowed, or there is none."));
    return;
  }
  const video = h("video", { autoplay: true, muted: true, playsinline: true });
  video.srcObject = stream;
  const end = () => { for (const track of stream.getTracks()) track.stop(); box.remove(); };
  const take = () => {
    const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => { end(); if (blob !== null) choose(blob); }, "image/jpeg", 0.92);
  };
  const box = h("div", { class: "camera" }, video, h("p", {},
    h("button", { type: "button", class: "framed", onclick: take }, "Take the photo"), " ",
    h("button", { type: "button", class: "plain", onclick: end }, "no, thanks")));
  node.addEventListener("leave", end, { once: true });
  node.append(box);
}
