// The same histograms as ridges, as TensorBoard draws them: values to the right, the newest batch in front.

import { customElement, property } from "lit/decorators.js";
import { count, figure, percent, tick } from "../format.js";
import { CanvasElement } from "./canvas.js";
import { blueRamp, ramp, themeColour } from "./colour.js";
import {
  binEdges,
  type Frame,
  type Histograms,
  type Ridge,
  ridgeAt,
  ridgesOf,
  shareAt,
} from "./histograms.js";
import { ticks } from "./scale.js";

@customElement("bv-ridgeline")
export class RidgelineElement extends CanvasElement {
  @property({ attribute: false }) histograms: Histograms | null = null;
  /** In the colour of run B. */
  @property({ type: Boolean }) blue = false;
  private ridges: Ridge[] = [];
  private lit: number | null = null;

  protected override heightFor(): number {
    return 300;
  }

  private get area(): Frame {
    return { left: 16, top: 6, width: Math.max(20, this.width - 16 - 64), height: this.height - 42 };
  }

  protected override draw(context: CanvasRenderingContext2D): void {
    const { histograms } = this;
    if (histograms === null || histograms.steps.length === 0) return;
    const frame = this.area;
    this.ridges = ridgesOf(histograms, frame);
    const colours = (this.blue ? blueRamp : ramp)(this.dark);
    const last = Math.max(1, this.ridges.length - 1);
    for (const [index, ridge] of this.ridges.entries()) {
      const lit = index === this.lit;
      this.trace(context, ridge, frame);
      context.fillStyle = colours(0.2 + (0.75 * index) / last);
      context.fill();
      context.strokeStyle = themeColour(this, lit ? "--text" : "--ground");
      context.lineWidth = lit ? 2 : 1;
      context.stroke();
    }
    this.drawAxes(context, histograms, frame);
  }

  private trace(context: CanvasRenderingContext2D, { baseline, heights }: Ridge, frame: Frame): void {
    const bin = frame.width / heights.length;
    context.beginPath();
    context.moveTo(frame.left, baseline);
    heights.forEach((height, index) => {
      context.lineTo(frame.left + (index + 0.5) * bin, baseline - height);
    });
    context.lineTo(frame.left + frame.width, baseline);
    context.closePath();
  }

  private drawAxes(context: CanvasRenderingContext2D, histograms: Histograms, frame: Frame): void {
    const { low, high, steps } = histograms;
    const bottom = frame.top + frame.height;
    context.font = "11px Roboto, system-ui, sans-serif";
    context.fillStyle = themeColour(this, "--quiet");
    context.textBaseline = "top";
    context.textAlign = "center";
    for (const at of ticks(low, high, Math.max(2, frame.width / 80))) {
      context.fillText(tick(at), frame.left + ((at - low) / (high - low || 1)) * frame.width, bottom + 5);
    }
    context.fillText("value", frame.left + frame.width / 2, bottom + 20);
    context.textAlign = "left";
    context.textBaseline = "middle";
    const every = Math.max(1, Math.ceil(this.ridges.length / 10));
    for (const [index, ridge] of this.ridges.entries()) {
      if ((this.ridges.length - 1 - index) % every === 0) {
        context.fillText(count(steps[ridge.window]), frame.left + frame.width + 8, ridge.baseline - 1);
      }
    }
    const top = (this.ridges[0]?.baseline ?? 20) - 16;
    context.fillText("batch", frame.left + frame.width + 8, Math.max(8, top));
  }

  protected override hover(x: number, y: number): string | null {
    const { histograms } = this;
    const hit = ridgeAt(x, y, this.area, this.ridges);
    const lit = hit?.ridge ?? null;
    if (lit !== this.lit) {
      this.lit = lit;
      this.redraw();
    }
    const ridge = hit === null ? undefined : this.ridges[hit.ridge];
    if (histograms === null || hit === null || ridge === undefined) return null;
    const [from, to] = binEdges(histograms, hit.bin);
    const share = percent(shareAt(histograms, ridge.window, hit.bin));
    return `batch ${count(histograms.steps[ridge.window])}\n${share} of the values lie between\n${figure(from)} and ${figure(to)}`;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-ridgeline": RidgelineElement;
  }
}
