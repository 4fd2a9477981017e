/** The page's requests, and what they answer. */

export type Result = "PASS" | "FAIL" | "ERROR";

export interface Me { user: string; role: string; roles: string[]; token: string; named: boolean; tile_px: number; fleet: boolean }

export interface Row {
  line: string; epoch: string; seq: number; at?: number; time?: string; unit: string; product: string; result: Result;
  score: number | null; defects: number; total_s: number; reason: string; outcome?: string;
}

export interface LineState {
  name: string; endpoint: string; wrong: string; last: Row | null; waiting: number; refused: number;
  status: { state: string | null; product: string | null; camera_up: boolean | null; archive: { boards: number } | null };
}

export interface Decision {
  id: number; defect: number; verification: string; detail: string; operator: string; at: number;
  line_id: number | null; refused: string;
}

export interface Defect {
  number: number; camera: string; x: number; y: number; w: number; h: number; contour: [number, number][];
  area: number; peak: number; confidence: number; part: string;
}

export interface Missed { id: number; camera: string; polygon: [number, number][]; operator: string; at: number }

export interface Board extends Row { body: any; decisions: Decision[]; missed: Missed[] }

export interface Picture {
  width: number; height: number; levels: number; tile_px: number; views: { camera: string; evidence: boolean }[];
}

export class Refused extends Error {
  constructor(readonly status: number, words: string) { super(words); }
}

export const session: { me: Me | null } = { me: null };

async function answered(response: Response): Promise<any> {
  const found = await response.json().catch(() => ({ error: response.statusText }));
  if (response.status === 401) window.dispatchEvent(new Event("logged-out"));
  if (!response.ok) throw new Refused(response.status, found.error ?? response.statusText);
  return found;
}

async function fetched(path: string, options: RequestInit = {}): Promise<Response> {
  try {
    return await fetch(path, options);
  } catch {
    throw new Refused(0, "the page's process does not answer");
  }
}

export const get = async (path: string): Promise<any> => answered(await fetched(path));

export async function post(path: string, body: unknown): Promise<any> {
  const headers = { "content-type": "application/json", "x-hisir-token": session.me?.token ?? "" };
  return answered(await fetched(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

export const key = (row: { line: string; epoch: string; seq: number }): string =>
  `${encodeURIComponent(row.line)}/${row.epoch}/${row.seq}`;

export function defectsOf(board: Board): Defect[] {
  const out: Defect[] = [];
  for (const inspection of board.body.InspectedUnits?.[0]?.Inspections ?? []) {
    for (const one of inspection.DefectsFound) {
      const px = one.RegionOfInterest.px;
      out.push({
        number: one.Priority, camera: inspection.InspectionName, x: px.x, y: px.y, w: px.w, h: px.h,
        contour: px.contour, area: one.vision.area_px, peak: one.vision.peak, confidence: one.ConfidenceLevel,
        part: one.ComponentOfInterest?.ReferenceDesignator ?? "",
      });
    }
  }
  return out.sort((a, b) => a.number - b.number);
}

/** The last decision of each defect, 0 for the board. */
export function decided(board: Board): Map<number, Decision> {
  const out = new Map<number, Decision>();
  for (const one of board.decisions) if (!one.refused) out.set(one.defect, one);
  return out;
}
