// A confusion matrix onto a canvas: coloured cells, figures and names where there is room, sums, and the legend.

import { count, percent, points, signed } from "../format.js";
import { drawStrip } from "./axes.js";
import { blueRamp, inkOn, pixels, type Ramp, ramp, rightRamp } from "./colour.js";
import { type Layout, labelled, type MatrixView, type Place, pooled } from "./matrix_geometry.js";
import type { MatrixModel } from "./matrix_model.js";

export interface Picture {
  context: CanvasRenderingContext2D;
  model: MatrixModel;
  layout: Layout;
  view: MatrixView;
  dark: boolean;
  /** Pixels of the canvas per pixel of the page. */
  ratio: number;
  /** The value of one of the page's colour variables. */
  colour: (name: string) => string;
}

const LEAST_FIGURE_CELL = 27;
const FONT = "Roboto, system-ui, sans-serif";

/** As much of a text as has room, at most 40 letters are looked at. */
function fitText(context: CanvasRenderingContext2D, text: string, room: number): string {
  if (context.measureText(text).width <= room) return text;
  const letters = Array.from(text);
  let [low, high] = [0, letters.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    const shorter = `${letters.slice(0, middle).join("")}…`;
    if (context.measureText(shorter).width <= room) low = middle;
    else high = middle - 1;
  }
  return `${letters.slice(0, Math.max(1, low)).join("")}…`;
}

/** Positions in view, those cut by an edge included: the first and the one past the last. */
function inView(first: number, size: number, classes: number): [number, number] {
  return [Math.floor(first), Math.min(classes, Math.ceil(first + size))];
}

/** A single error among a thousand classes is one pixel: where cells are small, the least error is seen, too. */
function leastLevel(cell: number): number {
  return 110 * Math.min(1, Math.max(0, (8 - cell) / 6));
}

/** The ramp of what is below 0: of what is right, or of what B has more of. */
const lowerRamp = ({ model, dark }: Pick<Picture, "model" | "dark">): Ramp =>
  model.diverging ? blueRamp(dark) : rightRamp(dark);

const palettes = new Map<string, { wrong: Uint32Array; right: Uint32Array }>();
/** Errors and the diagonal as pixels, made once: a frame has no time for it. */
function paletteOf(picture: Picture): { wrong: Uint32Array; right: Uint32Array } {
  const { dark, model } = picture;
  const key = `${dark}${model.diverging}`;
  const palette = palettes.get(key) ?? { wrong: pixels(ramp(dark)), right: pixels(lowerRamp(picture)) };
  palettes.set(key, palette);
  return palette;
}

/** The pixel of each shade. */
function colours(picture: Picture): (shade: number) => number {
  const { wrong, right } = paletteOf(picture);
  const least = leastLevel(picture.layout.cell);
  return (shade) =>
    (shade > 0
      ? wrong[Math.round(least + (255 - least) * shade)]
      : shade < 0
        ? right[Math.round(picture.model.diverging ? least - (255 - least) * shade : -255 * shade)]
        : wrong[0]) ?? 0;
}

/** Cells as an image of a pixel each, scaled up; or of several cells a pixel, the strongest of which shows. */
function imageOf({ model, layout, view, ratio }: Picture, colourOf: (shade: number) => number): ImageData {
  const edge = Math.floor(layout.edge * ratio);
  if (edge < view.size) {
    const shades = pooled(edge, view, model.classes, (row, column) => model.shade(row, column));
    const image = new ImageData(edge, edge);
    const target = new Uint32Array(image.data.buffer);
    for (let index = 0; index < target.length; index += 1) target[index] = colourOf(shades[index] ?? 0);
    return image;
  }
  const [top, bottom] = inView(view.row, view.size, model.classes);
  const [left, right] = inView(view.column, view.size, model.classes);
  const image = new ImageData(right - left, bottom - top);
  const target = new Uint32Array(image.data.buffer);
  let index = 0;
  for (let row = top; row < bottom; row += 1) {
    for (let column = left; column < right; column += 1) {
      target[index] = colourOf(model.shade(row, column));
      index += 1;
    }
  }
  return image;
}

