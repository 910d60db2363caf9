// A contact sheet: what one gets with several values of one or two settings, all else as it was.

import { h } from "./dom.js";
import { counted } from "./format.js";
import { keeping } from "./keep.js";
import { getKept, getStudio, start } from "./live.js";
import { accepted, begun, inWords, several } from "./settings.js";
import { named } from "./trychooser.js";
import { stateOf } from "./trystate.js";

export async function sheetView({ name }) {
  const studio = await getStudio();
  const base = name === "" ? shown(studio) : kept(await getKept(name));
  if (base === null || base.problem) return page([header(base?.problem ?? "There is nothing to make one of yet. What the studio makes has a button that leads here.")]);
  return sheeted(studio, base);
}

const page = (node, leave = () => {}) => ({ section: "try", title: "Contact sheet", node, leave });
const header = (lead, ...more) => h("header", { class: "opening" }, h("h1", {}, "Contact sheet"), h("p", { class: "lead" }, lead), more);

/** Of what the studio showed last where its button was pressed. */
function shown(studio) {
  const state = stateOf(studio);
  if (!state.sheet) return null;
  const { section, from, axes = null, settings, ...seen } = state.sheet;
  const schema = studio.sections[section];
  return {
    asked: { ...seen }, of: { section, settings }, schema, names: studio.sheets[section], values: settings, axes, from,
    told: Object.entries(settings).filter(([one, value]) => value !== null && !["about", "quick"].includes(one)).map(([one, value]) => [one, one === "target" ? studio.labels[value] ?? String(value) : one === "unit" ? named(studio, value) : typeof value === "object" ? JSON.stringify(value) : String(value)]),
    note: (made) => { state.sheet.axes = made; },
  };
}

function kept({ id, verb, sheet, sweep, settings }) {
  if (sheet === null) return { problem: `netloupe ${verb} makes no images that a contact sheet could show.` };
  return {
    asked: {}, of: { section: "kept", settings: { id } }, schema: sheet.schema, names: sheet.names, values: sheet.values,
    axes: sweep === null ? null : Object.entries(sweep), from: `#/kept/${id}`,
    told: settings.filter(({ usual, name }) => !usual && !Object.hasOwn(sweep ?? {}, name)).map(({ name, value }) => [name, value]),
    note: () => {},
  };
}

function sheeted(studio, base) {
  const status = h("p", { id: "sheet-status", class: "note", role: "status" });
  const place = h("div", { id: "sheet", class: "sheet-scroll", tabindex: 0, role: "region", "aria-label": "The contact sheet" });
  const [first, second] = axisControls(base);
  const cells = new Map(); // the values of a cell -> {src, facts}, of those that are there
  let grid = null;
  let last = null; // what was asked for, once all of it is there
  let stop = Object.assign(() => {}, { leave: () => {} });
  const keep = keeping(studio, "sheet", () => last);

  function begin(event) {
    event?.preventDefault();
    const axes = [first, second].map((one) => one.read()).filter((axis) => axis !== null);
    if (axes.length === 2 && axes[0][0] === axes[1][0]) { status.textContent = "Choose two different settings."; return; }
    run(axes, false);
  }

  function run(axes, known) {
    stop();
    last = null;
    base.note(axes);
    const asked = { ...base.asked, settings: { of: base.of, axes } };
    if (!known) status.textContent = "It waits for its turn …";
    stop = start("sheet", asked, (kind, data) => {
      if (kind === "found") grid = laid(data.axes);
      if (kind === "progress") status.textContent = `${data.done} of ${counted(data.total, "cell")} …`;
      if (kind === "picture" && grid !== null) grid.put(data);
      if (kind === "failed" || kind === "cancelled") status.textContent = data.message ?? "Stopped.";
      if (kind === "done") { finish(data); last = asked; }
    }, { known });
  }

  function finish(data) {
    data.cells.forEach((one, cell) => grid.put({ cell, there: true, ...one }));
    grid.tell();
    const made = data.made === data.cells.length ? "all made now" : data.made === 0 ? "none of them made anew" : `${data.made} of them made now`;
    status.textContent = `${counted(data.cells.length, "cell")}, ${made}.`;
  }

  /** The table of the cells; those that were there before are there at once. */
  function laid(axes) {
    const [across, down = [null, [null]]] = axes;
    const columns = across[1].length;
    const drawn = down[1].flatMap((below) => across[1].map((beside) => cellOf(cells, JSON.stringify([[across[0], beside], [down[0], below]].sort()),
      [`${inWords(across[0])} ${beside}`, below !== null && `${inWords(down[0])} ${below}`].filter(Boolean).join(", "))));
    const told = (value) => (value === null ? "none" : String(value));
    place.replaceChildren(h("table", { class: "sheet" },
      h("thead", {}, h("tr", {}, down[0] !== null && h("td", {}), across[1].map((value) => h("th", { scope: "col" }, h("small", {}, inWords(across[0])), " ", told(value))))),
      h("tbody", {}, down[1].map((value, row) => h("tr", {},
        down[0] !== null && h("th", { scope: "row" }, h("small", {}, inWords(down[0])), " ", told(value)),
        drawn.slice(row * columns, (row + 1) * columns).map(({ node }) => h("td", {}, node)))))));
    return { put: (data) => drawn[data.cell]?.put(data), tell: () => tellApart(drawn) };
  }

  const form = h("form", { id: "sheet-form", onsubmit: begin },
    first.node, second.node,
    h("div", { class: "form-line" }, h("button", { type: "submit", class: "framed", id: "sheet-go" }, "Make the sheet"), keep.node));
  if (base.axes !== null) run(base.axes, true);
  return page([
    header([`What netloupe ${base.schema.title} makes with several values of one or two settings, all else as it was. `, h("a", { href: base.from }, "Back to it"), "."]),
    base.told.length > 0 && h("dl", { class: "settings sheet-base" }, base.told.map(([name, value]) => h("div", {}, h("dt", {}, inWords(name)), h("dd", {}, value)))),
    form, status, place,
  ].filter(Boolean), () => { stop.leave(); keep.leave(); });
}

