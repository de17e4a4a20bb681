// The confusion matrix on a canvas: from two classes to a thousand, with heads, zoom, hover values and keyboard focus.

import { html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import { className, count, percent } from "../format.js";
import type { Cells, Order } from "../selection.js";
import { CanvasElement } from "./canvas.js";
import { inkOn, pixels, ramp, rightRamp, themeColour } from "./colour.js";
import {
  type Counts,
  cellValue,
  type Layout,
  LEAST_LABELLED,
  labelled,
  layoutOf,
  type MatrixView,
  ordered,
  type Place,
  panned,
  placeAt,
  pooled,
  type Sums,
  showing,
  strength,
  sumsOf,
  zoomed,
} from "./matrix_geometry.js";

const EMPTY: Counts = { labels: [], counts: [] };

@customElement("bv-matrix")
export class MatrixElement extends CanvasElement {
  @property({ attribute: false }) matrix: Counts = EMPTY;
  @property({ attribute: false }) names: readonly string[] | null = null;
  @property() cells: Cells = "row";
  @property() order: Order = "index";
  @property({ type: Boolean }) log = false;
  @property({ type: Boolean }) diagonal = true;
  /** Class numbers of the chosen row and column. */
  @property({ attribute: false }) target: number | null = null;
  @property({ attribute: false }) predicted: number | null = null;
  @property({ attribute: false }) onPick: ((target: number | null, predicted: number | null) => void) | null =
    null;

  private sums: Sums = { rows: new Float64Array(), columns: new Float64Array() };
  private positions: number[] = [];
  private view: MatrixView = { row: 0, column: 0, size: 1 };
  private focused: Place | null = null;
  private greatest = 0;
  private dragged: { x: number; y: number; view: MatrixView; moved: boolean } | null = null;

  private get classes(): number {
    return this.matrix.labels.length;
  }

  private nameAt(position: number): string {
    return className(this.names, this.matrix.labels[this.positions[position] ?? 0] ?? null);
  }

  private get layout(): Layout {
    const { row, column, size } = this.view;
    const shown =
      size > 200
        ? ["0000"]
        : this.positions.flatMap((_, index) =>
            (index >= row - 1 && index <= row + size) || (index >= column - 1 && index <= column + size)
              ? [this.nameAt(index)]
              : [],
          );
    return layoutOf(this.clientWidth, shown, this.view);
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    const before = (changed.get("matrix") as Counts | undefined)?.labels.length;
    if (changed.has("matrix")) {
      this.sums = sumsOf(this.matrix);
      if (before !== this.classes) this.view = { row: 0, column: 0, size: Math.max(1, this.classes) };
    }
    if (changed.has("matrix") || changed.has("order")) {
      this.positions = ordered(this.matrix, this.sums, this.order);
    }
    if (changed.has("matrix") || changed.has("cells") || changed.has("order"))
      this.greatest = this.strongest();
    if (changed.has("target") || changed.has("predicted")) {
      this.view = showing(this.view, this.chosen(), this.classes);
    }
  }

  /** The chosen row and column as positions. */
  private chosen(): Place {
    const position = (wanted: number | null): number | null => {
      const found = this.positions.findIndex((index) => this.matrix.labels[index] === wanted);
      return wanted === null || found < 0 ? null : found;
    };
    return { row: position(this.target), column: position(this.predicted) };
  }

  private countAt(row: number, column: number): number {
    return this.matrix.counts[(this.positions[row] ?? 0) * this.classes + (this.positions[column] ?? 0)] ?? 0;
  }

  private valueAt(row: number, column: number, cells = this.cells): number {
    const [from, to] = [this.positions[row] ?? 0, this.positions[column] ?? 0];
    return cellValue(this.countAt(row, column), from, to, this.sums, cells);
  }

  /** Greatest value off the diagonal: what the colours of errors are measured by. */
  private strongest(): number {
    let greatest = 0;
    for (let row = 0; row < this.classes; row += 1) {
      for (let column = 0; column < this.classes; column += 1) {
        if (row !== column) greatest = Math.max(greatest, this.valueAt(row, column));
      }
    }
    return greatest;
  }

  /** Strength of a cell's colour: positive for errors, negative on the diagonal, 0 where nothing is to be seen. */
  private shade(row: number, column: number): number {
    const value = this.valueAt(row, column);
    if (row !== column) return strength(value, this.greatest, this.log);
    if (!this.diagonal) return 0;
    const position = this.positions[row] ?? 0;
    return -(this.cells === "count" ? value / Math.max(1, this.sums.rows[position] ?? 1) : value);
  }

  protected override heightFor(): number {
    const layout = this.layout;
    return Math.ceil(layout.top + layout.edge + 4);
  }

  protected override draw(context: CanvasRenderingContext2D): void {
    if (this.classes === 0) return;
    const layout = this.layout;
    if (layout.cell < 4) this.drawPixels(context, layout);
    else this.drawCells(context, layout);
    this.drawHeads(context, layout);
    const place = this.chosen();
    if (place.row !== null || place.column !== null) this.outline(context, layout, place, "--text", 2);
    if (this.focused !== null) this.outline(context, layout, this.focused, "--focus", 2);
  }

  private drawPixels(context: CanvasRenderingContext2D, layout: Layout): void {
    const edge = Math.floor(layout.edge * (window.devicePixelRatio || 1));
    const shades = pooled(edge, this.view, this.classes, (row, column) => this.shade(row, column));
    const wrong = pixels(ramp(this.dark));
    const right = pixels(rightRamp(this.dark));
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

  private drawCells(context: CanvasRenderingContext2D, layout: Layout): void {
    const { cell, left, top } = layout;
    const gap = cell >= 12 ? 1 : 0;
    const [wrong, right] = [ramp(this.dark), rightRamp(this.dark)];
    context.save();
    context.beginPath();
    context.rect(left, top, layout.edge, layout.edge);
    context.clip();
    context.fillStyle = wrong(0);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = `${cell >= 34 ? 12 : 10.5}px Roboto, system-ui, sans-serif`;
    const firstRow = Math.floor(this.view.row);
    const firstColumn = Math.floor(this.view.column);
    for (let row = firstRow; row < Math.min(this.classes, firstRow + this.view.size + 1); row += 1) {
      for (
        let column = firstColumn;
        column < Math.min(this.classes, firstColumn + this.view.size + 1);
        column += 1
      ) {
        const x = left + (column - this.view.column) * cell;
        const y = top + (row - this.view.row) * cell;
        const shade = this.shade(row, column);
        const colour = shade < 0 ? right(-shade) : wrong(shade);
        context.fillStyle = colour;
        context.fillRect(x, y, cell - gap, cell - gap);
        const number = this.countAt(row, column);
        if (cell < 27 || number === 0 || (row === column && !this.diagonal)) continue;
        const value = this.valueAt(row, column);
        const text =
          this.cells === "count" ? count(number) : value >= 0.995 ? "100" : (value * 100).toFixed(1);
        if (text.length * 6 > cell) continue;
        context.fillStyle = inkOn(colour);
        context.fillText(text, x + (cell - gap) / 2, y + (cell - gap) / 2 + 0.5);
      }
    }
    context.restore();
  }

  private drawHeads(context: CanvasRenderingContext2D, layout: Layout): void {
    const { cell, left, top, edge } = layout;
    context.save();
    context.font = "12px Roboto, system-ui, sans-serif";
    context.fillStyle = themeColour(this, "--quiet");
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillText("target ↓   predicted →", 0, 7);
    if (cell >= LEAST_LABELLED) {
      context.textAlign = "left";
      context.fillText("n", left + edge + 8, top - 9);
    }
    context.fillStyle = themeColour(this, "--text");
    const shorten = (text: string, room: number): string =>
      text.length * 6.4 <= room ? text : `${text.slice(0, Math.max(1, Math.floor(room / 6.4) - 1))}…`;
    for (const index of labelled(this.classes, cell)) {
      const name = this.nameAt(index);
      const y = top + (index - this.view.row + 0.5) * cell;
      if (y > top && y < top + edge) {
        context.textAlign = "right";
        context.fillStyle = themeColour(this, "--text");
        context.fillText(shorten(name, left - 8), left - 6, y);
        if (cell >= LEAST_LABELLED) {
          context.textAlign = "left";
          context.fillStyle = themeColour(this, "--quiet");
          context.fillText(count(this.sums.rows[this.positions[index] ?? 0]), left + edge + 8, y);
        }
      }
      const x = left + (index - this.view.column + 0.5) * cell;
      if (x <= left || x >= left + edge) continue;
      context.fillStyle = themeColour(this, "--text");
      context.save();
      context.translate(x, top - 5);
      if (layout.upright) context.rotate(-Math.PI / 2);
      else context.translate(0, -5);
      context.textAlign = layout.upright ? "left" : "center";
      context.fillText(shorten(name, layout.upright ? top - 24 : cell), 0, 0);
      context.restore();
    }
    context.restore();
  }

  private outline(
    context: CanvasRenderingContext2D,
    layout: Layout,
    place: Place,
    colour: string,
    width: number,
  ): void {
    const { cell, left, top, edge } = layout;
    const size = Math.max(cell, 5);
    const x =
      place.column === null ? left : left + (place.column - this.view.column) * cell - (size - cell) / 2;
    const y = place.row === null ? top : top + (place.row - this.view.row) * cell - (size - cell) / 2;
    context.save();
    context.beginPath();
    context.rect(left - 2, top - 2, edge + 4, edge + 4);
    context.clip();
    context.strokeStyle = themeColour(this, colour);
    context.lineWidth = width;
    context.strokeRect(x, y, place.column === null ? edge : size - 1, place.row === null ? edge : size - 1);
    context.restore();
  }

  private describe({ row, column }: Place): string {
    const samples = (value: number): string => `${count(value)} ${value === 1 ? "sample" : "samples"}`;
    if (row !== null && column !== null) {
      const head = `target ${this.nameAt(row)} → predicted ${this.nameAt(column)}`;
      const shares = `${percent(this.valueAt(row, column, "row"))} of target ${this.nameAt(row)}\n${percent(this.valueAt(row, column, "column"))} of predicted ${this.nameAt(column)}`;
      return `${head}\n${samples(this.countAt(row, column))}\n${shares}`;
    }
    if (row !== null)
      return `target ${this.nameAt(row)}\n${samples(this.sums.rows[this.positions[row] ?? 0] ?? 0)}`;
    if (column === null) return "";
    return `predicted ${this.nameAt(column)}\n${samples(this.sums.columns[this.positions[column] ?? 0] ?? 0)}`;
  }

  protected override hover(x: number, y: number): string | null {
    if (this.dragged?.moved) return null;
    const place = placeAt(x, y, this.layout, this.view, this.classes);
    return place === null ? null : this.describe(place);
  }

  protected override press(x: number, y: number): void {
    const moved = this.dragged?.moved === true;
    this.dragged = null;
    const place = placeAt(x, y, this.layout, this.view, this.classes);
    if (!moved && place !== null) this.pick(place);
  }

  private pick({ row, column }: Place): void {
    const label = (position: number | null): number | null =>
      position === null ? null : (this.matrix.labels[this.positions[position] ?? 0] ?? null);
    const [target, predicted] = [label(row), label(column)];
    const again = target === this.target && predicted === this.predicted;
    this.onPick?.(again ? null : target, again ? null : predicted);
  }

  protected override key(event: KeyboardEvent): void {
    const moves: Record<string, [number, number]> = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    };
    const by = moves[event.key];
    if (by !== undefined) {
      const inside = (value: number): number => Math.max(0, Math.min(this.classes - 1, value));
      const from = this.focused ?? {
        row: Math.floor(this.view.row),
        column: Math.floor(this.view.column) - by[1],
      };
      this.focusOn({ row: inside((from.row ?? 0) + by[0]), column: inside((from.column ?? 0) + by[1]) });
    } else if (event.key === "Enter" && this.focused !== null) {
      this.pick(this.focused);
    } else if (event.key === "+" || event.key === "-") {
      this.zoom(event.key === "+" ? 1.5 : 1 / 1.5);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private focusOn(place: Place): void {
    this.focused = place;
    this.view = showing(this.view, place, this.classes);
    const { left, top, cell } = this.layout;
    this.tip = {
      text: this.describe(place),
      x: left + ((place.column ?? 0) - this.view.column + 1) * cell,
      y: top + ((place.row ?? 0) - this.view.row) * cell,
    };
    this.redraw();
  }

  private zoom(factor: number, about: Place = this.focused ?? this.chosen()): void {
    // With a row or a column alone, the diagonal is what to keep in view.
    const { row, column } = about;
    this.view = zoomed(this.view, factor, { row: row ?? column, column: column ?? row }, this.classes);
    this.tip = null;
    this.requestUpdate();
  }

  private onWheel(event: WheelEvent): void {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const { x, y } = this.at(event);
    this.zoom(
      event.deltaY < 0 ? 1.25 : 0.8,
      placeAt(x, y, this.layout, this.view, this.classes) ?? undefined,
    );
  }

  private onDown(event: MouseEvent): void {
    const { x, y } = this.at(event);
    this.dragged = { x, y, view: this.view, moved: false };
  }

  private onDrag(event: MouseEvent): void {
    if (this.dragged === null) return;
    if (event.buttons === 0) {
      this.dragged = null;
      return;
    }
    const { x, y } = this.at(event);
    const { cell } = this.layout;
    const [rows, columns] = [(this.dragged.y - y) / cell, (this.dragged.x - x) / cell];
    this.dragged.moved ||= Math.hypot(x - this.dragged.x, y - this.dragged.y) > 4;
    if (!this.dragged.moved || this.view.size >= this.classes) return;
    this.view = panned(this.dragged.view, rows, columns, this.classes);
    this.tip = null;
    this.redraw();
  }

  protected override render(): TemplateResult {
    const whole = this.view.size >= this.classes;
    const shown = Math.round(this.view.size);
    return html`<div @wheel=${this.onWheel} @mousedown=${this.onDown} @mousemove=${this.onDrag}>${super.render()}</div>
      ${
        this.classes <= 20
          ? nothing
          : html`<div class="chips">
            <button type="button" class="chip" aria-label="zoom in" ?disabled=${this.view.size <= 4} @click=${() => this.zoom(2)}>+</button>
            <button type="button" class="chip" aria-label="zoom out" ?disabled=${whole} @click=${() => this.zoom(0.5)}>−</button>
            <button type="button" class="chip" ?disabled=${whole} @click=${() => this.zoom(1 / this.classes)}>whole matrix</button>
            <span class="quiet small">${whole ? `${count(this.classes)} classes` : `${shown} of ${count(this.classes)} classes`} · Ctrl + wheel zooms, drag moves</span>
          </div>`
      }`;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-matrix": MatrixElement;
  }
}
