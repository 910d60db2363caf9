// The studio's live part: photos out, looks and jobs in. Only where a studio serves the page. See docs/studio.md.

import { FetchError } from "./api.js";

/** "atlas" or "alone" where there is a studio, otherwise null. */
export const mode = document.querySelector('meta[name="netloupe-studio"]')?.content ?? null;

const LAST = ["done", "failed", "cancelled"];
const KINDS = ["progress", "picture", ...LAST];

async function answer(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { "X-Netloupe": "1", ...options.headers } });
  } catch {
    throw new FetchError("The studio does not answer. Is it still running?");
  }
  const found = await response.json().catch(() => null);
  if (!response.ok) throw new FetchError(sentence(found?.message ?? `the studio answered ${response.status}`));
  return found;
}

/** A message of the library as a sentence. */
export const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

const send = (path, asked) => answer(path, { method: "POST", body: JSON.stringify(asked), headers: { "Content-Type": "application/json" } });

let studio = null;
/** What the studio is of: its network, methods, samples. */
export const getStudio = () => (studio ??= answer("live/studio.json").catch((error) => { studio = null; throw error; }));

/** {id, size} of a photo that the studio now holds. */
export async function putPhoto(blob) {
  const { limits } = await getStudio();
  if (blob.size > limits.bytes) throw new FetchError(`That photo has more than ${limits.bytes / 2 ** 20} MB.`);
  return answer("live/photo", { method: "PUT", body: blob });
}

export const photoUrl = (id) => `live/photo/${encodeURIComponent(id)}.webp`;

/** {top, seen, about} of {photo, crop, hidden, seen, about}. */
export const look = (asked) => send("live/look", asked);

/** Of calls that come faster than `ask` answers only the latest is asked; `hear` gets its answer, or null and the error. */
export function latest(ask, hear) {
  let waiting = null;
  let busy = false;
  let gone = false;
  async function next() {
    busy = true;
    while (waiting !== null) {
      const asked = waiting;
      waiting = null;
      try {
        const found = await ask(asked);
        if (!gone) hear(found, null);
      } catch (error) {
        if (!gone) hear(null, error);
      }
    }
    busy = false;
  }
  const call = (asked) => { waiting = asked; if (!busy) next(); };
  call.leave = () => { gone = true; waiting = null; };
  return call;
}

const page = crypto.getRandomValues(new Uint32Array(2)).join("-"); // so that two pages don't end each other's jobs
const posted = new Map(); // section -> its last post, which a later one waits for, so that the studio gets them in order

function post(section, asked, wanted) {
  const before = posted.get(section) ?? Promise.resolve();
  const mine = before.then(() => (wanted() ? send("live/jobs", { section, page, ...asked }) : null));
  posted.set(section, mine.catch(() => {}));
  return mine;
}

/** Starts a job of a section; `hear(kind, data)` gets its events until the last, which is "done", "failed" or "cancelled".
 *  Returns what stops it. */
export function start(section, asked, hear) {
  let source = null;
  let number = null;
  let over = false;
  const end = () => { over = true; source?.close(); };
  const stop = () => {
    if (over) return;
    end();
    if (number !== null) answer(`live/jobs/${number}`, { method: "DELETE" }).catch(() => {});
  };
  const fail = (message) => { if (!over) { end(); hear("failed", { message }); } };

  post(section, asked, () => !over).then((found) => {
    if (found === null) return;
    number = found.job;
    if (over) { answer(`live/jobs/${number}`, { method: "DELETE" }).catch(() => {}); return; }
    source = new EventSource(`live/jobs/${number}/events`);
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        if (over) return;
        if (LAST.includes(kind)) end();
        hear(kind, JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) fail("The studio does not answer. Is it still running?"); });
  }).catch((error) => fail(error.message));
  return stop;
}
