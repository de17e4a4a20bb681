// Where the points of the data map are, and which is meant. Pure.

import type { Box } from "../sample_filter.js";

export interface Points {
  /** Variability, from 0 to `most`. */
  x: ArrayLike<number>;
  /** Mean target score, from 0 to 1. */
  y: ArrayLike<number>;
  /** Share of the times it was right: the colour. */
  share: ArrayLike<number>;
  /** End of the axis of variability. */
  most: number;
}

export interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
}

export interface Spot {
  x: number;
  y: number;
}

/** End of the axis: a standard deviation of what is from 0 to 1 is at most one half. */
export function greatestSpread(values: ArrayLike<number>): number {
  let most = 0;
  for (let index = 0; index < values.length; index += 1) most = Math.max(most, values[index] ?? 0);
  return Math.min(0.5, Math.max(0.05, Math.ceil(most * 20 + 1e-6) / 20));
}

export const placeOf = (
  { x, y, most }: Points,
  index: number,
  { left, top, width, height }: Frame,
): Spot => ({
  x: left + ((x[index] ?? 0) / most) * width,
  y: top + (1 - (y[index] ?? 0)) * height,
});

/** Whether a point is in a box: the same ends as the plugin takes, in single precision. */
export const isIn = ({ x, y }: Points, index: number, [low, high, least, most]: Box): boolean => {
  const [score, spread] = [y[index] ?? Number.NaN, x[index] ?? Number.NaN];
  const [from, to, left, right] = [low, high, least, most].map(Math.fround) as [
    number,
    number,
    number,
    number,
  ];
  return score >= from && score <= to && spread >= left && spread <= right;
};

/** The point next to a spot, at most `reach` pixels away. */
export function nearest(points: Points, x: number, y: number, frame: Frame, reach: number): number | null {
  let best: number | null = null;
  let least = reach;
  for (let index = 0; index < points.x.length; index += 1) {
    const place = placeOf(points, index, frame);
    const distance = Math.hypot(place.x - x, place.y - y);
    if (distance <= least) [best, least] = [index, distance];
  }
  return best;
}

/** The nearest point that lies more in this direction than across it; the same one where there is none. */
export function stepAmong(
  points: Points,
  from: number | null,
  [right, down]: readonly [number, number],
  frame: Frame,
): number {
  if (from === null || from >= points.x.length) return 0;
  const here = placeOf(points, from, frame);
  let best = from;
  let least = Number.POSITIVE_INFINITY;
  for (let index = 0; index < points.x.length; index += 1) {
    const place = placeOf(points, index, frame);
    const [dx, dy] = [place.x - here.x, place.y - here.y];
    const along = dx * right + dy * down;
    const across = Math.abs(dx * down) + Math.abs(dy * right);
    if (along <= 0 || across > along) continue;
    if (along + across < least) [best, least] = [index, along + across];
  }
  return best;
}

/** The box between two spots, cut to the frame, in round numbers that lie outside of it by less than a pixel. */
export function boxBetween(a: Spot, b: Spot, { left, top, width, height }: Frame, most: number): Box {
  const share = (value: number): number => Math.min(1, Math.max(0, value));
  const scores = [a, b].map(({ y }) => share(1 - (y - top) / height)).sort((p, q) => p - q);
  const spreads = [a, b].map(({ x }) => most * share((x - left) / width)).sort((p, q) => p - q);
  const down = (value: number): number => Math.floor(value * 1000 + 1e-6) / 1000;
  const up = (value: number): number => Math.ceil(value * 1000 - 1e-6) / 1000;
  return [down(scores[0] ?? 0), up(scores[1] ?? 1), down(spreads[0] ?? 0), up(spreads[1] ?? most)];
}
