// The router: reads the address after #, asks the view for its content, and shows it.
// What a view returns: {title, section, node: its elements, leave: what it lets go of once another is shown, if anything,
// waits: names of what it shows that may not be there yet of an atlas that is being made; without, it is not drawn anew,
// come(network): puts what is there now in its place, instead of all being drawn anew}.

import { FetchError, NotFound, getNetwork } from "./api.js";
import { attentionView } from "./attention.js";
import { h } from "./dom.js";
import { networkHash } from "./format.js";
import { compareView } from "./compare.js";
import { setUpGoto } from "./goto.js";
import { imageView } from "./image.js";
import { imagesView } from "./images.js";
import { setUpJobBar } from "./jobbar.js";
import { setUpKeys } from "./keys.js";
import { lacks, setUpMaking } from "./making.js";
import { keptView } from "./kept.js";
import { layerView } from "./layer.js";
import { mapView } from "./map.js";
import { networkView } from "./network.js";
import { mode, working } from "./live.js";
import { pointsView } from "./points.js";
import { sheetView } from "./sheet.js";
import { tryView } from "./try.js";
import { unitMapView } from "./unitmap.js";
import { unitView } from "./unit.js";

// Those in NAMED take a name after a slash, the others nothing.
const ATLAS = { "": networkView, images: imagesView, map: mapView, points: pointsView };
const LIVE = mode === null ? {} : { try: tryView, kept: keptView, sheet: sheetView, compare: compareView };
const PLAIN = mode === "alone" ? { "": tryView, ...LIVE } : { ...ATLAS, ...LIVE };
const UNITS = { layer: layerView, unit: unitView, image: imageView, attention: attentionView, map: unitMapView };
const NAMED = { ...(mode === "alone" ? {} : UNITS), ...(mode === null ? {} : { kept: keptView, sheet: sheetView }) };

const main = document.getElementById("view");
const status = document.getElementById("status");
const scrolls = new Map(); // where a page was left, for going back to it
let shown = null; // the address that is on display
let turn = 0; // counts navigations, so that a slow answer does not replace a later page
let leave = () => {}; // of the view on display
let onDisplay = { seen: null }; // what it returned, the atlas as it was then, and what of it there was

