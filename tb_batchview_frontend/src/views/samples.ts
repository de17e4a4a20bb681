// Samples of the range: the Samples tab, and the panel that opens under the confusion matrix.

import { html, nothing, type TemplateResult } from "lit";
import { isMulticlass, RANGE_SORTS } from "../choice.js";
import { className, count, many } from "../format.js";
import { OUTCOMES } from "../selection.js";
import type { Store } from "../state.js";
import type { Outcome, Sample } from "../types.js";
import { chip, filterChips, waiting } from "./parts.js";
import { sampleView } from "./sample.js";
import { isOpen, openSample, sampleColumns } from "./sample_columns.js";
import "./table.js";

const OUTCOME_NAMES: Record<Outcome, string> = {
  all: "all",
  correct: "correct",
  wrong: "wrong",
  confidently_wrong: "confidently wrong",
};

function samplesTable(store: Store, primary: boolean): TemplateResult {
  const { samples } = store;
  const { outcome, target, predicted, start, stop } = store.selection;
  const { sampleSort } = store;
  if (samples.head === null) return waiting(samples.error, samples.loading, "No samples in this range.");
  return html`${samples.error === null ? nothing : html`<p class="bad" role="alert">${samples.error}</p>`}
    <bv-table
      id="samples"
      data-testid="samples-table"
      ?data-primary=${primary}
      label="Samples of the range"
      .columns=${sampleColumns({
        output: store.chosen?.output ?? null,
        names: store.classNames,
        batch: true,
        ids: samples.row(0)?.id != null,
        sortable: RANGE_SORTS,
      })}
      .rows=${samples}
      .sort=${sampleSort}
      .subject=${JSON.stringify([sampleSort, outcome, target, predicted, start, stop])}
      .onSort=${(sort: typeof sampleSort) => store.select({ sampleSort: sort })}
      .onPick=${(row: Sample) => openSample(store, row)}
      .isPicked=${isOpen(store)}
    ></bv-table>`;
}

/** What the class filters choose, in words: "target 3, predicted 5". */
export function filterWords(store: Store): string {
  const { target, predicted } = store.selection;
  const names = store.classNames;
  return [
    target === null ? "" : `target ${className(names, target)}`,
    predicted === null ? "" : `predicted ${className(names, predicted)}`,
  ]
    .filter((part) => part !== "")
    .join(", ");
}

function outcomeChips(store: Store): TemplateResult {
  return html`<div class="chips" role="group" aria-label="Which samples">
    ${OUTCOMES.map((outcome) =>
      chip(
        OUTCOME_NAMES[outcome],
        store.selection.outcome === outcome,
        () => store.select({ outcome }),
        `outcome-${outcome}`,
      ),
    )}
    ${filterChips(store, (index) => className(store.classNames, index))}
  </div>`;
}

/** The samples of the cell, the row or the column that was clicked. */
export function samplesPanel(store: Store): TemplateResult {
  return html`<section class="panel" aria-label="Samples of the choice" data-testid="confusion-samples">
    <div class="head" data-choice=${JSON.stringify([store.selection.target, store.selection.predicted])}>
      <h2>${filterWords(store)}</h2>
      <span class="quiet small">${store.samples.head === null ? "" : many(store.samples.total, "sample")} · a row opens its scores</span>
      <span class="end small"><button type="button" class="link"
        @click=${() => store.select({ tab: "samples" })}>open in Samples</button></span>
    </div>
    ${outcomeChips(store)}
    ${samplesTable(store, false)}
    ${sampleView(store)}
  </section>`;
}

export function samplesView(store: Store): TemplateResult {
  const output = store.chosen?.output ?? null;
  const open = store.selection.sample !== null;
  return html`<div class="head">
      <h2>Samples</h2>
      <span class="quiet small" data-testid="samples-count">${store.samples.head === null ? "" : `${count(store.samples.total)} match`} · as the model saw them in their batch</span>
    </div>
    ${isMulticlass(output) ? outcomeChips(store) : nothing}
    <div class=${open ? "columns" : ""}>
      <div class="panel">${samplesTable(store, true)}</div>
      ${sampleView(store)}
    </div>`;
}
