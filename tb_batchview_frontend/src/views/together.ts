// Which labels are wrong of the same sample: the matrix of a multilabel output.

import { html, type TemplateResult } from "lit";
import type { Counts } from "../charts/matrix_geometry.js";
import { MatrixModel } from "../charts/matrix_model.js";
import { className, count, many, percent, shortName } from "../format.js";
import { rankPairs } from "../pairs.js";
import type { Order } from "../selection.js";
import type { Store } from "../state.js";
import type { Block, ConfusionHeader } from "../types.js";
import { matrixSheet } from "./download.js";
import { matrixChips, matrixPicture, optionsOf } from "./matrix_view.js";
import { waiting } from "./parts.js";
import { foldable } from "./picture.js";

const CELLS = { count: "counts", row: "by row" } as const;
const ORDERS: readonly Order[] = ["index", "name", "errors"];

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
  const cells = store.selection.cells === "count" ? "count" : "row";
  const order = ORDERS.includes(store.selection.order) ? store.selection.order : "index";
  const header = answer?.header;
  const part =
    header !== undefined && header.shown < header.classes
      ? ` · the ${count(header.shown)} wrong most often of ${count(header.classes)}`
      : "";
  const options = optionsOf(store, { cells, order, diagonal: false });
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
      const words = `Matrix of ${many(answer.header.shown, "label")}${part} of ${many(answer.header.samples, "sample")}; a cell counts samples of which both labels are wrong${cells === "count" ? "" : `, as a share of those of which the row's label is (${percent(1)}: whenever it is)`}. ${worstWords(store, matrix)} Arrow keys move between cells; + and − zoom, 0 shows all.`;
      return html`${matrixChips(store, "together", options, CELLS, ORDERS)}
        ${error === null ? "" : html`<p class="bad" role="alert">${error}</p>`}
        ${matrixPicture(store, "together-matrix", words, matrix, options, false)}`;
    },
    answer !== null,
  );
}
