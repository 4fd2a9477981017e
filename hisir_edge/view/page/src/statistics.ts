/** Statistics: false calls and yield with their denominators, where boards are called, drift with its run rules. */

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { get } from "./api";
import { clock, el, fill, say } from "./dom";

const SPANS: [string, number, number][] = [["last hour", 3600, 120], ["shift", 8 * 3600, 900], ["day", 86400, 3600], ["30 days", 30 * 86400, 86400]];
const NAMES: Record<string, string> = { score: "score (1 = pixel threshold)", blur_px: "blur, px beyond the good boards", brightness: "brightness against the good boards", total_s: "cycle, s" };

export class Statistics {
  readonly root = el("section", { class: "statistics", "aria-label": "Statistics" });
  private readonly content = el("div", { class: "figures" });
  private readonly spans = el("div", { class: "spans", role: "group", "aria-label": "Time" });
  private span = SPANS[1];
  private line = "";

  constructor() {
    this.root.append(this.spans, this.content);
  }

  async choose(line: string): Promise<void> {
    this.line = line;
    fill(this.spans, ...SPANS.map((one) => el("button", {
      "aria-pressed": String(one === this.span), onclick: () => { this.span = one; void this.choose(this.line); },
    }, one[0])));
    const [, seconds, step] = this.span;
    try {
      const since = Date.now() / 1000 - seconds;
      this.draw(await get(`/api/statistics?since=${since}&step_s=${step}&line=${encodeURIComponent(line)}`));
    } catch (error) {
      say(String((error as Error).message), true);
    }
  }

  private draw(found: any): void {
    const all = found.all, rate = (value: number | null, of: string, words: string, share = false) =>
      el("div", { class: "figure" }, el("b", {}, value === null ? "not known" : share ? `${(100 * value).toFixed(1)} %` : value.toFixed(3)), el("span", {}, `${words} (${of})`));
    fill(this.content,
      el("div", { class: "row" }, rate(all.false_calls_per_board, `of ${all.reviewed} boards judged and reviewed; ${all.waiting} called ones wait`, "false calls a board"),
        rate(all.first_pass_yield, `of ${all.judged} boards judged`, "first-pass yield", true),
        el("div", { class: "figure" }, el("b", {}, String(all.boards)), el("span", {}, `boards: ${all.passed} passed, ${all.confirmed} confirmed, ${all.false_call} false calls, ${all.waiting} not reviewed, ${all.escape} escapes, ${all.error} errors`))),
      this.series(found.series), this.pareto(found.pareto), ...found.heat.map((one: any) => this.heat(one)),
      ...found.drift.map((one: any) => this.drift(one)));
  }

  private chart(title: string, data: uPlot.AlignedData, series: uPlot.Series[], words: string): HTMLElement {
    const place = el("figure", { class: "chart" }, el("figcaption", {}, title));
    const style = getComputedStyle(document.documentElement), ink = style.getPropertyValue("--ink"), grid = style.getPropertyValue("--rim");
    const axis = { stroke: ink, grid: { stroke: grid }, ticks: { stroke: grid } };
    requestAnimationFrame(() => {
      const x = { range: [Date.now() / 1000 - this.span[1], Date.now() / 1000] as uPlot.Range.MinMax };
      new uPlot({ width: Math.max(place.clientWidth, 280), height: 200, series: [{}, ...series], axes: [axis, axis], scales: { x }, legend: { show: series.length > 1 } }, data, place);
    });
    place.append(el("p", { class: "words" }, words));
    return place;
  }

  private series(rows: any[]): HTMLElement {
    const x = rows.map((one) => one.at);
    return this.chart("false calls a board, and first-pass yield", [x, rows.map((one) => one.false_calls_per_board), rows.map((one) => one.first_pass_yield)],
      [{ label: "false calls", stroke: "#d97706", width: 2, points: { show: true } }, { label: "yield", stroke: "#2563eb", width: 2, points: { show: true } }],
      rows.length ? "" : "no board in this time");
  }

  private pareto(rows: any[]): HTMLElement {
    const most = Math.max(1, ...rows.map((one) => one.called));
    return el("figure", { class: "chart" }, el("figcaption", {}, "where boards are called: part, or camera and place"),
      el("table", { class: "pareto" }, el("tbody", {}, ...rows.map((one) => el("tr", {}, el("th", { scope: "row" }, one.place),
        el("td", {}, el("meter", { max: most, value: one.called, "aria-label": `${one.called} calls` })), el("td", {}, `${one.called} calls, ${one.false_calls} false, ${one.confirmed} confirmed`))))),
      rows.length ? null : el("p", { class: "words" }, "nothing was called"));
  }

  private heat(one: any): HTMLElement {
    const canvas = el("canvas", { role: "img", "aria-label": `calls on the board, ${one.camera}` });
    const columns = Math.ceil(one.width / one.cell_px), rows = Math.ceil(one.height / one.cell_px);
    const most = Math.max(...one.cells.map((cell: number[]) => cell[2]));
    canvas.width = columns * 8;
    canvas.height = rows * 8;
    const pen = canvas.getContext("2d")!;
    for (const [x, y, n] of one.cells) {
      pen.fillStyle = `rgba(220, 38, 38, ${0.25 + (0.75 * n) / most})`;
      pen.fillRect(x * 8, y * 8, 8, 8);
    }
    return el("figure", { class: "chart" }, el("figcaption", {}, `calls on the board, ${one.camera}: up to ${most} in ${one.cell_px} x ${one.cell_px} px`),
      el("div", { class: "heat" }, one.board ? el("img", { src: `/api/tiles/${one.board}/golden/0/0/0`, alt: "" }) : null, canvas));
  }

  private drift(one: any): HTMLElement {
    const x = one.points.map((point: number[]) => point[0]), line = (value: number) => x.map(() => value);
    const before = one.broken.length ? `; before: ${one.broken.length} points, the last ${clock(one.broken.at(-1).at)} (${one.broken.at(-1).rule})` : "";
    const rules = !one.tested ? `too few boards to test: ${one.needed} more` : one.now ? `broken now: ${one.now}` : `no rule is broken now${before}`;
    const out = this.chart(`${NAMES[one.name] ?? one.name}, ${one.product}`,
      [x, one.points.map((point: number[]) => point[1]), line(one.centre), line(one.centre + 3 * one.sigma), line(one.centre - 3 * one.sigma)],
      [{ label: "mean of 8 boards", stroke: "#2563eb", width: 2 }, { label: "centre", stroke: "#6b7280" }, { label: "+3 sigma", stroke: "#dc2626", dash: [4, 4] }, { label: "−3 sigma", stroke: "#dc2626", dash: [4, 4] }], rules);
    if (one.now) out.classList.add("broken");
    return out;
  }
}
