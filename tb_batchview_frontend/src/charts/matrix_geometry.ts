// Where the cells of a confusion matrix stand and how strongly they are coloured. Pure.

import type { Cells, Order } from "../selection.js";
import { roundUp } from "./scale.js";

export interface Counts {
  /** Class number of each row and column. */
  labels: ArrayLike<number>;
  /** Row after row; rows are targets. */
  counts: ArrayLike<number>;
  /** Rows in the order in which confusable classes stand together, once the plugin has told it. */
  clustered?: ArrayLike<number> | null;
  /** Not classes taken for others but labels wrong of the same sample; the diagonal is how often each is wrong. */
  together?: boolean;
}

/** By number and by letters, so that "class 10" comes after "class 9". */
const collator = new Intl.Collator("en", { numeric: true });

/** The cells in view: the first row and column (fractions are allowed) and how many along an edge. */
export interface MatrixView {
  row: number;
  column: number;
  size: number;
}

export interface Layout {
  left: number;
  top: number;
  edge: number;
  cell: number;
  /** Column names do not fit across and stand on end. */
  upright: boolean;
  /** There is room for the names and the sums of every row and column. */
  labelled: boolean;
  /** The sums under the columns, too, stand on end. */
  uprightSums: boolean;
  /** Room below the cells, for the sums of the columns and the legend. */
  foot: number;
}

/** So many classes along an edge are shown at least. */
export const LEAST_VIEW = 4;

/** A cell, or the head of a row (`column` null) or of a column (`row` null). */
export interface Place {
  row: number | null;
  column: number | null;
}

const LETTER = 6.4;
/** Cells of a few classes are larger; many classes share the room. */
const largestCell = (classes: number): number => Math.min(84, Math.max(46, 420 / classes));
const LARGEST_EDGE = 720;
export const SUPPORT_ROOM = 52;
export const LEAST_LABELLED = 11;
export const LEGEND_ROOM = 40;
/** More classes than this along an edge are seen as a picture, not read. */
const MANY = 150;

/** `sum` is the longest of the numbers beside the rows and under the columns. */
export function layoutOf(width: number, names: readonly string[], view: MatrixView, sum = ""): Layout {
  const longest = names.reduce((most, name) => Math.max(most, name.length), 1) * LETTER;
  // Where only every fiftieth name has room, the cells need it more.
  const most = view.size > MANY ? 86 : 130;
  const left = Math.min(Math.max(26, longest + 12), most, Math.max(64, width * 0.3));
  const labelled = (width - left - SUPPORT_ROOM) / view.size >= LEAST_LABELLED;
  const room = Math.max(80, width - left - (labelled ? SUPPORT_ROOM : 4));
  const edge = Math.min(room, LARGEST_EDGE, view.size * largestCell(view.size));
  const cell = edge / view.size;
  const upright = longest + 6 > cell;
  const uprightSums = sum.length * LETTER + 4 > cell;
  const sums = !labelled ? 0 : uprightSums ? sum.length * LETTER + 8 : 18;
  // Digits are wider than letters are on average.
  const top = 18 + (upright ? Math.min(longest + 10, most - 9) : 20);
  return { left, top, edge, cell, upright, labelled, uprightSums, foot: sums + LEGEND_ROOM };
}

/** What lies under a point; `null` outside the matrix and its heads. */
export function placeAt(
  x: number,
  y: number,
  layout: Layout,
  view: MatrixView,
  classes: number,
): Place | null {
  const along = (offset: number, first: number): number | null => {
    if (offset < 0 || offset >= layout.edge) return null;
    return Math.min(classes - 1, Math.floor(first + offset / layout.cell));
  };
  const row = along(y - layout.top, view.row);
  const column = along(x - layout.left, view.column);
  if (row !== null && (column !== null || x < layout.left)) return { row, column };
  if (row === null && column !== null && y < layout.top && y >= 0) return { row, column };
  return null;
}

/** Zoom about a cell, keeping it where it is; the view stays inside the matrix. */
export function zoomed(view: MatrixView, factor: number, about: Place, classes: number): MatrixView {
  const size = Math.min(classes, Math.max(Math.min(classes, LEAST_VIEW), view.size / factor));
  const keep = (first: number, at: number | null): number => {
    const centre = at === null ? first + view.size / 2 : at + 0.5;
    return centre - ((centre - first) / view.size) * size;
  };
  return panned(
    { row: keep(view.row, about.row), column: keep(view.column, about.column), size },
    0,
    0,
    classes,
  );
}

export function panned(view: MatrixView, rows: number, columns: number, classes: number): MatrixView {
  const inside = (first: number): number => Math.min(classes - view.size, Math.max(0, first));
  return { row: inside(view.row + rows), column: inside(view.column + columns), size: view.size };
}

/** Bring a cell into view without changing the zoom. */
export function showing(view: MatrixView, place: Place, classes: number): MatrixView {
  const shift = (first: number, at: number | null): number => {
    if (at === null || (at >= first && at + 1 <= first + view.size)) return 0;
    return at < first ? at - first : at + 1 - first - view.size;
  };
  return panned(view, shift(view.row, place.row), shift(view.column, place.column), classes);
}

/** Positions whose names are written: all where there is room, else round numbers at least 22 pixels apart. */
export function labelled(classes: number, cell: number): number[] {
  if (cell >= LEAST_LABELLED) return Array.from({ length: classes }, (_, index) => index);
  const every = roundUp(22 / cell);
  return Array.from({ length: Math.ceil(classes / every) }, (_, index) => index * every);
}

