// What every matrix of classes has: chips and an order to choose, and the picture with what is chosen in it.

import { html, nothing, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import "../charts/matrix.js";
import type { Counts } from "../charts/matrix_geometry.js";
import type { MatrixOptions } from "../charts/matrix_model.js";
import { type Cells, ORDERS, type Order } from "../selection.js";
import type { Store } from "../state.js";
import { chip } from "./parts.js";

const ORDER_LABELS: Record<Order, string> = {
  index: "number",
  name: "name",
  support: "support",
  errors: "errors",
  clustered: "clustered",
};

const CELL_LABELS: Record<Cells, string> = { count: "counts", row: "by row", column: "by column" };

/** How the selection has a matrix shown, but for what another kind of matrix leaves out. */
export const optionsOf = (
  { selection: { cells, order, log, diagonal }, classNames }: Store,
  change: Partial<MatrixOptions> = {},
): MatrixOptions => ({ names: classNames, cells, order, log, diagonal, ...change });

/** What the cells show, the order of the rows, and the colours. */
export function matrixChips(
  store: Store,
  hook: string,
  { cells, order, log, diagonal }: MatrixOptions,
  words: Partial<Record<Cells, string>> = CELL_LABELS,
  orders: readonly Order[] = ORDERS,
): TemplateResult {
  return html`<div class="chips">
    <span class="chips" role="group" aria-label="Cells show">${(Object.keys(words) as Cells[]).map((value) =>
      chip(words[value] ?? "", cells === value, () => store.select({ cells: value }), `${hook}-${value}`),
    )}</span>
    <select aria-label="Order of the rows" data-testid=${`${hook}-order`} title=${orders === ORDERS ? "clustered: classes taken for each other stand together" : nothing}
      @change=${(event: Event) => store.select({ order: (event.target as HTMLSelectElement).value as Order })}>
      ${orders.map((value) => html`<option value=${value} .selected=${live(order === value)}>order: ${ORDER_LABELS[value]}</option>`)}
    </select>
    ${chip("log colour", log, () => store.select({ log: !log }), `${hook}-log`)}
    ${orders === ORDERS ? chip("hide diagonal", !diagonal, () => store.select({ diagonal: !diagonal }), `${hook}-diagonal`) : nothing}
  </div>`;
}

/** A matrix of one run, or of A less B; where classes can be chosen in it, a click shows their samples. */
export function matrixPicture(
  store: Store,
  hook: string,
  label: string,
  matrix: Counts,
  { names, cells, order, log, diagonal }: MatrixOptions,
  picks = true,
): TemplateResult {
  const { target, predicted, part } = store.selection;
  return html`<bv-matrix
    data-testid=${hook}
    label=${label}
    .matrix=${matrix}
    .names=${names}
    cells=${cells}
    order=${order}
    ?log=${log}
    .diagonal=${diagonal}
    ?dark=${store.dark}
    .target=${picks ? target : null}
    .predicted=${picks ? predicted : null}
    .zoomedTo=${picks ? part : null}
    .onPick=${picks ? (row: number | null, column: number | null) => store.select({ target: row, predicted: column, sample: null }) : null}
    .onZoom=${picks ? (seen: typeof part) => store.select({ part: seen }) : null}
  ></bv-matrix>`;
}
