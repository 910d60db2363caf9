// Controls for the settings of a task, as its JSON schema describes them.

import { h } from "./dom.js";

/** What of a setting's schema says of its values: {type, choices, minimum, maximum, above, below}. */
export function accepted({ properties }, name) {
  const own = properties[name];
  const one = own.anyOf?.find(({ type }) => type !== "null") ?? own;
  return { type: one.type, choices: one.enum ?? null, minimum: one.minimum, maximum: one.maximum, above: one.exclusiveMinimum, below: one.exclusiveMaximum, usual: own.default, help: own.description };
}

/** "style_scale" in words. */
export const inWords = (name) => name.replaceAll("_", " ");

/** A control of one value: {node, read}. value: at first, else the usual one. */
export function control(schema, name, { id, value = null, text = inWords(name) }) {
  const { type, choices, minimum, maximum, usual, help } = accepted(schema, name);
  const first = value ?? usual;
  const input = choices !== null
    ? h("select", { id }, choices.map((one) => h("option", { value: one, selected: one === first }, one)))
    : h("input", { id, type: type === "string" ? "text" : "number", value: first ?? "", min: minimum, max: maximum, step: type === "integer" ? 1 : "any", class: "short" });
  const numeric = type === "integer" || type === "number";
  return {
    node: h("label", { class: "filter", title: help }, h("span", {}, text), input),
    read: () => (input.value === "" ? null : numeric ? Number(input.value) : input.value),
  };
}

/** A control of several values: {node, read, note}. value: the one that there is now, near which the first ones lie. */
export function several(schema, name, { id, value = null, values = null }) {
  const about = accepted(schema, name);
  const wanted = (values ?? begun(schema, name, value)).map(String);
  const label = `Values of ${inWords(name)}`;
  if (about.choices !== null) {
    const boxes = about.choices.map((one) => h("input", { type: "checkbox", value: one, checked: wanted.includes(one) }));
    return {
      node: h("span", { id, role: "group", class: "choices", "aria-label": label }, boxes.map((box) => h("label", { class: "filter" }, box, h("span", {}, box.value)))),
      read: () => boxes.filter((box) => box.checked).map((box) => box.value),
      note: about.help,
    };
  }
  const input = h("input", { id, type: "text", autocomplete: "off", spellcheck: "false", "aria-label": label, placeholder: "values, with commas", value: wanted.join(", ") });
  return {
    node: input,
    read: () => input.value.split(",").map((text) => text.trim()).filter((text) => text !== ""),
    note: `${about.help}${limits(about)}`,
  };
}

/** Values to begin with, near the one that there is now. */
export function begun(schema, name, value = null) {
  const about = accepted(schema, name);
  return near(name, about, value ?? about.usual);
}

function near(name, { type, choices, minimum = -Infinity, maximum = Infinity }, value) {
  if (choices !== null) return [...new Set([value ?? choices[0], ...choices])].slice(0, 2);
  const steps = /^(\d+)\/255$/.exec(value)?.[1];
  if (steps > 0) return [...new Set([steps / 2, steps, steps * 2].map((n) => `${Math.max(1, Math.round(n))}/255`))];
  if (value === null || value === undefined || type === "string") return value ? [value] : [];
  if (name === "seed") return [value, value + 1, value + 2];
  const whole = (number) => (type === "integer" ? Math.round(number) : Number(number.toPrecision(3)));
  return [...new Set([value / 2, value, value * 2].map(whole))].filter((one) => one >= minimum && one <= maximum);
}

function limits({ minimum, maximum, above, below }) {
  const said = [minimum !== undefined && `${minimum} or more`, above !== undefined && `above ${above}`,
    maximum !== undefined && `up to ${maximum}`, below !== undefined && `below ${below}`].filter(Boolean);
  return said.length === 0 ? "" : ` ${said.join(", ").replace(/^./, (letter) => letter.toUpperCase())}.`;
}
