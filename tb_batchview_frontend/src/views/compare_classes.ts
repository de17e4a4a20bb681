// The Classes tab with a run B: overall figures, the matrix of A less B, and Δ of every class.

import { html, nothing, type TemplateResult } from "lit";
import { DeltaModel, type PairedCounts } from "../charts/delta_model.js";
import type { Better } from "../compare.js";
import type { Cell } from "../csv.js";
import { className, count, exact, figure, many, points, score, shortName, signed } from "../format.js";
import type { Cells } from "../selection.js";
import type { Store } from "../state.js";
import type { Block, ClassRow, ConfusionHeader, MatchedClasses } from "../types.js";
import { type ComparedFigure, change, figuresTable, withChanges } from "./compare_parts.js";
import type { Sheet } from "./download.js";
import { matrixChips, matrixPicture, optionsOf } from "./matrix_view.js";
import { chip, waiting } from "./parts.js";
import { files } from "./picture.js";
import type { TableColumn } from "./table.js";

const matrices = new WeakMap<Block<ConfusionHeader>, PairedCounts>();

/** The same object for the same answer, so that it is laid out once and not at every render. */
export function pairedOf(answer: Block<ConfusionHeader>): PairedCounts | null {
  const { labels, counts, clustered, against_counts: against, against_labels: matched } = answer.arrays;
  if (!labels || !counts || !against || !matched) return null;
  const known = matrices.get(answer);
  if (known !== undefined) return known;
  const made: PairedCounts = {
    labels: labels.values,
    counts: counts.values,
    clustered: clustered?.values ?? null,
    against: against.values,
    matched: matched.values,
  };
  matrices.set(answer, made);
  return made;
}

/** What is compared with what, where not all classes are: a sentence each. */
export function matchWords({ matched_by, unmatched, missing }: Partial<MatchedClasses>): string {
  const parts = [
    unmatched ? `${many(unmatched, "class", "classes")} of A not in B` : "",
    missing ? `${many(missing, "class", "classes")} of B not in A` : "",
  ].filter((part) => part !== "");
  const left = parts.length === 0 ? "" : `; left out: ${parts.join(", ")}`;
  return `classes matched by ${matched_by}${left}`;
}

/** Figures over all classes, side by side. */
export function overallPanel(store: Store): TemplateResult | typeof nothing {
  const { head } = store.classes;
  const against = head?.against;
  if (head === null || against === undefined) return nothing;
  const shared = (
    label: string,
    a: number | null | undefined,
    b: number | null | undefined,
    better: Better,
  ) => ({
    label,
    a,
    b,
    text: score,
    better,
  });
  const figures: ComparedFigure[] = [
    { label: "samples", a: head.samples, b: against.samples, text: count, better: null },
  ];
  if (head.mean_absolute_error !== undefined) {
    figures.push({
      label: "mean absolute error",
      a: head.mean_absolute_error,
      b: against.mean_absolute_error,
      text: figure,
      better: "lower",
    });
  } else {
    figures.push(
      {
        ...shared("accuracy", head.accuracy, against.accuracy, "higher"),
        apart: against.accuracy_apart === true,
      },
      shared("macro F1", head.macro_f1, against.macro_f1, "higher"),
    );
    if (head.calibration_error != null && against.calibration_error != null)
      figures.push(
        shared("expected calibration error", head.calibration_error, against.calibration_error, "lower"),
      );
  }
  return html`<section class="panel" aria-label="Figures of both runs" data-testid="overall-b">
    <div class="head"><h2>A against B</h2>
      <span class="quiet small">${head.mean_absolute_error === undefined ? `${matchWords(against)} · ≠ the 95 % intervals do not overlap` : ""}</span></div>
    ${figuresTable(figures, "overall-figures", "Figures over all classes, A and B")}
  </section>`;
}

/** Δ of every class; `≠` where the intervals of A and B do not overlap. */
function classChanges(store: Store): TableColumn<ClassRow>[] {
  if (!store.versus.comparable) return [];
  const of = (
    key: "support" | "precision" | "recall" | "f1",
    label: string,
    text: (value: number) => string,
    better: Better,
  ): TableColumn<ClassRow> => ({
    key: `${key}_change`,
    label: "Δ",
    title: `${label} of A less that of the same class in B${better === null ? "" : "; ≠ the 95 % intervals do not overlap"}`,
    width: better === null ? 50 : 76,
    number: true,
    sortable: true,
    cell: (row) =>
      change(row.change?.[key] ?? null, text, better, key !== "support" && row.apart?.[key] === true),
    hint: (row) =>
      row.against == null
        ? "B has no such class"
        : `A ${exact(row[key])}, B ${exact(row.against[key])}; Δ ${exact(row.change?.[key])}`,
  });
  return [
    of("support", "support", count, null),
    of("precision", "precision", score, "higher"),
    of("recall", "recall", score, "higher"),
    of("f1", "F1", score, "higher"),
  ];
}

/**
 * The columns of the classes with Δ beside each figure. Half-widths, course and what a class is taken for give way to
 * them: the ends of the intervals stand on hover, the others in the pictures and lists beside.
 */
