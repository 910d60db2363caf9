// Thumbnails moved apart, so that none hides another: each from where a map puts it by its own side at most.

const WORLD = 65535; // the map's coordinates run from 0 to this
const FILLED = 0.75; // of the side at which all thumbnails would just cover the box around them
const ROUNDS = 80;
const GENTLE = 0.5; // of what two overlap they are moved apart in one round, for each has other neighbors too

/** Of {name, x, y} as many, moved: {side, space}. side: of a thumbnail, in the map's coordinates. */
export function movedApart({ name, x, y }) {
  const side = sideOf(x, y);
  // Those of one place are set a little around it, or they would only come apart along a line.
  const xs = Float64Array.from(x, (value, i) => value + (1e-3 * side * i * Math.cos(2.4 * i)) / x.length);
  const ys = Float64Array.from(y, (value, i) => value + (1e-3 * side * i * Math.sin(2.4 * i)) / y.length);
  const order = Array.from(x, (_, i) => i);
  const within = (value, from) => Math.min(WORLD, from + side, Math.max(0, from - side, value));
  for (let round = 0; round < ROUNDS && push(xs, ys, side, order); round += 1) {
    for (let i = 0; i < x.length; i += 1) [xs[i], ys[i]] = [within(xs[i], x[i]), within(ys[i], y[i])];
  }
  return { side, space: { name, x: xs, y: ys } };
}

function sideOf(x, y) {
  const [wide, tall] = [x, y].map((values) => values.reduce((high, v) => Math.max(high, v), 0) - values.reduce((low, v) => Math.min(low, v), WORLD));
  return FILLED * Math.max(Math.sqrt((wide * tall) / x.length), Math.max(wide, tall) / x.length);
}

/** Moves those that overlap a little apart, along the axis where less is needed. Returns whether there were any. */
function push(xs, ys, side, order) {
  let any = false;
  order.sort((a, b) => xs[a] - xs[b] || a - b);
  for (let a = 0; a < order.length; a += 1) {
    for (let b = a + 1, i = order[a]; b < order.length && xs[order[b]] - xs[i] < side; b += 1) {
      const j = order[b];
      const [right, down] = [xs[j] - xs[i], ys[j] - ys[i]];
      const [across, along] = [side - Math.abs(right), side - Math.abs(down)];
      if (across <= 0 || along <= 0) continue;
      any = true;
      const [values, by, ahead] = across <= along ? [xs, across, right >= 0] : [ys, along, down >= 0];
      const step = ((ahead ? 1 : -1) * GENTLE * by) / 2;
      values[i] -= step;
      values[j] += step;
    }
  }
  return any;
}