function parse(hash) {
  const address = hash.replace(/^#/, "");
  const [path, search = ""] = address.split(/\?(.*)/s);
  const [, kind = "", name = ""] = /^\/?([^/]*)(?:\/(.*))?$/s.exec(path) ?? [];
  return { address, path, kind, name: decode(name), query: new URLSearchParams(search) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // not percent-encoded: taken literally
  }
}

function findView({ kind, name, path }) {
  if (name === "" && Object.hasOwn(PLAIN, kind)) return PLAIN[kind];
  if (name !== "" && Object.hasOwn(NAMED, kind)) return NAMED[kind];
  throw new NotFound(`There is no page “${decode(path)}” in this atlas.`);
}

async function content(route) {
  const say = (text) => { status.textContent = text; };
  const setQuery = (query) => replaceQuery(route, query);
  let network = null;
  try {
    network = mode === "alone" ? null : await getNetwork();
    const view = findView(route);
    const early = network?.images === 0 && route.kind !== "" && !Object.hasOwn(LIVE, route.kind);
    const page = early ? beginning(route) : await view({ ...route, network, say, setQuery });
    return { ...page, network, seen: network };
  } catch (error) {
    if (!(error instanceof NotFound || error instanceof FetchError)) console.error(error);
    return { ...failure(error), seen: network, waits: [] };
  }
}

/** In place of a page about images while none is in. */
function beginning({ name, kind }) {
  const title = name || `${kind[0].toUpperCase()}${kind.slice(1)}`;
  return { title, waits: [], node: [h("header", { class: "opening" }, h("h1", {}, title)),
    h("p", { class: "notice coming" }, "No image has gone through the network yet. This page will be shown when some have.")] };
}

function failure(error) {
  const known = error instanceof NotFound || error instanceof FetchError;
  return {
    title: error instanceof NotFound ? "Not found" : "Failed",
    node: [
      h("header", { class: "opening" }, h("h1", {}, error instanceof NotFound ? "Not here" : "This did not work")),
      h("p", { class: "notice", id: "problem", role: "alert" }, known ? error.message : `The page has a fault: ${error.message}`),
      h("p", {}, error.near && [h("a", { href: error.near.href }, error.near.text), " is the nearest. "],
        h("a", { href: networkHash() }, "All layers")),
    ],
  };
}

/** Changes the query of the page on display without showing it anew. */
function replaceQuery(route, query) {
  if (shown !== route.address) return;
  const entries = Object.entries(query).filter(([, value]) => value !== null && value !== "");
  const search = new URLSearchParams(entries).toString();
  const address = search === "" ? route.path : `${route.path}?${search}`;
  if (address === shown) return;
  shown = route.address = address;
  history.replaceState(history.state, "", `#${address}`);
  main.dataset.address = location.hash;
}

/** Once the page of the address is on display, which it is not yet in the instant after a link was followed. */
async function settled() {
  while (main.dataset.address !== location.hash) {
    await new Promise((resolve) => { main.addEventListener("drawn", resolve, { once: true }); });
  }
}

async function show() {
  const mine = ++turn;
  const route = parse(location.hash);
  const returning = history.state?.visited === true; // by the browser's back or forward
  if (shown !== null) scrolls.set(shown, scrollY);
  const samePath = shown !== null && parse(`#${shown}`).path === route.path;
  const focused = document.activeElement?.closest("#view a")?.getAttribute("href") ?? null;
  main.setAttribute("aria-busy", "true");
  const slow = setTimeout(() => { status.textContent = "Loading …"; }, 250);
  const page = await content(route);
  clearTimeout(slow);
  if (mine !== turn) { page.leave?.(); return; }
  leave();
  leave = page.leave ?? (() => {});
  onDisplay = { ...page, drawn: page.seen && page.waits && thereOf(page.seen, page.waits) };
  status.textContent = "";
  shown = route.address;
  history.replaceState({ visited: true }, "", location.href);
  main.removeAttribute("aria-busy");
  main.dataset.view = route.kind || (mode === "alone" ? "try" : "network");
  main.replaceChildren(...page.node.filter((part) => part instanceof Node));
  document.title = [page.title, page.network?.name, "Netloupe"].filter(Boolean).join(" · ");
  for (const link of document.querySelectorAll("#sections a")) {
    if (link.dataset.section === page.section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!samePath) main.focus({ preventScroll: true }); // so that Tab and screen readers go on from the new page
  else if (focused !== null) main.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  if (returning) scrollTo(0, scrolls.get(route.address) ?? 0);
  else if (!samePath) scrollTo(0, 0);
  main.dataset.address = location.hash;
  main.dispatchEvent(new Event("drawn"));
}

/** What of an atlas that is being made a page shows, in a text that is another once there is more. */
const thereOf = (network, waits) => JSON.stringify([network.images, waits.filter((name) => lacks(network, name))]);

/** Draws the page on display anew where more of it is there; whether it could. */
function came(network) {
  const { seen, waits, drawn, come } = onDisplay;
  if (!drawn || thereOf(network, waits) === drawn) return true;
  if (working() || main.querySelector("input:focus, select:focus") !== null) return false;
  if (come === undefined || network.images !== seen.images) {
    show();
  } else {
    onDisplay = { ...onDisplay, seen: network, drawn: thereOf(network, waits) };
    come(network);
  }
  return true;
}

history.scrollRestoration = "manual";
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part after # is for addresses
  main.focus();
});
addEventListener("hashchange", show);
document.querySelector("#sections [data-section=try]").hidden = mode === null;
if (mode === "alone") for (const part of document.querySelectorAll("#sections a:not([data-section=try]), #goto-form")) part.hidden = true;
else setUpGoto(getNetwork);
setUpKeys(settled);
setUpJobBar();
show().then(() => setUpMaking(onDisplay.seen, () => onDisplay, came));
