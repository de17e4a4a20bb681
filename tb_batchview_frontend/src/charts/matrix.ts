// The confusion matrix on a canvas: from two classes to a thousand, with heads, zoom, hover values and keyboard focus.

import { html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import { count, many, percent } from "../format.js";
import type { Cells, Order } from "../selection.js";
import { CanvasElement } from "./canvas.js";
import { themeColour } from "./colour.js";
import { drawCells, drawHeads, drawOutline, drawPixels } from "./matrix_draw.js";
import {
  type Counts,
  type Layout,
  layoutOf,
  type MatrixView,
  type Place,
  panned,
  placeAt,
  showing,
  zoomed,
} from "./matrix_geometry.js";
import { MatrixModel } from "./matrix_model.js";

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

  private model = new MatrixModel(EMPTY, {
    names: null,
    cells: "row",
    order: "index",
    log: false,
    diagonal: true,
  });
  protected override readonly keyed = true;
  private view: MatrixView = { row: 0, column: 0, size: 1 };
  private focused: Place | null = null;
  private dragged: { x: number; y: number; view: MatrixView; moved: boolean } | null = null;

  private get classes(): number {
    return this.model.classes;
  }

  private get layout(): Layout {
    const { row, column, size } = this.view;
    const seen = (first: number, index: number): boolean => index >= first - 1 && index <= first + size;
    const all = Array.from({ length: size > 200 ? 0 : this.classes }, (_, index) => index);
    const names = all
      .filter((index) => seen(row, index) || seen(column, index))
      .map((index) => this.model.name(index));
    return layoutOf(this.clientWidth, size > 200 ? ["0000"] : names, this.view);
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    const shown: (keyof MatrixElement)[] = ["matrix", "names", "cells", "order", "log", "diagonal"];
    if (shown.some((name) => changed.has(name))) {
      const { names, cells, order, log, diagonal } = this;
      const before = this.classes;
      this.model = new MatrixModel(this.matrix, { names, cells, order, log, diagonal });
      if (before !== this.classes) this.view = { row: 0, column: 0, size: Math.max(1, this.classes) };
    }
    if (changed.has("target") || changed.has("predicted")) {
      this.view = showing(this.view, this.chosen(), this.classes);
    }
  }

  /** The chosen row and column as positions. */
  private chosen(): Place {
    return { row: this.model.find(this.target), column: this.model.find(this.predicted) };
  }

  protected override heightFor(): number {
    const layout = this.layout;
    return Math.ceil(layout.top + layout.edge + 4);
  }

  protected override draw(context: CanvasRenderingContext2D): void {
    if (this.classes === 0) return;
    const { layout, model, view, dark } = this;
    const colour = (name: string): string => themeColour(this, name);
    const picture = { context, model, layout, view, dark, colour };
    if (layout.cell < 4) drawPixels(picture);
    else drawCells(picture);
    drawHeads(picture);
    const place = this.chosen();
    if (place.row !== null || place.column !== null) drawOutline(picture, place, "--text");
    if (this.focused !== null) drawOutline(picture, this.focused, "--focus");
  }

  private describe(place: Place): string {
    const { row, column } = place;
    const { model } = this;
    const samples = many(model.samples(place), "sample");
    if (row !== null && column !== null) {
      const [target, predicted] = [model.name(row), model.name(column)];
      const ofRow = `${percent(model.value(row, column, "row"))} of target ${target}`;
      const ofColumn = `${percent(model.value(row, column, "column"))} of predicted ${predicted}`;
      return `target ${target} → predicted ${predicted}\n${samples}\n${ofRow}\n${ofColumn}`;
    }
    if (row !== null) return `target ${model.name(row)}\n${samples}`;
    return column === null ? "" : `predicted ${model.name(column)}\n${samples}`;
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
    const [target, predicted] = [this.model.label(row), this.model.label(column)];
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
    const words = `${whole ? "" : `${count(Math.round(this.view.size))} of `}${count(this.classes)} classes`;
    return html`<div @wheel=${this.onWheel} @mousedown=${this.onDown} @mousemove=${this.onDrag}>${super.render()}</div>
      ${
        this.classes <= 20
          ? nothing
          : html`<div class="chips">
            <button type="button" class="chip" aria-label="zoom in" ?disabled=${this.view.size <= 4}
              @click=${() => this.zoom(2)}>+</button>
            <button type="button" class="chip" aria-label="zoom out" ?disabled=${whole} @click=${() => this.zoom(0.5)}>−</button>
            <button type="button" class="chip" ?disabled=${whole}
              @click=${() => this.zoom(1 / this.classes)}>whole matrix</button>
            <span class="quiet small">${words} · Ctrl + wheel zooms, drag moves</span>
          </div>`
      }`;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-matrix": MatrixElement;
  }
}
