// Which part of the map is in view, and the hands that move it: drag, wheel, pinch, double click and keys.

const WORLD = 65535; // the map's coordinates run from 0 to this
const MARGIN = 0.95;
const CLICK = 5; // px: a pointer that moved less did not drag

export class Camera {
  constructor() {
    [this.x, this.y, this.zoom] = [WORLD / 2, WORLD / 2, 1];
    [this.width, this.height, this.most] = [1, 1, 64];
    this.rim = 0; // px of the page at zoom 1 for what reaches beyond the outermost points, both sides together
  }

  /** Pixels of the page for one step of the map's coordinates. */
  get scale() { return (Math.max(1, MARGIN * Math.min(this.width, this.height) - this.rim) * this.zoom) / WORLD; }

  toPage(x, y) { return [(x - this.x) * this.scale + this.width / 2, (y - this.y) * this.scale + this.height / 2]; }
  toMap(left, top) { return [(left - this.width / 2) / this.scale + this.x, (top - this.height / 2) / this.scale + this.y]; }

  move(right, down) { this.look(this.x - right / this.scale, this.y - down / this.scale, this.zoom); }

  look(x, y, zoom) {
    this.zoom = Math.min(this.most, Math.max(0.5, zoom));
    this.x = Math.min(WORLD, Math.max(0, x));
    this.y = Math.min(WORLD, Math.max(0, y));
  }

  /** Zoom so that what lies at (left, top) stays there. */
  zoomAt(left, top, times) {
    const [x, y] = this.toMap(left, top);
    this.look(this.x, this.y, this.zoom * times);
    const [nowX, nowY] = this.toMap(left, top);
    this.look(this.x + x - nowX, this.y + y - nowY, this.zoom);
  }
}

/** Listens on the canvas. `on` holds: changed(), hover(left, top) or hover(null), open(left, top, event), touched(left, top),
 *  lassoing() -> whether a drag draws, lasso(points, done), escape(), enter(). */
export function listen(canvas, camera, on) {
  const pointers = new Map();
  let path = null; // of the lasso being drawn
  let travelled = 0;
  let opening = null; // waits whether a second click follows
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    on.hover(null);
    if (pointers.size > 1) { path = null; travelled = Infinity; return; }
    travelled = 0;
    path = event.shiftKey || on.lassoing() ? [at(event)] : null;
  });

  canvas.addEventListener("pointermove", (event) => {
    const here = at(event);
    const before = pointers.get(event.pointerId);
    if (before === undefined) {
      if (event.pointerType !== "touch") on.hover(...here);
      return;
    }
    travelled += Math.hypot(here[0] - before[0], here[1] - before[1]);
    if (pointers.size > 1) pinch(event.pointerId, here);
    else if (path !== null) { path.push(here); on.lasso(path, false); }
    else if (travelled >= CLICK) camera.move(here[0] - before[0], here[1] - before[1]);
    pointers.set(event.pointerId, here);
    on.changed();
  });

  function pinch(moved, here) {
    const [other] = [...pointers].filter(([id]) => id !== moved).map(([, place]) => place);
    const before = pointers.get(moved);
    const size = (a, b) => Math.max(8, Math.hypot(a[0] - b[0], a[1] - b[1]));
    camera.move((here[0] - before[0]) / 2, (here[1] - before[1]) / 2);
    camera.zoomAt((here[0] + other[0]) / 2, (here[1] + other[1]) / 2, size(here, other) / size(before, other));
  }

  function lift(event) {
    if (!pointers.delete(event.pointerId) || pointers.size > 0) return;
    if (path !== null && event.type === "pointerup" && path.length > 2) on.lasso(path, true);
    else if (path !== null) on.lasso(null, true);
    else if (travelled < CLICK && event.type === "pointerup") tap(event);
    path = null;
  }
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => on.hover(null));

  function tap(event) {
    const here = at(event);
    if (event.pointerType === "touch") { on.touched(...here); return; }
    const { ctrlKey, metaKey } = event;
    clearTimeout(opening);
    opening = setTimeout(() => on.open(...here, ctrlKey || metaKey), 220);
  }

  canvas.addEventListener("dblclick", (event) => {
    clearTimeout(opening);
    camera.zoomAt(...at(event), event.shiftKey ? 0.5 : 2);
    on.changed();
  });

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    camera.zoomAt(...at(event), Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0015)));
    on.hover(null);
    on.changed();
  }, { passive: false });

  const STEP = 60; // px
  const MOVES = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const middle = [camera.width / 2, camera.height / 2];
    if (event.key in MOVES) camera.move(...MOVES[event.key]);
    else if (event.key === "+" || event.key === "=") camera.zoomAt(...middle, 1.5);
    else if (event.key === "-") camera.zoomAt(...middle, 1 / 1.5);
    else if (event.key === "0") camera.look(WORLD / 2, WORLD / 2, 1);
    else if (event.key === "Enter") { on.open(...middle, false); return; }
    else if (event.key === "Escape") { on.escape(); return; }
    else return;
    event.preventDefault();
    event.stopPropagation();
    on.changed();
    on.hover(...middle);
  });
}
