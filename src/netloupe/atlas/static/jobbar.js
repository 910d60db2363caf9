// What the network is doing, how long it will take, and a way to stop it: at the foot of every page.

import { h } from "./dom.js";
import { count } from "./format.js";
import { mode, onJobs, resumeJobs, stopJob } from "./live.js";

const SOON = 500; // ms that a job may take without being told of

export function setUpJobBar() {
  if (mode === null) return;
  let job = null;
  let timer = null;
  const meter = h("progress", { "aria-label": "How much is done" });
  const title = h("strong");
  const told = h("span", { class: "told" });
  const stop = h("button", { type: "button", class: "framed", onclick: () => { stop.disabled = true; stopJob(job); } }, "Stop");
  const bar = h("section", { id: "jobbar", "aria-label": "What the network is doing", hidden: true }, meter, h("p", {}, title, " ", told), stop);
  document.body.append(bar);

  const reveal = (seen) => { bar.hidden = !seen; document.body.classList.toggle("working", seen); };

  onJobs((jobs) => {
    const first = jobs[0] ?? null;
    if (first === null) {
      clearTimeout(timer);
      timer = job = null;
      reveal(false);
      return;
    }
    if (bar.hidden && timer === null) timer = setTimeout(() => { timer = null; reveal(job !== null); }, SOON);
    if (job !== first) stop.disabled = false;
    job = first;
    title.textContent = job.title;
    const { done, total, left } = job.progress ?? {};
    if (total > 0) Object.assign(meter, { max: total, value: done });
    else meter.removeAttribute("value");
    told.textContent = [total > 0 && `${count(done)} of ${count(total)}`, left && `about ${duration(left)} left`,
      jobs.length > 1 && `${jobs.length - 1} more to follow`].filter(Boolean).join(", ");
  });
  resumeJobs();
}

/** "4 s", "2 min". */
export const duration = (seconds) => (seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`);
