// The same histograms as ridges, as TensorBoard draws them: values to the right, the newest batch in front.

import { customElement, property } from "lit/decorators.js";
import { count, exact, exactPercent, tick } from "../format.js";
import { blueRamp, ramp, themeColour } from "./colour.js";
import { type Cell, CellsElement } from "./cursor.js";
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
export class RidgelineElement extends CellsElement {
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

  protected override drawPicture(context: CanvasRenderingContext2D): void {
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
    for (const at of ticks(low, high, Math.max(2, frame.width / 56))) {
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

  /** A row a ridge, a column a bin. */
  protected override cells(): { columns: number; rows: number } {
    return { columns: this.histograms?.bins ?? 0, rows: this.ridges.length };
  }

  protected override start(): Cell {
    const { columns, rows } = this.cells();
    return { column: Math.floor(columns / 2), row: rows - 1 };
  }

  protected override boxOf({ column, row }: Cell): Frame {
    const { left, width } = this.area;
    const { columns } = this.cells();
    const { baseline = 0, heights = [0] } = this.ridges[row] ?? {};
    const height = Math.max(3, heights[column] ?? 0);
    return {
      left: left + (column / columns) * width,
      top: baseline - height,
      width: width / columns,
      height,
    };
  }

  protected override cellAt(x: number, y: number): Cell | null {
    const hit = ridgeAt(x, y, this.area, this.ridges);
    return hit === null ? null : { column: hit.bin, row: hit.ridge };
  }

  protected override describe({ column, row }: Cell): string {
    const { histograms } = this;
    const ridge = this.ridges[row];
    this.light(row);
    if (histograms === null || ridge === undefined) return "";
    const [from, to] = binEdges(histograms, column);
    const share = exactPercent(shareAt(histograms, ridge.window, column));
    return `batch ${count(histograms.steps[ridge.window])}\n${share} of the values lie between\n${exact(from)} and ${exact(to)}`;
  }

  private light(row: number | null): void {
    if (row === this.lit) return;
    this.lit = row;
    this.redraw();
  }

  protected override hover(x: number, y: number): string | null {
    const text = super.hover(x, y);
    if (text === null) this.light(null);
    return text;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-ridgeline": RidgelineElement;
  }
}
