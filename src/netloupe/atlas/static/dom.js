// Making elements. Text always goes in as text nodes: names and labels come from files and are not trusted.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `attributes` may hold listeners (onclick: f), `style` as an object, and booleans. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A description list of [term, definition] pairs; null definitions are left out. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, text]) => text !== null)
    .map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text))));
}

const waiting = new WeakMap();
const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    waiting.get(target)();
    waiting.delete(target);
  }
}, { rootMargin: "400px 200px" });

/** Calls `action` once, when the element comes near the part of the page in view. */
export function whenNear(element, action) {
  waiting.set(element, action);
  observer.observe(element);
}

const sized = new WeakMap();
const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) if (contentRect.width > 0) sized.get(target)(Math.round(contentRect.width));
});

/** Calls `draw(width)` when the element is laid out and whenever its width changes. */
export function withWidth(element, draw) {
  sized.set(element, draw);
  sizes.observe(element);
}
