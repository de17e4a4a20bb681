// A picture on two numeric axes: curves, points or bars, with lines to judge them by; hover and keys go from item to item.

import type { PropertyValues } from "lit";
import { customElement, property } from "lit/decorators.js";
import { tick } from "../format.js";
import { drawAxes } from "./axes.js";
import { axisOfSteps, type TimeAxis } from "./brush.js";
import type { Tip } from "./canvas.js";
import { ramp, themeColour } from "./colour.js";
import type { Frame } from "./histograms.js";
import { KeyedElement } from "./keyed.js";
import { ticks } from "./scale.js";

export interface Axis {
  label: string;
  low: number;
  high: number;
  /** How a number is written beside the axis. */
  text?: (value: number) => string;
  /** Numbers between whole ones mean nothing here. */
  whole?: boolean;
  /** It counts batches. */
  steps?: boolean;
}

/** A line that is only looked at. */
export interface Guide {
  x: ArrayLike<number>;
  y: ArrayLike<number>;
  colour: string;
  dashed?: boolean;
  /** It crosses what is as strong as itself. */
  edged?: boolean;
  /** Fill between this line and these values. */
  down?: ArrayLike<number>;
}

/** What is drawn; items are told by their places in `x`. */
export interface Plane {
  across: Axis;
  up: Axis;
  kind: "dots" | "curve" | "bars";
  x: ArrayLike<number>;
  y: ArrayLike<number>;
  /** Where each bar ends; it begins at `x`. */
  ends?: ArrayLike<number>;
  /** Strength of colour of each bar, from 0 to 1. */
  shades?: ArrayLike<number>;
  guides: readonly Guide[];
  /** Items from this one on are of run B: in its colour, its curve dashed. */
  second?: number;
  /** As wide as it is high. */
  square?: boolean;
}

export const EMPTY_PLANE: Plane = {
  across: { label: "", low: 0, high: 1 },
  up: { label: "", low: 0, high: 1 },
  kind: "dots",
  x: [],
  y: [],
  guides: [],
};

const LEFT = 64;
const BELOW = 40;
const HEIGHT = 240;
const LARGEST_SQUARE = 340;
/** A point is hovered from so many pixels away. */
const REACH = 16;

export function planeFrame(width: number, square: boolean): Frame {
  const room = Math.max(40, width - LEFT - 14);
  const edge = Math.min(room, LARGEST_SQUARE);
  return { left: LEFT, top: 10, width: square ? edge : room, height: square ? edge : HEIGHT - BELOW - 10 };
}

