// Which class is taken for which other, and how often: the pairs of a confusion matrix, most confused first. Pure.

import type { Counts } from "./charts/matrix_geometry.js";
import type { Sort } from "./selection.js";

/** A class taken for another; the other way round is another pair. */
export interface Pair {
  /** Class numbers. */
  target: number;
  predicted: number;
  count: number;
  /** Share of the target's samples. */
  share: number;
  /** How often `predicted` was taken for `target`. */
  back: number;
}

export interface RankedPairs {
  /** The first ones. */
  pairs: Pair[];
  /** How many there are. */
  total: number;
}

export const MOST_PAIRS = 1000;

/** The value that just `most` of the values reach. */
function cutOff(values: Float64Array, most: number): number {
  if (values.length <= most) return Number.NEGATIVE_INFINITY;
  return Float64Array.from(values).sort()[values.length - most] ?? 0;
}

/**
 * Rank the pairs by a column, ties by count and then by class; `keep` says which classes are asked for, and a
 * pair is listed if either of its two is.
 */
export function rankPairs(
  { labels, counts }: Counts,
  { column: by, descending }: Sort,
  keep: (label: number) => boolean = () => true,
  most = MOST_PAIRS,
): RankedPairs {
  const classes = labels.length;
  const at = (row: number, column: number): number => counts[row * classes + column] ?? 0;
  const kept = Array.from({ length: classes }, (_, index) => keep(labels[index] ?? 0));
  const places: number[] = [];
  const support = new Float64Array(classes);
  for (let row = 0; row < classes; row += 1) {
    for (let column = 0; column < classes; column += 1) {
      const count = at(row, column);
      support[row] = (support[row] ?? 0) + count;
      if (count > 0 && row !== column && (kept[row] || kept[column])) places.push(row * classes + column);
    }
  }
  const pairOf = (place: number): Pair => {
    const [row, column] = [Math.floor(place / classes), place % classes];
    const count = at(row, column);
    return {
      target: labels[row] ?? 0,
      predicted: labels[column] ?? 0,
      count,
      share: count / (support[row] ?? 1),
      back: at(column, row),
    };
  };
  const sign = descending ? 1 : -1;
  const key = (place: number): number => {
    const [row, column] = [Math.floor(place / classes), place % classes];
    if (by === "back") return sign * at(column, row);
    return (sign * at(row, column)) / (by === "share" ? (support[row] ?? 1) : 1);
  };
  // A dense matrix of a thousand classes has a million pairs: only those that will be listed are made and sorted.
  const keys = Float64Array.from(places, key);
  const least = cutOff(keys, most);
  const pairs = places
    .filter((_, index) => (keys[index] ?? 0) >= least)
    .map((place) => ({ pair: pairOf(place), key: key(place) }))
    .sort(
      (a, b) =>
        b.key - a.key ||
        b.pair.count - a.pair.count ||
        a.pair.target - b.pair.target ||
        a.pair.predicted - b.pair.predicted,
    )
    .slice(0, most)
    .map(({ pair }) => pair);
  return { pairs, total: places.length };
}
