// The Classes tab: confusion matrix, figures of each class, and the samples of a cell, a row or a column.

import { html, nothing, type TemplateResult } from "lit";
import { hasPairs, isMulticlass } from "../choice.js";
import { className, count, exact, percent, score, shortName } from "../format.js";
import type { Store } from "../state.js";
import type { ClassRow, Figure, Output } from "../types.js";
import { comparedColumns, deltaChips, deltaPanel, hasDelta, overallPanel } from "./compare_classes.js";
import { matrixPanel, pairsPanel } from "./confusion.js";
import { number, waiting } from "./parts.js";
import { reliabilityPanel } from "./reliability.js";
import { regressionView } from "./residuals.js";
import { samplesPanel } from "./samples.js";
import type { TableColumn } from "./table.js";
import "./table.js";
import { thresholdsPanel } from "./thresholds.js";
import { togetherPanel } from "./together.js";
import { sparkColumn, trendPanel } from "./trends.js";

/** A share with half the width of its interval, all digits and both ends on hover. */
function boundedColumn(
  key: "precision" | "recall" | "f1",
  label: string,
  what: string,
): TableColumn<ClassRow> {
  const bounds = (row: ClassRow): [Figure, Figure, Figure] => [
    row[key],
    row[`${key}_low`],
    row[`${key}_high`],
  ];
  return {
    key,
    label,
    title: `${what}; with half the width of its 95 % Wilson interval`,
    width: 86,
    number: true,
    sortable: true,
    cell: (row) => {
      const [value, low, high] = bounds(row);
      if (value === null || low === null || high === null) return score(value);
      return html`${score(value)} <span class="quiet small">±${score((high - low) / 2)}</span>`;
    },
    hint: (row) => {
      const [value, low, high] = bounds(row);
      return value === null
        ? "not defined"
        : `${exact(value)}; 95 % interval ${score(low)} to ${score(high)}`;
    },
  };
}

/** What a class is most often taken for; a click shows the samples. */
function confusedCell(store: Store, row: ClassRow): TemplateResult | string {
  const { most_confused: pair, support } = row;
  if (pair === null) return "–";
  const share = percent(support === 0 ? null : pair.count / support);
  const show = (event: Event): void => {
    event.stopPropagation();
    store.select({ target: row.class, predicted: pair.class, sample: null });
  };
  return html`<span class="named"><button type="button" class="link" data-testid="most-confused" @click=${show}>${className(store.classNames, pair.class)}</button>
    <span>(${share})</span></span>`;
}

function classColumns(store: Store): TableColumn<ClassRow>[] {
  const names = store.classNames;
  const one = store.chosen?.output?.task === "multilabel" ? "Label" : "Class";
  const longest = (names ?? []).reduce((most, name) => Math.max(most, name.length), 0);
  const columns: TableColumn<ClassRow>[] = [
    {
      key: "class",
      label: one,
      width: Math.min(112, Math.max(62, longest * 7 + 14)),
      sortable: true,
      cell: (row) => className(names, row.class),
      hint: (row) => className(names, row.class),
    },
    {
      key: "support",
      label: "Support",
      title: "samples whose target it is",
      width: 60,
      number: true,
      sortable: true,
      cell: (row) => count(row.support),
      hint: (row) => `${count(row.support)} of it, ${count(row.predicted)} predicted so`,
    },
    boundedColumn("precision", "Precision", "share of what was predicted so that is right"),
    boundedColumn("recall", "Recall", "share of its samples that was found"),
    boundedColumn("f1", "F1", "harmonic mean of precision and recall"),
  ];
  const spark = sparkColumn(store);
  if (one === "Label") return [...columns, spark];
  return [
    ...columns,
    spark,
    {
      key: "most_confused",
      label: "Most taken for",
      title:
        "what it is most confused with: share of its samples that were taken for this class; a click shows them",
      width: 112,
      cell: (row) => confusedCell(store, row),
      hint: ({ most_confused: pair }) =>
        pair === null
          ? "never taken for another"
          : `taken for ${className(names, pair.class)}: ${count(pair.count)}`,
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
  const words = output.task === "multilabel" ? "" : store.search.trim();
  const counted =
    words === ""
      ? count(classes.total)
      : `${count(classes.total)} of ${count(output.classes)} with “${shortName(words, 30)}”`;
  return html`<section class=${what === "label" ? "panel labels" : "panel"} aria-label=${`Per ${what}`}>
    <div class="head">
      <h2>Per ${what}</h2>
      <span class="quiet small" data-testid="classes-count">${counted} · accuracy ${number(accuracy, score(accuracy))} · macro F1 ${number(macro_f1, score(macro_f1))}</span>
    </div>
    ${classes.error === null ? nothing : html`<p class="bad" role="alert">${classes.error}</p>`}
    <bv-table
      id="classes"
      data-testid="classes-table"
      data-primary
      label=${`Figures of each ${what}`}
      .columns=${comparedColumns(store, classColumns(store))}
      .rows=${classes}
      .sort=${classSort}
      .subject=${JSON.stringify([classSort, words, store.chosen?.run.name, store.chosen?.phase?.name])}
      .onSort=${(sort: typeof classSort) => store.select({ classSort: sort })}
      .onPick=${output.task === "multilabel" ? null : pick}
      .isPicked=${(row: ClassRow) => row.class === target}
    ></bv-table>
  </section>`;
}

export function classesView(store: Store): TemplateResult {
  const output = store.chosen?.output ?? null;
  if (output === null) return html`<p class="state">This run has no recorded output yet.</p>`;
  if (output.task === "regression") return html`${overallPanel(store)}${regressionView(store)}`;
  if (!isMulticlass(output)) {
    return html`<p class="quiet">Each sample may have several labels, so there is no single confusion matrix; every label is judged on its own.</p>
      ${overallPanel(store)}
      <div class="columns classes">
        <div class="stack">${classTable(store, output)}${trendPanel(store, "label")}</div>
        ${hasPairs(output) ? html`<div class="stack">${togetherPanel(store)}</div>` : nothing}
      </div>`;
  }
  const binary = output.task === "binary";
  const chosen = store.selection.target !== null || store.selection.predicted !== null;
  const delta = hasDelta(store);
  return html`${overallPanel(store)}<div class="columns classes">
      <div class="stack">${delta ? deltaChips(store) : nothing}${delta && store.selection.delta ? deltaPanel(store) : matrixPanel(store)}${binary ? nothing : [pairsPanel(store), reliabilityPanel(store)]}</div>
      <div class=${chosen ? "stack chosen" : "stack"}>${classTable(store, output)}${chosen ? samplesPanel(store) : nothing}${trendPanel(store, "class")}</div>
      ${binary ? html`<div class="across">${thresholdsPanel(store)}</div>${[reliabilityPanel(store), pairsPanel(store)]}` : nothing}
    </div>`;
}
