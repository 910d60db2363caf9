// The picture of the map: thumbnails where there is room, dots where there is none, photographs where there is plenty.

import { Painter, disc, pixel, stretch } from "./mappaint.js";

const DOTS_BELOW = 4; // px: smaller thumbnails are dots
const PHOTOS_ABOVE = 40; // px of the screen: larger thumbnails are replaced by photographs
const PHOTOS = 160; // at most so many at once
const LARGEST = 200; // px of a thumbnail at the highest zoom
const FOUND = 16; // px: the least size of thumbnails that stand out from dimmed ones
const FEW = 1000; // as long as they are no more than this
const SPREAD = 0.75; // thumbnails grow with this power of the zoom, so that crowded ones come apart

export class Scene {
  constructor(canvas, map, sprites, camera) {
    Object.assign(this, { canvas, map, sprites, camera });
    this.painter = new Painter(canvas);
    const [height, width] = map.shape;
    this.shape = [width / Math.max(height, width), height / Math.max(height, width)];
    this.space = map.spaces[0];
    this.colors = null; // a pixel for each place
    this.lit = null; // 1 for each place that is not dimmed, of which there are `standing`
    this.standing = 0;
    this.pictured = map.sprites.length > 0; // otherwise there are dots without colors of their own
    this.dots = false; // even where there is room
    this.marked = null; // the place under the pointer
    this.outline = null; // of the lasso, in the map's coordinates
    this.photos = new Map(); // by address
    this.times = { opened: performance.now(), first: null, sharp: null };
    this.intervals = [];
    this.waiting = null;
    this.drawn = () => {};
  }

  setLit(lit) {
    this.lit = lit;
    this.standing = lit === null ? 0 : lit.reduce((sum, one) => sum + one, 0);
    this.request();
  }

  setSpace(space) {
    this.space = space;
    this.resize(this.camera.width, this.camera.height);
  }