export function drawCells(picture: Picture): void {
  const { context, layout, view, ratio } = picture;
  const { left, top, edge, cell } = layout;
  const image = imageOf(picture, colours(picture));
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  context.save();
  context.beginPath();
  context.rect(left, top, edge, edge);
  context.clip();
  context.imageSmoothingEnabled = false;
  if (Math.floor(edge * ratio) < view.size) context.drawImage(canvas, left, top, edge, edge);
  else {
    const [x, y] = [
      left - (view.column - Math.floor(view.column)) * cell,
      top - (view.row - Math.floor(view.row)) * cell,
    ];
    context.drawImage(canvas, x, y, image.width * cell, image.height * cell);
  }
  if (cell >= 12) drawGaps(picture);
  if (cell >= LEAST_FIGURE_CELL) drawFigures(picture);
  context.restore();
}

/** A line of ground between the cells. */
function drawGaps({ context, model, layout, view, colour }: Picture): void {
  const { left, top, edge, cell } = layout;
  context.fillStyle = colour("--ground");
  const [firstRow, lastRow] = inView(view.row, view.size, model.classes);
  for (let row = firstRow; row <= lastRow; row += 1)
    context.fillRect(left, top + (row - view.row) * cell - 1, edge, 1);
  const [firstColumn, lastColumn] = inView(view.column, view.size, model.classes);
  for (let column = firstColumn; column <= lastColumn; column += 1) {
    context.fillRect(left + (column - view.column) * cell - 1, top, 1, edge);
  }
}

function drawFigures(picture: Picture): void {
  const { context, model, layout, view, dark } = picture;
  const { cell } = layout;
  const [wrong, right] = [ramp(dark), lowerRamp(picture)];
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = `${cell >= 34 ? 12 : 10.5}px ${FONT}`;
  const [firstRow, lastRow] = inView(view.row, view.size, model.classes);
  const [firstColumn, lastColumn] = inView(view.column, view.size, model.classes);
  for (let row = firstRow; row < lastRow; row += 1) {
    for (let column = firstColumn; column < lastColumn; column += 1) {
      const text = model.text(row, column);
      if (text === "" || text.length * 6 > cell) continue;
      const shade = model.shade(row, column);
      context.fillStyle = inkOn(shade < 0 ? right(-shade) : wrong(shade));
      const x = layout.left + (column - view.column + 0.5) * cell;
      context.fillText(text, x - 0.5, layout.top + (row - view.row + 0.5) * cell);
    }
  }
}

export function drawHeads(picture: Picture): void {
  const { context, model, layout, colour } = picture;
  context.save();
  context.font = `12px ${FONT}`;
  context.textBaseline = "middle";
  context.fillStyle = colour("--quiet");
  context.fillText(model.together ? "label wrong ↓   and wrong with it →" : "target ↓   predicted →", 0, 7);
  if (layout.labelled) {
    context.fillText("n", layout.left + layout.edge + 8, layout.top - 9);
    context.textAlign = "right";
    context.fillText("n", layout.left - 6, layout.top + layout.edge + 10);
  }
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
  context.fillText(fitText(context, model.shortName(row), left - 8), left - 6, y);
  if (!layout.labelled) return;
  context.textAlign = "left";
  context.fillStyle = colour("--quiet");
  context.fillText(count(model.samples({ row, column: null })), left + edge + 8, y);
}

function drawColumnHead({ context, model, layout, view, colour }: Picture, column: number): void {
  const { left, top, edge, cell, upright, uprightSums } = layout;
  const x = left + (column - view.column + 0.5) * cell;
  if (x <= left || x >= left + edge) return;
  const write = (text: string, y: number, turned: boolean, align: CanvasTextAlign): void => {
    context.save();
    context.translate(x, y);
    if (turned) context.rotate(-Math.PI / 2);
    context.textAlign = turned ? align : "center";
    context.fillText(text, 0, 0);
    context.restore();
  };
  context.fillStyle = colour("--text");
  const room = upright ? top - 24 : cell;
  write(fitText(context, model.shortName(column), room), upright ? top - 5 : top - 10, upright, "left");
  if (!layout.labelled) return;
  context.fillStyle = colour("--quiet");
  const sum = count(model.samples({ row: null, column }));
  write(sum, top + edge + (uprightSums ? 4 : 10), uprightSums, "right");
}

