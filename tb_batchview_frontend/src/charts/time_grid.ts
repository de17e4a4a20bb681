// What a picture of rows over batches shows: units of a layer, or the gradients of many layers. Pure.

import type { Frame } from "./histograms.js";

export interface TimeGrid {
  /** First batch of each window. */
  steps: ArrayLike<number>;
  rows: number;
  rowLabel: (row: number) => string;
  /** NaN where there is nothing to show. */
  value: (window: number, row: number) => number;
  describe: (window: number, row: number) => string;
  /** What must not be overlooked: a value that is NaN or infinite. */
  bad: (window: number, row: number) => boolean;
  /** Ends of the colours. */
  low: number;
  high: number;
  log: boolean;
  /** Two hues, with 0 between them. */
  signed: boolean;
  format: (value: number) => string;
  /** Room for the names of the rows, in CSS pixels. */
  left: number;
  /** Names of the axis of rows and of what the colours tell. */
  yLabel: string;
  legend: string;
}

/** Place of a value between the ends of the colours, 0 to 1. */
export function levelOf({ low, high, log }: TimeGrid, value: number): number {
  const place = log ? (by: number) => Math.log10(Math.max(by, 1e-45)) : (by: number) => by;
  const span = place(high) - place(low);
  if (!(span > 0)) return value > 0 ? 1 : 0;
  return Math.min(1, Math.max(0, (place(value) - place(low)) / span));
}

/** Cell under a point: windows run to the right, rows downwards. */
export function gridCell(
  x: number,
  y: number,
  frame: Frame,
  { steps, rows }: TimeGrid,
): { column: number; row: number } | null {
  const across = (x - frame.left) / frame.width;
  const down = (y - frame.top) / frame.height;
  if (across < 0 || across >= 1 || down < 0 || down >= 1 || rows === 0) return null;
  return { column: Math.floor(across * steps.length), row: Math.floor(down * rows) };
}

/** Least and greatest of the finite values; with `positive` of those above 0. */
export function extent(values: ArrayLike<number>, positive = false): [number, number] | null {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let index = 0; index < values.length; index += 1) {
    const value = values[index] as number;
    if (!Number.isFinite(value) || (positive && value <= 0)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low <= high ? [low, high] : null;
}
