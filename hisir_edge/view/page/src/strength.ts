/** A slider of how strong a region must be to be called: false calls against confirmed and planted defects. */

import uPlot from "uplot";
import { get } from "./api";
import { el, fill } from "./dom";

interface Point {
  strength: number; called: number; false_calls: number; waiting: number; new: number; confirmed_found: number;
  confirmed_lost: number; rejected_gone: number; planted: number | null; expected: number;
}

export class Strength {
  readonly root = el("section", { class: "strength", "aria-label": "Strength of a call" });
  private readonly slider = el("input", { type: "range", min: "0", max: "0", step: "1", oninput: () => this.show() });
  private readonly words = el("p", { class: "words", role: "status", "aria-live": "polite" });
  private readonly chart = el("figure", { class: "chart" });
  private points: Point[] = [];
  private boards = 0;
  private plot: uPlot | null = null;

  constructor() {
    this.root.append(el("label", {}, "called from this strength on (1: as now)", this.slider), this.words, this.chart);
  }

  get value(): number { return this.points[Number(this.slider.value)]?.strength ?? 1; }

  /** What each strength would have called of a line's last boards; ``fresh``: the slider goes back to 1. */
  async open(line: string, fresh: boolean, may: boolean): Promise<void> {
    const before = fresh ? 1 : this.value;
    this.root.hidden = !may;
    if (!may) return;
    fill(this.words, "counting on the last boards ...");
    const found = await get(`/api/strengths/${encodeURIComponent(line)}`);
    this.points = found.points;
    this.boards = found.boards;
    const nearest = this.points.reduce((best, one, at) => (Math.abs(one.strength - before) < Math.abs(this.points[best].strength - before) ? at : best), 0);
    this.slider.max = String(Math.max(this.points.length - 1, 0));
    this.slider.value = String(nearest);
    this.slider.disabled = !this.points.length;
    this.draw();
    this.show();
  }

  private show(): void {
    const one = this.points[Number(this.slider.value)];
    this.slider.setAttribute("aria-valuetext", one ? `${one.strength} times` : "not known");
    if (!one) return fill(this.words, "no board of this bundle is archived yet");
    fill(this.words, el("b", {}, `${one.strength.toFixed(2)} times: `),
      `${one.called} of ${this.boards} boards called, ${one.false_calls} of them false calls, ${one.waiting} not reviewed, ${one.new} new; `,
      `${one.confirmed_found} confirmed defects found, ${one.confirmed_lost} lost; `,
      one.planted === null ? "planted defects: not recorded in this bundle; " : `${(100 * one.planted).toFixed(0)} % of the planted defects found (where the board is quiet); `,
      `about ${one.expected.toPrecision(2)} false calls a good board expected`);
    this.words.classList.toggle("bad", one.confirmed_lost > 0);
    this.plot?.setCursor({ left: this.plot.valToPos(one.strength, "x"), top: 10 });
  }

  private draw(): void {
    this.plot?.destroy();
    this.plot = null;
    fill(this.chart);
    if (!this.points.length) return;
    const style = getComputedStyle(document.documentElement), ink = style.getPropertyValue("--ink"), grid = style.getPropertyValue("--rim");
    const axis = { stroke: ink, grid: { stroke: grid }, ticks: { stroke: grid } };
    const share = (part: number, whole: number): number | null => (whole ? (100 * part) / whole : null);
    const data = [
      this.points.map((one) => one.strength),
      this.points.map((one) => share(one.false_calls + one.new, this.boards)),
      this.points.map((one) => share(one.confirmed_found, one.confirmed_found + one.confirmed_lost)),
      this.points.map((one) => (one.planted === null ? null : 100 * one.planted)),
    ] as uPlot.AlignedData;
    this.plot = new uPlot({
      width: Math.max(this.chart.clientWidth - 20, 260), height: 180, legend: { show: true }, axes: [axis, { ...axis, values: (_, ticks) => ticks.map((one) => `${one} %`) }],
      hooks: { ready: [() => this.show()] }, scales: { x: { time: false, distr: 3, log: 2 }, y: { range: [0, 100] } },
      series: [{ label: "strength" }, { label: "false and new calls", stroke: style.getPropertyValue("--fail"), width: 2 },
        { label: "confirmed found", stroke: style.getPropertyValue("--pass"), width: 2, dash: [8, 4] },
        { label: "planted found", stroke: style.getPropertyValue("--accent"), width: 2, dash: [2, 3] }],
    }, data, this.chart);
  }
}
