/** A board as a pyramid of tiles, with the outlines of its defects, the golden board and the map over it. */

import OpenSeadragon from "openseadragon";
import { get, key, type Defect, type Picture, type Row } from "./api";
import { svg } from "./dom";

export type Layer = "frame" | "golden" | "map" | "flat";

const ROOM = 2.6; // how many times its own size is seen around a defect
const LEAST_PX = 180;
const NEW_S = 60, TRIES = 20, TRY_MS = 250;

export class Viewer {
  readonly picture: Promise<Picture | null>;
  private readonly osd: OpenSeadragon.Viewer;
  private readonly marks = svg("svg", { class: "marks", "aria-hidden": "true" });
  private readonly group = svg("g", {});
  private readonly drawn = svg("g", {});
  private layers = new Map<Layer, OpenSeadragon.TiledImage>();
  private loaded: Picture | null = null;

  constructor(readonly place: HTMLElement, readonly row: Row, readonly camera: number, private readonly base: Layer = "frame") {
    this.osd = new OpenSeadragon.Viewer({
      element: place, showNavigationControl: false, animationTime: 0.3, blendTime: 0.1, maxZoomPixelRatio: 12,
      visibilityRatio: 0.4, minZoomImageRatio: 0.8, zoomPerScroll: 1.4, gestureSettingsMouse: { clickToZoom: false },
      gestureSettingsTouch: { clickToZoom: false, pinchToZoom: true }, imageSmoothingEnabled: true, drawer: "canvas",
      crossOriginPolicy: false, keyboardNavEnabled: false,
    } as OpenSeadragon.Options);
    (this.osd as any).innerTracker.keyHandler = null; // keys are the review's
    this.marks.append(this.group, this.drawn);
    this.osd.canvas.append(this.marks);
    this.osd.addHandler("update-viewport", () => this.placeMarks());
    this.picture = this.open();
  }

  private async open(): Promise<Picture | null> {
    for (let tries = 0; !this.loaded; tries++) {
      try {
        this.loaded = await get(`/api/pictures/${key(this.row)}/${this.camera}`);
      } catch {
        // a board is archived behind its verdict
        if (!this.isNew() || tries >= TRIES || !this.place.isConnected) return null;
        await new Promise((done) => window.setTimeout(done, TRY_MS));
      }
    }
    await this.add(this.base, 1);
    return this.loaded;
  }

  private isNew(): boolean {
    const at = this.row.at ?? Date.parse(this.row.time ?? "") / 1000;
    return Date.now() / 1000 - at < NEW_S;
  }

  private source(layer: Layer): object {
    const p = this.loaded!, of = `/api/tiles/${key(this.row)}/${this.camera}/${layer}`;
    return {
      width: p.width, height: p.height, tileSize: p.tile_px, minLevel: 0, maxLevel: p.levels - 1,
      getTileUrl: (level: number, x: number, y: number) => `${of}/${level}/${x}/${y}`,
    };
  }

  private add(layer: Layer, opacity: number): Promise<void> {
    return new Promise((done) => {
      this.osd.addTiledImage({
        tileSource: this.source(layer) as any, opacity,
        success: (event: any) => { this.layers.set(layer, event.item); done(); }, error: () => done(),
      } as any);
    });
  }

  /** Show a layer over the frame with so much opacity; 0: none. */
  async show(layer: Layer, opacity: number): Promise<void> {
    await this.picture;
    if (!this.loaded) return;
    const known = this.layers.get(layer);
    if (known) known.setOpacity(opacity);
    else if (opacity > 0) await this.add(layer, opacity);
  }

  /** Outline these defects; ``chosen`` is drawn stronger. */
  mark(defects: Defect[], chosen = 0, done: (defect: Defect) => string = () => ""): void {
    this.group.replaceChildren();
    for (const one of defects) {
      const points = one.contour.map(([x, y]) => `${x + 0.5},${y + 0.5}`).join(" ");
      const pad = 6, box = { x: one.x - pad, y: one.y - pad, width: one.w + 2 * pad, height: one.h + 2 * pad };
      const kind = `mark ${done(one)} ${one.number === chosen ? "chosen" : ""}`;
      this.group.append(
        svg("rect", { ...box, class: `${kind} box`, "vector-effect": "non-scaling-stroke" }),
      );
      if (this.base === "frame") this.group.append(svg("polygon", { points, class: kind, "vector-effect": "non-scaling-stroke" }));
    }
    this.placeMarks();
  }

  private placeMarks(): void {
    const first = this.layers.get(this.base);
    if (!first || !this.loaded) return;
    const at = (x: number, y: number) =>
      this.osd.viewport.viewportToViewerElementCoordinates(first.imageToViewportCoordinates(x, y, true));
    const origin = at(0, 0), far = at(this.loaded.width, 0);
    const scale = (far.x - origin.x) / this.loaded.width;
    for (const one of [this.group, this.drawn]) one.setAttribute("transform", `translate(${origin.x} ${origin.y}) scale(${scale})`);
  }

  /** Look at a defect at the camera's own pixels, or larger where it is small. */
  async look(defect: Defect): Promise<void> {
    await this.picture;
    const first = this.layers.get(this.base);
    if (!first) return;
    const side = Math.max(defect.w * ROOM, defect.h * ROOM, LEAST_PX);
    const x = defect.x + defect.w / 2 - side / 2, y = defect.y + defect.h / 2 - side / 2;
    this.osd.viewport.fitBounds(first.imageToViewportRectangle(x, y, side, side), false);
  }

  /** Call with the picture's pixel under each click. */
  onClick(take: (x: number, y: number) => void): void {
    this.osd.addHandler("canvas-click", (event: any) => {
      const first = this.layers.get(this.base);
      if (!event.quick || !first) return;
      const at = first.viewerElementToImageCoordinates(event.position);
      take(Math.round(at.x), Math.round(at.y));
    });
  }

  /** Draw polygons, the last one open while it is drawn. */
  draw(polygons: { points: [number, number][]; kind: string }[]): void {
    this.drawn.replaceChildren(...polygons.flatMap(({ points, kind }) => [
      svg(kind.includes("open") ? "polyline" : "polygon", { points: points.map((one) => one.join(",")).join(" "), class: `zone ${kind}`, "vector-effect": "non-scaling-stroke" }),
      ...(kind.includes("open") ? points.map(([cx, cy]) => svg("circle", { cx, cy, r: 4, class: "zone corner", "vector-effect": "non-scaling-stroke" })) : []),
    ]));
    this.placeMarks();
  }

  home(): void { this.osd.viewport.goHome(); }

  zoom(by: number): void { this.osd.viewport.zoomBy(by); this.osd.viewport.applyConstraints(); }

  /** Follow another viewer's place and zoom. */
  follow(other: Viewer): void {
    const same = () => {
      this.osd.viewport.zoomTo(other.osd.viewport.getZoom(), undefined, false);
      this.osd.viewport.panTo(other.osd.viewport.getCenter(), false);
    };
    other.osd.addHandler("animation", same);
    other.osd.addHandler("open", same);
    void Promise.all([this.picture, other.picture]).then(same);
  }

  destroy(): void { this.osd.destroy(); }
}
