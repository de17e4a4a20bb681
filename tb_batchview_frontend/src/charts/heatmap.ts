// Histograms of a layer over the batches: time to the right, values upwards, colour the share of values.

import { customElement, property } from "lit/decorators.js";
import { count, figure, percent, tick } from "../format.js";
import { CanvasElement } from "./canvas.js";
import { pixels, ramp, themeColour } from "./colour.js";
import { binEdges, type Frame, greatestShare, type Histograms, heatCell, shareAt } from "./histograms.js";
import { lastAtMost, ticks } from "./scale.js";

/** Room for the axis of values; the line charts above leave the same, so that the batches stand below each other. */
const LEFT = 76;
const BELOW = 36;

@customElement("bv-heatmap")
export class HeatmapElement extends CanvasElement {
  @property({ attribute: false }) histograms: Histograms | null = null;
  @property({ attribute: false }) marker: number | null = null;
  @property({ attribute: false }) onStep: ((step: number) => void) | null = null;

  protected override heightFor(): number {
    return 240;
  }

  private get area(): Frame {
    return {
      left: LEFT,
      top: 6,
      width: Math.max(20, this.width - LEFT - 10),
      height: this.height - BELOW - 6,
    };
  }

  protected override draw(context: CanvasRenderingContext2D): void {
    const { histograms } = this;
    if (histograms === null || histograms.steps.length === 0) return;
    const { left, top, width, height } = this.area;
    const windows = histograms.steps.length;
    const image = new ImageData(windows, histograms.bins);
    const target = new Uint32Array(image.data.buffer);
    const palette = pixels(ramp(this.dark));
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
    this.drawAxes(context, histograms);
  }

  private drawAxes(context: CanvasRenderingContext2D, histograms: Histograms): void {
    const { left, top, width, height } = this.area;
    const { low, high, steps } = histograms;
    context.font = "11px Roboto, system-ui, sans-serif";
    context.fillStyle = themeColour(this, "--quiet");
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const at of ticks(low, high, 6)) {
      context.fillText(tick(at), left - 6, top + height * (1 - (at - low) / (high - low || 1)));
    }
    context.textBaseline = "top";
    context.textAlign = "center";
    const windows = steps.length;
    const labels = ticks(steps[0] ?? 0, steps[windows - 1] ?? 0, Math.max(2, width / 90)).filter(
      Number.isInteger,
    );
    for (const step of labels) {
      const window = lastAtMost(steps, step);
      context.fillText(count(step), left + ((window + 0.5) / windows) * width, top + height + 5);
    }
    context.fillText("batch", left + width / 2, top + height + 20);
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
    const cell = histograms === null ? null : heatCell(x, y, this.area, histograms);
    if (histograms === null || cell === null) return null;
    const [from, to] = binEdges(histograms, cell.bin);
    const share = percent(shareAt(histograms, cell.window, cell.bin));
    return `batch ${count(histograms.steps[cell.window])}\n${share} of the values lie between\n${figure(from)} and ${figure(to)}`;
  }

  protected override press(x: number, y: number): void {
    const { histograms } = this;
    const cell = histograms === null ? null : heatCell(x, y, this.area, histograms);
    if (cell !== null) this.onStep?.(histograms?.steps[cell.window] ?? 0);
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-heatmap": HeatmapElement;
  }
}
