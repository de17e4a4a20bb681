// Classes × time: a row a class, in the order of the table, a column a window of batches, colour the share not found.

import type { PropertyValues } from "lit";
import { customElement, property } from "lit/decorators.js";
import { className, count, exactPercent, many, percent, shortName } from "../format.js";
import { cellOf, EMPTY_TREND, greatestRate, missedRate, type Trend } from "../trend.js";
import { drawAxes, drawLegend, FONT } from "./axes.js";
import { axisOfWindows, type TimeAxis } from "./brush.js";
import type { Tip } from "./canvas.js";
import { blueRamp, pixels, ramp, themeColour } from "./colour.js";
import type { Frame } from "./histograms.js";
import { KeyedElement } from "./keyed.js";
import { lastAtMost, roundUp, ticks } from "./scale.js";

const LETTER = 6.4;
const BELOW = 74;
/** Rows are as high as their names; many share the room. */
const ROW = 18;
const MOST_HEIGHT = 540;
const LEAST_NAMED = 11;

export interface TrendCell {
  /** Place of the row in the order shown. */
  row: number;
  window: number;
}

/** The frame of the cells, for so many rows whose longest name has so many letters. */
export function trendFrame(width: number, rows: number, longest: number): Frame {
  const left = Math.min(longest * LETTER + 26, 150, Math.max(70, width * 0.3));
  return {
    left,
    top: 8,
    width: Math.max(20, width - left - 12),
    height: Math.min(MOST_HEIGHT, Math.max(1, rows) * ROW),
  };
}

export function trendCell(
  x: number,
  y: number,
  { left, top, width, height }: Frame,
  rows: number,
  windows: number,
): TrendCell | null {
  const [across, down] = [(x - left) / width, (y - top) / height];
  if (across < 0 || across >= 1 || down < 0 || down >= 1 || rows === 0 || windows === 0) return null;
  return { row: Math.floor(down * rows), window: Math.floor(across * windows) };
}

/**
 * Rates of rows as lines of a picture that has fewer lines than there are rows: the greatest of those in a line
 * shows. NaN where no row has a rate.
 */
export function pooledRates(
  rows: number,
  windows: number,
  lines: number,
  rate: (row: number, window: number) => number | null,
): Float32Array {
  const image = new Float32Array(lines * windows).fill(Number.NaN);
  for (let row = 0; row < rows; row += 1) {
    const line = lines === rows ? row : Math.floor((row * lines) / rows);
    for (let window = 0; window < windows; window += 1) {
      const value = rate(row, window);
      const at = line * windows + window;
      // NaN compares as nothing: a first value takes its place.
      if (value !== null && !((image[at] ?? 0) >= value)) image[at] = value;
    }
  }
  return image;
}