  resize(width, height) {
    const ratio = Math.min(2, devicePixelRatio || 1);
    this.ratio = ratio;
    Object.assign(this.camera, { width, height });
    this.painter.resize(Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio)));
    this.camera.rim = 0;
    this.camera.rim = this.natural(); // half a thumbnail on each side
    this.base = this.natural();
    this.camera.most = Math.max(8, (LARGEST / this.base) ** (1 / SPREAD));
    this.request();
  }

  /** The side of a thumbnail at zoom 1, as the map tells; else so that all of them would just cover the box around them, or
   *  where they lie on a line, that. */
  natural() {
    const span = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [65535, 0]);
    const [[left, right], [top, bottom]] = [span(this.space.x), span(this.space.y)];
    const scale = this.camera.scale / this.camera.zoom;
    const [wide, tall] = [(right - left) * scale, (bottom - top) * scale];
    const even = Math.max(Math.sqrt((wide * tall) / this.map.count), Math.max(wide, tall) / this.map.count);
    const side = (this.map.side === undefined ? even : this.map.side * scale) || 96;
    return Math.min(96, side, 0.25 * Math.min(this.camera.width, this.camera.height)) || 8;
  }

  /** The longer side of a thumbnail, in pixels of the page. */
  get side() { return this.base * this.camera.zoom ** SPREAD; }

  get asDots() { return this.dots || !this.pictured || this.side < DOTS_BELOW; }

  request() {
    this.waiting ??= requestAnimationFrame((now) => {
      this.waiting = null;
      if (!this.canvas.isConnected) return;
      if (this.last !== undefined && now - this.last < 250) this.intervals.push(now - this.last);
      if (this.intervals.length > 240) this.intervals.shift();
      this.last = now;
      this.draw();
    });
  }

  draw() {
    const style = getComputedStyle(this.canvas);
    this.painter.clear(pixel(style.backgroundColor));
    this.quiet = pixel(style.color);
    const found = this.asDots ? this.drawDots() : this.drawThumbnails();
    this.painter.show();
    if (!this.asDots) this.drawPhotos(found.places);
    this.drawMarks(style);
    const now = performance.now() - this.times.opened;
    if (found.bare === 0 && found.visible > 0) this.times.first ??= now;
    if (found.bare === 0 && found.visible > 0 && found.coarse === 0) this.times.sharp ??= now;
    this.visible = found.visible;
    this.drawn();
  }

  /** Calls `each(place, x, y, dim)` for all points within `reach` of the view, in pixels of the screen; dimmed ones first. */
  forVisible(reach, each) {
    const { camera, space: { x, y }, lit, ratio, map: { count } } = this;
    const { width, height } = this.painter;
    const scale = camera.scale * ratio;
    const [right, down] = [width / 2 - camera.x * scale, height / 2 - camera.y * scale];
    for (const pass of lit === null ? [1] : [0, 1]) {
      for (let place = 0; place < count; place += 1) {
        if (lit !== null && lit[place] !== pass) continue;
        const left = x[place] * scale + right;
        const top = y[place] * scale + down;
        if (left > -reach && top > -reach && left < width + reach && top < height + reach) each(place, left, top, pass === 0);
      }
    }
  }

  /** Whether there are more dots than pixels, so that they are mixed and not laid over each other. */
  get crowded() { return this.asDots && this.side * this.ratio < 1; }

  drawDots() {
    const { painter, colors, map, quiet } = this;
    const own = colors ?? (this.pictured ? map.colors : null);
    const colorOf = (place) => (own === null ? quiet : own[place]);
    let visible = 0;
    if (this.crowded) {
      const mixture = painter.mixture();
      this.forVisible(0, (place, x, y, dim) => {
        visible += 1;
        mixture.add(x, y, colorOf(place), dim ? 1 / 16 : 1);
      });
      mixture.show();
      return { visible, bare: 0, coarse: 0, places: [] };
    }
    const cover = disc(Math.max(2, Math.min(9, this.side)) * this.ratio);
    this.forVisible(cover.side, (place, x, y, dim) => {
      visible += 1;
      painter.dot(x, y, cover, dim ? painter.dimmed(colorOf(place)) : colorOf(place));
    });
    return { visible, bare: 0, coarse: 0, places: [] };
  }

  drawThumbnails() {
    const { painter, colors, sprites, quiet } = this;
    const { small, large } = sprites;
    const [lit, dim] = [false, true].map((dimmed) => this.form(dimmed));
    const sheets = [[], []];
    const sheetOf = (kind, level, place) => {
      const number = Math.floor(place / level.count);
      return (sheets[kind][number] ??= sprites.sheet(level, number) ?? { tiles: null });
    };
    const places = [];
    let [visible, bare, coarse] = [0, 0, 0];
    this.forVisible(Math.max(lit.wide, lit.tall), (place, x, y, dimmed) => {
      const { wide, tall, edge, want, steps } = dimmed ? dim : lit;
      const [outerLeft, outerTop] = [Math.round(x - wide / 2), Math.round(y - tall / 2)];
      const [left, top] = [outerLeft + edge, outerTop + edge];
      visible += 1;
      places.push(place);
      if (edge > 0) painter.rectangle(outerLeft, outerTop, wide, tall, dimmed ? painter.dimmed(colors[place]) : colors[place]);
      let sheet = want > small.side ? sheetOf(1, large, place) : null;
      if (sheet !== null && sheet.tiles !== null) {
        const half = want <= large.side / 2;
        const side = half ? large.side / 2 : large.side;
        painter.tile(half ? sheet.half : sheet.tiles, (place % large.count) * side * side, side, left, top, steps[side], dimmed);
        return;
      }
      coarse += sheet === null ? 0 : 1;
      sheet = sheetOf(0, small, place);
      if (sheet.tiles !== null) {
        painter.tile(sheet.tiles, (place % small.count) * small.side ** 2, small.side, left, top, steps[small.side], dimmed);
      } else {
        bare += 1;
        painter.rectangle(left, top, wide - 2 * edge, tall - 2 * edge, painter.dimmed(quiet));
      }
    });
    return { visible, bare, coarse, places };
  }

  /** Width and height of a thumbnail in pixels of the screen; a few that stand out from dimmed ones are larger. */
  sizes(dimmed) {
    const larger = !dimmed && this.lit !== null && this.standing <= FEW;
    const side = larger ? Math.max(FOUND, this.side) : this.side;
    return this.shape.map((share) => Math.max(2, Math.round(share * side * this.ratio)));
  }

  /** How thumbnails are drawn: their size, the colored edge, the side wanted of what is inside, and its pixels by level. */
  form(dimmed) {
    const [wide, tall] = this.sizes(dimmed);
    const edge = this.colors === null ? 0 : this.edge(wide);
    const [across, down] = [wide, tall].map((length) => Math.max(1, length - 2 * edge));
    const steps = Object.fromEntries([8, 16, 32].map((side) => [side, stretch(side, across, down)]));
    return { wide, tall, edge, want: Math.max(across, down), steps };
  }

  edge(wide) { return Math.max(1, Math.min(5 * this.ratio, Math.round(wide / 9))); }

  drawPhotos(places) {
    if (this.side * this.ratio <= PHOTOS_ABOVE) return;
    const { context } = this.painter;
    const [wide, tall] = this.sizes(false);
    const edge = this.colors === null ? 0 : this.edge(wide);
    const { x, y } = this.space;
    const far = (place) => Math.hypot(x[place] - this.camera.x, y[place] - this.camera.y);
    const chosen = places.filter((place) => this.lit === null || this.lit[place] === 1)
      .map((place) => [far(place), place]).sort(([a], [b]) => a - b).slice(0, PHOTOS).map(([, place]) => place);
    const there = new Set(chosen.filter((place) => this.photo(place)));
    for (const place of places) { // in the order of the thumbnails, so that what lies above still does
      if (!there.has(place)) continue;
      const [left, top] = this.camera.toPage(x[place], y[place]).map((at) => at * this.ratio);
      if (this.colors !== null) {
        context.fillStyle = `rgb(${this.colors[place] & 255} ${(this.colors[place] >> 8) & 255} ${(this.colors[place] >> 16) & 255})`;
        context.fillRect(Math.round(left - wide / 2), Math.round(top - tall / 2), wide, tall);
      }
      const { url, part } = this.map.picture(place, this.side * this.ratio);
      context.drawImage(this.photos.get(url), ...(part ?? []), Math.round(left - wide / 2) + edge, Math.round(top - tall / 2) + edge, wide - 2 * edge, tall - 2 * edge);
    }
  }

  /** Whether the photograph of a place is there; it is fetched otherwise. */
  photo(place) {
    const { url } = this.map.picture(place, this.side * this.ratio);
    const found = this.photos.get(url);
    if (found !== undefined) return found.complete && found.naturalWidth > 0;
    const image = new Image();
    image.onload = () => this.request();
    image.src = url;
    this.photos.set(url, image);
    if (this.photos.size > 4 * PHOTOS) this.photos.delete(this.photos.keys().next().value);
    return false;
  }

  drawMarks(style) {
    const { context } = this.painter;
    const accent = style.getPropertyValue("--accent");
    if (this.marked !== null) {
      const [x, y] = this.camera.toPage(this.space.x[this.marked], this.space.y[this.marked]).map((at) => at * this.ratio);
      const [wide, tall] = this.asDots ? [10 * this.ratio, 10 * this.ratio] : this.sizes(this.lit !== null && this.lit[this.marked] === 0);
      context.lineWidth = 2 * this.ratio;
      context.strokeStyle = accent;
      context.strokeRect(Math.round(x - wide / 2) - 1, Math.round(y - tall / 2) - 1, wide + 2, tall + 2);
    }
    if (this.outline === null) return;
    context.beginPath();
    for (const [x, y] of this.outline) context.lineTo(...this.camera.toPage(x, y).map((at) => at * this.ratio));
    context.closePath();
    context.lineWidth = 3 * this.ratio;
    context.strokeStyle = style.backgroundColor;
    context.stroke();
    context.lineWidth = 1.5 * this.ratio;
    context.strokeStyle = accent;
    context.stroke();
  }

  /** The place whose thumbnail is on top at a point of the page, or whose dot is nearest; null if there is none. */
  hit(left, top) {
    const reach = this.asDots ? Math.max(6, this.side / 2) * this.ratio : 0;
    const [large, small] = [false, true].map((dimmed) => (this.asDots ? [2 * reach, 2 * reach] : this.sizes(dimmed)));
    const [x, y] = [left * this.ratio, top * this.ratio];
    let [best, least] = [null, Infinity];
    this.forVisible(Math.max(...large), (place, atX, atY, dim) => {
      if (dim && this.lit !== null && this.asDots) return;
      const [wide, tall] = dim ? small : large;
      if (Math.abs(atX - x) > wide / 2 || Math.abs(atY - y) > tall / 2) return;
      const far = this.asDots ? Math.hypot(atX - x, atY - y) : 0; // the last that is drawn lies on top
      if (far <= least) [best, least] = [place, far];
    });
    return best;
  }

  /** Frames a second while the picture moved lately; null while it has not. */
  get rate() {
    const recent = this.intervals.slice(-90);
    return recent.length < 10 ? null : (1000 * recent.length) / recent.reduce((sum, one) => sum + one, 0);
  }

  /** Moves the view in a circle for some seconds and counts the frames: {frames, seconds, rate, median, slowest5} with times in ms. */
  async pan(seconds = 3, radius = 120) {
    const { x, y, zoom } = this.camera;
    const start = performance.now();
    const ends = [start];
    while (ends.at(-1) - start < 1000 * seconds) {
      const turn = (2 * Math.PI * (ends.at(-1) - start)) / 2000;
      this.camera.look(x + (radius * Math.sin(turn)) / this.camera.scale, y + (radius * (1 - Math.cos(turn))) / this.camera.scale, zoom);
      this.request();
      ends.push(await new Promise((done) => { requestAnimationFrame(() => done(performance.now())); }));
    }
    this.camera.look(x, y, zoom);
    this.request();
    const gaps = ends.slice(1).map((end, i) => end - ends[i]).sort((a, b) => a - b);
    const took = (ends.at(-1) - start) / 1000;
    return { frames: gaps.length, seconds: took, rate: gaps.length / took,
      median: gaps[gaps.length >> 1], slowest5: gaps[Math.floor(gaps.length * 0.95)] };
  }
}
