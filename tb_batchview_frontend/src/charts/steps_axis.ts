// The axis of batches below a picture whose columns are windows of them, and the frame of the chosen one.

import { count } from "../format.js";
import { FONT } from "./axes.js";
import { themeColour } from "./colour.js";
import type { Frame } from "./histograms.js";
import { lastAtMost, ticks } from "./scale.js";

/**
 * Which batches are named, and in which windows: each window by its own first batch where there is room for all, else
 * round numbers, at most one a window and none on top of the one before.
 */
export function stepLabels(steps: ArrayLike<number>, most: number): { step: number; window: number }[] {
  const windows = steps.length;
  if (windows <= most) return Array.from(steps, (step, window) => ({ step, window }));
  const apart = (0.6 * windows) / most;
  const labels: { step: number; window: number }[] = [];
  for (const step of ticks(steps[0] ?? 0, steps[windows - 1] ?? 0, most).filter(Number.isInteger)) {
    const [window, before] = [lastAtMost(steps, step), labels[labels.length - 1]];
    if (before === undefined || window - before.window >= apart) labels.push({ step, window });
  }
  return labels;
}

export function drawSteps(
  context: CanvasRenderingContext2D,
  element: Element,
  { left, width }: Frame,
  steps: ArrayLike<number>,
  bottom: number,
): void {
  context.font = FONT;
  context.fillStyle = themeColour(element, "--quiet");
  context.textBaseline = "top";
  context.textAlign = "center";
  const windows = steps.length;
  for (const { step, window } of stepLabels(steps, Math.max(2, Math.floor(width / 64)))) {
    context.fillText(count(step), left + ((window + 0.5) / windows) * width, bottom + 5);
  }
  context.fillText("batch", left + width / 2, bottom + 20);
}

/** The name of the axis of values, upright at the left edge. */
export function drawUpright(context: CanvasRenderingContext2D, { top, height }: Frame, name: string): void {
  context.save();
  context.textAlign = "center";
  context.textBaseline = "top";
  context.translate(6, top + height / 2);
  context.rotate(-Math.PI / 2);
  context.fillText(name, 0, 0);
  context.restore();
}

/** Frame the window that the chosen batch is in. */
export function drawMarker(
  context: CanvasRenderingContext2D,
  element: Element,
  { left, top, width, height }: Frame,
  steps: ArrayLike<number>,
  marker: number | null,
): void {
  if (marker === null) return;
  const windows = steps.length;
  const window = lastAtMost(steps, marker);
  context.strokeStyle = themeColour(element, "--text");
  context.lineWidth = 1;
  context.strokeRect(left + (window / windows) * width, top, Math.max(1, width / windows), height);
}

/** A row of pixels, or many, stretched over a frame without blur. */
export function drawPixels(
  context: CanvasRenderingContext2D,
  { left, top, width, height }: Frame,
  columns: number,
  rows: number,
  colour: (column: number, row: number) => number,
): void {
  if (columns === 0 || rows === 0) return;
  const image = new ImageData(columns, rows);
  const target = new Uint32Array(image.data.buffer);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) target[row * columns + column] = colour(column, row);
  }
  const canvas = new OffscreenCanvas(columns, rows);
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, left, top, width, height);
}
