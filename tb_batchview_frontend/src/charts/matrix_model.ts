// A confusion matrix as it is shown: in an order, with values of a kind and the strength of their colours. Pure.

import { className, count, shareFigure, shortName } from "../format.js";
import type { Cells, Order } from "../selection.js";
import {
  type Counts,
  cellValue,
  ordered,
  type Place,
  type Sums,
  strength,
  sumsOf,
} from "./matrix_geometry.js";

export interface MatrixOptions {
  names: readonly string[] | null;
  cells: Cells;
  order: Order;
  log: boolean;
  diagonal: boolean;
}

/** A class that another is taken for, or is taken from, and how often. */
export interface Confused {
  position: number;
  count: number;
}

/** Rows and columns are counted by position in the order shown; rows are targets. */
export class MatrixModel {
  readonly classes: number;
  /** The longest of the names, as far as it is shown. */
  readonly longest: string;
  /** Greatest value off the diagonal: what the colours of errors are measured by. */
  readonly greatest: number;
  protected readonly sums: Sums;
  protected readonly positions: number[];
  private readonly places = new Map<number, number>();
  private readonly shades: Float32Array;

  constructor(
    protected readonly matrix: Counts,
    readonly options: MatrixOptions,
  ) {
    const { names, order } = options;
    this.classes = matrix.labels.length;
    this.sums = sumsOf(matrix);
    this.positions = ordered(matrix, this.sums, order, (label) => className(names, label));
    for (const [position, index] of this.positions.entries())
      this.places.set(matrix.labels[index] ?? 0, position);
    this.longest = this.positions
      .map((_, position) => this.shortName(position))
      .reduce((longest, name) => (name.length > longest.length ? name : longest), "");
    this.greatest = this.strongest();
    this.shades = this.shaded();
  }

  /** Class number at a position. */
  label(position: number | null): number | null {
    return position === null ? null : (this.matrix.labels[this.positions[position] ?? 0] ?? null);
  }

  name(position: number): string {
    return className(this.options.names, this.label(position));
  }

  /** The name as it stands in a head. */
  shortName(position: number): string {
    return shortName(this.name(position), 40);
  }

  /** Position of a class number; `null` when it is not shown. */
  find(label: number | null): number | null {
    return label === null ? null : (this.places.get(label) ?? null);
  }

  count(row: number, column: number): number {
    return this.matrix.counts[(this.positions[row] ?? 0) * this.classes + (this.positions[column] ?? 0)] ?? 0;
  }

  /** Samples of a row, of a column, or of a cell. */
  samples({ row, column }: Place): number {
    if (row !== null && column !== null) return this.count(row, column);
    const sums = row === null ? this.sums.columns : this.sums.rows;
    return sums[this.positions[row ?? column ?? 0] ?? 0] ?? 0;
  }

  /** The row or the column that a cell is a share of. */
  whole(row: number, column: number): Place {
    return this.options.cells === "row" ? { row, column: null } : { row: null, column };
  }

  /** The greatest sum beside a row or under a column. */
  get greatestSum(): number {
    let greatest = 0;
    for (const sums of [this.sums.rows, this.sums.columns]) {
      for (const sum of sums) greatest = Math.max(greatest, sum);
    }
    return greatest;
  }

  /** What a row is most often taken for, or a column most often taken from; `null` without a confusion. */
  worst({ row, column }: Place): Confused | null {
    let worst: Confused | null = null;
    for (let position = 0; position < this.classes; position += 1) {
      if (position === (row ?? column)) continue;
      const count = row === null ? this.count(position, column ?? 0) : this.count(row, position);
      if (count > (worst?.count ?? 0)) worst = { position, count };
    }
    return worst;
  }

  /** Whether the colours tell of a difference, orange and blue, and not of right and wrong. */
  get diverging(): boolean {
    return false;
  }

  /** What stands in a cell that has room for it; "" for nothing. */
  text(row: number, column: number): string {
    const number = this.count(row, column);
    if (number === 0 || !this.shows(row, column)) return "";
    return this.counted ? count(number) : shareFigure(this.value(row, column));
  }

  value(row: number, column: number, cells = this.options.cells): number {
    const [from, to] = [this.positions[row] ?? 0, this.positions[column] ?? 0];
    return cellValue(this.count(row, column), from, to, this.sums, cells);
  }

  /** Strength of a cell's colour: positive for errors, negative on the diagonal, 0 where nothing is to be seen. */
  shade(row: number, column: number): number {
    return this.shades[row * this.classes + column] ?? 0;
  }

  shows(row: number, column: number): boolean {
    return row !== column || this.options.diagonal;
  }

  get together(): boolean {
    return this.matrix.together === true;
  }

  get counted(): boolean {
    return this.options.cells === "count";
  }

  protected strongest(): number {
    let greatest = 0;
    for (let row = 0; row < this.classes; row += 1) {
      for (let column = 0; column < this.classes; column += 1) {
        if (row !== column) greatest = Math.max(greatest, this.value(row, column));
      }
    }
    return greatest;
  }

  /** All shades at once: a thousand classes are a million cells, too many to work out in every frame. */
  protected shaded(): Float32Array {
    const { classes, greatest } = this;
    const { diagonal, log } = this.options;
    const shades = new Float32Array(classes * classes);
    for (let row = 0; row < classes; row += 1) {
      for (let column = 0; column < classes; column += 1) {
        if (row === column || this.count(row, column) === 0) continue;
        shades[row * classes + column] = strength(this.value(row, column), greatest, log);
      }
      if (diagonal)
        shades[row * classes + row] = -this.value(row, row, this.counted ? "row" : this.options.cells);
    }
    return shades;
  }
}
