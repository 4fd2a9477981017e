/** Zones on the golden board: drawn, given a sensitivity, and tried at once on the last archived boards. */

import { get, post, session } from "./api";
import { el, fill, say } from "./dom";
import { Viewer } from "./viewer";

interface Zone { name: string; polygon: [number, number][]; sensitivity: number }

const WORDS: Record<number, string> = { 0: "ignored", 0.5: "half as sensitive", 1: "as the board", 2: "twice as sensitive", 4: "four times as sensitive" };

export class Zones {
  readonly root = el("section", { class: "zones", "aria-label": "Zones" });
  private readonly place = el("div", { class: "viewer" });
  private readonly list = el("ol", { class: "defects", "aria-label": "Zones" });
  private readonly result = el("div", { class: "result", role: "status", "aria-live": "polite" });
  private readonly trying = el("button", { class: "next", onclick: () => void this.attempt() }, "Try on the last boards");
  private viewer: Viewer | null = null;
  private line = "";
  private known: Zone[] = [];
  private drawn: Zone[] = [];
  private points: [number, number][] = [];

  constructor() {
    const help = el("p", { class: "words" }, "Click the corners of a zone on the golden board, then close it. Trying it judges the last 200 archived boards again; nothing changes on the line.");
    this.root.append(el("div", { class: "board" }, this.place), el("aside", {}, help,
      el("div", { class: "tools" },
        el("button", { onclick: () => this.close() }, "Close zone"), el("button", { onclick: () => this.back() }, "Remove last corner"),
        this.trying,
        el("button", { class: "next", onclick: () => this.save() }, "Save as zones.json")),
      this.result, this.list));
  }

  async open(line: string): Promise<void> {
    const found = await get(`/api/zones/${encodeURIComponent(line)}`);
    this.trying.disabled = session.me?.role !== "engineer";
    this.trying.title = this.trying.disabled ? "takes the role engineer" : "";
    if (line !== this.line) this.drawn = [];
    this.line = line;
    this.known = found.zones;
    this.points = [];
    this.viewer?.destroy();
    fill(this.place);
    this.viewer = new Viewer(this.place, found, 0, "flat");
    this.viewer.onClick((x, y) => { this.points.push([x, y]); this.show(); });
    await this.viewer.picture;
    this.show();
  }

  private show(): void {
    this.viewer?.draw([...this.known.map((one) => ({ points: one.polygon, kind: "known" })), ...this.drawn.map((one) => ({ points: one.polygon, kind: "new" })),
      ...(this.points.length ? [{ points: this.points, kind: "new open" }] : [])]);
    fill(this.list, ...this.known.map((one) => el("li", { class: "words" }, `${one.name}: ${WORDS[one.sensitivity] ?? one.sensitivity} (in the bundle)`)),
      ...this.drawn.map((one, index) => el("li", { class: "drawn" },
        el("label", {}, "name", el("input", { value: one.name, maxLength: 80, onchange: (event: Event) => { one.name = (event.target as HTMLInputElement).value; } })),
        el("label", {}, "sensitivity", el("select", { onchange: (event: Event) => { one.sensitivity = Number((event.target as HTMLSelectElement).value); } },
          ...Object.entries(WORDS).map(([value, words]) => el("option", { value, selected: Number(value) === one.sensitivity }, words)))),
        el("button", { onclick: () => { this.drawn.splice(index, 1); this.show(); } }, "remove"))));
  }

  private close(): void {
    if (this.points.length < 3) return say("a zone has three corners or more", true);
    say("");
    this.drawn.push({ name: `zone ${this.known.length + this.drawn.length + 1}`, polygon: this.points, sensitivity: 0 });
    this.points = [];
    this.show();
  }

  private back(): void {
    this.points.pop();
    this.show();
  }

  private async attempt(): Promise<void> {
    if (!this.drawn.length) return say("draw a zone first", true);
    if (session.me?.role !== "engineer") return say("this takes the role engineer", true);
    fill(this.result, "trying ...");
    try {
      const r = await post("/api/trial", { line: this.line, zones: this.drawn });
      fill(this.result, el("b", {}, `${r.false_calls_gone} false calls would go, ${r.confirmed_lost} confirmed defects would be lost`),
        r.waiting_gone ? el("b", {}, `${r.waiting_gone} calls that nobody has reviewed would go: review them first`) : null,
        el("span", {}, `${r.new_calls} boards more would be called. Of ${r.boards} boards, ${r.calls} were called and ${r.calls_after} would be (${r.seconds} s, camera ${r.camera})`),
        r.without_evidence ? el("span", {}, `${r.without_evidence} boards are not archived, or have no evidence`) : null);
      this.result.classList.toggle("bad", r.confirmed_lost + r.waiting_gone > 0);
    } catch (error) {
      fill(this.result, (error as Error).message);
    }
  }

  /** For hisir-edge build-engine --zones: those of the bundle and the new ones. */
  private save(): void {
    const text = JSON.stringify([...this.known, ...this.drawn], null, 1);
    const link = el("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "zones.json" });
    link.click();
    URL.revokeObjectURL(link.href);
  }
}
