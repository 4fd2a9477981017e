/** Review: one defect after another, at native pixels beside the golden board; a key each to decide. */

import { decided, defectsOf, get, key, post, session, type Board, type Defect, type Row } from "./api";
import { RESULT_SIGN, VERIFIED, clock, el, fill, say } from "./dom";
import { Viewer } from "./viewer";

const BLINK_MS = 450;
const WORDS: Record<string, string> = { c: "DefectConfirmed", f: "DefectRejected", r: "DefectAccepted", u: "NotVerifiedYet" };
const KEYS: [string, string][] = [
  ["n / →", "next defect"], ["p / ←", "defect before"], ["c", "confirm"], ["f", "false call"], ["r", "repaired"],
  ["u", "take back"], ["Enter", "next board to review"], ["⌫", "board before"], ["b", "blink with the golden board"], ["m", "map"],
  ["[ ]", "map's opacity"], ["x", "draw a missed place: click its corners, x again keeps it, Esc does not"], ["h", "whole board"], ["+ −", "zoom"],
];

/** Whether nobody has decided on a defect, or it was taken back. */
function isOpen(board: Board, one: Defect): boolean {
  const said = decided(board), word = said.get(one.number) ?? said.get(0);
  return !word || word.verification === "NotVerifiedYet";
}

export class Review {
  readonly root = el("section", { class: "review", "aria-label": "Review" });
  private readonly head = el("header", { class: "head" });
  private readonly frame = el("div", { class: "viewer" });
  private readonly golden = el("div", { class: "viewer golden" });
  private readonly list = el("ol", { class: "defects", "aria-label": "Defects" });
  private readonly tools = el("div", { class: "tools" });
  private viewers: Viewer[] = [];
  private board: Board | null = null;
  private defects: Defect[] = [];
  private chosen = 0;
  private camera = 0;
  private blink = 0;
  private map = 0;
  private opacity = 0.6;
  private busy = false;
  private turn = 0;
  private before: Row[] = [];
  private goingBack = false;
  private corners: [number, number][] | null = null;

  constructor(private readonly ask: () => Promise<void>) {
    const keys = el("details", { class: "keys" }, el("summary", {}, "keys"),
      el("dl", {}, ...KEYS.flatMap(([name, words]) => [el("dt", {}, name), el("dd", {}, words)])));
    this.root.append(this.head, el("div", { class: "pair" }, this.frame, this.golden),
      el("aside", {}, this.tools, this.list, keys));
    document.addEventListener("keydown", (event) => this.key(event));
  }

  get shown(): boolean { return this.root.isConnected && !this.root.hidden; }

  async open(row: Row, number = 0): Promise<void> {
    this.stop();
    const turn = ++this.turn;
    say("");
    const board: Board = await get(`/api/boards/${key(row)}`);
    if (turn !== this.turn) return; // another one was asked for meanwhile
    if (this.board && !this.goingBack && key(this.board) !== key(board)) this.before.push(this.board);
    this.goingBack = false;
    this.board = board;
    this.defects = defectsOf(board);
    this.camera = 0;
    this.corners = null;
    const first = this.defects.find((one) => isOpen(board, one)) ?? this.defects[0];
    this.chosen = number || (first?.number ?? 0);
    this.view();
    this.draw();
    await this.look();
  }

  /** The last decisions of a board that is shown, told by the line. */
  async again(changed: { line: string; epoch: string; seq: number }): Promise<void> {
    if (this.board && key(this.board) === key(changed) && (await this.reload())) this.draw();
  }

  /** The board that is shown, anew; whether it is the one that is shown still. */
  private async reload(): Promise<boolean> {
    const turn = this.turn, found: Board = await get(`/api/boards/${key(this.board!)}`);
    if (turn !== this.turn) return false;
    this.board = found;
    return true;
  }

  private view(): void {
    for (const one of this.viewers) one.destroy();
    fill(this.frame);
    fill(this.golden);
    const frame = new Viewer(this.frame, this.board!, this.camera), golden = new Viewer(this.golden, this.board!, this.camera, "golden");
    golden.follow(frame);
    this.viewers = [frame, golden];
    frame.onClick((x, y) => {
      if (!this.corners) return;
      this.corners.push([x, y]);
      this.outline();
    });
    void frame.picture.then((picture) => {
      if (!picture && this.viewers[0] === frame) fill(this.frame, el("p", { class: "hint" }, "this board is not archived, or not any more: [archive] in line.toml keeps boards"));
    });
  }

