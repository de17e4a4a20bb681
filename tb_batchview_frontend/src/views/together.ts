// Which labels are wrong of the same sample: the matrix of a multilabel output.

import { html, type TemplateResult } from "lit";
import { DeltaModel, type PairedCounts } from "../charts/delta_model.js";
import type { Counts } from "../charts/matrix_geometry.js";
import { MatrixModel } from "../charts/matrix_model.js";
import { className, count, many, percent, shortName } from "../format.js";
import { rankPairs } from "../pairs.js";
import type { Order } from "../selection.js";
import type { Store } from "../state.js";
import type { Block, ConfusionHeader } from "../types.js";
import { deltaChips, deltaSheet } from "./compare_classes.js";
import { pairwise } from "./compare_parts.js";
import { matrixSheet } from "./download.js";
import { matrixChips, matrixPicture, optionsOf } from "./matrix_view.js";
import { waiting } from "./parts.js";
import { foldable } from "./picture.js";

type Answer = Block<ConfusionHeader>;

const CELLS = { count: "counts", row: "by row" } as const;
const ORDERS: readonly Order[] = ["index", "name", "errors"];

const column = ({ arrays }: Answer, name: string): ArrayLike<number> => arrays[name]?.values ?? [];

const matrixOf = pairwise(
  (answer: Answer): Counts => ({
    labels: column(answer, "labels"),
    counts: column(answer, "counts"),
    together: true,
  }),
);

/** A's matrix with B's counts in the rows and columns of A's labels. */
export const pairedOf = pairwise((a: Answer, b: Answer | null, numbers: string): PairedCounts => {
  const [mine, all] = [matrixOf(a), JSON.parse(numbers) as number[]];
  const [labels, counts] = b === null ? [[], []] : [column(b, "labels"), column(b, "counts")];
  const matched = Array.from(mine.labels, (label) => all[label] ?? -1);
  const places = matched.map((label) => Array.prototype.indexOf.call(labels, label));
  return {
    ...mine,
    matched,
    against: places.flatMap((row) =>
      places.map((other) => (row < 0 || other < 0 ? 0 : (counts[row * labels.length + other] ?? 0))),
    ),
  };
});

/** The two labels that are wrong together most often, in words. */
function worstWords(store: Store, matrix: Counts): string {
  const worst = rankPairs(matrix, { column: "count", descending: true }, undefined, 1).pairs[0];
  if (worst === undefined) return "No two labels are wrong of the same sample.";
  const name = (label: number): string => shortName(className(store.classNames, label), 40);
  return `Most often ${name(worst.target)} and ${name(worst.predicted)} are wrong together: ${many(worst.count, "sample")}.`;
}

export function togetherPanel(store: Store): TemplateResult {
  const { value: answer, loading } = store.labelErrors;
  const beside = store.versus.beside("labelErrors");
  const error = store.labelErrors.error ?? beside?.error ?? null;
  const b = beside?.value ?? null;
  const less = store.selection.delta && b !== null;
  // Counts of unlike numbers of samples say nothing.
  const unlike = less && b.header.samples !== answer?.header.samples;
  const cells = store.selection.cells === "count" && !unlike ? "count" : "row";
  const order = ORDERS.includes(store.selection.order) ? store.selection.order : "index";
  const header = answer?.header;
  const part =
    header !== undefined && header.shown < header.classes
      ? ` · the ${count(header.shown)} wrong most often of ${count(header.classes)}`
      : "";
  const options = optionsOf(store, { cells, order, diagonal: false });
  const paired = (a: Answer): PairedCounts =>
    pairedOf(a, b, JSON.stringify(Array.from(store.versus.matched)));
  return foldable(
    store,
    {
      name: "together",
      title: "Labels wrong together",
      note: less
        ? `A − B, orange: A has more, blue: B has more${cells === "row" ? ", in percentage points of the row's label" : ""}${part}`
        : `of how many samples two labels are both wrong · n: how often each is${part}`,
      png: true,
      sheet: () =>
        less
          ? deltaSheet(new DeltaModel(paired(answer as Answer), options))
          : matrixSheet(new MatrixModel(matrixOf(answer as Answer), options)),
    },
    () => {
      if (answer === null || answer.header.samples === 0)
        return waiting(error, loading, "No samples in this range.");
      const matrix = matrixOf(answer);
      const words = `Matrix of ${many(answer.header.shown, "label")}${part} of ${many(answer.header.samples, "sample")}; a cell counts samples of which both labels are wrong${cells === "count" ? "" : `, as a share of those of which the row's label is (${percent(1)}: whenever it is)`}. ${worstWords(store, matrix)} Arrow keys move between cells; + and − zoom, 0 shows all.`;
      return html`${b === null ? "" : deltaChips(store)}${matrixChips(store, "together", options, CELLS, ORDERS)}
        ${error === null ? "" : html`<p class="bad" role="alert">${error}</p>`}
        ${matrixPicture(store, "together-matrix", less ? `A less B. ${words}` : words, less ? paired(answer) : matrix, options, false)}`;
    },
    answer !== null,
  );
}
