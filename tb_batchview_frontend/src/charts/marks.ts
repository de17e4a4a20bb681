// What stands on a line chart besides its lines: the range, the epochs, the spikes and the chosen batch.

import type uPlot from "uplot";
import { roundUp } from "./scale.js";

export interface Mark {
  step: number;
  label: string;
  /** It is of run B: in its colour, and below those of A. */
  second?: boolean;
}

/** Step under a click: that of a spike within `reach`, else of the nearest point. */
export function snap(
  step: number,
  steps: ArrayLike<number>,
  spikes: readonly number[],
  reach: number,
): number | null {
  const nearest = (candidates: ArrayLike<number>): number | null => {
    let best: number | null = null;
    for (let index = 0; index < candidates.length; index += 1) {
      const candidate = candidates[index] as number;
      if (best === null || Math.abs(candidate - step) < Math.abs(best - step)) best = candidate;
    }
    return best;
  };
  const spike = nearest(spikes);
  return spike !== null && Math.abs(spike - step) <= reach ? spike : nearest(steps);
}

/** The marks among the batches of a point, which reaches up to the next one. */
export function marksAt(marks: readonly Mark[], steps: ArrayLike<number>, index: number): Mark[] {
  const from = steps[index] ?? Number.NaN;
  const to = steps[index + 1] ?? Number.POSITIVE_INFINITY;
  return marks.filter(({ step }) => step >= from && step < to);
}

/** Every n-th mark, n being round, so that their names do not overlap. */
export function thin<Item>(items: readonly Item[], most: number): Item[] {
  const every = roundUp(items.length / Math.max(1, most));
  return items.filter((_, index) => index % every === 0);
}

/** What to draw with: pixels of the device for one of the page, and the page's colours. */
interface Pen {
  plot: uPlot;
  ratio: number;
  colour: (name: string) => string;
}

/** Where a step stands, in pixels of the canvas; `null` outside the frame. */
function place({ plot }: Pen, step: number): number | null {
  const { left, width } = plot.bbox;
  const x = plot.valToPos(step, "x", true);
  return x < left - 1 || x > left + width + 1 ? null : Math.round(x);
}

function upright({ plot }: Pen, x: number): void {
  plot.ctx.beginPath();
  plot.ctx.moveTo(x, plot.bbox.top);
  plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
  plot.ctx.stroke();
}

/** Shade the chosen range; drawn first, below the lines. */
export function drawRange({ plot, colour }: Pen, [start, stop]: readonly [number, number]): void {
  const { ctx, bbox } = plot;
  const low = Math.max(bbox.left, plot.valToPos(start, "x", true));
  const high = Math.min(bbox.left + bbox.width, plot.valToPos(stop - 1, "x", true));
  ctx.save();
  ctx.fillStyle = colour("--accent-soft");
  ctx.fillRect(low, bbox.top, Math.max(1, high - low), bbox.height);
  ctx.restore();
}

function drawEpochs(pen: Pen, epochs: readonly Mark[]): void {
  const { plot, ratio, colour } = pen;
  const { ctx, bbox } = plot;
  ctx.font = `${10 * ratio}px Roboto, system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "alphabetic";
  ctx.strokeStyle = colour("--rule");
  ctx.fillStyle = colour("--quiet");
  ctx.setLineDash([2 * ratio, 3 * ratio]);
  for (const { step, label } of thin(epochs, bbox.width / (64 * ratio))) {
    const x = place(pen, step);
    if (x === null) continue;
    upright(pen, x);
    if (x + 50 * ratio < bbox.left + bbox.width) ctx.fillText(label, x + 3 * ratio, bbox.top + 10 * ratio);
  }
  ctx.setLineDash([]);
}

function drawSpikes(pen: Pen, spikes: readonly Mark[]): void {
  const { plot, ratio, colour } = pen;
  const { ctx, bbox } = plot;
  for (const { step, second } of spikes) {
    const x = place(pen, step);
    if (x === null) continue;
    const top = bbox.top + (second ? 23 : 14) * ratio;
    ctx.fillStyle = colour(second ? "--run-b-line" : "--wrong-confident");
    ctx.beginPath();
    ctx.moveTo(x - 4 * ratio, top);
    ctx.lineTo(x + 4 * ratio, top);
    ctx.lineTo(x, top + 7 * ratio);
    ctx.fill();
  }
}

/** Mark at the foot the points among whose batches some have no finite value. */
export function drawBroken(pen: Pen, steps: ArrayLike<number>, broken: ArrayLike<number>): void {
  const { plot, ratio, colour } = pen;
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.fillStyle = colour("--wrong-confident");
  for (let index = 0; index < broken.length; index += 1) {
    if (!broken[index]) continue;
    const x = place(pen, steps[index] ?? Number.NaN);
    if (x !== null) ctx.fillRect(x - ratio, bbox.top + bbox.height - 7 * ratio, 3 * ratio, 7 * ratio);
  }
  ctx.restore();
}

/** Draw what stands above the lines. */
export function drawMarks(pen: Pen, epochs: readonly Mark[], spikes: readonly Mark[]): void {
  const { ctx } = pen.plot;
  ctx.save();
  ctx.lineWidth = pen.ratio;
  drawEpochs(pen, epochs);
  drawSpikes(pen, spikes);
  ctx.restore();
}