/** Limits with a little room around the finite ones of the values. */
export function limitsOf(...columns: readonly ArrayLike<number>[]): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const column of columns) {
    for (let index = 0; index < column.length; index += 1) {
      const value = column[index] ?? Number.NaN;
      if (!Number.isFinite(value)) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  if (low > high) return [0, 1];
  const room = (high - low) * 0.04 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

export const place = ({ low, high }: Axis, value: number): number => (value - low) / (high - low || 1);

/** The item under a point of the picture: the bar it stands in, else the nearest item within reach. */
export function itemAt(x: number, y: number, frame: Frame, plane: Plane): number | null {
  if (plane.kind === "bars") {
    if (y < frame.top || y > frame.top + frame.height) return null;
    const { low, high } = plane.across;
    const value = low + ((x - frame.left) / frame.width) * (high - low);
    for (let index = 0; index < plane.x.length; index += 1) {
      if (value >= (plane.x[index] ?? 0) && value < (plane.ends?.[index] ?? 0)) return index;
    }
    return null;
  }
  let [best, least] = [null as number | null, REACH ** 2];
  for (let index = 0; index < plane.x.length; index += 1) {
    const dx = frame.left + place(plane.across, plane.x[index] ?? 0) * frame.width - x;
    const dy = frame.top + (1 - place(plane.up, plane.y[index] ?? 0)) * frame.height - y;
    const far = dx * dx + dy * dy;
    if (far < least) [best, least] = [index, far];
  }
  return best;
}

@customElement("bv-plane")
export class PlaneElement extends KeyedElement {
  @property({ attribute: false }) plane: Plane = EMPTY_PLANE;
  /** What an item holds, a fact a line. */
  @property({ attribute: false }) describe: (index: number) => string = () => "";
  @property({ attribute: false }) onPick: ((index: number) => void) | null = null;
  /** The item that is chosen. */
  @property({ attribute: false }) marked: number | null = null;
  /** The item of run B that goes with it. */
  @property({ attribute: false }) markedB: number | null = null;
  private focused: number | null = null;

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has("plane")) this.forgetSpot();
  }

  private get area(): Frame {
    return planeFrame(this.clientWidth, this.plane.square === true);
  }

  protected override timeAxis(): TimeAxis | null {
    const { low, high, steps } = this.plane.across;
    return steps ? axisOfSteps(this.area, low, high) : null;
  }

  protected override heightFor(): number {
    const { top, height } = this.area;
    return top + height + BELOW;
  }

  private readonly theme = (name: string): string => themeColour(this, name);

  private spotOf(index: number): { x: number; y: number } {
    const { left, top, width, height } = this.area;
    const { across, up, x, y, ends, kind } = this.plane;
    const value = kind === "bars" ? ((x[index] ?? 0) + (ends?.[index] ?? 0)) / 2 : (x[index] ?? 0);
    return { x: left + place(across, value) * width, y: top + (1 - place(up, y[index] ?? 0)) * height };
  }

  protected override drawPicture(context: CanvasRenderingContext2D): void {
    const { plane, area: frame, theme } = this;
    const { across, up } = plane;
    const ticksOf = (axis: Axis, most: number) =>
      ticks(axis.low, axis.high, most)
        .filter((value) => axis.whole !== true || Number.isInteger(value))
        .map((value) => ({ at: place(axis, value), text: (axis.text ?? tick)(value) }));
    const upTicks = ticksOf(up, 5);
    context.strokeStyle = theme("--line");
    context.lineWidth = 1;
    for (const { at } of upTicks) {
      const y = Math.round(frame.top + (1 - at) * frame.height) + 0.5;
      context.strokeRect(frame.left, y, frame.width, 0);
    }
    drawAxes(
      context,
      frame,
      theme,
      { x: across.label, y: up.label },
      ticksOf(across, Math.max(2, frame.width / 80)),
      upTicks,
    );
    context.save();
    context.beginPath();
    context.rect(frame.left - 4, frame.top - 4, frame.width + 8, frame.height + 8);
    context.clip();
    if (plane.kind === "bars") this.drawBars(context);
    if (plane.kind === "dots") this.drawDots(context);
    for (const guide of plane.guides) this.drawGuide(context, guide);
    if (plane.kind === "curve") {
      const { second = plane.x.length } = plane;
      const part = (from: number, to: number): Pick<Guide, "x" | "y"> => ({
        x: Array.from(plane.x).slice(from, to),
        y: Array.from(plane.y).slice(from, to),
      });
      this.drawGuide(context, { ...part(second, plane.x.length), colour: "--run-b-line", dashed: true });
      this.drawGuide(context, { ...part(0, second), colour: "--accent" });
    }
    context.restore();
    const marks = [
      [this.markedB, "--run-b-line"],
      [this.marked, "--text"],
    ] as const;
    for (const [item, ink] of marks)
      if (item !== null && item < plane.x.length) this.ring(context, item, ink);
  }

  private drawBars(context: CanvasRenderingContext2D): void {
    const { plane, area: frame } = this;
    const colours = ramp(this.dark);
    const ground = frame.top + (1 - Math.max(0, place(plane.up, 0))) * frame.height;
    for (let index = 0; index < plane.x.length; index += 1) {
      const value = plane.y[index] ?? Number.NaN;
      if (!Number.isFinite(value) || plane.shades?.[index] === 0) continue;
      const from = frame.left + place(plane.across, plane.x[index] ?? 0) * frame.width;
      const to = frame.left + place(plane.across, plane.ends?.[index] ?? 0) * frame.width;
      const { y } = this.spotOf(index);
      context.fillStyle = colours(0.15 + 0.75 * (plane.shades?.[index] ?? 0.6));
      context.fillRect(from + 0.5, y, Math.max(1, to - from - 1), ground - y);
      // Also the palest bar has an edge that is seen.
      context.fillStyle = this.theme("--accent");
      context.fillRect(from + 0.5, y - 1, Math.max(1, to - from - 1), 2);
    }
  }

  private drawDots(context: CanvasRenderingContext2D): void {
    const { plane } = this;
    context.fillStyle = this.theme(plane.second === 0 ? "--run-b-line" : "--accent");
    context.globalAlpha = plane.x.length > 500 ? 0.5 : 0.8;
    for (let index = 0; index < plane.x.length; index += 1) {
      const { x, y } = this.spotOf(index);
      if (Number.isFinite(x + y)) context.fillRect(x - 1.5, y - 1.5, 3, 3);
    }
    context.globalAlpha = 1;
  }

  private drawGuide(context: CanvasRenderingContext2D, { x, y, colour, dashed, edged, down }: Guide): void {
    const { plane, area: frame } = this;
    const to = (index: number, values: ArrayLike<number>): [number, number] => [
      frame.left + place(plane.across, x[index] ?? 0) * frame.width,
      frame.top + (1 - place(plane.up, values[index] ?? 0)) * frame.height,
    ];
    context.beginPath();
    for (let index = 0; index < x.length; index += 1) context.lineTo(...to(index, y));
    if (down !== undefined) {
      for (let index = x.length - 1; index >= 0; index -= 1) context.lineTo(...to(index, down));
      context.fillStyle = this.theme(colour);
      context.globalAlpha = 0.25;
      context.fill();
      context.globalAlpha = 1;
      return;
    }
    if (edged) {
      context.strokeStyle = this.theme("--ground");
      context.lineWidth = 6;
      context.stroke();
    }
    context.setLineDash(dashed ? [5, 4] : []);
    context.strokeStyle = this.theme(colour);
    context.lineWidth = edged ? 3 : dashed ? 1.5 : 2;
    context.stroke();
    context.setLineDash([]);
  }

  private ring(context: CanvasRenderingContext2D, index: number, name: string): void {
    const { x, y } = this.spotOf(index);
    for (const [line, ink] of [
      [5, "--ground"],
      [2.5, name],
    ] as const) {
      context.beginPath();
      context.arc(x, y, 6, 0, 2 * Math.PI);
      context.strokeStyle = this.theme(ink);
      context.lineWidth = line;
      context.stroke();
    }
  }

  protected override drawCursor(context: CanvasRenderingContext2D): void {
    if (this.focused !== null && this.spot() !== null) this.ring(context, this.focused, "--focus");
  }

  protected override hover(x: number, y: number): string | null {
    const item = itemAt(x, y, this.area, this.plane);
    return item === null ? null : this.describe(item);
  }

  protected override press(x: number, y: number): void {
    const item = itemAt(x, y, this.area, this.plane);
    if (item === null) return;
    this.focused = item;
    this.onPick?.(item);
  }

  protected override choose(): void {
    if (this.focused !== null) this.onPick?.(this.focused);
  }

  private order: { plane: Plane; places: number[] } | null = null;
  /** Items from left to right, as the keys go. */
  private get places(): number[] {
    const { plane } = this;
    if (this.order?.plane !== plane) {
      const places = Array.from(plane.x, (_, index) => index).sort(
        (a, b) => (plane.x[a] ?? 0) - (plane.x[b] ?? 0) || (plane.y[a] ?? 0) - (plane.y[b] ?? 0),
      );
      this.order = { plane, places };
    }
    return this.order.places;
  }

  protected override moveCursor(key: string): boolean {
    const { places } = this;
    const last = places.length - 1;
    const from = this.focused ?? this.marked;
    const at = from === null ? 0 : Math.max(0, places.indexOf(from));
    const page = Math.max(1, Math.round(places.length / 20));
    const to: Record<string, number> = {
      ArrowLeft: at - 1,
      ArrowRight: at + 1,
      ArrowDown: at - 1,
      ArrowUp: at + 1,
      PageUp: at + page,
      PageDown: at - page,
      Home: 0,
      End: last,
    };
    const next = to[key];
    if (next === undefined || last < 0) return false;
    // The first key shows where the cursor is.
    this.focused = places[this.focused === null ? at : Math.min(last, Math.max(0, next))] ?? null;
    return true;
  }

  protected override spot(): Tip | null {
    if (this.focused === null || this.focused >= this.plane.x.length) return null;
    const { x, y } = this.spotOf(this.focused);
    return { text: this.describe(this.focused), x, y: Math.max(0, y) };
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-plane": PlaneElement;
  }
}
