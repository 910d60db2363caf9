// What a network takes an image for, as bars.

import { h } from "./dom.js";
import { percent } from "./format.js";
import { bars } from "./pieces.js";

/** What a network says of an image: classes with their probabilities, as other networks say shares, scores or a value. */
export function taken(top) {
  if (top.length === 0) return h("p", { class: "note" }, "This network gives no classes.");
  return bars(top.map(({ label, said, probability, share, score }) => {
    const part = probability ?? share ?? score ?? null;
    return { name: part === null ? said : label, href: null, value: part ?? 0, text: part === null ? "" : percent(part) };
  }), 1);
}
