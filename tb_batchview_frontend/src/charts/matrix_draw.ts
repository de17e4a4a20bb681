// A confusion matrix onto a canvas: as cells with figures, or as pixels where classes are many.

import { count, shareFigure } from "../format.js";
import { inkOn, pixels, ramp, rightRamp } from "./colour.js";
import {
  type Layout,
  LEAST_LABELLED,
  labelled,
  type MatrixView,
  type Place,
  pooled,
} from "./matrix_geometry.js";
import type { MatrixModel } from "./matrix_model.js";

export interface Picture {
  context: CanvasRenderingContext2D;
  model: MatrixModel;
  layout: Layout;
  view: MatrixView;
  dark: boolean;
  /** The value of one of the page's colour variables. */
  colour: (name: string) => string;
}

const LETTER = 6.4;
const LEAST_FIGURE_CELL = 27;

function shorten(text: string, room: number): string {
  return text.length * LETTER <= room
    ? text
    : `${text.slice(0, Math.max(1, Math.floor(room / LETTER) - 1))}…`;
}

export function drawPixels({ context, model, layout, view, dark }: Picture): void {
  const edge = Math.floor(layout.edge * (window.devicePixelRatio || 1));
  const shades = pooled(edge, view, model.classes, (row, column) => model.shade(row, column));
  const [wrong, right] = [pixels(ramp(dark)), pixels(rightRamp(dark))];
  const image = new ImageData(edge, edge);
  const target = new Uint32Array(image.data.buffer);
  for (let index = 0; index < shades.length; index += 1) {
    const shade = shades[index] ?? 0;
    // A single error among a thousand classes is one pixel: give it enough colour to be seen.
    const level = shade > 0 ? Math.round(110 + 145 * shade) : Math.round(-255 * shade);
    target[index] = (shade > 0 ? wrong[level] : shade < 0 ? right[level] : wrong[0]) ?? 0;
  }
  const canvas = new OffscreenCanvas(edge, edge);
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  context.drawImage(canvas, layout.left, layout.top, layout.edge, layout.edge);
}

/** Positions in view, those cut by an edge included. */
function inView(first: number, size: number, classes: number): number[] {
  const from = Math.floor(first);
  return Array.from(
    { length: Math.min(classes, Math.ceil(first + size)) - from },
    (_, index) => from + index,
  );
}

export function drawCells(picture: Picture): void {
  const { context, model, layout, view } = picture;
  context.save();
  context.beginPath();
  context.rect(layout.left, layout.top, layout.edge, layout.edge);
  context.clip();
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = `${layout.cell >= 34 ? 12 : 10.5}px Roboto, system-ui, sans-serif`;
  for (const row of inView(view.row, view.size, model.classes)) {
    for (const column of inView(view.column, view.size, model.classes)) drawCell(picture, row, column);
  }
  context.restore();
}

function drawCell({ context, model, layout, view, dark }: Picture, row: number, column: number): void {
  const { cell } = layout;
  const inner = cell - (cell >= 12 ? 1 : 0);
  const x = layout.left + (column - view.column) * cell;
  const y = layout.top + (row - view.row) * cell;
  const shade = model.shade(row, column);
  const colour = shade < 0 ? rightRamp(dark)(-shade) : ramp(dark)(shade);
  context.fillStyle = colour;
  context.fillRect(x, y, inner, inner);
  const number = model.count(row, column);
  if (cell < LEAST_FIGURE_CELL || number === 0 || !model.shows(row, column)) return;
  const text = model.counted ? count(number) : shareFigure(model.value(row, column));
  if (text.length * 6 > cell) return;
  context.fillStyle = inkOn(colour);
  context.fillText(text, x + inner / 2, y + inner / 2 + 0.5);
}

export function drawHeads(picture: Picture): void {
  const { context, model, layout, colour } = picture;
  context.save();
  context.font = "12px Roboto, system-ui, sans-serif";
  context.textBaseline = "middle";
  context.fillStyle = colour("--quiet");
  context.fillText("target ↓   predicted →", 0, 7);
  if (layout.cell >= LEAST_LABELLED) context.fillText("n", layout.left + layout.edge + 8, layout.top - 9);
  for (const position of labelled(model.classes, layout.cell)) {
    drawRowHead(picture, position);
    drawColumnHead(picture, position);
  }
  context.restore();
}

function drawRowHead({ context, model, layout, view, colour }: Picture, row: number): void {
  const { left, top, edge, cell } = layout;
  const y = top + (row - view.row + 0.5) * cell;
  if (y <= top || y >= top + edge) return;
  context.textAlign = "right";
  context.fillStyle = colour("--text");
  context.fillText(shorten(model.name(row), left - 8), left - 6, y);
  if (cell < LEAST_LABELLED) return;
  context.textAlign = "left";
  context.fillStyle = colour("--quiet");
  context.fillText(count(model.samples({ row, column: null })), left + edge + 8, y);
}

function drawColumnHead({ context, model, layout, view, colour }: Picture, column: number): void {
  const { left, top, edge, cell, upright } = layout;
  const x = left + (column - view.column + 0.5) * cell;
  if (x <= left || x >= left + edge) return;
  context.save();
  context.translate(x, upright ? top - 5 : top - 10);
  if (upright) context.rotate(-Math.PI / 2);
  context.textAlign = upright ? "left" : "center";
  context.fillStyle = colour("--text");
  context.fillText(shorten(model.name(column), upright ? top - 24 : cell), 0, 0);
  context.restore();
}

/** A frame around a cell, a whole row or a whole column. */
export function drawOutline({ context, layout, view, colour }: Picture, place: Place, name: string): void {
  const { cell, left, top, edge } = layout;
  const size = Math.max(cell, 5);
  const begin = (at: number | null, first: number, from: number): number =>
    at === null ? from : from + (at - first) * cell - (size - cell) / 2;
  context.save();
  context.beginPath();
  context.rect(left - 2, top - 2, edge + 4, edge + 4);
  context.clip();
  context.strokeStyle = colour(name);
  context.lineWidth = 2;
  context.strokeRect(
    begin(place.column, view.column, left),
    begin(place.row, view.row, top),
    place.column === null ? edge : size - 1,
    place.row === null ? edge : size - 1,
  );
  context.restore();
}
