/** The page: who one is, which line, which view; and what is new, as it comes. */

import "./style.css";
import { Boards } from "./boards";
import { Refused, get, post, session, type LineState, type Row } from "./api";
import { el, fill, say } from "./dom";
import { FleetView } from "./fleet";
import { Live } from "./live";
import { Review } from "./review";
import { Statistics } from "./statistics";
import { Teach } from "./teach";

const page = document.getElementById("page")!;
const lines = new Map<string, LineState>();
let chosen = "";
let shown = "live";
const AGAIN_MS = 1500;

const live = new Live((row) => void review(row));
const boards = new Boards((row) => void review(row));
const reviewing = new Review(askName);
const statistics = new Statistics();
const teach = new Teach(askName);
const fleet = new FleetView();
const views: Record<string, { root: HTMLElement; words: string }> = {
  live: { root: live.root, words: "Live" }, review: { root: reviewing.root, words: "Review" },
  boards: { root: boards.root, words: "Boards" }, statistics: { root: statistics.root, words: "Statistics" },
  teach: { root: teach.root, words: "Teach" }, fleet: { root: fleet.root, words: "Fleet" },
};
const tabs = el("nav", { "aria-label": "Lines" });
const menu = el("nav", { "aria-label": "Views" });
const who = el("button", { class: "who", onclick: () => void askName() });
const main = el("main", {}, ...Object.values(views).map((view) => view.root));

async function review(row: Row): Promise<void> {
  show("review");
  await reviewing.open(row).catch((error: Error) => say(error.message, true));
}

function show(name: string): void {
  shown = name;
  if (name !== "review") reviewing.stop();
  for (const [one, view] of Object.entries(views)) view.root.hidden = one !== name;
  fill(menu, ...Object.entries(views).filter(([one]) => one !== "fleet" || session.me?.fleet).map(([one, view]) =>
    el("button", { "aria-current": one === name ? "page" : "false", onclick: () => void enter(one) }, view.words)));
}

async function enter(name: string): Promise<void> {
  show(name);
  if (name === "boards") await boards.load(false);
  if (name === "statistics") await statistics.choose(chosen);
  if (name === "fleet") await fleet.load();
  if (name === "teach" && !chosen) say("no line is heard yet", true);
  if (name === "teach" && chosen) await teach.open(chosen).catch((error: Error) => say(error.message, true));
  if (name === "review") {
    const found: Row[] = await get(`/api/boards?result=FAIL&most=1&line=${encodeURIComponent(chosen)}`);
    if (found[0]) await reviewing.open(found[0]);
    else say("no board is called yet");
  }
}

async function choose(line: string): Promise<void> {
  chosen = line;
  drawTabs();
  await live.choose(line);
  const known = lines.get(line);
  if (known) live.state(known);
  if (shown === "statistics") await statistics.choose(line);
}

function drawTabs(): void {
  fill(tabs, ...[...lines.values()].map((line) => {
    const result = line.wrong ? "away" : (line.last?.result ?? "");
    const sign = line.wrong ? "⌁" : ({ PASS: "✓", FAIL: "✗", ERROR: "!" } as Record<string, string>)[result] ?? "·";
    return el("button", { class: `tab ${result}`, title: line.wrong || line.status.state || "", "aria-current": line.name === chosen ? "true" : "false", onclick: () => void choose(line.name) },
      el("span", { "aria-hidden": "true" }, sign), ` ${line.name}`, line.waiting ? el("span", { class: "pill" }, `${line.waiting} wait`) : null,
      line.refused ? el("span", { class: "pill FAIL" }, `${line.refused} refused`) : null);
  }));
}

function take(line: LineState): void {
  for (const [name, known] of lines) if (known.endpoint === line.endpoint && name !== line.name) lines.delete(name);
  const first = !lines.size || !lines.has(chosen);
  lines.set(line.name, line);
  drawTabs();
  live.state(line);
  if (first) void choose(line.name);
}

let stream: EventSource | null = null;
let retry = 0;

function later(what: () => Promise<void>): void {
  window.clearTimeout(retry);
  retry = window.setTimeout(() => void what(), AGAIN_MS);
}

