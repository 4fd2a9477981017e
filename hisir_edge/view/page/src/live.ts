/** Live: the newest board of each line, its result readable from two metres, and the last boards below. */

import { defectsOf, get, key, type Board, type LineState, type Row } from "./api";
import { RESULT_SIGN, el, fill } from "./dom";
import { Viewer } from "./viewer";

const STRIP = 14;
const STATES: Record<string, string> = {
  Preoperational: "loading", Initialized: "starting", Ready: "ready", SingleExecution: "running", ContinuousExecution: "running",
  Error: "error", Halted: "ended",
};
const NOT_ARCHIVED = "this board is not archived: [archive] in line.toml keeps boards";

const at = (row: Row): number => row.at ?? Date.parse(row.time ?? "") / 1000;

export class Live {
  readonly root = el("section", { class: "live", "aria-label": "Live" });
  private readonly banner = el("div", { class: "banner", role: "status", "aria-live": "assertive" });
  private readonly facts = el("dl", { class: "facts" });
  private readonly board = el("div", { class: "board" });
  private readonly strip = el("ol", { class: "strip", "aria-label": "Last boards" });
  private viewer: Viewer | null = null;
  private coming: HTMLElement | null = null;
  private archives = true;
  private away = false;
  private readonly why = el("p", { class: "why" });
  private line = "";
  private rows: Row[] = [];

  constructor(private readonly review: (row: Row) => void) {
    this.root.append(el("div", { class: "side" }, this.banner, this.facts, this.why), this.board, this.strip);
  }

  async choose(line: string): Promise<void> {
    this.line = line;
    this.rows = this.rows.filter((row) => row.line === line);
    const found: Row[] = line ? await get(`/api/boards?line=${encodeURIComponent(line)}&most=${STRIP}`) : [];
    if (line !== this.line) return;
    // boards that came meanwhile are not to be lost
    const known = new Set(this.rows.map(key));
    this.rows = [...this.rows, ...found.filter((row) => !known.has(key(row)))]
      .sort((a, b) => at(b) - at(a) || b.seq - a.seq).slice(0, STRIP);
    this.draw();
  }

  verdict(row: Row): void {
    if (row.line !== this.line) return;
    this.rows = [row, ...this.rows.filter((one) => key(one) !== key(row))].slice(0, STRIP);
    this.draw();
  }

  state(line: LineState): void {
    if (line.name !== this.line) return;
    this.archives = line.status.archive !== null;
    const camera = line.status.camera_up === false ? "camera lost" : (STATES[line.status.state ?? ""] ?? line.status.state ?? "?");
    const away = !!line.wrong, changed = away !== this.away;
    this.away = away;
    this.facts.dataset.state = away ? "not connected" : camera;
    fill(this.why, line.wrong || null);
    if (changed) this.draw();
    else this.drawFacts();
  }

  private draw(): void {
    const newest = this.rows[0];
    fill(this.strip, ...this.rows.map((row) => this.card(row)));
    if (!newest || this.away) {
      this.banner.className = "banner none";
      fill(this.banner, this.away ? "not connected" : "no board yet");
      this.drawFacts();
      if (newest) void this.drawBoard(newest);
      return;
    }
    this.banner.className = `banner ${newest.result}`;
    fill(this.banner, el("span", { class: "sign", "aria-hidden": "true" }, RESULT_SIGN[newest.result]), newest.result);
    this.drawFacts();
    void this.drawBoard(newest);
  }

  private drawFacts(): void {
    const row = this.rows[0];
    const pairs: [string, string][] = row
      ? [["board", row.unit], ["product", row.product], ["cycle", `${row.total_s.toFixed(2)} s`],
         ["defects", String(row.defects)], ["score", row.score === null ? "–" : row.score.toFixed(2)]]
      : [];
    if (row && row.result !== "FAIL" && row.reason) pairs.push(["reason", row.reason]);
    if (row && this.away) pairs.push(["last result", row.result]);
    pairs.push(["line", this.facts.dataset.state ?? "?"]);
    fill(this.facts, ...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  }

  private async drawBoard(row: Row): Promise<void> {
    this.coming?.remove(); // a board that was not there yet, and is not the newest any more
    this.coming = null;
    if (!this.archives) {
      this.viewer?.destroy();
      this.viewer = null;
      fill(this.board, el("p", { class: "hint" }, NOT_ARCHIVED));
      return;
    }
    const place = el("div", { class: "viewer" });
    this.coming = place;
    this.board.append(place);
    const viewer = new Viewer(place, row, 0);
    const asked = (get(`/api/boards/${key(row)}`) as Promise<Board>).catch(() => null);
    const [picture, board] = await Promise.all([viewer.picture, asked]);
    if (this.rows[0] !== row) {
      viewer.destroy();
      place.remove();
      return;
    }
    this.viewer?.destroy();
    this.viewer = viewer;
    this.coming = null;
    fill(this.board, place);
    if (!picture) fill(this.board, el("p", { class: "hint" }, NOT_ARCHIVED));
    else if (board) viewer.mark(defectsOf(board).filter((one) => one.camera === picture.views[0].camera));
  }

  private card(row: Row): HTMLLIElement {
    const words = `${row.unit}: ${row.result}`;
    return el("li", {}, el("button", { class: `card ${row.result}`, title: words, onclick: () => this.review(row) },
      el("span", { class: "sign", "aria-hidden": "true" }, RESULT_SIGN[row.result]),
      el("span", { class: "unit" }, row.unit), el("span", { class: "word" }, row.result)));
  }
}
