// The worklist: what the API says of jobs, again whenever something changes.

import { ask, badge, begin, byId, calmly, cell, day, follow, made, moment, say, verdict } from "./shared.js";

const TILES = [
  ["total", "jobs", []],
  ["done", "done", ["done"]],
  ["under_way", "under way", ["received", "checked", "queued", "running", "written", "proven", "sent"]],
  ["waiting_for_people", "need somebody", ["held", "failed", "quarantined", "unmatched"]],
  ["stopped", "stopped", ["cancelled", "superseded"]],
];
const PAGE = 100;
let chosen = "total";
let shown = PAGE;

function states() {
  const one = byId("state").value;
  return one ? [one] : TILES.find(([key]) => key === chosen)[2];
}

async function jobs() {
  const found = [];
  let before = 0;
  do {
    const query = new URLSearchParams({ limit: PAGE, text: byId("text").value.trim() });
    if (before) query.set("before", before);
    for (const state of states()) query.append("state", state);
    const page = await ask(`/api/v1/jobs?${query}`);
    found.push(...page.jobs);
    before = page.next;
  } while (before && found.length < shown);
  return { found, more: Boolean(before) };
}

function study(job) {
  const known = job.study;
  const entry = cell(known.patient_id || job.case);
  const words = [known.description, known.modality, day(known.study_date), known.accession].filter(Boolean);
  if (words.length) entry.append(made("small", words.join(" · ")));
  return entry;
}

function model(job) {
  const entry = cell(job.model || "–", "optional");
  if (job.route) entry.append(made("small", `route ${job.route}`));
  return entry;
}

function stand(job) {
  const entry = cell("");
  entry.append(badge(job.state));
  if (job.state === "running") {
    const label = `Job ${job.id}: ${job.percent} %`;
    entry.append(made("progress", "", { max: 100, value: job.percent, "aria-label": label }));
    entry.append(made("small", `${job.percent} %${job.stage ? `, ${job.stage}` : ""}`));
  }
  return entry;
}

function row(job) {
  const line = made("tr", "", { "data-job": job.id });
  const number = cell("", "short");
  number.append(made("a", `${job.id}`, { href: `/jobs/${job.id}`, "aria-label": `Job ${job.id}` }));
  const quality = cell("", "optional");
  quality.append(verdict(job.verdict));
  const happened = cell(job.good ? "" : job.state === "held" ? "held back until somebody releases it" : job.reason);
  if (job.code && !job.good) happened.append(made("small", job.code));
  line.append(number, study(job), model(job), stand(job), quality, happened, cell(moment(job.changed_at), "short optional"));
  return line;
}

function fill(summary) {
  byId("site").textContent = summary.name;
  byId("version").textContent = summary.version;
  byId("tiles").replaceChildren(...TILES.map(([key, words]) => {
    const tile = made("button", "", { class: "tile", type: "button", "data-tile": key, "aria-pressed": key === chosen && !byId("state").value });
    tile.append(made("span", `${summary[key]}`, { class: "figure" }), made("span", words, { class: "name" }));
    tile.addEventListener("click", () => {
      chosen = key;
      byId("state").value = "";
      refresh();
    });
    return tile;
  }));
  const parts = TILES.slice(1).map(([key, words]) => `${summary[key]} ${words}`);
  const coming = summary.coming_in ? `; studies that are still coming in: ${summary.coming_in}` : "";
  byId("sum").textContent = `${summary.total} jobs = ${parts.join(" + ")}${coming}`;
  const one = byId("state").value;
  byId("state").replaceChildren(new Option("all", ""), ...Object.entries(summary.jobs).map(([state, count]) => new Option(`${state} (${count})`, state)));
  byId("state").value = one;
}

const refresh = calmly(async () => {
  const focused = document.activeElement?.dataset?.tile;
  const linked = document.activeElement?.closest?.("tr")?.dataset.job;
  const [summary, { found, more }] = await Promise.all([ask("/api/v1/summary"), jobs()]);
  fill(summary);
  byId("jobs").replaceChildren(...found.map(row));
  byId("found").textContent = `${found.length}${more ? " or more" : ""} shown`;
  byId("more").hidden = !more;
  if (focused) document.querySelector(`[data-tile="${focused}"]`)?.focus();
  if (linked) document.querySelector(`[data-job="${linked}"] a`)?.focus();
});

function progress({ job, percent, stage }) {
  const line = document.querySelector(`[data-job="${job}"]`);
  const bar = line?.querySelector("progress");
  if (!bar) return;
  bar.value = percent;
  bar.setAttribute("aria-label", `Job ${job}: ${percent} %`);
  bar.nextElementSibling.textContent = `${percent} %${stage ? `, ${stage}` : ""}`;
}

function live(on) {
  byId("live").dataset.on = on ? "yes" : "no";
  byId("live").textContent = on ? "live" : "connection lost, trying again";
  if (on) refresh();
}

byId("text").addEventListener("input", () => refresh());
byId("state").addEventListener("change", () => refresh());
byId("more").addEventListener("click", () => {
  shown += PAGE;
  refresh();
});
begin().then(() => follow("/api/v1/events", { change: () => refresh(), progress, state: live }), error => say(error.message));
