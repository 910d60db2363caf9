// What of the studio outlives its view, and the page's being loaded anew: the photo, its crop, what all is about, and
// what was asked of sections that act when they are asked to.

import { mode } from "./live.js";

const KEPT = "netloupe-try"; // in the session's storage

let kept = null; // {of, photo, crop, about, asked, sheet: what a contact sheet is to be made of}
addEventListener("pagehide", () => { try { if (kept !== null) sessionStorage.setItem(KEPT, JSON.stringify(kept)); } catch { /* then one begins again */ } });

function stored() {
  try { return JSON.parse(sessionStorage.getItem(KEPT)); } catch { return null; }
}

/** The state of the studio of a network; first: the photo to begin with. */
export function stateOf({ name, photo }) {
  const before = kept ?? stored();
  kept = before?.of === name ? before : { of: name, photo, crop: null, about: null, asked: {} };
  return kept;
}

/** {photo, size, crop} of the photo that was opened last, for a look at it; null where there is none. */
export function lastPhoto() {
  const found = mode === null ? null : kept ?? stored();
  return found?.photo && found.crop ? { photo: found.photo.id, size: found.photo.size, crop: found.crop } : null;
}
