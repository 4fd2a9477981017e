/** Teach: zones and the strength of a call, tried at once on the last archived boards, made a revision, activated. */

import { get, post, session } from "./api";
import { el, fill, say } from "./dom";
import { Revisions } from "./revisions";
import { Strength } from "./strength";
import { Viewer } from "./viewer";

interface Zone { name: string; polygon: [number, number][]; sensitivity: number; outside: boolean }

const WORDS: Record<number, string> = { 0: "ignored", 0.5: "half as sensitive", 1: "as the board", 2: "twice as sensitive", 4: "four times as sensitive" };

export class Teach {
  readonly root = el("section", { class: "zones", "aria-label": "Teach" });
  private readonly place = el("div", { class: "viewer" });
  private readonly list = el("ol", { class: "defects", "aria-label": "Zones" });
  private readonly result = el("div", { class: "result", role: "status", "aria-live": "polite" });
  private readonly trying = el("button", { class: "next", onclick: () => void this.attempt() }, "Try on the last boards");
  private readonly why = el("input", { maxLength: 200, required: true, name: "why" });
  private readonly making = el("button", { class: "next", onclick: () => void this.make() }, "Make a revision");
  private readonly reviewed = el("a", { class: "button", download: "reviewed.zip" }, "Reviewed boards");
  private readonly strength = new Strength();
  private readonly revisions: Revisions;
  private viewer: Viewer | null = null;
  private line = "";
  private bundle = "";
  private built = "[]";
  private zones: Zone[] = [];
  private points: [number, number][] = [];

  constructor(private readonly ask: () => Promise<void>) {
    this.revisions = new Revisions(ask, () => void this.open(this.line));
    const help = el("p", { class: "words" }, "Click the corners of a zone on the golden board, then close it. Trying judges the last 200 archived boards again; nothing changes on the line until a revision is activated.");
    this.root.append(el("div", { class: "board" }, this.place), el("aside", {}, help,
      el("div", { class: "tools" },
        el("button", { onclick: () => this.close() }, "Close zone"), el("button", { onclick: () => this.back() }, "Remove last corner")),
      this.list, this.strength.root,
      el("div", { class: "tools" }, this.trying), this.result,
      el("label", {}, "why", this.why),
      el("div", { class: "tools" }, this.making, el("button", { class: "next", onclick: () => this.save() }, "Save as zones.json")),
      this.revisions.root,
      el("section", { "aria-label": "Training" }, el("h2", {}, "Training"),
        el("p", { class: "words" }, "Reviewed boards (false calls, confirmed defects, missed places that were drawn) go into the next training: hisir-edge train --of RUN --add-reviewed reviewed.zip --out NEW"),
        this.reviewed)));
  }

  /** Of a line, anew where its bundle is another one by now: what was drawn on the same one stays. */
  async open(line: string): Promise<void> {
    const found = await get(`/api/zones/${encodeURIComponent(line)}`);
    const may = session.me?.role === "engineer";
    for (const button of [this.trying, this.making]) {
      button.disabled = !may;
      button.title = may ? "" : "takes the role engineer";
    }
    if (may) this.reviewed.href = `/api/reviewed.zip?line=${encodeURIComponent(line)}`;
    else this.reviewed.removeAttribute("href");
    const same = line === this.line && found.bundle_sha256 === this.bundle;
    this.line = line;
    this.bundle = found.bundle_sha256;
    if (!same) {
      this.zones = found.zones;
      this.built = JSON.stringify(found.zones);
      this.points = [];
      fill(this.result);
      this.result.classList.remove("bad");
      this.why.value = "";
    }
    this.viewer?.destroy();
    fill(this.place);
    this.viewer = new Viewer(this.place, found, 0, "flat");
    this.viewer.onClick((x, y) => { this.points.push([x, y]); this.show(); });
    void this.revisions.open(line);
    void this.strength.open(line, !same, may).catch((error: Error) => say(error.message, true));
    await this.viewer.picture;
    this.show();
  }

