// What stands in pictures of residuals: those drawn, quantiles by window, a histogram. Pure.

/** Samples drawn; a residual is predicted less target. */
export interface Residuals {
  steps: Float64Array;
  samples: Float64Array;
  targets: Float64Array;
  predicted: Float64Array;
  residuals: Float64Array;
  /** Samples left out because target or prediction is not finite. */
  nonfinite: number;
}

export function residualsOf(
  step: ArrayLike<number>,
  sample: ArrayLike<number>,
  target: ArrayLike<number>,
  predicted: ArrayLike<number>,
): Residuals {
  const kept = Array.from(step, (_, index) => index).filter(
    (index) => Number.isFinite(target[index]) && Number.isFinite(predicted[index]),
  );
  const column = (values: ArrayLike<number>): Float64Array =>
    Float64Array.from(kept, (index) => values[index] ?? 0);
  return {
    steps: column(step),
    samples: column(sample),
    targets: column(target),
    predicted: column(predicted),
    residuals: Float64Array.from(kept, (index) => (predicted[index] ?? 0) - (target[index] ?? 0)),
    nonfinite: step.length - kept.length,
  };
}

/** Linear between the nearest ranks, as NumPy's default. `sorted` is ascending. */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)] ?? Number.NaN;
  return low + (at - Math.floor(at)) * ((sorted[Math.ceil(at)] ?? low) - low);
}

export interface Windows {
  /** First and last step of each window; the first of its samples and the last. */
  first: number[];
  last: number[];
  count: number[];
  low: number[];
  median: number[];
  high: number[];
}

/** Quantiles of the residuals in windows of about equally many samples, which never share a batch. */
export function windowsOf({ steps, residuals }: Residuals, most: number, outer = 0.1): Windows {
  const made: Windows = { first: [], last: [], count: [], low: [], median: [], high: [] };
  const order = Array.from(steps, (_, index) => index).sort((a, b) => (steps[a] ?? 0) - (steps[b] ?? 0));
  const size = Math.max(1, Math.ceil(order.length / Math.max(1, most)));
  let begin = 0;
  while (begin < order.length) {
    let end = Math.min(order.length, begin + size);
    while (end < order.length && steps[order[end] ?? 0] === steps[order[end - 1] ?? 0]) end += 1;
    const part = order.slice(begin, end);
    const sorted = Float64Array.from(part, (index) => residuals[index] ?? 0).sort();
    made.first.push(steps[part[0] ?? 0] ?? 0);
    made.last.push(steps[part[part.length - 1] ?? 0] ?? 0);
    made.count.push(part.length);
    made.low.push(quantile(sorted, outer));
    made.median.push(quantile(sorted, 0.5));
    made.high.push(quantile(sorted, 1 - outer));
    begin = end;
  }
  return made;
}

export interface Histogram {
  /** Edges of the bins, one more than there are. */
  edges: number[];
  counts: number[];
}

/** In bins between the least and the greatest of `over`, which holds the values. */
export function histogramOf(values: ArrayLike<number>, bins: number, over = values): Histogram {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let index = 0; index < over.length; index += 1) {
    low = Math.min(low, over[index] ?? 0);
    high = Math.max(high, over[index] ?? 0);
  }
  if (values.length === 0) return { edges: [], counts: [] };
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const width = (high - low) / bins;
  const counts = new Array<number>(bins).fill(0);
  for (let index = 0; index < values.length; index += 1) {
    const bin = Math.min(bins - 1, Math.floor(((values[index] ?? 0) - low) / width));
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  return { edges: Array.from({ length: bins + 1 }, (_, edge) => low + edge * width), counts };
}

export interface Spread {
  /** Root of the mean square. */
  rmse: number;
  low: number;
  median: number;
  high: number;
}

export function spreadOf({ residuals }: Residuals, outer = 0.1): Spread {
  const sorted = Float64Array.from(residuals).sort();
  const squares = sorted.reduce((sum, residual) => sum + residual * residual, 0);
  return {
    rmse: Math.sqrt(squares / sorted.length),
    low: quantile(sorted, outer),
    median: quantile(sorted, 0.5),
    high: quantile(sorted, 1 - outer),
  };
}
