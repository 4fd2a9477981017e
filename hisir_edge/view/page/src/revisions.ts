/** Revisions of a line's bundle: who made which and why, which is in use; activated and taken back. */

import { get, post, session } from "./api";
import { clock, el, fill, say } from "./dom";

interface Revision {
  number: number; product: string; camera: string; at: string; who: string; why: string; in_use: boolean;
  comparison: Record<string, number>;
}
interface Found {
  revisions: Revision[]; busy: { do: string } | null; last: { do: string; number: number; refused: string } | null;
  in_use: { product: string; camera: string; number: number }[];
  events: { at: string; what: string; number: number; product: string; camera: string; who?: string; why?: string }[];
}

const AGAIN_MS = 700;
const DOES: Record<string, string> = { revise: "a revision is being made and tested", add_revision: "a bundle is being tested", activate: "a revision is being loaded and tested", take_back: "the one before is being loaded and tested" };

export class Revisions {
  readonly root = el("section", { class: "revisions", "aria-label": "Revisions" });
  private readonly state = el("p", { class: "words", role: "status", "aria-live": "polite" });
  private readonly list = el("ol", { class: "defects" });
  private readonly events = el("ol", { class: "events" });
  private line = "";
  private turn = 0;
  private waiting = false;

  constructor(private readonly ask: () => Promise<void>, private readonly changed: () => void) {
    this.root.append(el("h2", {}, "Revisions"), this.state, this.list, el("details", {}, el("summary", {}, "who did what"), this.events));
  }

  async open(line: string): Promise<void> {
    this.line = line;
    const turn = ++this.turn;
    let found: Found = { revisions: [], busy: null, last: null, in_use: [], events: [] };
    try {
      found = await get(`/api/revisions/${encodeURIComponent(line)}`);
    } catch (error) {
      fill(this.state, (error as Error).message);
      return;
    }
    if (turn !== this.turn) return;
    this.show(found);
    if (found.busy) {
      this.waiting = true;
      window.setTimeout(() => { if (turn === this.turn && this.root.isConnected) void this.open(line); }, AGAIN_MS);
    } else if (this.waiting) {
      this.waiting = false;
      if (found.last?.refused) say(`refused: ${found.last.refused}`, true);
      else if (found.last && found.last.do !== "revise") this.changed();
    }
  }

  private show(found: Found): void {
    const used = found.in_use.filter((one) => one.number).map((one) => `revision ${one.number} for ${one.product}, camera ${one.camera}`);
    fill(this.state, found.busy ? `${DOES[found.busy.do] ?? found.busy.do} ...` : found.last?.refused ? `refused: ${found.last.refused}` : "",
      el("span", {}, ` In use: ${used.join("; ") || "the configured bundles"}.`));
    this.state.classList.toggle("bad", !found.busy && !!found.last?.refused);
    const may = session.me?.role === "engineer";
    fill(this.list, ...found.revisions.map((one) => el("li", { class: "figure" },
      el("span", {}, el("b", {}, `${one.number}`), one.in_use ? el("span", { class: "pill PASS" }, "in use") : null, ` ${one.why}`),
      el("span", { class: "words" }, `${one.who}, ${clock(Date.parse(one.at) / 1000)}, ${one.product}, camera ${one.camera}`),
      el("span", { class: "words" }, this.seen(one.comparison)),
      el("span", { class: "tools" }, one.in_use
        ? el("button", { disabled: !may || !!found.busy, onclick: () => void this.send("take-back", one) }, "Take back")
        : el("button", { disabled: !may || !!found.busy, onclick: () => void this.send("activate", one) }, "Activate")))));
    fill(this.events, ...found.events.map((one) => el("li", {}, `${clock(Date.parse(one.at) / 1000)}: ${one.number || "configured bundle"} ${one.what}${one.who ? ` by ${one.who}` : ""}${one.why ? `: ${one.why}` : ""}`)));
  }

  private seen(figures: Record<string, number>): string {
    if (!("boards" in figures)) return Object.entries(figures).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(", ") || "not tried on boards";
    return `on ${figures.boards} boards: ${figures.false_calls_gone} false calls gone, ${figures.confirmed_lost} confirmed defects lost, ${figures.new_calls} boards more called, ${figures.waiting_gone} not reviewed gone`;
  }

  private async send(what: "activate" | "take-back", one: Revision): Promise<void> {
    if (!session.me?.user) await this.ask();
    if (!session.me?.user) return;
    const lost = one.comparison.confirmed_lost ?? 0;
    const words = what !== "activate" ? `Take revision ${one.number} back` : `Activate revision ${one.number}${lost ? `, which loses ${lost} confirmed defect(s)` : ""}`;
    const why = await reason(words, what === "activate" ? one.why : "");
    if (!why) return;
    const { product, camera, number } = one;
    try {
      await post(`/api/${what}`, what === "activate" ? { line: this.line, number, why } : { line: this.line, number, product, camera, why });
      this.waiting = true;
      await this.open(this.line);
    } catch (error) {
      say((error as Error).message, true);
    }
  }
}

/** Why somebody does this; empty: they do not. */
async function reason(words: string, before: string): Promise<string> {
  const input = el("input", { name: "reason", required: true, maxLength: 200, value: before });
  const dialog = el("dialog", { "aria-label": words }, el("form", { method: "dialog" }, el("label", {}, `${words}: why?`, input),
    el("button", { value: "ok" }, words), el("button", { value: "", formNoValidate: true }, "Cancel")));
  document.body.append(dialog);
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done));
  dialog.remove();
  return dialog.returnValue === "ok" ? input.value.trim() : "";
}
