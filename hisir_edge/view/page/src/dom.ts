/** Elements, made without any HTML text: what comes from boards and people is text and stays text. */

type Child = Node | string | null | undefined | false;
type Props = Record<string, unknown>;

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K, props: Props = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  const out = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === false || value === null) continue;
    if (name.startsWith("on")) out.addEventListener(name.slice(2), value as EventListener);
    else if (name === "class") out.className = String(value);
    else if (name in out && !name.startsWith("aria")) (out as any)[name] = value;
    else out.setAttribute(name, value === true ? "" : String(value));
  }
  out.append(...children.filter((child): child is Node | string => child !== null && child !== undefined && child !== false));
  return out;
}

export function svg(tag: string, attributes: Record<string, string | number>, ...children: Node[]): SVGElement {
  const out = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) out.setAttribute(name, String(value));
  out.append(...children);
  return out;
}

export const RESULT_SIGN: Record<string, string> = { PASS: "✓", FAIL: "✗", ERROR: "!" };
export const VERIFIED: Record<string, string> = {
  DefectConfirmed: "confirmed", DefectRejected: "false call", DefectAccepted: "repaired", NotVerifiedYet: "not decided",
};

export const clock = (seconds: number): string => new Date(seconds * 1000).toLocaleString();

export function fill(target: Element, ...children: Child[]): void {
  target.replaceChildren(...children.filter((child): child is Node | string => !!child));
}

let timer = 0;

/** A line at the foot of the page for some seconds; read out by screen readers. */
export function say(words: string, bad = false): void {
  let line = document.getElementById("said");
  if (!line) document.body.append((line = el("div", { id: "said", role: "status", "aria-live": "polite" })));
  line.textContent = words;
  line.className = !words ? "" : bad ? "bad shown" : "shown";
  window.clearTimeout(timer);
  timer = window.setTimeout(() => line.classList.remove("shown"), 5000);
}
