// The confusion matrix on a canvas: from two classes to a thousand, with heads, zoom, hover values and keyboard focus.

import { html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import { count, exactPercent, many, shortName } from "../format.js";
import type { Cells, MatrixPart, Order } from "../selection.js";
import { CanvasElement } from "./canvas.js";
import { themeColour } from "./colour.js";
import { DeltaModel, isPaired } from "./delta_model.js";
import { drawCells, drawHeads, drawLegend, drawOutline, type Picture } from "./matrix_draw.js";
import {
  type Counts,
  fitted,
  type Layout,
  LEAST_VIEW,
  layoutOf,
  type MatrixView,
  type Place,
  panned,
  placeAt,
  showing,
  stepped,
  zoomed,
} from "./matrix_geometry.js";
import { MatrixModel, type MatrixOptions } from "./matrix_model.js";

const EMPTY: Counts = { labels: [], counts: [] };
/** Where zooming and moving has stopped, the address may be told: browsers take only so many changes of it. */
const SETTLED = 300;

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
  /** What to show of it; `null` is all. */
  @property({ attribute: false }) zoomedTo: MatrixPart | null = null;
  @property({ attribute: false }) onPick: ((target: number | null, predicted: number | null) => void) | null =
    null;
  @property({ attribute: false }) onZoom: ((part: MatrixPart | null) => void) | null = null;

  private model = new MatrixModel(EMPTY, {
    names: null,
    cells: "row",
    order: "index",
    log: false,
    diagonal: true,
  });
  protected override readonly keyed = true;
  // The buttons above it do, with words on its order.
  protected override readonly saves = false;
  private view: MatrixView = { row: 0, column: 0, size: 1 };
  private focused: Place | null = null;
  private dragged: { x: number; y: number; view: MatrixView; moved: boolean } | null = null;
  /** The click that ends a drag chooses nothing. */
  private swallow = false;
  /** The cell that has the focus, for those who hear it. */
  private said = "";
  private told: MatrixPart | null = null;
  private settling: ReturnType<typeof setTimeout> | undefined;

  private get classes(): number {
    return this.model.classes;
  }

  private get layout(): Layout {
    return layoutOf(this.clientWidth, [this.model.longest], this.view, count(this.model.greatestSum));
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    const shown: (keyof MatrixElement)[] = ["matrix", "names", "cells", "order", "log", "diagonal"];
    if (shown.some((name) => changed.has(name))) {
      const { names, cells, order, log, diagonal } = this;
      const before = this.classes;
      const cell = this.focused && [
        this.model.label(this.focused.row),
        this.model.label(this.focused.column),
      ];
      this.model = this.modelOf({ names, cells, order, log, diagonal });
      if (before !== this.classes) this.view = fitted(this.zoomedTo, this.classes);
      // In another order the focus stays on its cell.
      if (cell !== null)
        this.focused = { row: this.model.find(cell[0] ?? null), column: this.model.find(cell[1] ?? null) };
      if (this.focused?.row === null && this.focused.column === null) this.focused = null;
      this.tip = null;
    }
    if (changed.has("zoomedTo") && this.zoomedTo !== this.told)
      this.view = fitted(this.zoomedTo, this.classes);
    if (changed.has("target") || changed.has("predicted") || changed.has("order")) {
      this.view = showing(this.view, this.chosen(), this.classes);
    }
  }

  private modelOf(options: MatrixOptions): MatrixModel {
    return isPaired(this.matrix)
      ? new DeltaModel(this.matrix, options)
      : new MatrixModel(this.matrix, options);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearTimeout(this.settling);
  }

  /** The chosen row and column as positions. */
  private chosen(): Place {
    return { row: this.model.find(this.target), column: this.model.find(this.predicted) };
  }

  protected override heightFor(): number {
    const { top, edge, foot } = this.layout;
    return Math.ceil(top + edge + foot);
  }

  protected override draw(context: CanvasRenderingContext2D): void {
    if (this.classes === 0) return;
    const picture = this.drawMatrix(context, window.devicePixelRatio || 1);
    if (this.focused !== null && this.querySelector("canvas")?.matches(":focus-visible")) {
      drawOutline(picture, this.focused, "--focus");
    }
  }

  private drawMatrix(context: CanvasRenderingContext2D, ratio: number): Picture {
    const { layout, model, view, dark } = this;
    const known = new Map<string, string>();
    const colour = (name: string): string => {
      const value = known.get(name) ?? themeColour(this, name);
      known.set(name, value);
      return value;
    };
    const picture = { context, model, layout, view, dark, ratio, colour };
    drawCells(picture);
    drawHeads(picture);
    drawLegend(picture);
    const place = this.chosen();
    if (place.row !== null || place.column !== null) drawOutline(picture, place, "--text");
    return picture;
  }

  protected override drawPicture(context: CanvasRenderingContext2D, ratio: number): void {
    this.drawMatrix(context, ratio);
  }

  /** What a cell or a head holds, a fact a line. */
  private describe(place: Place): string {
    const { row, column } = place;
    const { model } = this;
    const name = (position: number): string => shortName(model.name(position), 60);
    if (model instanceof DeltaModel) {
      const [target, predicted] = [row === null ? "" : name(row), column === null ? "" : name(column)];
      const head = model.together
        ? [target, predicted === target ? "" : predicted]
        : [target && `target ${target}`, predicted && `predicted ${predicted}`];
      return [head.filter(Boolean).join(model.together ? " and " : " → "), ...model.describe(place)].join(
        "\n",
      );
    }
    const samples = model.samples(place);
    if (model.together) return this.describeTogether(place);
    if (row !== null && column !== null) {
      const share = (of: number, words: string): string =>
        of === 0 ? `none ${words}` : `${exactPercent(samples / of)} of the ${count(of)} ${words}`;
      return [
        `target ${name(row)} → predicted ${name(column)}`,
        many(samples, "sample"),
        share(model.samples({ row, column: null }), "with this target"),
        share(model.samples({ row: null, column }), "predicted so"),
      ].join("\n");
    }
    const at = row ?? column;
    if (at === null) return "";
    const right = model.count(at, at);
    const worst = model.worst(place);
    return [
      `${row === null ? "predicted" : "target"} ${name(at)}`,
      many(samples, "sample"),
      samples === 0 ? "" : `${row === null ? "precision" : "recall"} ${exactPercent(right / samples)}`,
      worst === null
        ? ""
        : `${row === null ? "most of the wrong ones are" : "most often taken for"} ${name(worst.position)} (${count(worst.count)})`,
    ]
      .filter((line) => line !== "")
      .join("\n");
  }

  /** The same for labels that are wrong of the same sample. */
  private describeTogether({ row, column }: Place): string {
    const { model } = this;
    const name = (position: number): string => shortName(model.name(position), 60);
    const wrong = (position: number): number => model.samples({ row: position, column: null });
    const at = row ?? column ?? 0;
    const other = row === null || column === null ? at : column;
    if (at === other) return `${name(at)}\nwrong of ${many(wrong(at), "sample")}`;
    const samples = model.count(at, other);
    const share = (position: number): string =>
      wrong(position) === 0
        ? `${name(position)} is never wrong`
        : `${exactPercent(samples / wrong(position))} of the ${count(wrong(position))} where ${name(position)} is wrong`;
    return [
      `${name(at)} and ${name(other)}`,
      `both wrong of ${many(samples, "sample")}`,
      share(at),
      share(other),
    ].join("\n");
  }

  protected override hover(x: number, y: number): string | null {
    if (this.dragged?.moved) return null;
    const place = placeAt(x, y, this.layout, this.view, this.classes);
    return place === null ? null : this.describe(place);
  }

  protected override press(x: number, y: number): void {
    if (this.swallow) {
      this.swallow = false;
      return;
    }
    const place = placeAt(x, y, this.layout, this.view, this.classes);
    if (place === null) return;
    this.focused = place; // the keys go on from here
    const [target, predicted] = this.labels(place);
    const again = target === this.target && predicted === this.predicted;
    this.onPick?.(again ? null : target, again ? null : predicted);
  }

  private labels({ row, column }: Place): [number | null, number | null] {
    return [this.model.label(row), this.model.label(column)];
  }

  protected override key(event: KeyboardEvent): void {
    if (event.altKey) return;
    const far = event.ctrlKey || event.metaKey;
    const page = Math.max(1, Math.min(10, Math.floor(this.view.size)));
    const from = this.focused ?? this.firstFocus();
    const to = stepped(from, event.key, far, page, this.classes);
    if (to !== null) this.focusOn(this.focused === null ? from : to);
    else if (far) return;
    else if (event.key === "Enter" && this.focused !== null) this.onPick?.(...this.labels(this.focused));
    else if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? 1.5 : 1 / 1.5);
    else if (event.key === "0") this.zoom(1 / this.classes);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Where the keys begin: at the chosen cell, else at the first one in view. */
  private firstFocus(): Place {
    const { row, column } = this.chosen();
    if (row !== null || column !== null) return { row, column };
    return { row: Math.ceil(this.view.row), column: Math.ceil(this.view.column) };
  }

  private focusOn(place: Place): void {
    this.focused = place;
    this.look(showing(this.view, place, this.classes));
    const { left, top, cell } = this.layout;
    const text = this.describe(place);
    const across = place.column === null ? 0 : place.column - this.view.column + 1;
    const down = place.row === null ? 0 : place.row - this.view.row;
    this.tip = { text, x: left + across * cell, y: top + down * cell };
    this.said = text.replaceAll("\n", ". ");
    this.redraw();
  }

  private onBlur(): void {
    this.tip = null;
    this.said = "";
    this.requestUpdate();
  }

  private zoom(factor: number, about: Place = this.focused ?? this.chosen()): void {
    // With a row or a column alone, the diagonal is what to keep in view.
    const { row, column } = about;
    this.look(zoomed(this.view, factor, { row: row ?? column, column: column ?? row }, this.classes));
    this.tip = null;
    this.requestUpdate();
  }

  /** Show a part, and tell where it has come to rest. */
  private look(view: MatrixView): void {
    this.view = view;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => {
      const { row, column, size } = this.view;
      this.told = size >= this.classes ? null : { row, column, size };
      if (this.told !== null || this.zoomedTo !== null) this.onZoom?.(this.told);
    }, SETTLED);
  }

  private onWheel(event: WheelEvent): void {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const { x, y } = this.at(event);
    // A pinch comes in many small steps, a wheel in large ones.
    const factor = Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) / 250);
    this.zoom(factor, placeAt(x, y, this.layout, this.view, this.classes) ?? undefined);
  }

  private onDown(event: PointerEvent): void {
    this.swallow = false;
    if (event.button !== 0) return;
    const { x, y } = this.at(event);
    this.dragged = { x, y, view: this.view, moved: false };
  }

  private onDrag(event: PointerEvent): void {
    if (this.dragged === null) return;
    const { x, y } = this.at(event);
    const { cell } = this.layout;
    const far = Math.hypot(x - this.dragged.x, y - this.dragged.y) > 4;
    if (far && !this.dragged.moved && this.view.size < this.classes) {
      this.dragged.moved = true;
      // Outside the picture, too, the hand moves the matrix; a click without moving stays one of the canvas.
      (event.currentTarget as Element).setPointerCapture(event.pointerId);
    }
    if (!this.dragged.moved) return;
    const [rows, columns] = [(this.dragged.y - y) / cell, (this.dragged.x - x) / cell];
    this.look(panned(this.dragged.view, rows, columns, this.classes));
    this.tip = null;
    this.redraw();
  }

  private onUp(): void {
    this.swallow = this.dragged?.moved === true;
    this.dragged = null;
  }

  protected override render(): TemplateResult {
    const whole = this.view.size >= this.classes;
    const words = `${whole ? "" : `${count(Math.round(this.view.size))} of `}${count(this.classes)} ${this.model.together ? "labels" : "classes"}`;
    return html`<div class=${whole ? "" : "movable"} role="application" aria-label=${this.model.together ? "Labels wrong together" : "Confusion matrix"} @wheel=${this.onWheel} @pointerdown=${this.onDown} @pointermove=${this.onDrag}
        @pointerup=${this.onUp} @pointercancel=${this.onUp} @focusin=${this.redraw} @focusout=${this.onBlur}>${super.render()}</div>
      <div class="hidden" aria-live="polite" data-testid="matrix-said">${this.said}</div>
      ${
        this.classes <= 20
          ? nothing
          : html`<div class="chips">
            <button type="button" class="chip" aria-label="zoom in" ?disabled=${this.view.size <= LEAST_VIEW}
              @click=${() => this.zoom(2)}>+</button>
            <button type="button" class="chip" aria-label="zoom out" ?disabled=${whole} @click=${() => this.zoom(0.5)}>−</button>
            <button type="button" class="chip" ?disabled=${whole}
              @click=${() => this.zoom(1 / this.classes)}>whole matrix</button>
            <span class="quiet small" data-testid="matrix-part">${words} · Ctrl + wheel zooms, drag moves</span>
          </div>`
      }`;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-matrix": MatrixElement;
  }
}
