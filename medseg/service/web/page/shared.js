// What the pages share. Everything that comes from a study is put in as text, never as HTML.

export const byId = id => document.getElementById(id);

const KINDS = {
  done: "good", failed: "bad", quarantined: "bad", unmatched: "look", held: "look",
  confirmed: "good", refused: "bad", running: "busy", written: "busy", proven: "busy", sent: "busy", checked: "busy",
};
const VERDICTS = { pass: ["✓ pass", "good"], look: ["? look", "look"], fail: ["✗ fail", "bad"] };

export function made(name, text = "", attributes = {}) {
  const element = document.createElement(name);
  element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

export const cell = (text, kind = "") => made("td", text, kind ? { class: kind } : {});
export const badge = state => made("span", state, { class: "badge", "data-kind": KINDS[state] || "" });

export function verdict(text) {
  const [words, kind] = VERDICTS[text] || [text, ""];
  return text ? made("span", words, { class: "badge", "data-kind": kind }) : document.createTextNode("");
}

export function facts(list, rows) {
  list.replaceChildren(...rows.filter(([, value]) => value !== "" && value !== null && value !== undefined).map(([name, value]) => {
    const row = made("div");
    row.append(made("dt", name), made("dd", `${value}`));
    return row;
  }));
}

const pad = number => `${number}`.padStart(2, "0");

export function moment(seconds) {
  const when = new Date(seconds * 1000);
  const day = `${when.getFullYear()}-${pad(when.getMonth() + 1)}-${pad(when.getDate())}`;
  return `${day} ${pad(when.getHours())}:${pad(when.getMinutes())}:${pad(when.getSeconds())}`;
}

export const day = text => /^\d{8}$/.test(text) ? `${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}` : text;

export function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

export async function ask(path, options = {}) {
  const answer = await fetch(path, { credentials: "same-origin", ...options });
  if (answer.status === 401 && path !== "/login") {
    location.assign("/login");
    throw new Error("logged out");
  }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error.text);
  return content;
}

export const post = (path, content = {}) => ask(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content),
});

// Whether the reader is on the way out: what is asked after that would be refused.
let leaving = false;
const sources = [];

function leave() {
  leaving = true;
  for (const source of sources) source.close();
}

// Calls at most once a moment, and once more if it was called meanwhile.
export function calmly(work, pause = 250) {
  let running = false, again = false;
  return async function go() {
    if (leaving) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      await work();
      say("");
    } catch (error) {
      say(error.message);
    }
    setTimeout(() => {
      running = false;
      if (again) {
        again = false;
        go();
      }
    }, pause);
  };
}

export function follow(path, { change, progress, state }) {
  const source = new EventSource(path);
  source.addEventListener("open", () => state(true));
  source.addEventListener("error", () => state(false));
  source.addEventListener("job", event => change(JSON.parse(event.data)));
  source.addEventListener("progress", event => progress(JSON.parse(event.data)));
  sources.push(source);
}

addEventListener("pagehide", leave);
// A page that comes back from the browser's memory has no events any more.
addEventListener("pageshow", event => event.persisted && location.reload());

export async function begin() {
  const me = await ask("/api/v1/me");
  byId("who").textContent = `${me.name} (${me.role})`;
  byId("leave").addEventListener("click", async () => {
    leave();
    await post("/logout");
    location.assign("/login");
  });
}
