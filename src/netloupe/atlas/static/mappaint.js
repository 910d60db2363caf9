// Painting the map pixel by pixel into memory. Without a graphics card this is more than ten times as fast as drawing each
// thumbnail on the canvas, and WebGL is slower still; with one it is fast enough.

const OPAQUE = 255 << 24;
const LEAST = 0.2; // of its color has a pixel of one dot where many are mixed

/** "rgb(1, 2, 3)" or [1, 2, 3] as a pixel. */
export function pixel(color) {
  const [red, green, blue] = typeof color === "string" ? color.match(/[\d.]+/g).map(Number) : color;
  return (red | (green << 8) | (blue << 16) | OPAQUE) >>> 0;
}

export class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.resize(1, 1);
  }

  resize(width, height) {
    this.canvas.width = this.width = width;
    this.canvas.height = this.height = height;
    this.image = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.sums = null;
  }

  clear(color) {
    this.background = color;
    this.faint = 3 * ((color >>> 2) & 0x3f3f3f); // what remains of the ground under a dimmed pixel
    this.pixels.fill(color);
  }

  show() {
    this.context.putImageData(this.image, 0, 0);
  }

  dimmed(color) {
    return (((color >>> 2) & 0x3f3f3f) + this.faint) | OPAQUE;
  }

  /** For dots of which many fall on a pixel: its color is their mean, the stronger the more there are. */
  mixture() {
    const { pixels, width, height, background } = this;
    this.sums ??= [0, 1, 2, 3].map(() => new Float32Array(width * height)); // weights; red, green, blue times weight
    const [weights, red, green, blue] = this.sums.map((sum) => sum.fill(0));
    return {
      add(x, y, color, weight) {
        const at = (y | 0) * width + (x | 0);
        weights[at] += weight;
        red[at] += weight * (color & 255);
        green[at] += weight * ((color >> 8) & 255);
        blue[at] += weight * ((color >> 16) & 255);
      },
      show() {
        const most = Math.log1p(weights.reduce((high, one) => Math.max(high, one), 0));
        weights.forEach((weight, at) => {
          if (weight === 0) return;
          const share = Math.round(256 * (LEAST + (1 - LEAST) * (Math.log1p(weight) / most)));
          pixels[at] = mixed(pixel([red[at] / weight, green[at] / weight, blue[at] / weight]), background, share);
        });
      },
    };
  }

  rectangle(left, top, wide, tall, color) {
    const x0 = Math.max(0, left), x1 = Math.min(this.width, left + wide);
    const y0 = Math.max(0, top), y1 = Math.min(this.height, top + tall);
    for (let y = y0; y < y1; y += 1) this.pixels.fill(color, y * this.width + x0, Math.max(x0, x1) + y * this.width);
  }

  /** A square tile of `side` px that begins at tiles[offset], stretched to wide x tall. `steps` comes from `stretch`. */
  tile(tiles, offset, side, left, top, steps, dim) {
    const { across, down } = steps;
    const { pixels, width, faint } = this;
    const x0 = Math.max(0, -left), x1 = Math.min(across.length, width - left);
    const y0 = Math.max(0, -top), y1 = Math.min(down.length, this.height - top);
    for (let y = y0; y < y1; y += 1) {
      const row = offset + down[y] * side;
      let to = (top + y) * width + left + x0;
      if (dim) for (let x = x0; x < x1; x += 1, to += 1) pixels[to] = (((tiles[row + across[x]] >>> 2) & 0x3f3f3f) + faint) | OPAQUE;
      else for (let x = x0; x < x1; x += 1, to += 1) pixels[to] = tiles[row + across[x]];
    }
  }

  /** A disc around (x, y); `cover` comes from `disc`. */
  dot(x, y, { side, shares }, color) {
    const { pixels, width, height } = this;
    const left = Math.round(x - side / 2), top = Math.round(y - side / 2);
    for (let i = 0, row = top; row < top + side; row += 1) {
      if (row < 0 || row >= height) { i += side; continue; }
      for (let column = left; column < left + side; column += 1, i += 1) {
        const share = shares[i];
        if (share === 0 || column < 0 || column >= width) continue;
        const to = row * width + column;
        pixels[to] = share === 256 ? color : mixed(color, pixels[to], share);
      }
    }
  }
}

/** `share` of 256 parts of one pixel, the rest of the other. */
function mixed(one, other, share) {
  const even = (((one & 0xff00ff) * share + (other & 0xff00ff) * (256 - share)) / 256) & 0xff00ff;
  const odd = ((((one >>> 8) & 255) * share + ((other >>> 8) & 255) * (256 - share)) >>> 8) << 8;
  return even | odd | OPAQUE;
}

/** Which pixel of a tile of `side` px stands at each pixel of a picture of wide x tall. */
export function stretch(side, wide, tall) {
  const line = (length) => Int32Array.from({ length }, (_, i) => ((i + 0.5) * side) / length);
  return { across: line(wide), down: line(tall) };
}

/** How much of each pixel a disc covers, in 256 parts. */
export function disc(diameter) {
  const side = Math.max(1, Math.round(diameter));
  const shares = Array.from({ length: side * side }, (_, i) => {
    const [y, x] = [Math.floor(i / side), i % side].map((at) => at + 0.5 - side / 2);
    return side < 3 ? 256 : Math.round(256 * Math.min(1, Math.max(0, side / 2 - Math.hypot(y, x) + 0.5)));
  });
  return { side, shares: Int32Array.from(shares) };
}
