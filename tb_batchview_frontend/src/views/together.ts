// Which labels are wrong of the same sample: the matrix of a multilabel output.

import { html, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import type { Counts } from "../charts/matrix_geometry.js";
import { MatrixModel, type MatrixOptions } from "../charts/matrix_model.js";
import "../charts/matrix.js";
import { className, count, many, percent, shortName } from "../format.js";
import { rankPairs } from "../pairs.js";
import type { Order } from "../selection.js";
import type { Store } from "../state.js";
import type { Block, ConfusionHeader } from "../types.js";
import { matrixSheet } from "./download.js";
import { chip, waiting } from "./parts.js";
import { foldable } from "./picture.js";

const CELLS = { count: "counts", row: "by row" } as const;
const ORDERS: Partial<Record<Order, string>> = { index: "number", name: "name", errors: "errors" };

const matrices = new WeakMap<Block<ConfusionHeader>, Counts>();
function matrixOf(answer: Block<ConfusionHeader>): Counts {
  const { labels, counts } = answer.arrays;
  const made = matrices.get(answer) ?? {
    labels: labels?.values ?? [],
    counts: counts?.values ?? [],
    together: true,
  };
  matrices.set(answer, made);
  return made;
}

/** The two labels that are wrong together most often, in words. */
function worstWords(store: Store, matrix: Counts): string {
  const worst = rankPairs(matrix, { column: "count", descending: true }, undefined, 1).pairs[0];
  if (worst === undefined) return "No two labels are wrong of the same sample.";
  const name = (label: number): string => shortName(className(store.classNames, label), 40);
  return `Most often ${name(worst.target)} and ${name(worst.predicted)} are wrong together: ${many(worst.count, "sample")}.`;
}

export function togetherPanel(store: Store): TemplateResult {
  const { value: answer, error, loading } = store.labelErrors;
  const { log } = store.selection;
  const cells = store.selection.cells === "count" ? "count" : "row";
  const order = store.selection.order in ORDERS ? store.selection.order : "index";
  const header = answer?.header;
  const part =
    header !== undefined && header.shown < header.classes
      ? ` · the ${count(header.shown)} wrong most often of ${count(header.classes)}`
      : "";
  const options: MatrixOptions = { names: store.classNames, cells, order, log, diagonal: false };
  return foldable(
    store,
    {
      name: "together",
      title: "Labels wrong together",
      note: `of how many samples two labels are both wrong · n: how often each is${part}`,
      png: true,
      sheet: () => matrixSheet(new MatrixModel(matrixOf(answer as Block<ConfusionHeader>), options)),
    },
    () => {
      if (answer === null || answer.header.samples === 0)
        return waiting(error, loading, "No samples in this range.");
      const matrix = matrixOf(answer);
      return html`<div class="chips">
          <span class="chips" role="group" aria-label="Cells show">${(["count", "row"] as const).map(
            (value) =>
              chip(CELLS[value], cells === value, () => store.select({ cells: value }), `together-${value}`),
          )}</span>
          <select aria-label="Order of the labels" data-testid="together-order"
            @change=${(event: Event) => store.select({ order: (event.target as HTMLSelectElement).value as Order })}>
            ${Object.entries(ORDERS).map(([value, label]) => html`<option value=${value} .selected=${live(order === value)}>order: ${label}</option>`)}
          </select>
          ${chip("log colour", log, () => store.select({ log: !log }), "together-log")}
        </div>
        ${error === null ? "" : html`<p class="bad" role="alert">${error}</p>`}
        <bv-matrix
          data-testid="together-matrix"
          label=${`Matrix of ${many(answer.header.shown, "label")}${part} of ${many(answer.header.samples, "sample")}; a cell counts samples of which both labels are wrong${cells === "count" ? "" : `, as a share of those of which the row's label is (${percent(1)}: whenever it is)`}. ${worstWords(store, matrix)} Arrow keys move between cells; + and − zoom, 0 shows all.`}
          .matrix=${matrix}
          .names=${store.classNames}
          cells=${cells}
          order=${order}
          ?log=${log}
          .diagonal=${false}
          ?dark=${store.dark}
        ></bv-matrix>`;
    },
    answer !== null,
  );
}
