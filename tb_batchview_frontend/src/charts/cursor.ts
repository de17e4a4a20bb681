// Pictures of cells that keys lead through as the mouse does: the cell under the cursor is outlined and read out.

import type { Tip } from "./canvas.js";
import { themeColour } from "./colour.js";
import type { Frame } from "./histograms.js";
import { KeyedElement } from "./keyed.js";

/** A cell of a picture; row 0 is the topmost. */
export interface Cell {
  column: number;
  row: number;
}

const PAGE = 10;

/** Where a key leads from a cell; `null` for keys that lead nowhere. */
export function moved(from: Cell, key: string, far: boolean, columns: number, rows: number): Cell | null {
  const steps: Record<string, [number, number]> = {
    ArrowLeft: [far ? -columns : -1, 0],
    ArrowRight: [far ? columns : 1, 0],
    ArrowUp: [0, far ? -rows : -1],
    ArrowDown: [0, far ? rows : 1],
    Home: [-columns, far ? -rows : 0],
    End: [columns, far ? rows : 0],
    PageUp: [0, -PAGE],
    PageDown: [0, PAGE],
  };
  const step = steps[key];
  if (step === undefined || columns === 0 || rows === 0) return null;
  const within = (value: number, count: number): number => Math.min(count - 1, Math.max(0, value));
  return { column: within(from.column + step[0], columns), row: within(from.row + step[1], rows) };
}

export abstract class CellsElement extends KeyedElement {
  protected override readonly saves = true;
  private cursor: Cell | null = null;

  /** How many cells there are. */
  protected abstract cells(): { columns: number; rows: number };
  protected abstract boxOf(cell: Cell): Frame;
  protected abstract cellAt(x: number, y: number): Cell | null;
  protected abstract describe(cell: Cell): string;
  protected pick(_cell: Cell): void {}

  /** Where the keys begin. */
  protected start(): Cell {
    return { column: this.cells().columns - 1, row: 0 };
  }

  /** The cell under the cursor, if there still is one: the picture may be of other figures by now. */
  private get place(): Cell | null {
    const { columns, rows } = this.cells();
    const cell = this.cursor;
    return cell !== null && cell.column < columns && cell.row < rows ? cell : null;
  }

  protected override moveCursor(key: string, far: boolean): boolean {
    const { columns, rows } = this.cells();
    const known = this.place;
    const to = moved(known ?? this.start(), key, far, columns, rows);
    if (to === null) return false;
    // The first key shows where the cursor is, unless it leads to an end.
    this.cursor = known === null && /^(Arrow|Page)/.test(key) && !far ? this.start() : to;
    return true;
  }

  protected override spot(): Tip | null {
    const cell = this.place;
    if (cell === null) return null;
    const { left, top, width } = this.boxOf(cell);
    return { text: this.describe(cell), x: left + width, y: top };
  }

  protected override choose(): void {
    if (this.place !== null) this.pick(this.place);
  }

  protected override drawCursor(context: CanvasRenderingContext2D): void {
    if (this.place === null) return;
    const { left, top, width, height } = this.boxOf(this.place);
    // Two lines, as one of any colour is lost on some of the cells.
    for (const [name, room] of [
      ["--ground", 2],
      ["--focus", 1],
    ] as const) {
      context.strokeStyle = themeColour(this, name);
      context.lineWidth = 2;
      context.strokeRect(left - room, top - room, width + 2 * room, height + 2 * room);
    }
  }

  protected override hover(x: number, y: number): string | null {
    const cell = this.cellAt(x, y);
    return cell === null ? null : this.describe(cell);
  }

  protected override press(x: number, y: number): void {
    const cell = this.cellAt(x, y);
    if (cell === null) return;
    this.cursor = cell; // the keys go on from here
    this.pick(cell);
  }
}
