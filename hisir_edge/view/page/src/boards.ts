/** Boards: search by board, product, time and result; what is found leads to the review. */

import { get, key, session, type Row } from "./api";
import { RESULT_SIGN, clock, el, fill, say } from "./dom";

const PAGE = 100;

export class Boards {
  readonly root = el("section", { class: "boards", "aria-label": "Boards" });
  private readonly rows = el("tbody");
  private readonly more = el("button", { onclick: () => void this.load(true) }, "more");
  private readonly form: HTMLFormElement;
  private readonly coco = el("button", { type: "button", onclick: () => this.download("zip") }, "COCO");
  private last: Row | null = null;

  constructor(private readonly review: (row: Row) => void) {
    const field = (words: string, input: HTMLElement) => el("label", {}, words, input);
    this.form = el("form", { onsubmit: (event: Event) => { event.preventDefault(); void this.load(false); } },
      field("board", el("input", { name: "unit", placeholder: "name, or PSU*", autocomplete: "off" })),
      field("line", el("input", { name: "line", autocomplete: "off" })),
      field("product", el("input", { name: "product", autocomplete: "off" })),
      field("result", el("select", { name: "result" }, ...["", "PASS", "FAIL", "ERROR"].map((one) => el("option", { value: one }, one || "all")))),
      field("from", el("input", { name: "since", type: "datetime-local" })),
      field("to", el("input", { name: "until", type: "datetime-local" })),
      el("button", { type: "submit" }, "search"), el("button", { type: "button", onclick: () => this.download("csv") }, "CSV"), this.coco);
    const head = el("thead", {}, el("tr", {}, ...["result", "board", "review", "product", "line", "time", "score", "defects", "cycle"].map((one) => el("th", { scope: "col" }, one))));
    this.root.append(this.form, el("table", {}, head, this.rows), this.more);
  }

  /** What the form asks for. */
  private search(): URLSearchParams {
    const asked = new URLSearchParams({ most: String(PAGE) });
    for (const [name, value] of new FormData(this.form)) {
      if (value) asked.set(name, name === "since" || name === "until" ? String(new Date(String(value)).getTime() / 1000) : String(value));
    }
    return asked;
  }

  /** The boards that the form asks for, all of them. */
  private download(kind: "csv" | "zip"): void {
    el("a", { href: `/api/export.${kind}?${this.search()}`, download: "" }).click();
  }

  async load(further: boolean): Promise<void> {
    this.coco.hidden = session.me?.role !== "engineer";
    const asked = this.search();
    if (further && this.last) {
      asked.set("before_at", String(this.last.at));
      asked.set("before_line", this.last.line);
      asked.set("before_seq", String(this.last.seq));
    }
    try {
      const found: Row[] = await get(`/api/boards?${asked}`);
      if (!further) fill(this.rows);
      this.rows.append(...found.map((row) => this.row(row)));
      this.last = found.at(-1) ?? this.last;
      this.more.hidden = found.length < PAGE;
      if (!found.length && !further) fill(this.rows, el("tr", {}, el("td", { colSpan: 9, class: "hint" }, "no board like this")));
    } catch (error) {
      say(String((error as Error).message), true);
    }
  }

  private row(row: Row): HTMLTableRowElement {
    const open = el("button", { class: "link", onclick: () => this.review(row) }, row.unit);
    return el("tr", { "data-key": key(row) },
      el("td", {}, el("span", { class: `pill ${row.result}` }, `${RESULT_SIGN[row.result]} ${row.result}`)), el("td", {}, open), el("td", {}, row.outcome === "passed" || row.outcome === "error" ? "" : row.outcome ?? ""),
      el("td", {}, row.product), el("td", {}, `${row.line} #${row.seq}`), el("td", {}, clock(row.at ?? 0)),
      el("td", {}, row.score === null ? "–" : row.score.toFixed(2)), el("td", {}, String(row.defects)), el("td", {}, `${row.total_s.toFixed(2)} s`));
  }
}
