// A picture as a PNG file: what is on its canvas, under words that say what it is.

import { themeColour } from "./colour.js";
import { wrapped } from "./matrix_geometry.js";

const MARGIN = 12;
const LINE = 16;
const FONT = "12px Roboto, system-ui, sans-serif";

/** Said by a picture that is to be saved; it bubbles up to who knows the run. */
export const SAVE_PICTURE = "bv-save-picture";

export function askToSave(picture: HTMLElement): void {
  picture.dispatchEvent(new CustomEvent(SAVE_PICTURE, { bubbles: true }));
}

/** A picture of some size in CSS pixels, on the page's ground, below the paragraphs of `words`. */
export function composePng(
  picture: HTMLElement,
  words: readonly string[],
  { width, height, ratio }: { width: number; height: number; ratio: number },
  draw: (context: CanvasRenderingContext2D) => void,
): Promise<Blob | null> {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  if (context === null || width <= 0) return Promise.resolve(null);
  context.font = FONT;
  const lines = words.flatMap((text) => wrapped(text, width, (part) => context.measureText(part).width));
  const above = lines.length * LINE + MARGIN;
  canvas.width = Math.round((width + 2 * MARGIN) * ratio);
  canvas.height = Math.round((height + above + 2 * MARGIN) * ratio);
  context.fillStyle = themeColour(picture, "--ground");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.scale(ratio, ratio);
  context.translate(MARGIN, MARGIN);
  context.fillStyle = themeColour(picture, "--text");
  context.font = FONT;
  for (const [index, line] of lines.entries()) context.fillText(line, 0, LINE * (index + 0.75), width);
  context.translate(0, above);
  draw(context);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** What is on a canvas that somebody else draws, in its own pixels. */
export function copyPng(picture: HTMLElement, words: readonly string[]): Promise<Blob | null> {
  const source = picture.querySelector("canvas");
  if (source === null || source.width === 0) return Promise.resolve(null);
  const ratio = source.width / Math.max(1, source.clientWidth);
  const size = { width: source.width / ratio, height: source.height / ratio, ratio };
  return composePng(picture, words, size, (context) => {
    context.drawImage(source, 0, 0, size.width, size.height);
    // The chosen batch is marked above the canvas.
    const line = picture.querySelector<HTMLElement>(".marker:not([hidden])");
    if (line === null) return;
    const [at, from] = [line.getBoundingClientRect(), source.getBoundingClientRect()];
    context.fillStyle = themeColour(picture, "--text");
    context.fillRect(at.left - from.left, at.top - from.top, 1, at.height);
  });
}
