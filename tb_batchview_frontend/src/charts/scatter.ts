// The data map: a point for each sample, mean target score over variability, coloured by how often it was right.

import { html, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import { tick } from "../format.js";
import type { Box } from "../sample_filter.js";
import { CanvasElement } from "./canvas.js";
import { blend, themeColour } from "./colour.js";
import { ticks } from "./scale.js";
import {
  boxBetween,
  type Frame,
  isIn,
  nearest,
  type Points,
  placeOf,
  stepAmong,
} from "./scatter_geometry.js";

const LEFT = 46;
const BELOW = 36;
const TOP = 8;
const RADIUS = 2.5;
/** How near a click or the pointer must be, in pixels. */
const REACH = 8;
const SHADES = 9;
const STOPS = ["--wrong-confident", "--wrong-unsure", "--correct-unsure", "--correct-confident"];

@customElement("bv-scatter")
export class ScatterElement extends CanvasElement {
  @property({ attribute: false }) points: Points | null = null;
  @property({ attribute: false }) box: Box | null = null;
  @property({ attribute: false }) describe: (index: number) => string = () => "";
  @property({ attribute: false }) onBox: ((box: Box | null) => void) | null = null;
  @property({ attribute: false }) onPick: ((index: number) => void) | null = null;
  /** Index of the sample that is open. */
  @property({ attribute: false }) picked: number | null = null;

  protected override readonly keyed = true;
  private focused: number | null = null;
  /** A box has just been drawn: the click that ends it means nothing more. */
  private boxed = false;
  private dragged: { x: number; y: number; to: { x: number; y: number } | null } | null = null;

  protected override heightFor(width: number): number {
    return Math.max(220, Math.min(360, width * 0.7));
  }

  private get area(): Frame {
    return {
      left: LEFT,
      top: TOP,
      width: Math.max(20, this.width - LEFT - 12),
      height: Math.max(20, this.height - BELOW - TOP),
    };
  }

  protected override draw(context: CanvasRenderingContext2D): void {
    const { points, area } = this;
    if (points === null) return;
    this.drawAxes(context);
    const shade = blend(...STOPS.map((name) => themeColour(this, name)));
    const shades = Array.from({ length: SHADES }, (_, level) => shade(level / (SHADES - 1)));
    for (let index = 0; index < points.x.length; index += 1) {
      const { x, y } = placeOf(points, index, area);
      const inside = this.box === null || isIn(points, index, this.box);
      context.globalAlpha = inside ? 0.75 : 0.15;
      context.fillStyle = shades[Math.round((points.share[index] ?? 0) * (SHADES - 1))] ?? "";
      context.beginPath();
      context.arc(x, y, RADIUS, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
    this.drawBox(context);
    this.ring(context, this.picked, "--text");
    this.ring(context, this.focused, "--focus");
  }

  private ring(context: CanvasRenderingContext2D, index: number | null, colour: string): void {
    if (this.points === null || index === null || index >= this.points.x.length) return;
    const { x, y } = placeOf(this.points, index, this.area);
    context.strokeStyle = themeColour(this, colour);
    context.lineWidth = 2;
    context.beginPath();
    context.arc(x, y, RADIUS + 3, 0, 2 * Math.PI);
    context.stroke();
  }

  private drawBox(context: CanvasRenderingContext2D): void {
    const { points, area, dragged } = this;
    const drawn = dragged?.to ? boxBetween(dragged, dragged.to, area, points?.most ?? 0.5) : this.box;
    if (drawn === null || points === null) return;
    const corner = (score: number, spread: number): { x: number; y: number } => ({
      x: area.left + (spread / points.most) * area.width,
      y: area.top + (1 - score) * area.height,
    });
    const [from, to] = [corner(drawn[1], drawn[2]), corner(drawn[0], drawn[3])];
    context.strokeStyle = themeColour(this, "--text");
    context.lineWidth = 1;
    context.setLineDash([4, 3]);
    context.strokeRect(from.x, from.y, to.x - from.x, to.y - from.y);
    context.setLineDash([]);
  }

  private drawAxes(context: CanvasRenderingContext2D): void {
    const { left, top, width, height } = this.area;
    const most = this.points?.most ?? 0.5;
    context.font = "11px Roboto, system-ui, sans-serif";
    context.fillStyle = themeColour(this, "--quiet");
    context.strokeStyle = themeColour(this, "--line");
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const at of ticks(0, 1, 5)) {
      const y = Math.round(top + (1 - at) * height) + 0.5;
      context.strokeRect(left, y, width, 0);
      context.fillText(tick(at), left - 6, y);
    }
    context.textBaseline = "top";
    context.textAlign = "center";
    for (const at of ticks(0, most, Math.max(2, width / 70)))
      context.fillText(tick(at), left + (at / most) * width, top + height + 5);
    context.fillText("variability", left + width / 2, top + height + 20);
    context.save();
    context.translate(2, top + height / 2);
    context.rotate(-Math.PI / 2);
    context.fillText("mean target score", 0, 0);
    context.restore();
  }

  protected override hover(x: number, y: number): string | null {
    if (this.points === null || this.dragged?.to) return null;
    const found = nearest(this.points, x, y, this.area, REACH);
    return found === null ? null : this.describe(found);
  }

  protected override press(x: number, y: number): void {
    const { points, boxed } = this;
    this.boxed = false;
    if (points === null || boxed) return;
    const found = nearest(points, x, y, this.area, REACH);
    if (found !== null) this.onPick?.(found);
    else if (this.box !== null) this.onBox?.(null);
  }

  protected override key(event: KeyboardEvent): void {
    const by: Record<string, [number, number]> = {
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
    };
    const { points } = this;
    const to = by[event.key];
    if (points === null || points.x.length === 0) return;
    if (to !== undefined) {
      this.focused = stepAmong(points, this.focused, to, this.area);
      const { x, y } = placeOf(points, this.focused, this.area);
      this.tip = { text: this.describe(this.focused), x, y };
      this.redraw();
    } else if (event.key === "Enter" && this.focused !== null) this.onPick?.(this.focused);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private onDown(event: MouseEvent): void {
    this.boxed = false;
    this.dragged = { ...this.at(event), to: null };
    event.preventDefault(); // no text is marked while a box is drawn
    this.querySelector("canvas")?.focus({ preventScroll: true });
    addEventListener("mouseup", this.onUp, { once: true }); // a box may end outside of the picture
  }

  private readonly onUp = (event: MouseEvent): void => {
    const { dragged, points } = this;
    this.dragged = null;
    if (!dragged?.to || points === null) return;
    this.boxed = true;
    this.redraw();
    this.onBox?.(boxBetween(dragged, this.at(event), this.area, points.most));
  };

  private onDrag(event: MouseEvent): void {
    if (this.dragged === null) return;
    const to = this.at(event);
    if (this.dragged.to === null && Math.hypot(to.x - this.dragged.x, to.y - this.dragged.y) < 5) return;
    this.dragged.to = to;
    this.tip = null;
    this.redraw();
  }

  protected override render(): TemplateResult {
    return html`<div @mousedown=${this.onDown} @mousemove=${this.onDrag}>${super.render()}</div>`;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-scatter": ScatterElement;
  }
}
