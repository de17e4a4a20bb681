// Two confusion matrices as one: run A less run B, in counts or in shares of a row or a column. Pure.

import { count, many, points, signed } from "../format.js";
import { type Counts, cellValue, type Place, type Sums, strength, sumsOf } from "./matrix_geometry.js";
import { MatrixModel } from "./matrix_model.js";

export interface PairedCounts extends Counts {
  /** Those of run B, in the rows and columns of A's classes. */
  against: ArrayLike<number>;
  /** B's number of each class, -1 where it has none. */
  matched: ArrayLike<number>;
}

export const isPaired = (matrix: Counts): matrix is PairedCounts => "against" in matrix;

export class DeltaModel extends MatrixModel {
  // Asked for by the constructor of the other model, before fields of this one have values.
  declare private others: Sums | undefined;
  declare private values: Float64Array | undefined;

  private get paired(): PairedCounts {
    return this.matrix as PairedCounts;
  }

  private get otherSums(): Sums {
    this.others ??= sumsOf({ ...this.matrix, counts: this.paired.against });
    return this.others;
  }

  override get diverging(): boolean {
    return true;
  }

  /** Samples of run B in a cell, a row or a column. */
  otherSamples({ row, column }: Place): number {
    const at = (position: number | null): number => this.positions[position ?? 0] ?? 0;
    if (row !== null && column !== null) {
      return this.paired.against[at(row) * this.classes + at(column)] ?? 0;
    }
    const { rows, columns } = this.otherSums;
    return (row === null ? columns[at(column)] : rows[at(row)]) ?? 0;
  }

  matched(position: number): boolean {
    return (this.paired.matched[this.positions[position] ?? 0] ?? -1) >= 0;
  }

  /** A less B; NaN where one of them has nothing that a share could be of. */
  override value(row: number, column: number): number {
    this.values ??= this.subtracted();
    return this.values[row * this.classes + column] ?? Number.NaN;
  }

  /** All differences at once: a thousand classes are a million cells. */
  private subtracted(): Float64Array {
    const { classes, positions, options } = this;
    const { matched, against } = this.paired;
    const [mine, others] = [this.sums, this.otherSums];
    const values = new Float64Array(classes * classes).fill(Number.NaN);
    const whole = options.cells === "row" ? "rows" : "columns";
    for (let row = 0; row < classes; row += 1) {
      const from = positions[row] ?? 0;
      if ((matched[from] ?? -1) < 0) continue;
      for (let column = 0; column < classes; column += 1) {
        const to = positions[column] ?? 0;
        if ((matched[to] ?? -1) < 0) continue;
        const of = options.cells === "row" ? from : to;
        if (options.cells !== "count" && (mine[whole][of] === 0 || others[whole][of] === 0)) continue;
        const [a, b] = [this.matrix.counts[from * classes + to] ?? 0, against[from * classes + to] ?? 0];
        const change =
          cellValue(a, from, to, mine, options.cells) - cellValue(b, from, to, others, options.cells);
        values[row * classes + column] = change;
      }
    }
    return values;
  }

  override text(row: number, column: number): string {
    const value = this.value(row, column);
    if (Number.isNaN(value) || value === 0 || !this.shows(row, column)) return "";
    if (this.counted) return signed(value, count);
    const text = signed(value * 100, (share) => share.toFixed(1).replace("-", "−"));
    return /[1-9]/.test(text) ? text : "";
  }

  protected override strongest(): number {
    let greatest = 0;
    for (let row = 0; row < this.classes; row += 1) {
      for (let column = 0; column < this.classes; column += 1) {
        if (!this.shows(row, column)) continue;
        const value = Math.abs(this.value(row, column));
        if (value > greatest) greatest = value;
      }
    }
    return greatest;
  }

  protected override shaded(): Float32Array {
    const { classes, greatest } = this;
    const shades = new Float32Array(classes * classes);
    for (let row = 0; row < classes; row += 1) {
      for (let column = 0; column < classes; column += 1) {
        const value = this.value(row, column);
        if (Number.isNaN(value) || !this.shows(row, column)) continue;
        const shade = strength(Math.abs(value), greatest, this.options.log);
        shades[row * classes + column] = Math.sign(value) * shade;
      }
    }
    return shades;
  }

  /** The two numbers and their difference, a fact a line. */
  describe(place: Place): string[] {
    const of = (samples: number, whole: number): string =>
      `${count(samples)}${whole === 0 ? "" : ` of ${count(whole)}, ${((100 * samples) / whole).toFixed(2)}\u00a0%`}`;
    const { row, column } = place;
    const [a, b] = [this.samples(place), this.otherSamples(place)];
    if (this.together && (row === null || column === null || row === column)) {
      const wrong = (samples: number): string => `wrong of ${many(samples, "sample")}`;
      return [`A ${wrong(a)}`, this.matched(row ?? column ?? 0) ? `B ${wrong(b)}` : "B has no such label"];
    }
    if (row === null || column === null) {
      const at = row ?? column ?? 0;
      if (!this.matched(at)) return [`A ${count(a)} samples`, "B has no such class"];
      const right = { row: at, column: at };
      const what = row === null ? "precision" : "recall";
      return [
        `A ${count(a)} samples, ${what} ${of(this.samples(right), a)}`,
        `B ${count(b)} samples, ${what} ${of(this.otherSamples(right), b)}`,
      ];
    }
    if (!this.matched(row) || !this.matched(column)) return [`A ${count(a)} samples`, "B has no such class"];
    const whole = this.whole(row, column);
    const value = this.value(row, column);
    const change = Number.isNaN(value)
      ? "one of them has no sample here"
      : `A − B ${this.counted ? signed(value, count) : signed(value, points)}`;
    return [`A ${of(a, this.samples(whole))}`, `B ${of(b, this.otherSamples(whole))}`, change];
  }
}
