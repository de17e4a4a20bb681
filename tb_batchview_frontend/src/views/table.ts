// A sortable table of any length: only the rows in view are made, and only their pages are fetched.

import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import { html, LitElement, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";
import type { Sort } from "../selection.js";

export interface TableColumn<Row> {
  /** Name of the column in the API; also what `sort` is called by. */
  key: string;
  label: string;
  title?: string;
  /** Least width in pixels; the rest of the room is shared out in proportion. */
  width: number;
  number?: boolean;
  sortable?: boolean;
  /** Rows are made higher for it. */
  tall?: boolean;
  cell: (row: Row) => TemplateResult | string;
  /** Full precision or a longer name, shown on hover. */
  hint?: (row: Row) => string;
}

export interface TableRows<Row> {
  total: number;
  row: (index: number) => Row | undefined;
  want: (first: number, last: number) => void;
}

export const ROW_HEIGHT = 28;
const TALL_HEIGHT = 46;
const HEAD_HEIGHT = 31;
/** Browsers cap the height of an element (Firefox at 17.9 million pixels); longer tables scroll in larger steps. */
export const MOST_ROWS = 500_000;

/** Row of the table that stands `index` rows down in a scrolled list of at most `MOST_ROWS`. */
export function shiftOf(offset: number, viewport: number, total: number, height = ROW_HEIGHT): number {
  const listed = Math.min(total, MOST_ROWS);
  const room = listed * height - viewport;
  return room <= 0 ? 0 : Math.round(Math.min(1, Math.max(0, offset / room)) * (total - listed));
}

const NO_ROWS: TableRows<unknown> = { total: 0, row: () => undefined, want: () => undefined };

@customElement("bv-table")
export class TableElement extends LitElement {
  @property({ attribute: false }) columns: readonly TableColumn<never>[] = [];
  // Rows arrive inside the same object: every render of the parent is one of ours.
  @property({ attribute: false, hasChanged: () => true }) rows: TableRows<unknown> = NO_ROWS;
  @property({ attribute: false }) sort: Sort | null = null;
  @property({ attribute: false }) onSort: ((sort: Sort) => void) | null = null;
  @property({ attribute: false }) onPick: ((row: never, index: number) => void) | null = null;
  /** What a click or Enter does beyond choosing the row. */
  @property({ attribute: false }) onOpen: ((row: never, index: number) => void) | null = null;
  @property({ attribute: false }) isPicked: (row: never) => boolean = () => false;
  /** Row to bring into view whenever it changes. */
  @property({ attribute: false }) reveal: number | null = null;
  /** Another table: scroll to its top. */
  @property() subject = "";
  @property() label = "";

  private height = ROW_HEIGHT;
  private current = -1;
  private due: number | null = null;
  private virtualizer: Virtualizer<HTMLElement, Element> | null = null;
  private unmount: (() => void) | null = null;

  override createRenderRoot(): HTMLElement {
    return this;
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.unmount?.();
    this.virtualizer = null;
  }

  /** Choose the row above or below the current one. */
  move(by: number): void {
    // After another sort the row at the old place is another one.
    const here = this.rows.row(this.current);
    if (here === undefined || !this.isPicked(here as never)) this.current = -1;
    const next = Math.max(
      0,
      Math.min(this.rows.total - 1, this.current < 0 && by < 0 ? 0 : this.current + by),
    );
    if (this.rows.total === 0) return;
    const row = this.rows.row(next);
    this.scrollToRow(next);
    if (row === undefined) return;
    this.current = next;
    this.onPick?.(row as never, next);
    this.requestUpdate();
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    const height = this.columns.some(({ tall }) => tall) ? TALL_HEIGHT : ROW_HEIGHT;
    if (height !== this.height) {
      this.height = height;
      this.virtualizer?.measure();
    }
    if (changed.has("subject")) {
      this.current = -1;
      this.scroller?.scrollTo({ top: 0 });
    }
    if (changed.has("reveal") || changed.has("subject")) this.due = this.reveal;
    if (changed.has("reveal") && this.reveal !== null) this.current = this.reveal;
    this.virtualizer?.setOptions({
      ...this.virtualizer.options,
      count: Math.min(this.rows.total, MOST_ROWS),
    });
  }

  protected override updated(): void {
    if (this.virtualizer === null) {
      this.mount();
      return;
    }
    this.virtualizer._willUpdate();
    // The row can be shown only once the table is long enough.
    if (this.due === null || this.due >= this.rows.total) return;
    this.scrollToRow(this.due);
    this.due = null;
  }

  private get scroller(): HTMLElement | null {
    return this.querySelector(".scroll");
  }

  private mount(): void {
    this.virtualizer = new Virtualizer<HTMLElement, Element>({
      count: Math.min(this.rows.total, MOST_ROWS),
      getScrollElement: () => this.scroller,
      estimateSize: () => this.height,
      scrollToFn: elementScroll,
      observeElementRect,
      observeElementOffset,
      overscan: 6,
      onChange: () => this.requestUpdate(),
    });
    this.unmount = this.virtualizer._didMount();
    this.requestUpdate();
  }

  private scrollToRow(row: number): void {
    const { scroller, height } = this;
    if (scroller === null) return;
    const listed = Math.min(this.rows.total, MOST_ROWS);
    const shift = shiftOf(scroller.scrollTop, scroller.clientHeight, this.rows.total, height);
    const top = (row - shift) * height;
    const view = scroller.clientHeight - HEAD_HEIGHT;
    if (top >= scroller.scrollTop && top + height <= scroller.scrollTop + view) return;
    if (this.rows.total === listed) {
      const above = top < scroller.scrollTop;
      const near = Math.abs(top - scroller.scrollTop) < view + 4 * height;
      scroller.scrollTop = near ? (above ? top : top + height - view) : top - view / 2;
    } else {
      scroller.scrollTop = (row / this.rows.total) * (listed * height - scroller.clientHeight);
    }
  }

  /** Do with the current row what a click does; without one, with the first. */
  private open(): void {
    const here = this.rows.row(this.current);
    if (here === undefined || !this.isPicked(here as never)) this.move(1);
    const row = this.rows.row(this.current);
    if (row !== undefined) this.onOpen?.(row as never, this.current);
  }

  private onKey(event: KeyboardEvent): void {
    if (event.key === "Enter" && this.onPick !== null && event.target instanceof HTMLTableElement) {
      event.preventDefault();
      this.open();
      return;
    }
    const page = Math.max(
      1,
      Math.floor(((this.scroller?.clientHeight ?? 0) - HEAD_HEIGHT) / this.height) - 1,
    );
    const steps: Record<string, number> = {
      ArrowUp: -1,
      ArrowDown: 1,
      PageUp: -page,
      PageDown: page,
      Home: -this.rows.total,
      End: this.rows.total,
    };
    const by = steps[event.key];
    if (by === undefined || this.onPick === null || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.move(by);
  }

  private renderHead(column: TableColumn<never>): TemplateResult {
    const sorted = this.sort?.column === column.key ? this.sort : null;
    const mark = sorted === null ? "" : sorted.descending ? " ▾" : " ▴";
    const turn = (): void =>
      this.onSort?.({
        column: column.key,
        descending: sorted === null ? column.number === true : !sorted.descending,
      });
    return html`<th
      scope="col"
      class=${column.number ? "number" : ""}
      title=${column.title ?? nothing}
      aria-sort=${sorted === null ? nothing : sorted.descending ? "descending" : "ascending"}
      data-column=${column.key}
    >${
      column.sortable && this.onSort !== null
        ? html`<button type="button" @click=${turn}>${column.label}${mark}</button>`
        : html`<span>${column.label}</span>`
    }</th>`;
  }

  private renderRow(index: number): TemplateResult {
    const row = this.rows.row(index) as never;
    if (row === undefined) {
      return html`<tr aria-rowindex=${index + 2}><td colspan=${this.columns.length} class="quiet">…</td></tr>`;
    }
    const picked = this.isPicked(row);
    if (picked) this.current = index;
    const pick = (): void => {
      this.current = index;
      this.onPick?.(row, index);
      this.onOpen?.(row, index);
    };
    return html`<tr
      aria-rowindex=${index + 2}
      aria-selected=${this.onPick === null ? nothing : picked}
      id=${`${this.id}-${index}`}
      @click=${pick}
    >${this.columns.map(
      (column) =>
        html`<td class=${column.number ? "number" : ""} title=${column.hint?.(row) ?? nothing}>${column.cell(row)}</td>`,
    )}</tr>`;
  }

  protected override render(): TemplateResult {
    const { total } = this.rows;
    const items = this.virtualizer?.getVirtualItems() ?? [];
    const { scroller, height } = this;
    const shift = scroller === null ? 0 : shiftOf(scroller.scrollTop, scroller.clientHeight, total, height);
    const shown = items.map((item) => item.index + shift).filter((index) => index < total);
    const [first, last] = [shown[0], shown[shown.length - 1]];
    if (first !== undefined && last !== undefined) this.rows.want(first, last);
    const before = items[0]?.start ?? 0;
    const after = (this.virtualizer?.getTotalSize() ?? 0) - (items[items.length - 1]?.end ?? 0);
    const spacer = (height: number): TemplateResult | typeof nothing =>
      height <= 0
        ? nothing
        : html`<tr class="spacer" aria-hidden="true">
            <td colspan=${this.columns.length} .style=${`height:${height}px`}></td>
          </tr>`;
    const width = this.columns.reduce((sum, column) => sum + column.width, 0);
    const active = shown.includes(this.current) && this.rows.row(this.current) !== undefined;
    return html`<div class="scroll" @keydown=${this.onKey}><table
      class=${`grid${this.onPick === null ? "" : " pick"}${height === ROW_HEIGHT ? "" : " tall"}`}
      role="grid"
      tabindex="0"
      aria-activedescendant=${active ? `${this.id}-${this.current}` : nothing}
      aria-label=${this.label}
      aria-rowcount=${total + 1}
      .style=${`min-width:${width}px`}
    ><colgroup>${this.columns.map((column) => html`<col .style=${`width:${(column.width / width) * 100}%`}>`)}</colgroup>
      <thead><tr aria-rowindex="1">${this.columns.map((column) => this.renderHead(column))}</tr></thead>
      <tbody>
        ${spacer(before)}
        ${repeat(
          shown,
          (index) => index,
          (index) => this.renderRow(index),
        )}
        ${spacer(after)}
      </tbody>
    </table></div>`;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-table": TableElement;
  }
}
