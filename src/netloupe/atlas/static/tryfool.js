// Fool it: the photo changed, as little as one likes, until the network takes it for what one wants.

import { h } from "./dom.js";
import { number, percent } from "./format.js";
import { bars } from "./pieces.js";
import { choice, classField, classOf, frame, labeled, onDemand } from "./tryform.js";

const SIZES = [["", "as little as it takes"], ["2/255", "up to 2 of 255 steps"], ["4/255", "up to 4 of 255"], ["8/255", "up to 8 of 255"],
  ["16/255", "up to 16 of 255"], ["32/255", "up to 32 of 255"]];

export function foolSection(studio, { asked }) {
  if (studio.labels.length < 2) return null;
  const wanted = classField("try-target");
  const size = choice("try-epsilon", SIZES, "8/255");
  const photo = frame("your photo, as the network sees it", "Your photo");
  const change = frame("the change", "The change");
  const result = frame("the result", "The photo with the change");
  const sure = h("div", { id: "try-fool-bars" });
  const verdict = h("p", { id: "try-fool-verdict", role: "status" });
  let names = null; // of the wanted class and of what it was taken for

  function told({ src, change: changed, times, bars: probable }) {
    result.show(src);
    change.show(changed);
    change.say(`the change, ${number(times)} times as strong`);
    sure.replaceChildren(bars(names.map((name, i) => ({ name, href: null, value: probable[i], text: percent(probable[i]) })), 1));
  }

  function hear(kind, data, { settings }) {
    if (kind === "picture") {
      names ??= [studio.labels[settings.target], "what it was taken for"];
      verdict.textContent = "";
      told(data);
    }
    if (kind !== "done") return;
    names = data.names[0] === data.names[1] ? [data.names[0]] : data.names;
    told(data);
    const most = `No color of any pixel changed by more than ${Math.round(data.largest_change)} of 255 steps`;
    verdict.textContent = data.fooled
      ? `Now taken for ${data.predicted}. ${most}.`
      : `Not fooled: it is taken for ${data.predicted}, and ${data.target} has ${percent(data.probability)}. ${most}; a larger change may do.`;
  }

  return onDemand({
    name: "fool", title: "Fool it", asked, go: "Fool it",
    says: "The photo is changed a little, along the network’s own gradient, until it is surely taken for what you want. It shows that what is nearly the same to you need not be so to the network; "
      + "the change is no picture of that class, and photographs hardly ever hold it by chance.",
    controls: [labeled("Make it", wanted), labeled("by a change", size)],
    read: () => {
      const target = classOf(studio, wanted.value);
      if (target === null) return wanted.value.trim() === "" ? "Name the class that it shall be taken for." : `There is no class “${wanted.value.trim()}”.`;
      return { settings: { target: target.index, ...(size.value === "" ? { method: "ascent" } : { method: "pgd", epsilon: size.value }) } };
    },
    write: ({ settings }) => { wanted.value = studio.labels[settings.target]; size.value = settings.epsilon ?? ""; },
    hear,
    clear: ({ seen }) => {
      names = null;
      photo.show(seen);
      for (const one of [change, result]) one.show(null);
      sure.replaceChildren();
      verdict.textContent = "";
    },
    body: h("div", {}, h("div", { class: "frames three" }, photo.node, change.node, result.node), sure, verdict),
  });
}