/** The controls of the setting that goes across, and of that which goes down. */
function axisControls(base) {
  const ready = base.names.filter((name) => begun(base.schema, name, base.values[name]).length > 1); // with values to begin with
  const usual = ready.find((name) => name === "steps") ?? ready.find((name) => accepted(base.schema, name).choices === null) ?? ready[0] ?? base.names[0];
  const [across = [usual, null], down = ["", null]] = base.axes ?? [];
  return [axisControl(base, "sheet-across", "Across", across), axisControl(base, "sheet-down", "Down", down)];
}

/** {node, read}; read: [name, values], or null for no setting. */
function axisControl({ schema, names, values }, id, text, [chosen, given]) {
  const select = h("select", { id, onchange: () => put(null) },
    id === "sheet-down" && h("option", { value: "", selected: chosen === "" }, "no second setting"),
    names.map((name) => h("option", { value: name, selected: name === chosen }, inWords(name))));
  const slot = h("span", { class: "axis-values" });
  const note = h("p", { class: "note" });
  let control = null;

  function put(found) {
    control = select.value === "" ? null : several(schema, select.value, { id: `${id}-values`, value: values[select.value] ?? null, values: found });
    slot.replaceChildren(...(control === null ? [] : [control.node]));
    note.textContent = control?.note ?? "";
  }
  put(given);
  return {
    node: h("div", { class: "axis-line" }, h("label", { class: "filter" }, h("span", {}, text), select), slot, note),
    read: () => (control === null ? null : [select.value, control.read()]),
  };
}

/** One cell. key: its values; title: these in words. */
function cellOf(cells, key, title) {
  const picture = h("img", { alt: title, hidden: true });
  const facts = h("figcaption", { class: "caption" });
  const node = h("figure", { class: "frame", title }, h("span", { class: "mat" }, picture), facts);
  const show = (src) => { picture.hidden = false; picture.src = src; };
  const cell = { node, facts: cells.get(key)?.facts ?? null, say: (words) => { facts.textContent = words; }, put };

  function put(data) {
    if (!data.there && cells.has(key)) return;
    show(data.src);
    node.classList.toggle("forming", !data.there);
    if (!data.there) return;
    cells.set(key, data);
    cell.facts = data.facts;
  }
  if (cells.has(key)) show(cells.get(key).src);
  return cell;
}

/** Below each cell, in words, what differs between them. */
function tellApart(drawn) {
  const names = (drawn[0].facts ?? []).map(([name]) => name);
  const differ = names.filter((name, i) => new Set(drawn.map(({ facts }) => facts?.[i]?.[1])).size > 1);
  for (const cell of drawn) cell.say((cell.facts ?? []).filter(([name]) => differ.includes(name)).map(([name, value]) => `${name} ${value}`).join(", "));
}
