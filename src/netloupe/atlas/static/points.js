// Points: click parts of images by name, and write the file that `netloupe study correspondence` reads.

import { NotFound, getImageRows } from "./api.js";
import { h } from "./dom.js";
import { count, counted } from "./format.js";
import { broken, called, pager, photo, pictured, unkept } from "./pieces.js";
import { PointStore, PointsError } from "./pointstore.js";

const PER_PAGE = 60;
const COLORS = ["#009e73", "#e69f00", "#cc527a", "#56b4e9", "#f0e442", "#6e46a0"]; // told apart with any color vision

const state = { store: null, image: null, part: null }; // outlives the view, so that going elsewhere loses nothing

addEventListener("beforeunload", (event) => {
  if (state.store !== null && !state.store.saved) event.preventDefault();
});

export async function pointsView({ query, network }) {
  const pages = Math.max(1, Math.ceil(network.ids / PER_PAGE));
  if (!pictured(network)) {
    const opening = h("header", { class: "opening" }, h("h1", {}, "Points"));
    return { section: "images", title: "Points", node: [opening, h("p", { class: "notice", id: "unkept" }, unkept(network))] };
  }
  const page = query.get("page") ?? "1";
  if (!/^\d+$/.test(page) || Number(page) < 1 || Number(page) > pages) {
    throw new NotFound(`There is no page “${page}” of images: the pages are 1 to ${count(pages)}.`);
  }
  const start = (Number(page) - 1) * PER_PAGE;
  const rows = await getImageRows(network, start, Math.min(start + PER_PAGE, network.ids));
  state.store ??= new PointStore(network.input.size);
  state.part ??= state.store.parts[0] ?? null;
  if (state.image === null || !rows.some(({ id }) => id === state.image.id)) state.image = rows[0] ?? null;
  const to = (other) => (other < 1 || other > pages ? null
    : { href: other === 1 ? "#/points" : `#/points?page=${other}`, text: `page ${other}` });
  const parts = {
    stage: h("div", { id: "points-stage" }), list: h("div", { id: "points-parts" }), shown: h("p", { class: "note", id: "points-count" }),
    problem: h("p", { class: "note", id: "points-problem", role: "alert" }), pictures: h("div", { id: "points-images", class: "thumbnails" }),
    undo: h("button", { type: "button", id: "points-undo", onclick: () => change(() => state.store.undo()) }, "Undo"),
  };
  const draw = () => drawAll(network, rows, parts, change);
  function change(action) {
    parts.problem.textContent = "";
    try {
      action();
    } catch (error) {
      if (!(error instanceof PointsError)) throw error;
      parts.problem.textContent = error.message;
    }
    draw();
  }
  draw();
  return {
    section: "images",
    title: pages > 1 ? `Points, page ${page}` : "Points",
    node: [
      h("header", { class: "opening" },
        pages > 1 && pager("Pages", { prev: to(Number(page) - 1), next: to(Number(page) + 1) }),
        h("h1", {}, "Points"),
        h("p", { class: "lead" }, "Does the network treat the same part alike in every image? Mark parts in several images here; the file goes to ", h("code", {}, "netloupe study correspondence ", h("span", { style: { "white-space": "nowrap" } }, "--points")), ".")),
      rows.length === 0 ? h("p", { class: "notice" }, "No image is on this page.") : h("div", { class: "points" },
        parts.stage,
        h("section", { "aria-labelledby": "parts-title" },
          h("h2", { id: "parts-title" }, "Parts"), parts.list,
          h("div", { class: "points-buttons" },
            h("button", { type: "button", id: "points-add", onclick: () => change(() => { state.part = state.store.addPart(); }) }, "Add a part"),
            parts.undo),
          h("div", { class: "points-buttons" },
            h("button", { type: "button", id: "points-save", onclick: save }, "Download points.json"),
            h("label", { class: "button" }, "Load", h("input", { type: "file", id: "points-load", class: "quiet", accept: ".json,application/json",
              onchange: (event) => load(event.target, change) }))),
          parts.problem, parts.shown,
          h("p", { class: "note" }, "Click the image to place the marked part. Drag a point to correct it, or focus it and use the arrows; Delete removes it. Left and right are those of the picture."))),
      parts.pictures,
    ],
  };
}

function drawAll(network, rows, parts, change) {
  const { store } = state;
  if (!store.parts.includes(state.part)) state.part = store.parts[0] ?? null;
  const focused = parts.stage.querySelector(".point:focus")?.dataset.part ?? null;
  parts.stage.replaceChildren(...(state.image === null ? [] : stage(network, change)));
  if (focused !== null) parts.stage.querySelector(`.point[data-part="${CSS.escape(focused)}"]`)?.focus();
  parts.list.replaceChildren(...store.parts.map((part, i) => partRow(part, i, change)));
  parts.undo.disabled = store.past.length === 0;
  parts.shown.textContent = `${counted(store.images.size, "image")} with points.`;
  if (parts.pictures.children.length === 0) parts.pictures.append(...rows.map((row) => choice(network, row, change)));
  for (const button of parts.pictures.children) {
    const number = store.countOf(button.dataset.name);
    button.setAttribute("aria-pressed", String(state.image !== null && Number(button.dataset.image) === state.image.id));
    button.querySelector(".value").textContent = number === 0 ? "no points" : `${number} of ${store.parts.length}`;
  }
}