  private get changed(): boolean { return JSON.stringify(this.zones) !== this.built; }

  private change(): object {
    return { line: this.line, ...(this.changed ? { zones: this.zones } : {}), strength: this.strength.value };
  }

  private show(): void {
    this.viewer?.draw([...this.zones.map((one) => ({ points: one.polygon, kind: this.built.includes(JSON.stringify(one)) ? "known" : "new" })),
      ...(this.points.length ? [{ points: this.points, kind: "new open" }] : [])]);
    fill(this.list, ...this.zones.map((one, index) => el("li", { class: "drawn" },
      el("label", {}, "name", el("input", { value: one.name, maxLength: 64, onchange: (event: Event) => { one.name = (event.target as HTMLInputElement).value; this.show(); } })),
      el("label", {}, one.outside ? "all around it" : "sensitivity", el("select", { onchange: (event: Event) => { one.sensitivity = Number((event.target as HTMLSelectElement).value); this.show(); } },
        ...this.offered(one).map((value) => el("option", { value: String(value), selected: value === one.sensitivity }, WORDS[value] ?? `${value} times as sensitive`)))),
      el("button", { onclick: () => { this.zones = this.zones.filter((_, at) => at !== index); this.show(); } }, "remove"))));
  }

  private offered(one: Zone): number[] {
    return [...new Set([...Object.keys(WORDS).map(Number), one.sensitivity])].sort((a, b) => a - b);
  }

  private close(): void {
    if (this.points.length < 3) return say("a zone has three corners or more", true);
    say("");
    const names = new Set(this.zones.map((one) => one.name));
    let number = this.zones.length + 1;
    while (names.has(`zone ${number}`)) number++;
    this.zones = [...this.zones, { name: `zone ${number}`, polygon: this.points, sensitivity: 0, outside: false }];
    this.points = [];
    this.show();
  }

  private back(): void {
    this.points.pop();
    this.show();
  }

  private ready(): boolean {
    if (!this.changed && this.strength.value === 1) say("draw a zone, or move the slider first", true);
    else if (session.me?.role !== "engineer") say("this takes the role engineer", true);
    else return true;
    return false;
  }

  private async attempt(): Promise<void> {
    if (!this.ready()) return;
    fill(this.result, "trying ...");
    try {
      const r = await post("/api/trial", this.change());
      fill(this.result, el("b", {}, `${r.false_calls_gone} false calls would go, ${r.confirmed_lost} confirmed defects would be lost`),
        r.waiting_gone ? el("b", {}, `${r.waiting_gone} calls that nobody has reviewed would go: review them first`) : null,
        el("span", {}, `${r.new_calls} boards more would be called. Of ${r.boards} boards, ${r.calls} are called and ${r.calls_after} would be (${r.seconds} s, camera ${r.camera})`),
        r.without_evidence ? el("span", {}, `${r.without_evidence} boards do not tell: not archived, without evidence there, or of another network`) : null);
      this.result.classList.toggle("bad", r.confirmed_lost + r.waiting_gone > 0);
    } catch (error) {
      fill(this.result, (error as Error).message);
    }
  }

  /** A revision of the bundle that inspects; it has to be activated. */
  private async make(): Promise<void> {
    if (!this.ready()) return;
    if (!this.why.value.trim()) {
      this.why.focus();
      return say("say why, for those who look at it later", true);
    }
    if (!session.me?.user) await this.ask();
    if (!session.me?.user) return;
    try {
      const { number } = await post("/api/revise", { ...this.change(), bundle_sha256: this.bundle, why: this.why.value });
      say(`revision ${number} is being made`);
      await this.revisions.open(this.line);
    } catch (error) {
      say((error as Error).message, true);
    }
  }

  /** For hisir-edge build-engine --zones. */
  private save(): void {
    const text = JSON.stringify(this.zones, null, 1);
    const link = el("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "zones.json" });
    link.click();
    URL.revokeObjectURL(link.href);
  }
}
