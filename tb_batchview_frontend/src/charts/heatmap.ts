// Histograms of a layer over the batches: time to the right, values upwards, colour the share of values.

import { customElement, property } from "lit/decorators.js";
import { count, figure, percent, tick } from "../format.js";
import { CanvasElement } from "./canvas.js";
import { blueRamp, pixels, ramp, themeColour } from "./colour.js";
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

/** Room for the axis of values; the line charts above leave the same, so that the batches stand below each other. */
const LEFT = 76;
const BELOW = 36;

@customElement("bv-heatmap")
export class HeatmapElement extends CanvasElement {
  @property({ attribute: false }) histograms: Histograms | null = null;
  /** In the colour of run B. */
  @property({ type: Boolean }) blue = false;
  @property({ attribute: false }) marker: number | null = null;
  @property({ attribute: false }) onStep: ((step: number) => void) | null = null;

  protected override heightFor(): number {
    return 240;
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

  protected override draw(context: CanvasRenderingContext2D): void {
    const { histograms } = this;
    if (histograms === null || histograms.steps.length === 0) return;
    const area = this.areaOf(histograms);
    const { left, top, width, height } = area;
    const windows = histograms.steps.length;
    const image = new ImageData(windows, histograms.bins);
    const target = new Uint32Array(image.data.buffer);
    const palette = pixels((this.blue ? blueRamp : ramp)(this.dark));
    const greatest = greatestShare(histograms) || 1;
    for (let window = 0; window < windows; window += 1) {
      for (let bin = 0; bin < histograms.bins; bin += 1) {
        // The square root keeps the tails visible beside the peak.
        const level = Math.round(255 * Math.sqrt(shareAt(histograms, window, bin) / greatest));
        target[(histograms.bins - 1 - bin) * windows + window] = palette[level] ?? 0;
      }
    }
    const canvas = new OffscreenCanvas(windows, histograms.bins);
    canvas.getContext("2d")?.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(canvas, left, top, width, height);
    for (const side of ["above", "below"] as const) {
      if (!reachesBeyond(histograms, side)) continue;
      const strip = stripOf(area, side);
      const row = new ImageData(windows, 1);
      const cells = new Uint32Array(row.data.buffer);
      for (let window = 0; window < windows; window += 1) {
        const share = Math.min(1, (histograms[side][window] ?? 0) / greatest);
        cells[window] = palette[Math.round(255 * Math.sqrt(share))] ?? 0;
      }
      const line = new OffscreenCanvas(windows, 1);
      line.getContext("2d")?.putImageData(row, 0, 0);
      context.drawImage(line, left, strip.top, width, strip.height);
    }
    this.drawAxes(context, histograms, area);
  }

  private drawAxes(context: CanvasRenderingContext2D, histograms: Histograms, area: Frame): void {
    const { left, top, width, height } = area;
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
    context.font = "11px Roboto, system-ui, sans-serif";
    const bottom =
      top + height + (reachesBeyond(histograms, "below") ? stripOf(area, "below").height + 3 : 0);
    context.textBaseline = "top";
    context.textAlign = "center";
    const windows = steps.length;
    const labels = ticks(steps[0] ?? 0, steps[windows - 1] ?? 0, Math.max(2, width / 90)).filter(
      Number.isInteger,
    );
    for (const step of labels) {
      const window = lastAtMost(steps, step);
      context.fillText(count(step), left + ((window + 0.5) / windows) * width, bottom + 5);
    }
    context.fillText("batch", left + width / 2, bottom + 20);
    context.save();
    context.translate(6, top + height / 2);
    context.rotate(-Math.PI / 2);
    context.fillText("value", 0, 0);
    context.restore();
    if (this.marker === null) return;
    const window = lastAtMost(steps, this.marker);
    context.strokeStyle = themeColour(this, "--text");
    context.lineWidth = 1;
    context.strokeRect(left + (window / windows) * width, top, Math.max(1, width / windows), height);
  }

  protected override hover(x: number, y: number): string | null {
    const { histograms } = this;
    if (histograms === null) return null;
    const area = this.areaOf(histograms);
    const beyond = stripCell(x, y, area, histograms);
    if (beyond !== null) {
      const { window, side } = beyond;
      const end = side === "above" ? histograms.high : histograms.low;
      return `batch ${count(histograms.steps[window])}\n${percent(histograms[side][window] ?? 0)} of the values lie ${side}\n${figure(end)}, beyond the axis`;
    }
    const cell = heatCell(x, y, area, histograms);
    if (cell === null) return null;
    const [from, to] = binEdges(histograms, cell.bin);
    const share = percent(shareAt(histograms, cell.window, cell.bin));
    return `batch ${count(histograms.steps[cell.window])}\n${share} of the values lie between\n${figure(from)} and ${figure(to)}`;
  }

  protected override press(x: number, y: number): void {
    const { histograms } = this;
    if (histograms === null) return;
    const area = this.areaOf(histograms);
    const cell = heatCell(x, y, area, histograms) ?? stripCell(x, y, area, histograms);
    if (cell !== null) this.onStep?.(histograms.steps[cell.window] ?? 0);
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-heatmap": HeatmapElement;
  }
}