/** Where a key leads in a matrix with heads: position -1 is the head; `null` for a key that moves nothing. */
export function stepped(
  place: Place,
  key: string,
  far: boolean,
  page: number,
  classes: number,
): Place | null {
  const [row, column] = [place.row ?? -1, place.column ?? -1];
  const by: Record<string, [number, number]> = {
    ArrowUp: [row - 1, column],
    ArrowDown: [row + 1, column],
    ArrowLeft: [row, column - 1],
    ArrowRight: [row, column + 1],
    PageUp: [Math.max(0, row - page), column],
    PageDown: [row + page, column],
    Home: [far ? 0 : row, 0],
    End: [far ? classes - 1 : row, classes - 1],
  };
  const to = by[key];
  if (to === undefined) return null;
  const inside = (at: number): number | null => (at < 0 ? null : Math.min(classes - 1, at));
  const next = { row: inside(to[0]), column: inside(to[1]) };
  return next.row === null && next.column === null ? place : next; // between the heads there is nothing
}

/** The view within a matrix of so many classes; the whole one for none. */
export function fitted(view: MatrixView | null, classes: number): MatrixView {
  if (view === null) return { row: 0, column: 0, size: Math.max(1, classes) };
  const size = Math.min(classes, Math.max(Math.min(classes, LEAST_VIEW), view.size));
  return panned({ ...view, size }, 0, 0, classes);
}

export interface Sums {
  rows: Float64Array;
  columns: Float64Array;
}

export function sumsOf({ labels, counts, together }: Counts): Sums {
  const classes = labels.length;
  if (together) {
    const wrong = Float64Array.from(labels, (_, index) => counts[index * classes + index] ?? 0);
    return { rows: wrong, columns: wrong };
  }
  const rows = new Float64Array(classes);
  const columns = new Float64Array(classes);
  for (let row = 0; row < classes; row += 1) {
    for (let column = 0; column < classes; column += 1) {
      const value = counts[row * classes + column] ?? 0;
      rows[row] = (rows[row] ?? 0) + value;
      columns[column] = (columns[column] ?? 0) + value;
    }
  }
  return { rows, columns };
}

/**
 * Positions in `labels` in the order of show: by number, by name, most samples first, most errors first, or
 * confusable classes together (by number until that order is known).
 */
export function ordered(
  matrix: Counts,
  sums: Sums,
  order: Order,
  nameOf: (label: number) => string = String,
): number[] {
  const classes = matrix.labels.length;
  const indices = Array.from({ length: classes }, (_, index) => index);
  if (order === "clustered") return matrix.clustered ? Array.from(matrix.clustered) : indices;
  if (order === "index") return indices;
  if (order === "name") {
    const names = indices.map((index) => nameOf(matrix.labels[index] ?? 0));
    return indices.sort((a, b) => collator.compare(names[a] ?? "", names[b] ?? "") || a - b);
  }
  const right = (index: number): number =>
    matrix.together ? 0 : (matrix.counts[index * classes + index] ?? 0);
  const weight = (index: number): number => (sums.rows[index] ?? 0) - (order === "errors" ? right(index) : 0);
  return indices.sort((a, b) => weight(b) - weight(a) || a - b);
}

/** Value of a cell: its count, or its share of the row (recall) or of the column (precision). */
export function cellValue(count: number, row: number, column: number, sums: Sums, cells: Cells): number {
  if (cells === "count") return count;
  const sum = (cells === "row" ? sums.rows[row] : sums.columns[column]) ?? 0;
  return sum === 0 ? 0 : count / sum;
}

/** Strength of colour, 0 to 1: linear, or logarithmic so that rare confusions show beside frequent ones. */
export function strength(value: number, greatest: number, log: boolean): number {
  if (greatest <= 0 || value <= 0) return 0;
  const share = Math.min(1, value / greatest);
  return log ? Math.log1p(share * 99) / Math.log(100) : share;
}

/**
 * Strongest colour in each pixel of a matrix smaller on screen than its cells are many: a single
 * confusion among 1,000 classes must not vanish. Positive is wrong, negative is the diagonal.
 */
export function pooled(
  edge: number,
  view: MatrixView,
  classes: number,
  cell: (row: number, column: number) => number,
): Float32Array {
  const image = new Float32Array(edge * edge);
  const scale = edge / view.size;
  const last = (first: number): number => Math.min(classes, Math.ceil(first + view.size));
  for (let row = Math.floor(view.row); row < last(view.row); row += 1) {
    const y = Math.min(edge - 1, Math.max(0, Math.floor((row - view.row) * scale)));
    for (let column = Math.floor(view.column); column < last(view.column); column += 1) {
      const value = cell(row, column);
      if (value === 0) continue;
      const x = Math.min(edge - 1, Math.max(0, Math.floor((column - view.column) * scale)));
      if (Math.abs(value) > Math.abs(image[y * edge + x] ?? 0)) image[y * edge + x] = value;
    }
  }
  return image;
}

/** Cut a text into lines between its words. */
export function wrapped(text: string, room: number, widthOf: (text: string) => number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines[lines.length - 1];
    if (last !== undefined && widthOf(`${last} ${word}`) <= room) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
