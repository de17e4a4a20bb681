// The Classes tab: confusion matrix, figures of each class, and the samples of a cell, a row or a column.

import { html, nothing, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import "../charts/matrix.js";
import { isMulticlass } from "../choice.js";
import { className, count, exact, figure, many, percent, score } from "../format.js";
import type { Cells, Order } from "../selection.js";
import type { Store } from "../state.js";
import type { ClassRow, Output } from "../types.js";
import { chip, waiting } from "./parts.js";
import { samplesPanel } from "./samples.js";
import type { TableColumn } from "./table.js";
import "./table.js";

const CELL_LABELS: Record<Cells, string> = { count: "counts", row: "by row", column: "by column" };
const ORDER_LABELS: Record<Order, string> = { index: "number", support: "support", errors: "errors" };

function matrixPanel(store: Store): TemplateResult {
  const { value: answer, error, loading } = store.confusion;
  if (answer === null)
    return html`<section class="panel">${waiting(error, loading, "No samples with a target in this range.")}</section>`;
  const { header, arrays } = answer;
  const { cells, order, log, diagonal, target, predicted } = store.selection;
  const matrix = { labels: arrays.labels?.values ?? [], counts: arrays.counts?.values ?? [] };
  const part =
    header.shown < header.classes
      ? `, the ${count(header.shown)} with most errors of ${count(header.classes)}`
      : "";
  const head = `Confusion matrix of ${many(header.shown, "class", "classes")}${part}; rows are targets.`;
  const keys =
    "Arrow keys move between cells, Enter chooses one; the table beside it has the figures of each class.";
  const words = `${head} ${confusedWords(store)} ${keys}`;
  return html`<section class="panel" aria-label="Confusion" data-testid="confusion">
    <div class="head"><h2>Confusion</h2>
      <span class="quiet small">a click on a cell, a row head or a column head shows its samples${part}</span></div>
    <div class="chips">
      <span class="chips" role="group" aria-label="Cells show">${Object.entries(CELL_LABELS).map(
        ([value, label]) =>
          chip(label, cells === value, () => store.select({ cells: value as Cells }), `cells-${value}`),
      )}</span>
      <select aria-label="Order of the classes" data-testid="matrix-order"
        @change=${(event: Event) => store.select({ order: (event.target as HTMLSelectElement).value as Order })}>
        ${Object.entries(ORDER_LABELS).map(([value, label]) => html`<option value=${value} .selected=${live(order === value)}>order: ${label}</option>`)}
      </select>
      ${chip("log colour", log, () => store.select({ log: !log }), "matrix-log")}
      ${chip("hide diagonal", !diagonal, () => store.select({ diagonal: !diagonal }), "matrix-diagonal")}
    </div>
    ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
    <bv-matrix
      data-testid="confusion-matrix"
      label=${words}
      .matrix=${matrixOf(matrix, answer)}
      .names=${store.classNames}
      cells=${cells}
      order=${order}
      ?log=${log}
      .diagonal=${diagonal}
      ?dark=${store.dark}
      .target=${target}
      .predicted=${predicted}
      .onPick=${(row: number | null, column: number | null) => store.select({ target: row, predicted: column, sample: null })}
    ></bv-matrix>
  </section>`;
}

/** The same object for the same answer, so that the matrix is summed up once and not at every render. */
const matrices = new WeakMap<object, { labels: ArrayLike<number>; counts: ArrayLike<number> }>();
function matrixOf(
  matrix: { labels: ArrayLike<number>; counts: ArrayLike<number> },
  answer: object,
): typeof matrix {
  const known = matrices.get(answer);
  if (known !== undefined) return known;
  matrices.set(answer, matrix);
  return matrix;
}

function confusedWords(store: Store): string {
  const worst = store.classes.row(0);
  if (worst?.most_confused === null || worst === undefined) return "";
  const names = store.classNames;
  const [taken, forWhat] = [className(names, worst.class), className(names, worst.most_confused.class)];
  return `Class ${taken} has a recall of ${score(worst.recall)} and is most often taken for ${forWhat}.`;
}

function recallCell({ recall, recall_low, recall_high }: ClassRow): TemplateResult | string {
  if (recall === null || recall_low === null || recall_high === null) return score(recall);
  return html`${score(recall)} <span class="quiet small">±${score((recall_high - recall_low) / 2)}</span>`;
}

function classColumns(store: Store): TableColumn<ClassRow>[] {
  const names = store.classNames;
  const one = store.chosen?.output?.task === "multilabel" ? "Label" : "Class";
  const confused = ({ most_confused: pair, support }: ClassRow): string =>
    pair === null
      ? "–"
      : `${className(names, pair.class)} (${percent(support === 0 ? null : pair.count / support)})`;
  const columns: TableColumn<ClassRow>[] = [
    {
      key: "class",
      label: one,
      width: 84,
      sortable: true,
      cell: (row) => className(names, row.class),
      hint: (row) => className(names, row.class),
    },
    {
      key: "support",
      label: "Support",
      title: "samples whose target it is",
      width: 64,
      number: true,
      sortable: true,
      cell: (row) => count(row.support),
    },
    {
      key: "precision",
      label: "Precision",
      width: 74,
      number: true,
      sortable: true,
      cell: (row) => score(row.precision),
      hint: (row) => exact(row.precision),
    },
    {
      key: "recall",
      label: "Recall",
      title: "with the half width of its 95 % Wilson interval",
      width: 106,
      number: true,
      sortable: true,
      cell: recallCell,
      hint: (row) =>
        `${exact(row.recall)}; 95 % interval ${score(row.recall_low)} to ${score(row.recall_high)}`,
    },
    {
      key: "f1",
      label: "F1",
      width: 50,
      number: true,
      sortable: true,
      cell: (row) => score(row.f1),
      hint: (row) => exact(row.f1),
    },
  ];
  if (one === "Label") return columns;
  return [
    ...columns,
    {
      key: "most_confused",
      label: "Most confused with",
      title: "share of its samples that were taken for this class",
      width: 122,
      cell: confused,
      hint: confused,
    },
  ];
}

function classTable(store: Store, output: Output): TemplateResult {
  const { classes } = store;
  const { target } = store.selection;
  const { classSort } = store;
  if (classes.head === null)
    return html`<section class="panel">${waiting(classes.error, classes.loading, "No samples with a target in this range.")}</section>`;
  const { accuracy, macro_f1 } = classes.head;
  const pick = (row: ClassRow): void =>
    store.select({ target: target === row.class ? null : row.class, predicted: null, sample: null });
  const what = output.task === "multilabel" ? "label" : "class";
  return html`<section class=${what === "label" ? "panel labels" : "panel"} aria-label=${`Per ${what}`}>
    <div class="head">
      <h2>Per ${what}</h2>
      <span class="quiet small">${count(classes.total)} · accuracy ${score(accuracy)} · macro F1 ${score(macro_f1)}</span>
    </div>
    ${classes.error === null ? nothing : html`<p class="bad" role="alert">${classes.error}</p>`}
    <bv-table
      id="classes"
      data-testid="classes-table"
      data-primary
      label=${`Figures of each ${what}`}
      .columns=${classColumns(store)}
      .rows=${classes}
      .sort=${classSort}
      .subject=${JSON.stringify([classSort, store.chosen?.run.name, store.chosen?.phase?.name])}
      .onSort=${(sort: typeof classSort) => store.select({ classSort: sort })}
      .onPick=${output.task === "multilabel" ? null : pick}
      .isPicked=${(row: ClassRow) => row.class === target}
    ></bv-table>
  </section>`;
}

function regressionView(store: Store): TemplateResult {
  const { head, error, loading } = store.classes;
  if (head === null) return waiting(error, loading, "No samples in this range.");
  return html`<section class="panel" data-testid="regression">
    <div class="head"><h2>This output is a regression: it has no classes</h2></div>
    <dl class="facts">
      <div><dt>mean absolute error</dt><dd title=${exact(head.mean_absolute_error)}>${figure(head.mean_absolute_error)}</dd></div>
      <div><dt>samples</dt><dd>${count(head.samples)}</dd></div>
      <div><dt>batches</dt><dd>${count(head.batches)}</dd></div>
    </dl>
    <p class="quiet">The error of each batch is in the timeline under Batches; the worst samples are first under Samples.</p>
    <div class="chips">${chip("worst samples", false, () => store.select({ tab: "samples", sampleSort: { column: "error", descending: true } }))}</div>
  </section>`;
}

export function classesView(store: Store): TemplateResult {
  const output = store.chosen?.output ?? null;
  if (output === null) return html`<p class="state">This run has no recorded output yet.</p>`;
  if (output.task === "regression") return regressionView(store);
  if (!isMulticlass(output)) {
    return html`<p class="quiet">Each sample may have several labels, so there is no single confusion matrix; every label is judged on its own.</p>
      ${classTable(store, output)}`;
  }
  const chosen = store.selection.target !== null || store.selection.predicted !== null;
  return html`<div class="columns classes">
      ${matrixPanel(store)}
      <div class=${chosen ? "stack chosen" : "stack"}>${classTable(store, output)}${chosen ? samplesPanel(store) : nothing}</div>
    </div>`;
}
