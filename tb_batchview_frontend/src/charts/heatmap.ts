// Histograms of a layer over the batches: time to the right, values upwards, colour the share of values.

import { customElement, property } from "lit/decorators.js";
import { count, exact, exactPercent, tick } from "../format.js";
import { axisOfWindows, type TimeAxis } from "./brush.js";
import { blueRamp, pixels, ramp, themeColour } from "./colour.js";
import { type Cell, CellsElement } from "./cursor.js";
import {
  binEdges,
  type Frame,
  greatestShare,
  type Histograms,
  heatCell,
  reachesBeyond,
  shareAt,
  stripCell,
  stripOf,
  withoutStrips,
} from "./histograms.js";
import { lastAtMost, ticks } from "./scale.js";
import { drawMarker, drawPixels, drawSteps, drawUpright } from "./steps_axis.js";

/** Room for the axis of values; the line charts above leave the same, so that the batches stand below each other. */
const LEFT = 76;
const BELOW = 36;
const EMPTY: Frame = { left: 0, top: 0, width: 1, height: 1 };

@customElement("bv-heatmap")
export class HeatmapElement extends CellsElement {
  @property({ attribute: false }) histograms: Histograms | null = null;
  /** In the colour of run B. */
  @property({ type: Boolean }) blue = false;
  @property({ attribute: false }) marker: number | null = null;
  @property({ attribute: false }) onStep: ((step: number) => void) | null = null;

  protected override heightFor(): number {
    return 240;
  }

  protected override timeAxis(): TimeAxis | null {
    const { histograms } = this;
    return histograms === null ? null : axisOfWindows(this.areaOf(histograms), histograms.steps);
  }

  private areaOf(histograms: Histograms): Frame {
    const whole = {
      left: LEFT,
      top: 6,
      width: Math.max(20, this.width - LEFT - 10),
      height: this.height - BELOW - 6,
    };
    return withoutStrips(whole, histograms);
  }

  protected override drawPicture(context: CanvasRenderingContext2D): void {
    const { histograms } = this;
    if (histograms === null || histograms.steps.length === 0) return;
    const area = this.areaOf(histograms);
    const windows = histograms.steps.length;
    const palette = pixels((this.blue ? blueRamp : ramp)(this.dark));
    const greatest = greatestShare(histograms) || 1;
    // The square root keeps the tails visible beside the peak.
    const shade = (share: number): number =>
      palette[Math.round(255 * Math.sqrt(Math.min(1, share / greatest)))] ?? 0;
    drawPixels(context, area, windows, histograms.bins, (window, row) =>
      shade(shareAt(histograms, window, histograms.bins - 1 - row)),
    );
    for (const side of ["above", "below"] as const) {
      if (!reachesBeyond(histograms, side)) continue;
      drawPixels(context, stripOf(area, side), windows, 1, (window) => shade(histograms[side][window] ?? 0));
    }
    this.drawAxes(context, histograms, area);
  }

  private drawAxes(context: CanvasRenderingContext2D, histograms: Histograms, area: Frame): void {
    const { left, top, height } = area;
    const { low, high, steps } = histograms;
    context.font = "11px Roboto, system-ui, sans-serif";
    context.fillStyle = themeColour(this, "--quiet");
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const at of ticks(low, high, 6)) {
      context.fillText(tick(at), left - 6, top + height * (1 - (at - low) / (high - low || 1)));
    }
    context.font = "9px Roboto, system-ui, sans-serif";
    for (const side of ["above", "below"] as const) {
      if (!reachesBeyond(histograms, side)) continue;
      const strip = stripOf(area, side);
      context.fillText(side, left - 6, strip.top + strip.height / 2);
    }
    const bottom =
      top + height + (reachesBeyond(histograms, "below") ? stripOf(area, "below").height + 3 : 0);
    drawSteps(context, this, area, steps, bottom);
    drawUpright(context, area, "value");
    drawMarker(context, this, area, steps, this.marker);
  }

  protected override cells(): { columns: number; rows: number } {
    return { columns: this.histograms?.steps.length ?? 0, rows: this.histograms?.bins ?? 0 };
  }

  protected override start(): Cell {
    const { histograms } = this;
    if (histograms === null) return { column: 0, row: 0 };
    const column =
      this.marker === null ? histograms.steps.length - 1 : lastAtMost(histograms.steps, this.marker);
    return { column, row: Math.floor(histograms.bins / 2) };
  }

  protected override boxOf({ column, row }: Cell): Frame {
    const { columns, rows } = this.cells();
    const { left, top, width, height } = this.histograms === null ? EMPTY : this.areaOf(this.histograms);
    return {
      left: left + (column / columns) * width,
      top: top + (row / rows) * height,
      width: width / columns,
      height: height / rows,
    };
  }

  protected override cellAt(x: number, y: number): Cell | null {
    const { histograms } = this;
    const cell = histograms === null ? null : heatCell(x, y, this.areaOf(histograms), histograms);
    return cell === null ? null : { column: cell.window, row: (histograms?.bins ?? 0) - 1 - cell.bin };
  }

  protected override describe({ column, row }: Cell): string {
    const { histograms } = this;
    if (histograms === null) return "";
    const bin = histograms.bins - 1 - row;
    const [from, to] = binEdges(histograms, bin);
    const share = exactPercent(shareAt(histograms, column, bin));
    return `batch ${count(histograms.steps[column])}\n${share} of the values lie between\n${exact(from)} and ${exact(to)}`;
  }

  protected override pick({ column }: Cell): void {
    this.onStep?.(this.histograms?.steps[column] ?? 0);
  }

  protected override hover(x: number, y: number): string | null {
    const { histograms } = this;
    const beyond = histograms === null ? null : stripCell(x, y, this.areaOf(histograms), histograms);
    if (histograms === null || beyond === null) return super.hover(x, y);
    const { window, side } = beyond;
    const end = side === "above" ? histograms.high : histograms.low;
    return `batch ${count(histograms.steps[window])}\n${exactPercent(histograms[side][window] ?? 0)} of the values lie ${side}\n${exact(end)}, beyond the axis`;
  }

  protected override press(x: number, y: number): void {
    const { histograms } = this;
    const beyond = histograms === null ? null : stripCell(x, y, this.areaOf(histograms), histograms);
    if (beyond === null) super.press(x, y);
    else this.onStep?.(histograms?.steps[beyond.window] ?? 0);
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-heatmap": HeatmapElement;
  }
}
