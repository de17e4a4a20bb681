// Each class over windows of batches: rates, and rows in the order of the table of classes. Pure.

import type { Sort } from "./selection.js";

/** Counts have a row a window and a column a class shown. */
export interface Trend {
  /** First and last batch of each window. */
  steps: ArrayLike<number>;
  lasts: ArrayLike<number>;
  /** Class numbers, ascending. */
  labels: ArrayLike<number>;
  support: ArrayLike<number>;
  predicted: ArrayLike<number>;
  hits: ArrayLike<number>;
}

export const EMPTY_TREND: Trend = { steps: [], lasts: [], labels: [], support: [], predicted: [], hits: [] };

/** The counts of a class (a column) in a window. */
export function cellOf(
  { labels, support, predicted, hits }: Trend,
  window: number,
  column: number,
): { support: number; predicted: number; hits: number } {
  const at = window * labels.length + column;
  return { support: support[at] ?? 0, predicted: predicted[at] ?? 0, hits: hits[at] ?? 0 };
}

const divided = (part: number, whole: number): number | null => (whole > 0 ? part / whole : null);

/** Share of the class's samples that were found in each window; `null` where it has none. */
export function recalls(trend: Trend, column: number): (number | null)[] {
  return Array.from(trend.steps, (_, window) => {
    const { support, hits } = cellOf(trend, window, column);
    return divided(hits, support);
  });
}

/** Share of the class's samples that were not found; `null` where it has none. */
export function missedRate(trend: Trend, window: number, column: number): number | null {
  const { support, hits } = cellOf(trend, window, column);
  return divided(support - hits, support);
}

export function greatestRate(trend: Trend): number {
  let greatest = 0;
  for (let at = 0; at < trend.support.length; at += 1) {
    const support = trend.support[at] ?? 0;
    if (support > 0) greatest = Math.max(greatest, 1 - (trend.hits[at] ?? 0) / support);
  }
  return greatest;
}

interface Counted {
  support: number;
  predicted: number;
  hits: number;
}

function sumsOf(trend: Trend): Counted[] {
  return Array.from(trend.labels, (_, column) => {
    const sum = { support: 0, predicted: 0, hits: 0 };
    for (let window = 0; window < trend.steps.length; window += 1) {
      const cell = cellOf(trend, window, column);
      sum.support += cell.support;
      sum.predicted += cell.predicted;
      sum.hits += cell.hits;
    }
    return sum;
  });
}

const FIGURES: Record<string, (sum: Counted) => number | null> = {
  support: ({ support }) => support,
  predicted: ({ predicted }) => predicted,
  precision: ({ predicted, hits }) => divided(hits, predicted),
  recall: ({ support, hits }) => divided(hits, support),
  f1: ({ support, predicted, hits }) => divided(2 * hits, support + predicted),
};

/** Run B's trend and its number of each class of A, -1 where it has none. */
export interface OtherTrend {
  trend: Trend;
  matched: ArrayLike<number>;
}

/** The columns asked for, in the order of the table: what is missing comes last, equal ones by number. */
export function ordered(
  trend: Trend,
  sort: Sort,
  keep: (label: number) => boolean,
  other: OtherTrend | null = null,
): number[] {
  const name = sort.column.replace("_change", "");
  const [figure, changed] = [FIGURES[name], name !== sort.column];
  const others = new Map<number, Counted>();
  if (other !== null && changed)
    for (const [column, sum] of sumsOf(other.trend).entries())
      others.set(other.trend.labels[column] ?? 0, sum);
  const keys = sumsOf(trend).map((sum, column): number | null => {
    const label = trend.labels[column] ?? 0;
    if (figure === undefined || (changed && other === null)) return label;
    const beside = others.get(other?.matched[label] ?? -1);
    const [mine, its] = [figure(sum), changed ? beside && figure(beside) : 0];
    return mine === null || its == null ? null : mine - its;
  });
  const sign = sort.descending ? -1 : 1;
  const key = (column: number): number => {
    const value = keys[column] ?? null;
    return value === null ? Number.MAX_VALUE : sign * value;
  };
  return keys
    .map((_, column) => column)
    .filter((column) => keep(trend.labels[column] ?? 0))
    .sort((a, b) => key(a) - key(b) || a - b);
}