function listen(): void {
  stream?.close();
  stream = new EventSource("/api/events");
  stream.addEventListener("hello", () => { document.body.classList.remove("cut"); void refresh(); });
  stream.addEventListener("verdict", (event) => {
    const row: Row = JSON.parse((event as MessageEvent).data), line = lines.get(row.line);
    if (line) { line.last = row; drawTabs(); }
    live.verdict(row);
  });
  stream.addEventListener("line", (event) => take(JSON.parse((event as MessageEvent).data)));
  stream.addEventListener("decision", (event) => void reviewing.again(JSON.parse((event as MessageEvent).data)));
  stream.onerror = () => {
    document.body.classList.add("cut");
    // a stream that the browser does not open again by itself: the page's process began anew, or the session is over
    if (stream?.readyState === EventSource.CLOSED) later(again);
  };
}

/** A session and a stream anew, as soon as there is a process that answers. */
async function again(): Promise<void> {
  const name = session.me?.user;
  try {
    session.me = await get("/api/me");
    if (name && !session.me?.user && !session.me?.named) session.me = await post("/api/name", { user: name });
    nameWho();
    listen();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) login();
    else later(again);
  }
}

async function refresh(): Promise<void> {
  for (const line of (await get("/api/lines")) as LineState[]) take(line);
  if (chosen) await live.choose(chosen);
}

/** Where nobody logs in, a decision needs a name all the same. */
async function askName(): Promise<void> {
  if (session.me?.named) return;
  const input = el("input", { name: "user", required: true, maxLength: 64, autocomplete: "name", value: session.me?.user ?? "" });
  const dialog = el("dialog", { "aria-label": "Who decides" }, el("form", { method: "dialog" }, el("label", {}, "Who decides?", input), el("button", {}, "OK")));
  document.body.append(dialog);
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done));
  dialog.remove();
  if (!input.value.trim()) return;
  try {
    session.me = await post("/api/name", { user: input.value });
  } catch (error) {
    say((error as Error).message, true);
  }
  nameWho();
}

function nameWho(): void {
  const me = session.me;
  who.textContent = !me?.user ? "your name?" : me.named ? `${me.user} · ${me.role}` : me.user;
}

function login(): void {
  stream?.close();
  if (document.querySelector(".login")) return;
  const user = el("input", { name: "user", autocomplete: "username", required: true }), password = el("input", { type: "password", autocomplete: "current-password", required: true });
  const wrong = el("p", { role: "alert" });
  const form = el("form", { class: "login", onsubmit: async (event: Event) => {
    event.preventDefault();
    try {
      await post("/api/login", { user: user.value, password: password.value });
      await begin();
    } catch (error) {
      wrong.textContent = (error as Error).message;
    }
  } }, el("h1", {}, "hisir-edge"), el("label", {}, "name", user), el("label", {}, "password", password), wrong, el("button", {}, "log in"));
  fill(page, el("main", {}, form));
  user.focus();
}

function theme(): void {
  const kept = localStorage.getItem("theme");
  if (kept) document.documentElement.dataset.theme = kept;
}

function otherTheme(): void {
  const dark = getComputedStyle(document.documentElement).getPropertyValue("--dark").trim() === "1";
  localStorage.setItem("theme", dark ? "light" : "dark");
  theme();
}

async function leave(): Promise<void> {
  await post("/api/logout", {});
  location.reload();
}

async function begin(): Promise<void> {
  theme();
  try {
    session.me = await get("/api/me");
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return login();
    later(begin);
    throw error;
  }
  nameWho();
  fill(page, el("header", { class: "top" }, el("h1", {}, "hisir-edge"), tabs, menu, el("span", { class: "room" }),
    el("span", { class: "cut", role: "status" }, "not connected"), who,
    el("button", { onclick: otherTheme, "aria-label": "dark or light" }, "◐"),
    session.me?.named ? el("button", { onclick: () => void leave() }, "log out") : null), main);
  show("live");
  listen();
}

// the session is over, as after a long shift: log in, or begin one where nobody logs in
window.addEventListener("logged-out", () => {
  if (session.me) later(again);
});

// a request that fails while the page's process is away, or is refused: said, and the next one is tried
window.addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof Refused) {
    event.preventDefault();
    say(event.reason.message, true);
  }
});

void begin();
