// What the heatmap and the ridgeline draw: one histogram a window of batches. Pure.

export interface Histograms {
  /** First batch of each window. */
  steps: ArrayLike<number>;
  /** Shares, window after window. */
  shares: ArrayLike<number>;
  bins: number;
  low: number;
  high: number;
  /** Shares beyond the axis, a window each. */
  below: ArrayLike<number>;
  above: ArrayLike<number>;
}

/** The frame inside the axes, in CSS pixels. */
export interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
}

export const shareAt = ({ shares, bins }: Histograms, window: number, bin: number): number =>
  shares[window * bins + bin] ?? 0;

export function greatestShare({ shares }: Histograms): number {
  let greatest = 0;
  for (let index = 0; index < shares.length; index += 1) greatest = Math.max(greatest, shares[index] ?? 0);
  return greatest;
}

export type Side = "below" | "above";

/** Whether any window has values beyond the axis on that side. */
export function reachesBeyond(histograms: Histograms, side: Side): boolean {
  const shares = histograms[side];
  for (let window = 0; window < shares.length; window += 1) if ((shares[window] ?? 0) > 0) return true;
  return false;
}

/** Height of the strip that shows what lies beyond the axis, and the gap to the heatmap, in CSS pixels. */
export const STRIP = 8;
export const GAP = 3;

/** The frame of the heatmap without the strips above and below it. */
export function withoutStrips(frame: Frame, histograms: Histograms): Frame {
  const above = reachesBeyond(histograms, "above") ? STRIP + GAP : 0;
  const below = reachesBeyond(histograms, "below") ? STRIP + GAP : 0;
  return { ...frame, top: frame.top + above, height: frame.height - above - below };
}

/** Where the strip on a side of the heatmap is. */
export function stripOf(frame: Frame, side: Side): Frame {
  return {
    ...frame,
    top: side === "above" ? frame.top - GAP - STRIP : frame.top + frame.height + GAP,
    height: STRIP,
  };
}

/** Window and side under a point in a strip beside the heatmap. */
export function stripCell(
  x: number,
  y: number,
  frame: Frame,
  histograms: Histograms,
): { window: number; side: Side } | null {
  for (const side of ["above", "below"] as const) {
    if (!reachesBeyond(histograms, side)) continue;
    const cell = heatCell(x, y, stripOf(frame, side), histograms);
    if (cell !== null) return { window: cell.window, side };
  }
  return null;
}

/** The values that fall into a bin: from, to. */
export function binEdges({ low, high, bins }: Histograms, bin: number): [number, number] {
  const width = (high - low) / bins;
  return [low + bin * width, low + (bin + 1) * width];
}

/** Window and bin under a point of the heatmap: windows run to the right, values upwards. */
export function heatCell(
  x: number,
  y: number,
  frame: Frame,
  histograms: Histograms,
): { window: number; bin: number } | null {
  const across = (x - frame.left) / frame.width;
  const up = 1 - (y - frame.top) / frame.height;
  if (across < 0 || across >= 1 || up < 0 || up >= 1) return null;
  return { window: Math.floor(across * histograms.steps.length), bin: Math.floor(up * histograms.bins) };
}

export interface Ridge {
  window: number;
  baseline: number;
  /** Height of the curve above the baseline at the middle of each bin. */
  heights: Float64Array;
}

/** At most `most` windows, evenly, the newest always among them. */
export function pickWindows(windows: number, most: number): number[] {
  const shown = Math.min(windows, most);
  if (shown <= 1) return windows === 0 ? [] : [windows - 1];
  return Array.from({ length: shown }, (_, index) => Math.round((index * (windows - 1)) / (shown - 1)));
}

/** Lay out ridges from the oldest (at the back, above) to the newest (in front, below). */
export function ridgesOf(histograms: Histograms, frame: Frame, most = 36): Ridge[] {
  const windows = pickWindows(histograms.steps.length, most);
  const greatest = greatestShare(histograms) || 1;
  const tallest = windows.length === 1 ? frame.height * 0.9 : Math.min(frame.height * 0.45, 90);
  const step = windows.length <= 1 ? 0 : (frame.height - tallest) / (windows.length - 1);
  return windows.map((window, index) => ({
    window,
    baseline: windows.length === 1 ? frame.top + frame.height : frame.top + tallest + index * step,
    // The square root, as in the heatmap: the bin of exact zeros would press all others flat.
    heights: Float64Array.from(
      { length: histograms.bins },
      (_, bin) => Math.sqrt(shareAt(histograms, window, bin) / greatest) * tallest,
    ),
  }));
}

/** Ridge under a point: the frontmost whose curve covers it. */
export function ridgeAt(
  x: number,
  y: number,
  frame: Frame,
  ridges: readonly Ridge[],
): { ridge: number; bin: number } | null {
  const bins = ridges[0]?.heights.length ?? 0;
  const across = (x - frame.left) / frame.width;
  if (bins === 0 || across < 0 || across >= 1) return null;
  const bin = Math.floor(across * bins);
  for (let ridge = ridges.length - 1; ridge >= 0; ridge -= 1) {
    const { baseline, heights } = ridges[ridge] as Ridge;
    if (y <= baseline + 2 && y >= baseline - Math.max(heights[bin] ?? 0, 3)) return { ridge, bin };
  }
  return null;
}
