// What was kept: all of it, or one result with its settings, files, and the commands that make the same.

import { h } from "./dom.js";
import { counted } from "./format.js";
import { getKept, getStudio, keptUrl } from "./live.js";

const PHOTOS = { "photo.png": ["The photo", "the photo, as it was cropped"], "like.png": ["The picture that it is like", "the picture that it is like"] };

export async function keptView({ name }) {
  const studio = await getStudio();
  if (!studio.keeps) {
    return page("Kept", [header("Kept", "Nothing is kept: this studio was started without a folder for it."),
      h("p", { class: "note" }, "Start it with ", h("code", {}, "--keep FOLDER"), ", and what you keep lies there, with its photo and all that makes it again.")]);
  }
  return name === "" ? all(studio, await getKept()) : one(studio, await getKept(name));
}

const page = (title, node) => ({ section: "try", title, node });
const header = (title, lead) => h("header", { class: "opening" }, h("h1", {}, title), h("p", { class: "lead" }, lead));
const made = (time) => new Date(time).toLocaleString("en-US", { dateStyle: "medium", timeStyle: "short" });

function all(studio, { kept, folder }) {
  const lead = kept.length === 0 ? "Nothing is kept yet. What the studio shows has a button that keeps it."
    : `${counted(kept.length, "result")} in ${folder}, the latest first.`;
  return page("Kept", [header("Kept", lead),
    h("ul", { class: "kept" }, kept.map((one) => h("li", {}, h("a", { href: `#/kept/${one.id}`, "data-kept": one.id },
      h("span", { class: "kept-picture" }, one.pictures.length > 0 && h("img", { src: keptUrl(one.id, one.pictures[0]), alt: "", loading: "lazy" })),
      h("span", {}, h("b", {}, one.verb), h("small", {}, changed(studio, one)), h("small", {}, `${one.network}, ${made(one.made)}`))))))]);
}

/** The settings that are not as usual, in a line. */
const changed = (studio, { settings, network }) => settings.filter(({ usual }) => !usual).map(({ name, value }) => `${name} ${called(studio, value, network)}`).join(", ") || "all as usual";

/** A setting's value; a class of the studio's own network by its name too. */
function called({ labels, name }, value, network) {
  const label = network === name ? labels[/^class:(\d+)$/.exec(value)?.[1]] : undefined;
  return label === undefined ? value : `${value} (${label})`;
}

function one(studio, kept) {
  const url = (file) => keptUrl(kept.id, file);
  const [main, ...others] = kept.pictures;
  return page(`${kept.verb}, kept`, [
    header(`${kept.title}`, `netloupe ${kept.verb}, by the network ${kept.network}, ${made(kept.made)}.`),
    h("div", { class: "kept-one" },
      h("div", {},
        main !== undefined && h("a", { class: "kept-whole", href: url(main), target: "_blank", rel: "noopener", title: "In its full size" }, h("img", { class: "kept-main", src: url(main), onload: sharpen, alt: `What ${kept.verb} made, in its full size` })),
        kept.films.map((file) => h("figure", { class: "kept-moving" }, h("img", { class: "kept-film", src: url(file), onload: sharpen, alt: `How it came about, as a film: ${file}` }), h("figcaption", { class: "caption" }, "how it came about, as a film"))),
        others.length > 0 && h("details", { class: "more" }, h("summary", {}, `${counted(others.length, "picture")} more`),
          h("div", { class: "kept-others" }, others.map((file) => h("img", { src: url(file), alt: file, loading: "lazy" }))))),
      h("div", {},
        kept.photos.map((file) => h("figure", { class: "kept-photo" }, h("img", { src: url(file), alt: PHOTOS[file][0] }), h("figcaption", { class: "caption" }, PHOTOS[file][1]))),
        h("h2", {}, "Settings"),
        h("dl", { class: "settings" }, kept.settings.map(({ name, value, help, usual }) => h("div", { class: usual ? "usual" : null, title: help }, h("dt", {}, name, !usual && help && h("small", {}, help)), h("dd", {}, called(studio, value, kept.network))))),
        kept.sheet !== null && h("p", { class: "note" }, h("a", { id: "kept-sheet", href: `#/sheet/${kept.id}` },
          kept.sweep === null ? "Make a contact sheet of several values" : "Go on with this contact sheet")),
        h("h2", {}, "The same by command"),
        h("p", { class: "note" }, kept.commands.length > 1 ? "Where the studio was started, either makes the same bytes." : "Where the studio was started, it makes the same bytes."),
        kept.commands.map((line) => command(line)),
        h("h2", {}, "Take it along"),
        h("ul", { class: "kept-files" },
          h("li", {}, h("a", { href: keptUrl(kept.id, "page.html"), download: `${kept.id}.html` }, "one HTML page"), " that needs nothing else"),
          [...kept.films, ...kept.pictures.slice(0, 1)].map((file) => h("li", {}, h("a", { href: url(file), download: file }, file)))),
        h("details", { class: "more" }, h("summary", {}, "What it found, in words"), h("pre", { tabindex: 0 }, kept.words)))),
    h("p", { class: "note" }, h("a", { href: "#/kept" }, "All that is kept")),
  ]);
}

/** Few pixels are shown as they are; what has more than there is room for would lose its words. */
const sharpen = ({ target }) => target.classList.toggle("enlarged", target.naturalWidth < target.clientWidth);

function command(line) {
  const copy = h("button", { type: "button", class: "framed", onclick: async () => {
    try { await navigator.clipboard.writeText(line); copy.textContent = "Copied"; } catch { getSelection().selectAllChildren(code); }
  } }, "Copy");
  const code = h("code", {}, line);
  return h("p", { class: "command" }, code, copy);
}

