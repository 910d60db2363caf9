// The photo with the part that the network gets to see: dragged, made larger or smaller, also by keys.

import { h } from "./dom.js";
import { photoUrl } from "./live.js";

const LEAST = 16; // px of the photo

/** `moved` is called whenever state.crop = [top, left, bottom, right] changed. */
export function cropper(studio, state, moved) {
  const [height, width] = state.photo.size;
  const [inputHeight, inputWidth] = studio.input.size;
  const largest = Math.min(height / inputHeight, width / inputWidth);
  const smallest = Math.min(largest, LEAST / Math.min(inputHeight, inputWidth));
  const image = h("img", { src: photoUrl(state.photo.id), alt: "Your photo", draggable: "false", width, height });
  const laid = h("span", { class: "laid", hidden: true });
  const handle = h("span", { class: "handle", "aria-hidden": "true" });
  const box = h("div", { class: "crop-box", tabindex: 0, role: "group",
    "aria-label": "What the network sees. Arrows move it, plus and minus change its size." }, laid, handle);
  const node = h("div", { class: "cropper" }, image, box);
  let scale = largest;
  let at = [height / 2, width / 2]; // its center

  const before = state.crop;
  if (before !== null) {
    const [top, left, bottom, right] = before;
    scale = (bottom - top) / inputHeight;
    at = [(top + bottom) / 2, (left + right) / 2];
  }

  function place(tell = true) {
    scale = Math.min(largest, Math.max(smallest, scale));
    const half = [(inputHeight * scale) / 2, (inputWidth * scale) / 2];
    at = at.map((center, i) => Math.min([height, width][i] - half[i], Math.max(half[i], center)));
    const [top, left] = at.map((center, i) => center - half[i]);
    const share = (part, whole) => `${(100 * part) / whole}%`;
    Object.assign(box.style, { top: share(top, height), left: share(left, width),
      height: share(2 * half[0], height), width: share(2 * half[1], width) });
    state.crop = [top, left, top + 2 * half[0], left + 2 * half[1]].map((side) => Math.max(0, Math.round(side)));
    state.crop[2] = Math.min(state.crop[2], height);
    state.crop[3] = Math.min(state.crop[3], width);
    if (tell) moved();
  }

  function drag(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    box.focus({ preventScroll: true });
    const unit = width / image.clientWidth;
    const begun = { x: event.clientX, y: event.clientY, at: [...at], scale };
    const growing = event.target === handle;
    const corner = [at[0] - (inputHeight * scale) / 2, at[1] - (inputWidth * scale) / 2];
    const move = (now) => {
      const [dy, dx] = [(now.clientY - begun.y) * unit, (now.clientX - begun.x) * unit];
      if (growing) {
        const room = Math.min((height - corner[0]) / inputHeight, (width - corner[1]) / inputWidth);
        scale = Math.min(room, Math.max(smallest, begun.scale + Math.max(dy / inputHeight, dx / inputWidth)));
        at = [corner[0] + (inputHeight * scale) / 2, corner[1] + (inputWidth * scale) / 2];
      } else at = [begun.at[0] + dy, begun.at[1] + dx];
      place();
    };
    const end = () => { removeEventListener("pointermove", move); removeEventListener("pointerup", end); removeEventListener("pointercancel", end); };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  }

  box.addEventListener("pointerdown", drag);
  box.addEventListener("keydown", (event) => {
    const step = 0.04 * inputHeight * scale;
    const moves = { ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step] };
    const sizes = { "+": 1.1, "=": 1.1, "-": 1 / 1.1 };
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in moves || event.key in sizes)) return;
    event.preventDefault();
    event.stopPropagation(); // arrows lead to other pages elsewhere
    if (event.key in sizes) scale *= sizes[event.key];
    else at = at.map((center, i) => center + moves[event.key][i]);
    place();
  });
  node.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // a page must scroll
    event.preventDefault();
    scale *= Math.exp(event.deltaY / 400);
    place();
  }, { passive: false });
  place(false);
  state.crop = before ?? state.crop; // to the pixel what it was
  image.decode().then(moved, () => {});

  return {
    node,
    leave: () => {},
    /** Lays a map over the crop; null takes it away. */
    overlay(look) {
      laid.hidden = look === null;
      box.classList.toggle("under", look !== null);
      if (look !== null) Object.assign(laid.style, look);
    },
    /** The crop as a picture inside an address. */
    picture() {
      const [top, left, bottom, right] = state.crop;
      const shrink = Math.min(1, 320 / Math.max(bottom - top, right - left));
      const canvas = h("canvas", { width: Math.max(1, Math.round((right - left) * shrink)), height: Math.max(1, Math.round((bottom - top) * shrink)) });
      canvas.getContext("2d").drawImage(image, left, top, right - left, bottom - top, 0, 0, canvas.width, canvas.height);
      return canvas.toDataURL("image/jpeg", 0.9);
    },
  };
}