  private draw(): void {
    const board = this.board!, said = decided(board), whole = said.get(0);
    const names = [...new Set(this.defects.map((one) => one.camera))];
    fill(this.head, el("span", { class: `pill ${board.result}` }, `${RESULT_SIGN[board.result]} ${board.result}`),
      el("h2", {}, board.unit), el("span", {}, `${board.product} · ${board.line} #${board.seq} · ${clock(board.at ?? 0)}`),
      board.reason ? el("span", { class: "reason" }, board.reason) : null,
      whole ? el("span", { class: "pill said" }, `board ${VERIFIED[whole.verification]} by ${whole.operator}`) : null,
      ...board.decisions.filter((one) => one.refused).slice(-1).map((one) => el("span", { class: "pill FAIL", role: "alert" }, `the line did not take "${VERIFIED[one.verification]}": ${one.refused}`)),
      board.decisions.some((one) => one.line_id === null && !one.refused) ? el("span", { class: "pill" }, "waits for the line") : null);
    fill(this.list, ...this.defects.map((one) => {
      const word = said.get(one.number) ?? whole;
      return el("li", {}, el("button", {
        class: `defect ${one.number === this.chosen ? "chosen" : ""}`, "aria-current": one.number === this.chosen ? "true" : "false",
        onclick: () => void this.choose(one.number),
      }, el("b", {}, String(one.number)), el("span", {}, one.part || `at ${one.x}, ${one.y}`, names.length > 1 ? ` ${one.camera}` : ""),
      el("span", {}, `strength ${one.peak.toFixed(1)} · ${one.area} px large · ${one.confidence.toFixed(0)} % sure`),
      el("span", { class: `said ${word?.verification ?? ""}` }, word && word.verification !== "NotVerifiedYet" ? `${VERIFIED[word.verification]} · ${word.operator}` : "not decided")));
    }));
    if (!this.defects.length) fill(this.list, el("li", { class: "hint" }, "nothing is called on this board"));
    this.list.append(...board.missed.map((one) => el("li", { class: "missed" },
      el("span", {}, `missed${names.length > 1 ? ` by ${one.camera}` : ""} · drawn by ${one.operator}`),
      session.me?.role === "viewer" ? "" : el("button", { onclick: () => void this.forget(one.id) }, "remove"))));
    const button = (words: string, name: string, kind: string) =>
      el("button", { class: `decide ${kind}`, onclick: () => void this.decide(WORDS[name]) }, words, el("kbd", {}, name));
    const may = session.me?.role !== "viewer";
    fill(this.tools, ...(may ? [button("Confirm", "c", "bad"), button("False call", "f", "good"), button("Repaired", "r", ""),
      button("Take back", "u", "")] : []),
      el("button", { onclick: () => this.toggleBlink(), "aria-pressed": String(this.blink !== 0) }, "Blink", el("kbd", {}, "b")),
      el("button", { onclick: () => this.toggleMap(), "aria-pressed": String(this.map > 0) }, "Map", el("kbd", {}, "m")),
      el("button", { onclick: () => this.viewers[0]?.home() }, "Whole", el("kbd", {}, "h")),
      may ? el("button", { onclick: () => void this.drawMissed(), "aria-pressed": String(this.corners !== null) }, this.corners ? "Keep the place" : "Missed here", el("kbd", {}, "x")) : null,
      el("button", { class: "next", onclick: () => void this.nextBoard() }, "Next board", el("kbd", {}, "⏎")));
    this.mark();
  }

  private mark(): void {
    const said = decided(this.board!);
    for (const viewer of this.viewers) void viewer.picture.then((picture) => {
      if (!picture || !this.viewers.includes(viewer)) return;
      const here = this.defects.filter((one) => one.camera === picture.views[this.camera]?.camera);
      viewer.mark(here, this.chosen, (one) => said.get(one.number)?.verification ?? "");
      this.outline();
    });
  }

  /** Places that people drew, and the one that is being drawn. */
  private outline(): void {
    const viewer = this.viewers[0], board = this.board;
    if (!viewer || !board) return;
    void viewer.picture.then((picture) => {
      if (!picture || this.viewers[0] !== viewer) return;
      const here = board.missed.filter((one) => one.camera === picture.views[this.camera]?.camera);
      viewer.draw([...here.map((one) => ({ points: one.polygon, kind: "missed" })), ...(this.corners?.length ? [{ points: this.corners, kind: "new open" }] : [])]);
    });
  }

  /** Begin to draw a place that the line missed; the second time keep it. */
  private async drawMissed(): Promise<void> {
    const board = this.board, corners = this.corners;
    if (!board || session.me?.role === "viewer") return;
    if (!corners) {
      const picture = await this.viewers[0]?.picture;
      if (!picture) return say("this board is not archived", true);
      this.corners = [];
      say("click the corners of the missed place, then x");
      return this.draw();
    }
    if (corners.length < 3) return say("a place has three corners or more", true);
    const turn = this.turn;
    if (!session.me?.user) await this.ask();
    const picture = await this.viewers[0].picture;
    if (!session.me?.user || turn !== this.turn || !picture) return;
    try {
      await post("/api/missed", { line: board.line, epoch: board.epoch, seq: board.seq, camera: picture.views[this.camera].camera, polygon: corners });
      this.corners = null;
      say("the place is kept for the next training");
      if (await this.reload()) this.draw();
    } catch (error) {
      say((error as Error).message, true);
    }
  }

  private async forget(id: number): Promise<void> {
    const board = this.board!;
    if (!session.me?.user) await this.ask();
    if (!session.me?.user) return;
    try {
      await post("/api/missed", { line: board.line, epoch: board.epoch, seq: board.seq, gone: id });
      if (await this.reload()) this.draw();
    } catch (error) {
      say((error as Error).message, true);
    }
  }

