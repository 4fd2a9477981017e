/** The fleet: all lines that a collector knows, bundle revisions, places that are called on many lines, drift. */

import { get } from "./api";
import { clock, el, fill, say } from "./dom";

const SPANS: [string, number][] = [["day", 1], ["week", 7], ["30 days", 30], ["year", 366]];
const percent = (value: number | null, of: number | null): string => (value === null ? "not known" : `${(100 * value).toFixed(1)} % of ${of}`);
const share = (one: any): string => `${one.false_calls_per_board === null ? "not known" : `${one.false_calls_per_board.toFixed(3)} of ${one.reviewed}`}${one.waiting ? `; ${one.waiting} wait` : ""}`;

export class FleetView {
  readonly root = el("section", { class: "fleet", "aria-label": "Fleet" });
  private readonly content = el("div", { class: "figures" });
  private readonly spans = el("div", { class: "spans", role: "group", "aria-label": "Time" });
  private span = SPANS[1];

  constructor() {
    this.root.append(this.spans, this.content);
  }

  async load(): Promise<void> {
    fill(this.spans, ...SPANS.map((one) => el("button", {
      "aria-pressed": String(one === this.span), onclick: () => { this.span = one; void this.load(); },
    }, one[0])));
    try {
      this.draw(await get(`/api/fleet?days=${this.span[1]}`));
    } catch (error) {
      fill(this.content, el("p", { class: "words", role: "alert" }, (error as Error).message));
      say((error as Error).message, true);
    }
  }

  private draw(found: any): void {
    const wrong = Object.entries(found.wrong).map(([name, words]) => el("p", { class: "words", role: "alert" }, `${name}: ${words}`));
    const drift = new Map<string, any[]>();
    for (const one of found.drift) drift.set(one.line, [...(drift.get(one.line) ?? []), one]);
    fill(this.content, ...wrong,
      this.table(`lines, since ${found.since} (UTC days)`, ["plant", "line", "now", "boards", "first-pass yield", "false calls a board (of boards that passed or were reviewed)", "errors", "off by a deviation or more"],
        found.lines.map((one: any) => [one.plant || "–", one.line, one.wrong ? `away${one.heard_at ? ` since ${clock(one.heard_at)}` : ""}: ${one.wrong}` : "heard",
          String(one.boards ?? 0), percent(one.first_pass_yield, one.judged), share(one), String(one.errors ?? 0),
          (drift.get(one.line) ?? []).filter((each) => each.off.length).map((each) => `${each.product} on ${each.day}: ${each.off.map((name: string) => `${name} ${each[`${name}_sigmas`].toFixed(1)}`).join(", ")}`).join("; ") || "–"])),
      this.table("bundle revisions", ["product", "bundle", "lines", "boards", "first-pass yield", "false calls a board", "escapes"],
        found.bundles.map((one: any) => [one.product, one.bundle.slice(0, 12), String(one.lines), String(one.boards), percent(one.first_pass_yield, one.judged), share(one), String(one.escapes)])),
      this.table("where boards are called: part, or camera and place", ["product", "place", "lines", "calls", "false", "confirmed"],
        found.places.map((one: any) => [one.product, one.place, String(one.lines), String(one.called), String(one.false_calls), String(one.confirmed)])));
  }

  private table(title: string, heads: string[], rows: string[][]): HTMLElement {
    return el("figure", { class: "chart wide" }, el("figcaption", {}, title),
      rows.length ? el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
        el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell) => el("td", {}, cell)))))) : el("p", { class: "words" }, "none in this time"));
  }
}
