// A picture parted into the positions of a layer: the pointer or the arrow keys choose one of them.

import { h } from "./dom.js";

/** `chosen([row, column])` is called when another position is chosen. size: [height, width] of the picture, for its proportions.
 *  show(src, grid): another picture with so many rows and columns. mark(place): frames one; null frames none.
 *  lay(style): lays a map over the picture; null takes it away. */
export function gridPad(label, size, chosen) {
  const image = h("img", { class: "beneath", alt: "" });
  const laid = h("span", { class: "laid", hidden: true });
  const frame = h("span", { class: "place", hidden: true });
  const node = h("div", { class: "lay pad", tabindex: 0, role: "group", "aria-label": `${label} Arrows move the place.`,
    style: { "aspect-ratio": `${size[1]} / ${size[0]}` } }, image, laid, frame);
  let grid = null;
  let at = null;

  function mark(place) {
    at = place;
    frame.hidden = place === null || grid === null;
    if (frame.hidden) return;
    const [rows, columns] = grid;
    Object.assign(frame.style, { top: `${(100 * place[0]) / rows}%`, left: `${(100 * place[1]) / columns}%`, height: `${100 / rows}%`, width: `${100 / columns}%` });
  }

  function choose(place) {
    if (grid === null || (at !== null && at[0] === place[0] && at[1] === place[1])) return;
    mark(place);
    chosen(place);
  }

  function under(event) {
    if (grid === null) return;
    const { left, top, width, height } = node.getBoundingClientRect();
    const step = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    choose([step((event.clientY - top) / height, grid[0]), step((event.clientX - left) / width, grid[1])]);
  }

  node.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") under(event); }); // a finger scrolls the page
  node.addEventListener("click", under);
  node.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step === undefined || grid === null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // arrows lead to other pages elsewhere
    choose((at ?? grid.map((count) => Math.floor(count / 2))).map((place, i) => Math.min(grid[i] - 1, Math.max(0, place + step[i]))));
  });

  return {
    node, mark,
    show(src, sides) { image.src = src; grid = sides; mark(at); },
    lay(style) {
      laid.hidden = style === null;
      node.classList.toggle("under", style !== null);
      if (style !== null) Object.assign(laid.style, style);
    },
  };
}

/** The style of one picture of a sheet of rows and columns of equal pictures. */
export function onSheet(url, [row, column], [rows, columns]) {
  const share = (place, count) => `${(100 * place) / Math.max(1, count - 1)}%`;
  return { backgroundImage: `url("${url}")`, backgroundSize: `${100 * columns}% ${100 * rows}%`, backgroundPosition: `${share(column, columns)} ${share(row, rows)}` };
}