  private async look(): Promise<void> {
    const one = this.defects.find((defect) => defect.number === this.chosen);
    if (!one) return;
    const picture = await this.viewers[0].picture;
    const camera = picture?.views.findIndex((view) => view.camera === one.camera) ?? -1;
    if (camera >= 0 && camera !== this.camera) {
      this.camera = camera;
      this.view();
      this.mark();
    }
    await this.viewers[0].look(one);
  }

  private async choose(number: number): Promise<void> {
    this.chosen = number;
    this.draw();
    await this.look();
  }

  private step(by: number): void {
    const at = this.defects.findIndex((one) => one.number === this.chosen);
    const next = this.defects[(at + by + this.defects.length) % Math.max(this.defects.length, 1)];
    if (next) void this.choose(next.number);
  }

  private async decide(verification: string): Promise<void> {
    const board = this.board;
    if (!board || this.busy || session.me?.role === "viewer") return;
    const defect = this.chosen, turn = this.turn; // what is seen now is what is meant
    const one = this.defects.find((other) => other.number === defect);
    const whole = decided(board).get(0)?.verification ?? "NotVerifiedYet";
    const isDecided = one ? !isOpen(board, one) : whole !== "NotVerifiedYet";
    if (verification !== "NotVerifiedYet" && isDecided) {
      say(`${one ? `defect ${defect}` : "this board"} is decided: u takes it back, Enter leads to the next board`);
      return;
    }
    this.busy = true;
    try {
      if (!session.me?.user) await this.ask();
      if (!session.me?.user || turn !== this.turn) return;
      await post("/api/decide", { line: board.line, epoch: board.epoch, seq: board.seq, defect, verification });
      say(`${defect ? `defect ${defect}` : "board"}: ${VERIFIED[verification]}`);
      if (!(await this.reload())) return;
      const open = verification === "NotVerifiedYet" ? null : this.defects.find((one) => isOpen(this.board!, one));
      if (open) this.chosen = open.number;
      this.draw();
      if (open) void this.look();
    } catch (error) {
      say(String((error as Error).message), true);
    } finally {
      this.busy = false;
    }
  }

  /** The next newer board that is called and has a defect without a decision; after the newest the oldest of these. */
  private async nextBoard(): Promise<void> {
    const here = this.board ? key(this.board) : "", line = this.board?.line ?? "";
    const rows: Row[] = (await get(`/api/boards?result=FAIL&most=200&line=${encodeURIComponent(line)}`)).reverse();
    const at = rows.findIndex((row) => key(row) === here);
    for (const row of [...rows.slice(at + 1), ...rows.slice(0, Math.max(at, 0))]) {
      const board: Board = await get(`/api/boards/${key(row)}`);
      if (defectsOf(board).some((one) => isOpen(board, one))) {
        await this.open(row);
        return;
      }
    }
    say("no other board waits for a review");
  }

  /** The board that was looked at before. */
  private back(): void {
    const row = this.before.pop();
    if (!row) return say("no board before this one");
    this.goingBack = true;
    void this.open(row);
  }

  private toggleBlink(): void {
    if (this.blink) this.stop();
    else {
      let on = false;
      this.blink = window.setInterval(() => {
        this.frame.classList.toggle("golden", (on = !on));
        void this.viewers[0]?.show("golden", on ? 1 : 0);
      }, BLINK_MS);
    }
    this.draw();
  }

  private toggleMap(): void {
    this.map = this.map ? 0 : this.opacity;
    void this.viewers[0]?.show("map", this.map);
    this.draw();
  }

  private fade(by: number): void {
    this.opacity = Math.min(1, Math.max(0.1, this.opacity + by));
    if (this.map) void this.viewers[0]?.show("map", (this.map = this.opacity));
  }

  /** Stop blinking; the next board begins without. */
  stop(): void {
    window.clearInterval(this.blink);
    this.blink = 0;
    this.map = 0;
    this.frame.classList.remove("golden");
    void this.viewers[0]?.show("golden", 0);
  }

  private key(event: KeyboardEvent): void {
    const typing = event.target instanceof HTMLElement && event.target.closest("input, select, textarea, dialog");
    if (!this.shown || typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const name = event.key.toLowerCase();
    const does: Record<string, () => void> = {
      n: () => this.step(1), arrowright: () => this.step(1), p: () => this.step(-1), arrowleft: () => this.step(-1),
      b: () => this.toggleBlink(), m: () => this.toggleMap(), "[": () => this.fade(-0.1), "]": () => this.fade(0.1),
      h: () => this.viewers[0]?.home(), "+": () => this.viewers[0]?.zoom(1.5), "-": () => this.viewers[0]?.zoom(1 / 1.5),
      enter: () => void this.nextBoard(), backspace: () => this.back(), x: () => void this.drawMissed(),
      escape: () => { this.corners = null; this.draw(); },
    };
    if (name === "enter" && event.target instanceof HTMLButtonElement) return;
    if (name in WORDS) does[name] = () => void this.decide(WORDS[name]);
    if (does[name]) {
      event.preventDefault();
      does[name]();
    }
  }
}