/** A frame around a cell, a whole row or a whole column; light on dark and dark on light, so that it shows on any cell. */
export function drawOutline({ context, layout, view, colour }: Picture, place: Place, name: string): void {
  const { cell, left, top, edge } = layout;
  const size = Math.max(cell, 5);
  const begin = (at: number | null, first: number, from: number): number =>
    at === null ? from : from + (at - first) * cell - (size - cell) / 2;
  const [x, y] = [begin(place.column, view.column, left), begin(place.row, view.row, top)];
  const width = place.column === null ? edge : size - 1;
  const height = place.row === null ? edge : size - 1;
  context.save();
  context.beginPath();
  context.rect(left - 3, top - 3, edge + 6, edge + 6);
  context.clip();
  if (!layout.labelled && place.row !== null && place.column !== null) {
    // Among a thousand classes a frame of five pixels wants finding: lines lead to it from both heads.
    context.fillStyle = colour(name);
    context.globalAlpha = 0.5;
    context.fillRect(left, y + height / 2, x - left, 1);
    context.fillRect(x + width / 2, top, 1, y - top);
    context.globalAlpha = 1;
  }
  for (const [line, ink] of [
    [5, "--ground"],
    [2.5, name],
  ] as const) {
    context.strokeStyle = colour(ink);
    context.lineWidth = line;
    context.strokeRect(x, y, width, height);
  }
  context.restore();
}

/** What the colours mean: a strip for errors with its ends and its middle, and one for the diagonal. */
export function drawLegend(picture: Picture): void {
  const { context, model, layout, dark, colour } = picture;
  const y = layout.top + layout.edge + layout.foot - 27;
  const written = (value: number): string => (model.counted ? count(Math.round(value)) : percent(value));
  // The middle of a logarithmic strip is not the half: this is `strength` turned round.
  const middle = model.greatest * (model.options.log ? (100 ** 0.5 - 1) / 99 : 0.5);
  const wide = layout.left + layout.edge >= 330;
  context.save();
  context.font = `11px ${FONT}`;
  context.textBaseline = "middle";
  const strip = (x: number, width: number, of: (share: number) => string): void =>
    drawStrip(context, x, y, width, colour("--rule"), of);
  const say = (text: string, x: number, below: boolean, align: CanvasTextAlign): void => {
    context.fillStyle = colour("--quiet");
    context.textAlign = align;
    context.fillText(text, x, below ? y + 19 : y + 5.5);
  };
  const width = wide ? 140 : 90;
  if (model.diverging) {
    const middle = 52 + width / 2;
    say("B more", 0, false, "left");
    strip(52, width, (share) =>
      share < 0.5 ? lowerRamp(picture)(1 - 2 * share) : ramp(dark)(2 * share - 1),
    );
    say("A more", 58 + width, false, "left");
    const ends = (value: number): string =>
      signed(value, model.counted ? (number) => count(Math.round(number)) : points);
    say(ends(-model.greatest), 52, true, "left");
    say("0", middle, true, "center");
    say(ends(model.greatest), 52 + width, true, "right");
    context.restore();
    return;
  }
  const from = 40;
  const least = leastLevel(layout.cell) / 255;
  if (model.greatest === 0) say(model.together ? "never wrong together" : "nothing wrong", 0, false, "left");
  else {
    say(model.together ? "both" : "wrong", 0, false, "left");
    strip(from, width, (share) => ramp(dark)(share === 0 ? 0 : least + (1 - least) * share));
    say("0", from, true, "left");
    if (wide && (!model.counted || model.greatest >= 4))
      say(written(middle), from + width / 2, true, "center");
    say(written(model.greatest), from + width, true, "right");
  }
  if (model.options.diagonal) {
    const next = from + width + 62;
    say("right", next - 34, false, "left");
    strip(next, wide ? 90 : 50, rightRamp(dark));
    say("0", next, true, "left");
    say("100\u00a0%", next + (wide ? 90 : 50), true, "right");
  }
  context.restore();
}