@customElement("bv-trend")
export class TrendElement extends KeyedElement {
  @property({ attribute: false }) trend: Trend = EMPTY_TREND;
  /** Columns of the trend in the order of the rows. */
  @property({ attribute: false }) order: readonly number[] = [];
  @property({ attribute: false }) names: readonly string[] | null = null;
  /** Class number of the chosen row. */
  @property({ attribute: false }) target: number | null = null;
  @property() subject = "class";
  /** In the colour of run B. */
  @property({ type: Boolean }) blue = false;
  /** The rate with the strongest colour, where two pictures share it. */
  @property({ attribute: false }) greatest: number | null = null;
  @property({ attribute: false }) onPick: ((label: number, start: number, stop: number) => void) | null =
    null;
  private focused: TrendCell | null = null;

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has("trend") || changed.has("order")) this.forgetSpot();
  }

  protected override timeAxis(): TimeAxis | null {
    return axisOfWindows(this.area, this.trend.steps);
  }

  private get windows(): number {
    return this.trend.steps.length;
  }

  private get area(): Frame {
    const longest = this.order.reduce((most, _, row) => Math.max(most, this.nameOf(row).length), 1);
    return trendFrame(this.clientWidth, this.order.length, longest);
  }

  private labelOf(row: number): number {
    return this.trend.labels[this.order[row] ?? 0] ?? 0;
  }

  private nameOf(row: number): string {
    return shortName(className(this.names, this.labelOf(row)), 40);
  }

  protected override heightFor(): number {
    return this.area.height + 8 + BELOW;
  }

  protected override drawPicture(context: CanvasRenderingContext2D, ratio: number): void {
    const { order, windows, trend, dark } = this;
    if (order.length === 0 || windows === 0) return;
    const { area } = this;
    const theme = (name: string): string => themeColour(this, name);
    const colours = (this.blue ? blueRamp : ramp)(dark);
    const greatest = this.greatest ?? greatestRate(trend);
    const lines = Math.min(order.length, Math.floor(area.height * ratio));
    const rates = pooledRates(order.length, windows, lines, (row, window) =>
      missedRate(trend, window, order[row] ?? 0),
    );
    const palette = pixels(colours);
    const rule = theme("--rule");
    const [none = 0] = pixels(() => rule);
    const image = new ImageData(windows, lines);
    const target = new Uint32Array(image.data.buffer);
    for (let at = 0; at < target.length; at += 1) {
      const rate = rates[at] ?? Number.NaN;
      target[at] = Number.isNaN(rate) ? none : (palette[Math.round((255 * rate) / (greatest || 1))] ?? 0);
    }
    const canvas = new OffscreenCanvas(windows, lines);
    canvas.getContext("2d")?.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(canvas, area.left, area.top, area.width, area.height);
    this.drawNames(context, area, theme);
    this.drawFrame(context, area, theme);
    const chosen = order.findIndex((_, row) => this.labelOf(row) === this.target);
    if (chosen >= 0 && this.target !== null)
      this.outline(context, area, { row: chosen, window: null }, "--text");
    const y = area.top + area.height + 42;
    drawLegend(context, 0, y, area.width > 260 ? 140 : 70, theme, colours, [
      "not found",
      "0",
      percent(greatest),
    ]);
    context.fillStyle = theme("--rule");
    const after = area.width > 260 ? 230 : 150;
    context.fillRect(after, y, 10, 10);
    context.font = FONT;
    context.fillStyle = theme("--quiet");
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillText("no samples", after + 16, y + 5.5);
  }

  private drawFrame(context: CanvasRenderingContext2D, area: Frame, theme: (name: string) => string): void {
    const { steps } = this.trend;
    const { windows } = this;
    const across = ticks(steps[0] ?? 0, steps[windows - 1] ?? 0, Math.max(2, area.width / 90))
      .filter(Number.isInteger)
      .map((step) => ({ at: (lastAtMost(steps, step) + 0.5) / windows, text: count(step) }));
    drawAxes(context, area, theme, { x: "batch", y: this.subject }, across, []);
  }

  private drawNames(context: CanvasRenderingContext2D, area: Frame, theme: (name: string) => string): void {
    const rows = this.order.length;
    const high = area.height / rows;
    const every = high >= LEAST_NAMED ? 1 : roundUp(16 / high);
    context.save();
    context.font = "12px Roboto, system-ui, sans-serif";
    context.fillStyle = theme("--text");
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.beginPath();
    context.rect(16, 0, area.left, area.top + area.height + 8);
    context.clip();
    for (let row = 0; row < rows; row += every) {
      context.fillText(this.nameOf(row), area.left - 6, area.top + (row + 0.5) * high);
    }
    context.restore();
  }

  private outline(
    context: CanvasRenderingContext2D,
    area: Frame,
    { row, window }: { row: number; window: number | null },
    name: string,
  ): void {
    const [high, wide] = [area.height / this.order.length, area.width / this.windows];
    const width = window === null ? area.width : Math.max(wide, 5);
    const height = Math.max(high, 5);
    const x = window === null ? area.left : area.left + (window + 0.5) * wide - width / 2;
    const y = area.top + (row + 0.5) * high - height / 2;
    for (const [line, ink] of [
      [4, "--ground"],
      [2, name],
    ] as const) {
      context.strokeStyle = themeColour(this, ink);
      context.lineWidth = line;
      context.strokeRect(x, y, width, height);
    }
  }

  private describe({ row, window }: TrendCell): string {
    const { trend } = this;
    const cell = cellOf(trend, window, this.order[row] ?? 0);
    const [first, last] = [trend.steps[window] ?? 0, trend.lasts[window] ?? 0];
    const missed = cell.support - cell.hits;
    return [
      `${this.subject} ${this.nameOf(row)}`,
      first === last ? `batch ${count(first)}` : `batches ${count(first)}–${count(last)}`,
      cell.support === 0
        ? "no samples of it"
        : `${exactPercent(missed / cell.support)} not found: ${count(missed)} of ${many(cell.support, "sample")}`,
      `${count(cell.predicted)} predicted so, ${count(cell.predicted - cell.hits)} of them wrong`,
    ].join("\n");
  }

  private cellAt(x: number, y: number): TrendCell | null {
    return trendCell(x, y, this.area, this.order.length, this.windows);
  }

  protected override hover(x: number, y: number): string | null {
    const cell = this.cellAt(x, y);
    return cell === null ? null : this.describe(cell);
  }

  protected override press(x: number, y: number): void {
    const cell = this.cellAt(x, y);
    if (cell === null) return;
    this.focused = cell;
    this.choose();
  }

  protected override choose(): void {
    if (this.focused === null) return;
    const { row, window } = this.focused;
    this.onPick?.(this.labelOf(row), this.trend.steps[window] ?? 0, (this.trend.lasts[window] ?? 0) + 1);
  }

  protected override moveCursor(key: string, far: boolean): boolean {
    const [rows, windows] = [this.order.length, this.windows];
    const { row, window } = this.focused ?? { row: 0, window: 0 };
    const to: Record<string, [number, number]> = {
      ArrowUp: [row - 1, window],
      ArrowDown: [row + 1, window],
      ArrowLeft: [row, window - 1],
      ArrowRight: [row, window + 1],
      PageUp: [row - 10, window],
      PageDown: [row + 10, window],
      Home: [far ? 0 : row, 0],
      End: [far ? rows - 1 : row, windows - 1],
    };
    const next = to[key];
    if (next === undefined || rows === 0 || windows === 0) return false;
    const inside = (value: number, size: number): number => Math.min(size - 1, Math.max(0, value));
    // The first key shows where the cursor is.
    const [nextRow, nextWindow] = this.focused === null ? [row, window] : next;
    this.focused = { row: inside(nextRow, rows), window: inside(nextWindow, windows) };
    return true;
  }

  protected override spot(): Tip | null {
    const { focused } = this;
    if (focused === null || focused.row >= this.order.length || focused.window >= this.windows) return null;
    const { left, top, width, height } = this.area;
    const x = left + ((focused.window + 1) * width) / this.windows;
    return { text: this.describe(focused), x, y: top + (focused.row * height) / this.order.length };
  }

  protected override drawCursor(context: CanvasRenderingContext2D): void {
    if (this.spot() !== null && this.focused !== null)
      this.outline(context, this.area, this.focused, "--focus");
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-trend": TrendElement;
  }
}
