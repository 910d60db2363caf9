// Where a photo comes from: dropped, pasted, chosen, taken with the camera, or one of those that are at hand.

import { h } from "./dom.js";
import { photoUrl, putFrame } from "./live.js";
import { taken } from "./trytaken.js";

const FRAME = 320; // px of the longer side of a frame
const BETWEEN = 60; // ms from an answer to the next frame

/** `choose` is called with a Blob or with {id, size} of a sample. */
export function field(studio, choose, fail) {
  const file = h("input", { id: "try-file", type: "file", accept: "image/jpeg,image/png,image/webp", class: "quiet", tabindex: -1, "aria-label": "A photo",
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

/** The camera's picture, and what it is taken for frame by frame, until one is kept; its light goes off then, and when the view is left. */
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
  const said = h("div", { id: "try-live", "aria-live": "off" });
  const unfollow = follow(video, (top) => said.replaceChildren(taken(top)), fail);
  const end = () => { unfollow(); for (const track of stream.getTracks()) track.stop(); box.remove(); };
  const take = () => drawn(video, Infinity, (blob) => { end(); if (blob !== null) choose(blob); });
  const box = h("div", { class: "camera" }, h("div", { class: "camera-pair" }, video, said), h("p", {},
    h("button", { type: "button", class: "framed", onclick: take }, "Take the photo"), " ",
    h("button", { type: "button", class: "plain", onclick: end }, "no, thanks")));
  node.addEventListener("leave", end, { once: true });
  node.append(box);
  if (!node.isConnected) end(); // the view was left while the camera was asked for
}

/** `use(blob)` gets the picture of a video as a JPEG, its longer side at most `most` px. */
function drawn(video, most, use) {
  const shrink = Math.min(1, most / Math.max(video.videoWidth, video.videoHeight, 1));
  const canvas = h("canvas", { width: Math.max(1, Math.round(video.videoWidth * shrink)), height: Math.max(1, Math.round(video.videoHeight * shrink)) });
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  canvas.toBlob(use, "image/jpeg", 0.92);
}

/** Has the frames of a video looked at, one at a time, the latest there is: `hear(top)`. Returns what ends that. */
function follow(video, hear, fail) {
  let gone = false;
  (async () => {
    while (!gone) {
      if (video.videoWidth > 0) {
        const blob = await new Promise((resolve) => { drawn(video, FRAME, resolve); });
        try {
          const { top } = await putFrame(blob);
          if (!gone) hear(top);
        } catch (error) {
          if (!gone) fail(error);
          return;
        }
      }
      await new Promise((resolve) => { setTimeout(resolve, BETWEEN); });
    }
  })();
  return () => { gone = true; };
}
