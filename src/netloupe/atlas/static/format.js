// Numbers, shapes and addresses as text.

const MINUS = "−";

/** A measured value with three significant digits. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  let text;
  if (size === 0) text = "0";
  else if (size >= 1e6 || size < 1e-3) text = size.toExponential(1).replace("e+", "e").replace("e-", `e${MINUS}`);
  else if (size >= 100) text = Math.round(size).toLocaleString("en-US");
  else text = size.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
  return value < 0 ? MINUS + text : text;
}

/** A round number with no more digits than it needs. */
export const plain = (value) => Number(value.toPrecision(6)).toLocaleString("en-US", { maximumFractionDigits: 6 }).replace("-", MINUS);

/** A number of about 1 with two digits. */
export const hundredths = (value) => (value === null || value === undefined ? "–" : value.toFixed(2).replace("-", MINUS));

export const count = (value) => value.toLocaleString("en-US");

/** "1 image", "2 images". */
export const counted = (value, noun, plural = `${noun}s`) => `${count(value)} ${value === 1 ? noun : plural}`;

export function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = share * 100;
  const digits = value > 0 && value < 10 || value > 99 && value < 100 ? 1 : 0;
  return `${value.toFixed(digits)}%`;
}

/** "32 × 64 × 64" (channels, height, width), or "200 channels" for a layer without height and width. */
export const shape = (sizes) => (sizes.length === 1 ? counted(sizes[0], "channel") : sizes.map(count).join(" × "));

/** What one position of a layer sees of the input. sizes: the layer's shape, where it shall be said what patches show. */
export function receptiveField(field, sizes = []) {
  if (field === null || field === undefined) return null;
  if (field.whole) return Math.max(...sizes.slice(1), 1) > 1 ? "the whole image; patches show where it stands" : "the whole image";
  return `${field.size.map(count).join(" × ")} px${field.exact ? "" : ", measured"}`;
}

export const networkHash = () => "#/";
export const layerHash = (name, query = {}) => withQuery(`#/layer/${encodeURIComponent(name)}`, query);
export const unitHash = (name, channel, query = {}) => withQuery(`#/unit/${encodeURIComponent(name)}:${channel}`, query);
export const attentionHash = (name) => `#/attention/${encodeURIComponent(name)}`;
export const imageHash = (id) => `#/image/${id}`;
export const imagesHash = (query = {}) => withQuery("#/images", query);

/** The hash with those entries of the query that are neither null nor empty. */
function withQuery(hash, query) {
  const entries = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return entries.length === 0 ? hash : `${hash}?${new URLSearchParams(entries)}`;
}
