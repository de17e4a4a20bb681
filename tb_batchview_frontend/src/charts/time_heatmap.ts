// Rows over batches as a heatmap: time to the right, a row a unit or a layer, colour its figure.

import { customElement, property } from "lit/decorators.js";
import { shortName } from "../format.js";
import { drawStrip, FONT } from "./axes.js";
import { axisOfWindows, type TimeAxis } from "./brush.js";
import { channels, pixels, ramp, signedRamp, themeColour } from "./colour.js";
import { type Cell, CellsElement } from "./cursor.js";
import type { Frame } from "./histograms.js";
import { drawMarker, drawPixels, drawSteps, drawUpright } from "./steps_axis.js";
import { gridCell, levelOf, type TimeGrid } from "./time_grid.js";

const TOP = 6;
const RIGHT = 10;
const BELOW = 62;
const BAR = 110;

@customElement("bv-time-heatmap")
export class TimeHeatmapElement extends CellsElement {
  @property({ attribute: false }) grid: TimeGrid | null = null;
  @property({ attribute: false }) marker: number | null = null;
  /** Row that is chosen elsewhere. */
  @property({ type: Number }) row = -1;
  @property({ attribute: false }) onCell: ((step: number, row: number) => void) | null = null;

  protected override heightFor(): number {
    const rows = this.grid?.rows ?? 0;
    return TOP + BELOW + Math.round(rows * Math.min(18, Math.max(1.5, 300 / Math.max(1, rows))));
  }

  private get area(): Frame {
    const left = Math.min(this.grid?.left ?? 0, Math.max(76, this.width / 4));
    return {
      left,
      top: TOP,
      width: Math.max(20, this.width - left - RIGHT),
      height: Math.max(1, this.height - TOP - BELOW),
    };
  }

  protected override timeAxis(): TimeAxis | null {
    return this.grid === null ? null : axisOfWindows(this.area, this.grid.steps);
  }

  protected override cells(): { columns: number; rows: number } {
    return { columns: this.grid?.steps.length ?? 0, rows: this.grid?.rows ?? 0 };
  }

  protected override boxOf({ column, row }: Cell): Frame {
    const { left, top, width, height } = this.area;
    const { columns, rows } = this.cells();
    return {
      left: left + (column / columns) * width,
      top: top + (row / rows) * height,
      width: width / columns,
      height: height / rows,
    };
  }

  protected override cellAt(x: number, y: number): Cell | null {
    return this.grid === null ? null : gridCell(x, y, this.area, this.grid);
  }

  protected override describe({ column, row }: Cell): string {
    return this.grid?.describe(column, row) ?? "";
  }

  protected override pick({ column, row }: Cell): void {
    this.onCell?.(this.grid?.steps[column] ?? 0, row);
  }

  protected override drawPicture(context: CanvasRenderingContext2D): void {
    const { grid, area } = this;
    if (grid === null || grid.rows === 0) return;
    const palette = pixels((grid.signed ? signedRamp : ramp)(this.dark));
    const [empty, bad] = ["--hover", "--wrong-confident"].map((name) => {
      const [red, green, blue] = channels(themeColour(this, name));
      return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    }) as [number, number];
    let broken = false;
    drawPixels(context, area, grid.steps.length, grid.rows, (window, row) => {
      if (grid.bad(window, row)) {
        broken = true;
        return bad;
      }
      const value = grid.value(window, row);
      return Number.isNaN(value) ? empty : (palette[Math.round(255 * levelOf(grid, value))] ?? empty);
    });
    const { left, top, height, width } = area;
    drawSteps(context, this, area, grid.steps, top + height);
    context.textAlign = "right";
    context.textBaseline = "middle";
    const every = Math.ceil(13 / (height / grid.rows));
    for (let row = 0; row < grid.rows; row += every) {
      const chosen = row === this.row;
      context.fillStyle = themeColour(this, chosen ? "--text" : "--quiet");
      context.fillText(
        shortName(grid.rowLabel(row), 18),
        left - 6,
        top + ((row + 0.5) / grid.rows) * height,
        left - 22,
      );
    }
    context.fillStyle = themeColour(this, "--quiet");
    drawUpright(context, area, grid.yLabel);
    drawMarker(context, this, area, grid.steps, this.marker);
    if (this.row >= 0 && this.row < grid.rows) {
      context.strokeStyle = themeColour(this, "--text");
      context.strokeRect(left - 0.5, top + (this.row / grid.rows) * height, width + 1, height / grid.rows);
    }
    this.drawLegend(context, grid, area, broken);
  }

  private drawLegend(context: CanvasRenderingContext2D, grid: TimeGrid, area: Frame, broken: boolean): void {
    const top = area.top + area.height + 40;
    const colours = (grid.signed ? signedRamp : ramp)(this.dark);
    context.font = FONT;
    context.textBaseline = "middle";
    context.textAlign = "left";
    let left = area.left;
    const write = (text: string): void => {
      context.fillStyle = themeColour(this, "--quiet");
      context.fillText(text, left, top + 6);
      left += context.measureText(text).width + 6;
    };
    write(grid.legend);
    write(grid.format(grid.low));
    drawStrip(context, left, top, BAR, themeColour(this, "--rule"), colours);
    left += BAR + 6;
    write(grid.format(grid.high));
    if (!broken) return;
    context.fillStyle = themeColour(this, "--wrong-confident");
    context.fillRect(left + 6, top, 11, 11);
    left += 22;
    write("NaN or ∞");
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-time-heatmap": TimeHeatmapElement;
  }
}
