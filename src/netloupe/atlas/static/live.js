// The studio's live part: photos out, looks and jobs in. Only where a studio serves the page. See docs/studio.md.

import { FetchError } from "./api.js";

/** "atlas" or "alone" where there is a studio, otherwise null. */
export const mode = document.querySelector('meta[name="netloupe-studio"]')?.content ?? null;

const LAST = ["done", "failed", "cancelled"];
const KINDS = ["progress", "picture", "found", ...LAST];

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

/** {id, size, told} of a photo that the studio now holds; told: how it was made, where netloupe wrote it. */
export async function putPhoto(blob) {
  const { limits } = await getStudio();
  if (blob.size > limits.bytes) throw new FetchError(`That photo has more than ${limits.bytes / 2 ** 20} MB.`);
  return answer("live/photo", { method: "PUT", body: blob });
}

/** What is kept: {folder, kept}, or one of them by its id. */
export const getKept = (id = null) => answer(id === null ? "live/kept.json" : `live/kept/${encodeURIComponent(id)}.json`);
export const keptUrl = (id, file) => `live/kept/${encodeURIComponent(id)}/${encodeURIComponent(file)}`;

/** {top} of a frame of a camera, which is not kept. */
export const putFrame = (blob) => answer("live/frame", { method: "PUT", body: blob });

export const photoUrl = (id) => `live/photo/${encodeURIComponent(id)}.webp`;

/** {top, seen, about, unit} of {photo, crop, hidden, mask, seen, about, unit}. */
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

const PAGE = "netloupe-page"; // in the session's storage: a name by which the studio knows this page, also after it was loaded anew

function stored() {
  try { return sessionStorage.getItem(PAGE); } catch { return null; }
}

function store(name) {
  try { sessionStorage.setItem(PAGE, name); } catch { /* then a page that is loaded anew is another page */ }
}

const fresh = () => crypto.getRandomValues(new Uint32Array(2)).join("-"); // so that two pages don't end each other's jobs

const FREED = 400; // ms in which a page that is loaded anew lets go of its name

/** The name, held as long as the page is open; another where a page holds it, of which this one is a copy, storage and all. */
const held = (name) => new Promise((known) => {
  const keep = () => { known(name); return new Promise(() => {}); };
  navigator.locks.request(name, { signal: AbortSignal.timeout(FREED) }, keep).catch(() => known(fresh()));
});

const before = mode === null ? null : stored();
let page = before ?? fresh();
if (mode !== null && navigator.locks !== undefined) page = await held(page);
if (mode !== null) store(page);

let posted = Promise.resolve(); // the last post, which a later one waits for, so that the studio gets them in the order of the page

function post(section, asked, wanted) {
  const mine = posted.then(() => (wanted() ? send("live/jobs", { section, page, ...asked }) : null));
  posted = mine.catch(() => {});
  return mine;
}

// The jobs of this page that have not ended, in the order in which they are done:
// {number, section, title, progress, hearers, heard: what it told last of each kind, next: the number of its next event}.
const jobs = [];
const watchers = new Set();
let stream = null; // {job, source}: one at a time, of the first of them

/** `hear(jobs)` is called now and whenever the jobs of this page, or how far they are, changed. */
export function onJobs(hear) {
  watchers.add(hear);
  hear(jobs);
}

/** Whether the studio works for this page. */
export const working = () => jobs.length > 0;

const changed = () => { for (const hear of watchers) hear(jobs); };
const cancel = ({ number }) => answer(`live/jobs/${number}`, { method: "DELETE" }).catch(() => {});

/** Stops a job; whoever hears it is told so. */
export const stopJob = (job) => cancel(job);

function listed({ job: number, section, title }) {
  let one = jobs.find((job) => job.number === number);
  if (one === undefined) {
    one = { number, section, title, progress: null, hearers: new Set(), heard: new Map(), next: 0 };
    jobs.push(one);
    jobs.sort((a, b) => a.number - b.number);
  }
  return one;
}

function drop(job) {
  if (jobs.includes(job)) jobs.splice(jobs.indexOf(job), 1);
  tend();
}

/** Listens to the first job, if it is not listened to. */
function tend() {
  if (stream?.job !== jobs[0]) {
    stream?.source.close();
    stream = jobs.length === 0 ? null : listening(jobs[0]);
  }
  changed();
}

function listening(job) {
  const source = new EventSource(`live/jobs/${job.number}/events?after=${job.next}`);
  const tell = (kind, data) => {
    job.heard.set(`${kind} ${data.name ?? data.part ?? ""}`, [kind, data]);
    if (kind === "progress") job.progress = data;
    for (const hear of [...job.hearers]) hear(kind, data);
    if (LAST.includes(kind)) drop(job);
    else changed();
  };
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) => {
      if (stream?.source !== source || Number(event.lastEventId) < job.next) return;
      job.next = Number(event.lastEventId) + 1;
      tell(kind, JSON.parse(event.data));
    });
  }
  source.addEventListener("error", () => {
    if (stream?.source === source && source.readyState === EventSource.CLOSED) tell("failed", { message: "The studio does not answer. Is it still running?" });
  });
  return { job, source };
}

/** Starts a job of a section; `hear(kind, data)` gets its events until the last, which is "done", "failed" or "cancelled".
 *  Where the same was asked for before, as before the page was loaded anew, those of that job; known: only then.
 *  Returns what stops it, with `leave`, by which it goes on unheard. */
export function start(section, asked, hear, { known = false } = {}) {
  let job = null;
  let over = false; // nothing more is heard
  let unwanted = false;
  const mine = (kind, data) => {
    if (over) return;
    over = LAST.includes(kind);
    hear(kind, LAST.includes(kind) && data.message ? { ...data, message: sentence(data.message) } : data);
  };
  const leave = () => { over = true; job?.hearers.delete(mine); };
  const stop = () => {
    if (over) return;
    unwanted = true;
    leave();
    if (job !== null) { cancel(job); drop(job); }
  };

  post(section, { ...asked, known }, () => !unwanted).then((found) => {
    if (found === null || found.job === null) return;
    if (unwanted) { cancel({ number: found.job }); return; }
    job = listed(found);
    if (!over) job.hearers.add(mine);
    for (const [kind, data] of job.heard.values()) mine(kind, data);
    tend();
  }).catch((error) => mine("failed", { message: error.message }));
  return Object.assign(stop, { leave });
}

/** Takes up the jobs that a page of this name asked for before it was loaded anew. */
export async function resumeJobs() {
  if (mode === null || before === null) return;
  try {
    for (const found of (await answer(`live/jobs?page=${encodeURIComponent(page)}`)).jobs) listed(found);
    tend();
  } catch { /* then the views say so */ }
}
