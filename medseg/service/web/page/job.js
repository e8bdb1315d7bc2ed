// One job: all that is known of it, again whenever something changes.

import { ask, badge, begin, byId, calmly, cell, day, facts, follow, made, moment, post, say } from "./shared.js";

const number = location.pathname.split("/")[2];
const path = `/api/v1/jobs/${number}`;
const ACTIONS = { cancel: "Cancel", retry: "Try again", release: "Release and send" };
const LABELS = [".seg.nrrd", ".seg.dcm", ".nii.gz", ".nrrd"];

function size(bytes) {
  if (bytes === null) return "cleared away";
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

const text = value => typeof value === "object" && value !== null
  ? Object.entries(value).filter(([, inner]) => text(inner)).map(([key, inner]) => Array.isArray(value) ? text(inner) : `${key}: ${text(inner)}`).join("; ")
  : typeof value === "number" ? `${+value.toPrecision(6)}` : `${value}`;

const stages = all => all.map(stage => `${stage.name} ${stage.seconds.toFixed(1)} s`).join(", ");

function actions(job) {
  byId("actions").replaceChildren(...job.may.map(what => {
    const button = made("button", ACTIONS[what], { type: "button", class: what === "cancel" ? "" : "main" });
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        show(await post(`${path}/${what}`));
        say("");
      } catch (error) {
        say(error.message);
      }
    });
    return button;
  }));
}

function trouble(job) {
  byId("trouble").hidden = job.good || !(job.code || job.reason || job.remedy);
  byId("trouble").dataset.kind = job.state === "held" || job.state === "unmatched" ? "look" : "";
  byId("trouble-title").textContent = job.code ? `What happened: ${job.code}` : "What happened";
  byId("reason").textContent = job.state === "held" ? `The quality control said '${job.verdict}', and the route holds such results back.` : job.reason;
  byId("meaning").textContent = job.meaning;
  byId("remedy").textContent = job.remedy && `What to do: ${job.remedy}.`;
}

function files(job) {
  byId("file-list").hidden = !job.files.length;
  byId("files").replaceChildren(...job.files.map(file => {
    const line = made("tr");
    const name = cell("");
    if (file.bytes === null) name.textContent = file.name;
    else name.append(made("a", file.name, { href: `${path}/files/${encodeURIComponent(file.name)}`, download: "" }));
    line.append(name, cell(size(file.bytes), "short"), cell(file.sha256.slice(0, 16), "optional"));
    return line;
  }));
  const there = job.files.length && job.files.every(file => file.bytes !== null);
  const links = [];
  if (there) links.push(made("a", "Download all (zip)", { href: `${path}/result`, download: "" }));
  if (there && job.files.some(file => LABELS.some(ending => file.name.endsWith(ending))))
    links.push(made("a", "Look at it", { href: `/jobs/${job.id}/viewer`, target: "_blank", rel: "noopener" }));
  byId("looks").replaceChildren(...links);
}

function table(id, list, row) {
  byId(id).replaceChildren(...list.map(entry => {
    const line = made("tr");
    line.append(...row(entry));
    return line;
  }));
}

const held = state => {
  const entry = cell("");
  entry.append(badge(state));
  return entry;
};

function show(job) {
  document.title = `Job ${job.id}: ${job.state}`;
  byId("title").textContent = `Job ${job.id}`;
  byId("state").replaceWith(Object.assign(badge(job.state), { id: "state" }));
  progress({ percent: job.percent, stage: job.stage });
  byId("share").hidden = job.state !== "running";
  byId("stage").hidden = job.state !== "running";
  actions(job);
  trouble(job);
  const study = job.study;
  facts(byId("study"), [
    ["Case", job.case], ["Patient", study.patient_id], ["Accession number", study.accession], ["Date", day(study.study_date)],
    ["Description", study.description], ["Modality", study.modality], ["Study UID", study.study_uid], ["Series UID", study.series_uid],
  ]);
  facts(byId("request"), [
    ["Model", job.model], ["Route", job.route], ["Attempts", job.attempts], ["Received", moment(job.received_at)], ["Changed", moment(job.changed_at)],
    ["Supersedes", job.supersedes && `job ${job.supersedes}`], ["Superseded by", job.superseded_by && `job ${job.superseded_by}`],
    ...Object.entries(job.parameters).filter(([, value]) => text(value)).map(([key, value]) => [key, text(value)]),
  ]);
  byId("result").hidden = !job.verdict && !Object.keys(job.facts).length;
  facts(byId("facts"), [["Quality control", job.verdict], ...Object.entries(job.facts).map(([key, value]) => [key.replaceAll("_", " "), key === "stages" ? stages(value) : text(value)])]);
  files(job);
  byId("delivery-list").hidden = !job.deliveries.length;
  table("deliveries", job.deliveries, one => [cell(one.receiver), held(one.state), cell(`${one.tries}`), cell(one.problem)]);
  table("events", [...job.events].reverse(), one => [cell(moment(one.at), "short"), held(one.state), cell(one.who, "optional"), cell(one.what)]);
}

function progress({ percent, stage }) {
  byId("share").value = percent;
  byId("stage").textContent = `${percent} %${stage ? `, ${stage}` : ""}`;
}

const refresh = calmly(async () => show(await ask(path)));

const own = happened => `${happened.job}` === number;

// Of all jobs: the events of one end with it, and it may be tried again.
begin().then(() => follow("/api/v1/events", { change: event => own(event) && refresh(), progress: share => own(share) && progress(share), state: on => { if (on) refresh(); } }), error => say(error.message));
