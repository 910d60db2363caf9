// The attention heads of one layer: a small map each, one of which can be laid over a photo.

import { h } from "./dom.js";
import { onSheet } from "./gridpad.js";

export const TRUTH = "Attention says where a token takes from, not what it takes nor whether the answer depends on it: the values there may be small, and the residual path goes around it.";
export const SCALE = "Each map is the share that goes to every patch, from black to its own highest, which stands below it; what goes to tokens beside the patches is left out.";

const share = (value) => (value === null || value === undefined ? "–" : value >= 0.0995 ? value.toFixed(2) : value.toFixed(3));

/** Cells of `count` heads of the attention `name`, on pictures of `grid` = [rows, columns] of patches.
 *  chosen(head): called with the head whose map shall be laid over the photo, or null.
 *  show(url, row, rows, peaks): the maps in that row of a sheet whose columns are the heads. style(head): of one of them. */
export function headCells(name, count, grid, chosen) {
  let source = null;
  let pressed = null;
  const style = (head) => (source === null ? null : onSheet(source.url, [source.row, head], [source.rows, count]));
  const cells = Array.from({ length: count }, (_, head) => {
    const picture = h("span", { class: "cut", style: { "aspect-ratio": `${grid[1]} / ${grid[0]}` } });
    const value = h("span", { class: "value" });
    const button = h("button", { type: "button", "data-head": head, "aria-pressed": "false", onclick: () => press(pressed === head ? null : head) }, picture);
    return { node: h("div", { class: "map" }, button, h("span", { class: "caption" }, h("span", {}, `head ${head}`), value)), button, picture, value };
  });

  function press(head) {
    release(head);
    chosen(head);
  }

  function release(head = null) {
    pressed = head;
    cells.forEach(({ button }, i) => button.setAttribute("aria-pressed", String(i === head)));
  }

  return {
    node: h("div", { class: "head-cells", "data-attention": name, style: { "max-width": `${7.5 * count}rem` } }, cells.map(({ node }) => node)),
    style, release, press,
    show(url, row, rows, peaks) {
      source = { url, row, rows };
      cells.forEach(({ button, picture, value }, head) => {
        Object.assign(picture.style, style(head));
        picture.classList.add("there");
        value.textContent = share(peaks[head]);
        button.setAttribute("aria-label", `${name}, head ${head}, at most ${share(peaks[head])} to one patch; lay it over the photo`);
      });
    },
  };
}
