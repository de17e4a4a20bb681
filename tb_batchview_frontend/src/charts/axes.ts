// What the canvas pictures with two axes share: the frame, ticks, titles, and the strip that explains colours.

import type { Frame } from "./histograms.js";

export const FONT = "11px Roboto, system-ui, sans-serif";

export type Theme = (name: string) => string;

/** A number and where it stands along its axis, from 0 to 1. */
export interface Tick {
  at: number;
  text: string;
}

export interface Titles {
  x: string;
  y: string;
}

export function drawAxes(
  context: CanvasRenderingContext2D,
  { left, top, width, height }: Frame,
  theme: Theme,
  titles: Titles,
  across: readonly Tick[],
  up: readonly Tick[],
): void {
  context.save();
  context.font = FONT;
  context.fillStyle = theme("--quiet");
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const { at, text } of up) context.fillText(text, left - 6, top + height * (1 - at));
  context.textAlign = "center";
  context.textBaseline = "top";
  let free = Number.NEGATIVE_INFINITY;
  for (const { at, text } of across) {
    const half = context.measureText(text).width / 2;
    const x = left + width * at;
    if (x - half < free) continue; // names that would touch
    context.fillText(text, x, top + height + 5);
    free = x + half + 8;
  }
  context.fillText(titles.x, left + width / 2, top + height + 20);
  if (titles.y !== "") {
    context.translate(2, top + height / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(titles.y, 0, 0);
  }
  context.restore();
}

/** A framed strip of colours from 0 to 1. */
export function drawStrip(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  width: number,
  rule: string,
  colours: (share: number) => string,
): void {
  for (let at = 0; at < width; at += 1) {
    context.fillStyle = colours(at / (width - 1));
    context.fillRect(x + at, y, 1.5, 10);
  }
  context.strokeStyle = rule;
  context.lineWidth = 1;
  context.strokeRect(x - 0.5, y - 0.5, width + 1.5, 11);
}

/** The same with a word before it and its ends below. */
export function drawLegend(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  width: number,
  theme: Theme,
  colours: (share: number) => string,
  [before, low, high]: readonly [string, string, string],
): void {
  context.save();
  context.font = FONT;
  context.textBaseline = "middle";
  context.fillStyle = theme("--quiet");
  context.fillText(before, x, y + 5.5);
  const from = x + context.measureText(before).width + 8;
  drawStrip(context, from, y, width, theme("--rule"), colours);
  context.fillStyle = theme("--quiet");
  context.fillText(low, from, y + 19);
  context.textAlign = "right";
  context.fillText(high, from + width, y + 19);
  context.restore();
}
