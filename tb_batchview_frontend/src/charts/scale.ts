// Axes of the canvas pictures. Pure.

/** The least of 1, 2, 5, 10, 20, 50 … that is not less than `value`. */
export function roundUp(value: number): number {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5, 10].find((factor) => factor * power >= value) ?? 10) * power;
}

/**
 * Top of an axis that leaves out spikes, as TensorBoard's charts leave out outliers; `null` where nothing stands out:
 * the greatest value is less than twice the 99th percentile.
 */
export function topWithoutSpikes(values: ArrayLike<number>): number | null {
  const sorted = Array.from(values)
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
  const greatest = sorted[sorted.length - 1] ?? 0;
  const usual = sorted[Math.floor(0.99 * (sorted.length - 1))] ?? 0;
  return usual > 0 && greatest > 2 * usual ? 1.3 * usual : null;
}

/** Round numbers from `low` to `high`, about `most` of them. */
export function ticks(low: number, high: number, most: number): number[] {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return [low];
  const rough = span / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) =>
    Number(((first + index) * step).toPrecision(12)),
  );
}

/** Index of the last of `values` (ascending) that is not greater than `value`; 0 when all are. */
export function lastAtMost(values: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((values[middle] ?? 0) <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}