/** The image at hand with its points. */
function stage(network, change) {
  const { store, image } = state;
  const picture = photo(network, image.id, { alt: called(image), lazy: false });
  picture.classList.add("target");
  picture.querySelector("img").draggable = false;
  picture.addEventListener("click", (event) => {
    if (state.part === null || event.target.closest(".point") !== null) return;
    change(() => {
      store.put(image.name, state.part, placeOf(event, picture, store.frame));
      state.part = store.missing(image.name) ?? state.part;
    });
  });
  store.parts.forEach((part, i) => {
    const place = store.at(image.name, part);
    if (place !== null) picture.append(marker(picture, part, i, place, change));
  });
  return [picture, h("p", { class: "caption" }, h("span", { class: "label" }, `${image.id}: ${image.name}`))];
}

function placeOf(event, picture, frame) {
  const box = picture.getBoundingClientRect();
  return [(event.clientY - box.top) / box.height * frame[0], (event.clientX - box.left) / box.width * frame[1]];
}

function marker(picture, part, i, place, change) {
  const { store, image } = state;
  const put = (element, [y, x]) => {
    element.style.top = `${100 * y / store.frame[0]}%`;
    element.style.left = `${100 * x / store.frame[1]}%`;
  };
  let dragging = false;
  const element = h("button", {
    type: "button", class: "point", "data-part": part, title: part, "aria-label": `${part} at ${place.join(", ")}`,
    style: { "--point": COLORS[i % COLORS.length] },
    onpointerdown: (event) => {
      if (event.button !== 0) return;
      store.remember();
      dragging = true;
      element.setPointerCapture(event.pointerId);
    },
    onpointermove: (event) => {
      if (!dragging) return;
      store.move(image.name, part, placeOf(event, picture, store.frame));
      put(element, store.at(image.name, part));
    },
    onpointerup: () => {
      if (!dragging) return;
      dragging = false;
      const [y, x] = store.at(image.name, part);
      if (y === place[0] && x === place[1]) store.past.pop(); // a click that moved nothing
      change(() => { state.part = part; });
    },
    onpointercancel: () => { if (dragging) change(() => store.undo()); },
    onkeydown: (event) => {
      const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      const step = steps[event.key];
      if (step === undefined && event.key !== "Delete" && event.key !== "Backspace") return;
      event.preventDefault();
      event.stopPropagation(); // the arrows lead to other pages elsewhere
      const length = store.frame[0] / 128;
      change(() => store.put(image.name, part, step === undefined ? null : place.map((value, axis) => value + step[axis] * length)));
    },
  });
  put(element, place);
  return element;
}

function partRow(part, i, change) {
  const { store, image } = state;
  const place = image === null ? null : store.at(image.name, part);
  return h("div", { class: "part", "data-part": part },
    h("input", { type: "radio", name: "part", checked: part === state.part, "aria-label": `Place ${part}`,
      style: { "accent-color": COLORS[i % COLORS.length] }, onchange: () => change(() => { state.part = part; }) }),
    h("input", { type: "text", class: "part-name", value: part, "aria-label": `Name of ${part}`, spellcheck: "false",
      onchange: (event) => change(() => {
        store.rename(part, event.target.value);
        state.part = state.part === part ? event.target.value.trim() : state.part;
      }) }),
    h("span", { class: "place" }, place === null ? "–" : `y ${place[0].toFixed(1)}, x ${place[1].toFixed(1)}`),
    h("button", { type: "button", class: "remove", "aria-label": `Remove ${part}`, title: "Remove this part",
      onclick: () => change(() => store.removePart(part)) }, "×"));
}

function choice(network, row, change) {
  return h("button", { type: "button", class: "thumbnail", "data-image": row.id, "data-name": row.name, "aria-pressed": "false",
    onclick: () => change(() => {
      state.image = row;
      state.part = state.store.missing(row.name) ?? state.part;
      document.getElementById("points-stage").scrollIntoView({ block: "nearest" });
    }) },
    photo(network, row.id),
    h("span", { class: "caption" }, h("span", { class: "label" }, broken(called(row))), h("span", { class: "value" })));
}

function save() {
  const url = URL.createObjectURL(new Blob([state.store.written()], { type: "application/json" }));
  const link = h("a", { href: url, download: "points.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  state.store.saved = true;
}

async function load(input, change) {
  const [file] = input.files;
  if (file === undefined) return;
  const text = await file.text();
  input.value = ""; // so that the same file can be loaded again
  change(() => state.store.read(text));
}