export function comparedColumns(store: Store, columns: TableColumn<ClassRow>[]): TableColumn<ClassRow>[] {
  const changes = classChanges(store);
  if (changes.length === 0) return columns;
  const narrow = columns
    .filter(({ key }) => key !== "most_confused" && key !== "trend")
    .map((column) => {
      const { key } = column;
      if (key !== "precision" && key !== "recall" && key !== "f1") return column;
      return {
        ...column,
        width: { precision: 68, recall: 64, f1: 52 }[key],
        cell: (row: ClassRow) => score(row[key]),
      };
    });
  return withChanges(narrow, changes);
}

/** Whether the matrix of A less B can be shown in place of that of A. */
export const hasDelta = (store: Store): boolean =>
  store.versus.comparable && store.confusion.value?.header.against !== undefined;

/** Which matrix: A less B, or A alone. */
export const deltaChips = (store: Store): TemplateResult =>
  html`<div class="chips" role="group" aria-label="Matrix of">
    ${chip("A − B", store.selection.delta, () => store.select({ delta: true }), "matrix-delta")}
    ${chip("A alone", !store.selection.delta, () => store.select({ delta: false }), "matrix-alone")}
  </div>`;

/** Counts of unlike numbers of samples say nothing: then shares of the rows are shown. */
export function cellsShown(wanted: Cells, header: ConfusionHeader): Cells {
  return wanted === "count" && header.against?.samples !== header.samples ? "row" : wanted;
}

function deltaWords(model: DeltaModel, names: readonly string[] | null): string {
  let worst: { row: number; column: number; value: number } | null = null;
  for (let row = 0; row < model.classes; row += 1) {
    for (let column = 0; column < model.classes; column += 1) {
      const value = model.value(row, column);
      if (Math.abs(value) > Math.abs(worst?.value ?? 0)) worst = { row, column, value };
    }
  }
  const name = (position: number): string => shortName(className(names, model.label(position)), 40);
  const most =
    worst === null
      ? "The two are equal."
      : `They differ most where ${name(worst.row)} is taken for ${name(worst.column)}: ${signed(worst.value, model.counted ? count : points)}.`;
  return `Confusion matrix of run A less that of run B, ${many(model.classes, "class", "classes")}; rows are targets. ${most} Arrow keys move between cells.`;
}

const described = new WeakMap<PairedCounts, Map<string, string>>();

/** The words are found among all cells: once, not at every render. */
function wordsOf(store: Store, matrix: PairedCounts, cells: Cells): string {
  const known = described.get(matrix) ?? new Map<string, string>();
  described.set(matrix, known);
  const key = JSON.stringify([cells, store.classNames === null]);
  const words = known.get(key) ?? deltaWords(modelOf(store, matrix, cells), store.classNames);
  known.set(key, words);
  return words;
}

const modelOf = (store: Store, matrix: PairedCounts, cells: Cells): DeltaModel =>
  new DeltaModel(matrix, optionsOf(store, { cells }));

/** Every cell in which either run has a sample, with both numbers. */
export function deltaSheet(model: DeltaModel): Sheet {
  const [row, column] = model.together ? ["label", "wrong_with"] : ["target", "predicted"];
  const names = [row, `${row}_name`, column, `${column}_name`, "samples_a", "samples_b"] as string[];
  const rows: Cell[][] = [];
  for (let row = 0; row < model.classes; row += 1) {
    for (let column = 0; column < model.classes; column += 1) {
      const place = { row, column };
      const [a, b] = [model.samples(place), model.otherSamples(place)];
      if (a === 0 && b === 0) continue;
      const value = model.value(row, column);
      rows.push([
        model.label(row),
        model.name(row),
        model.label(column),
        model.name(column),
        a,
        b,
        Number.isNaN(value) ? null : value,
      ]);
    }
  }
  return { head: [...names, `change_${model.options.cells}`], rows };
}

/** The matrix of A less B; a click shows the samples of A. */
export function deltaPanel(store: Store): TemplateResult {
  const { value: answer, error, loading } = store.confusion;
  const matrix = answer === null ? null : pairedOf(answer);
  if (answer === null || matrix === null || answer.header.against === undefined)
    return html`<section class="panel">${waiting(error, loading, "No samples with a target in this range.")}</section>`;
  const { header } = answer;
  const cells = cellsShown(store.selection.cells, header);
  const forced = cells !== store.selection.cells;
  const options = optionsOf(store, { cells });
  const saved = files(store, {
    name: "delta",
    file: "confusion-difference",
    title: "Confusion, A − B",
    png: true,
    sheet: () => deltaSheet(new DeltaModel(matrix, options)),
  });
  return html`<section class="panel" aria-label="Confusion, A less B" data-picture data-testid="confusion-b">
    <div class="head"><h2>Confusion, A − B</h2>
      <span class="quiet small">orange: A has more, blue: B has more${cells === "count" ? "" : `, in percentage points of the ${cells}`}${
        forced ? " (counts are not compared: A and B have unlike numbers of samples)" : ""
      } · a click shows A's samples</span>
      ${saved}</div>
    ${matrixChips(store, "delta", options)}
    ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
    ${matrixPicture(store, "delta-matrix", wordsOf(store, matrix, cells), matrix, options)}
  </section>`;
}
