// A confusion matrix as it is shown: in an order, with values of a kind and the strength of their colours. Pure.

import { className } from "../format.js";
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

/** Rows and columns are counted by position in the order shown; rows are targets. */
export class MatrixModel {
  readonly classes: number;
  private readonly sums: Sums;
  private readonly positions: number[];
  private readonly greatest: number;

  constructor(
    private readonly matrix: Counts,
    private readonly options: MatrixOptions,
  ) {
    this.classes = matrix.labels.length;
    this.sums = sumsOf(matrix);
    this.positions = ordered(matrix, this.sums, options.order);
    this.greatest = this.strongest();
  }

  /** Class number at a position. */
  label(position: number | null): number | null {
    return position === null ? null : (this.matrix.labels[this.positions[position] ?? 0] ?? null);
  }

  name(position: number): string {
    return className(this.options.names, this.label(position));
  }

  /** Position of a class number; `null` when it is not shown. */
  find(label: number | null): number | null {
    const found =
      label === null ? -1 : this.positions.findIndex((index) => this.matrix.labels[index] === label);
    return found < 0 ? null : found;
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

  value(row: number, column: number, cells = this.options.cells): number {
    const [from, to] = [this.positions[row] ?? 0, this.positions[column] ?? 0];
    return cellValue(this.count(row, column), from, to, this.sums, cells);
  }

  /** Strength of a cell's colour: positive for errors, negative on the diagonal, 0 where nothing is to be seen. */
  shade(row: number, column: number): number {
    if (row !== column) return strength(this.value(row, column), this.greatest, this.options.log);
    return this.options.diagonal ? -this.value(row, row, this.counted ? "row" : this.options.cells) : 0;
  }

  shows(row: number, column: number): boolean {
    return row !== column || this.options.diagonal;
  }

  get counted(): boolean {
    return this.options.cells === "count";
  }

  /** Greatest value off the diagonal: what the colours of errors are measured by. */
  private strongest(): number {
    let greatest = 0;
    for (let row = 0; row < this.classes; row += 1) {
      for (let column = 0; column < this.classes; column += 1) {
        if (row !== column) greatest = Math.max(greatest, this.value(row, column));
      }
    }
    return greatest;
  }
}
