// A range of batches drawn with the mouse along the axis of a picture. Pure.

import type { Frame } from "./histograms.js";

/** First batch and the one after the last; `null` is the end of the picture. */
export type Drawn = [start: number, stop: number | null];

/** Where an axis of batches runs, and which batches lie between two places of it, told as shares of its width. */
export interface TimeAxis {
  left: number;
  width: number;
  between: (from: number, to: number) => Drawn;
}

/** An axis whose columns are windows of batches, of which the first ones are known. */
export function axisOfWindows({ left, width }: Frame, steps: ArrayLike<number>): TimeAxis {
  const window = (share: number): number => Math.min(steps.length - 1, Math.floor(share * steps.length));
  return {
    left,
    width,
    between: (from, to) => [steps[window(from)] ?? 0, steps[window(to) + 1] ?? null],
  };
}

/** An axis with every batch at its own place. */
export function axisOfSteps({ left, width }: Frame, low: number, high: number): TimeAxis {
  const step = (share: number): number => low + share * (high - low);
  return {
    left,
    width,
    between: (from, to) => {
      const start = Math.max(0, Math.ceil(step(from)));
      return [start, Math.max(start, Math.floor(step(to))) + 1];
    },
  };
}

/** Two places on an axis in order, as shares of its width. */
export function sharesOf({ left, width }: TimeAxis, a: number, b: number): [number, number] {
  const [from, to] = [a, b].map((x) => Math.min(1, Math.max(0, (x - left) / width))) as [number, number];
  return from < to ? [from, to] : [to, from];
}
