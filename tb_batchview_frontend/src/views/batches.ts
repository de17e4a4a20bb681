// The Batches tab: timeline, table of all batches, and the chosen batch beside it.

import { html, nothing, type TemplateResult } from "lit";
import { clock, count, exact, figure, score } from "../format.js";
import type { Store } from "../state.js";
import type { BatchRow } from "../types.js";
import { batchView } from "./batch.js";
import { batchChanges, comparedTimeline } from "./compare_batches.js";
import { withChanges } from "./compare_parts.js";
import { ERROR_HEADS, errorText } from "./error_words.js";
import { cellBar } from "./parts.js";
import { spikesView } from "./spikes.js";
import type { TableColumn } from "./table.js";
import { timelineView } from "./timeline.js";
import "./table.js";
import { worstColumns } from "./worst.js";

export function batchColumns(store: Store): TableColumn<BatchRow>[] {
  const { head } = store.batches;
  const output = store.chosen?.output ?? null;
  const maxima = head?.maxima ?? {};
  const hasClasses = output?.task === "multiclass" || output?.task === "binary";
  return [
    {
      key: "step",
      label: "Batch",
      width: 58,
      number: true,
      sortable: true,
      cell: ({ step }) => count(step),
      hint: ({ wall_time }) => clock(wall_time),
    },
    {
      key: "epoch",
      label: "Epoch",
      width: 52,
      number: true,
      sortable: true,
      cell: ({ epoch }) => count(epoch),
    },
    {
      key: "size",
      label: "Size",
      title: "samples in the batch",
      width: 46,
      number: true,
      sortable: true,
      cell: ({ size }) => count(size),
    },
    {
      key: "loss",
      label: "Loss",
      width: 74,
      number: true,
      sortable: true,
      cell: ({ loss }) => cellBar(loss, maxima.loss, figure(loss)),
      hint: ({ loss }) => exact(loss),
    },
    ...(head?.metrics ?? []).map(
      (name): TableColumn<BatchRow> => ({
        key: `metrics.${name}`,
        label: name,
        width: 74,
        number: true,
        sortable: true,
        title: `${name} of the batch alone`,
        cell: ({ metrics }) => figure(metrics[name]),
        hint: ({ metrics }) => exact(metrics[name]),
      }),
    ),
    {
      key: "error_rate",
      label: ERROR_HEADS[output?.task ?? "multiclass"],
      width: 76,
      number: true,
      sortable: true,
      cell: ({ error_rate }) => cellBar(error_rate, maxima.error_rate, errorText(output, error_rate)),
      hint: ({ error_rate }) => exact(error_rate),
    },
    ...(hasClasses
      ? [
          {
            key: "confidence",
            label: "Confidence",
            width: 80,
            number: true,
            sortable: true,
            cell: ({ confidence }: BatchRow) => score(confidence),
            hint: ({ confidence }: BatchRow) => exact(confidence),
          },
        ]
      : []),
    ...worstColumns<BatchRow>(output, store.classNames, { label: "Worst confusion", width: 128 }),
  ];
}

/** Choose a batch and bring it into sight, where the window is too narrow to have it beside the list. */
function openBatch(store: Store, step: number): void {
  store.pick(step);
  requestAnimationFrame(() =>
    document.querySelector('[data-testid="batch-title"]')?.scrollIntoView({ block: "nearest" }),
  );
}

export function batchesView(store: Store): TemplateResult {
  const { batches } = store;
  const { start, stop } = store.selection;
  const { batchSort } = store;
  const ready = batches.head !== null;
  const sortedBy = batchColumns(store)
    .find(({ key }) => key === batchSort.column)
    ?.label.toLowerCase();
  const words = `${count(batches.total)} ${store.ranged ? "in the range" : "in the run"} · sorted by ${sortedBy ?? batchSort.column}`;
  const spikes = spikesView(store, (step) => openBatch(store, step));
  return html`<div class=${spikes === null ? "" : "columns timeline"}>
      ${store.other === null ? timelineView(store) : comparedTimeline(store)} ${spikes ?? nothing}
    </div>
    <div class="columns">
      <section class="panel" aria-label="All batches">
        <div class="head">
          <h2>All batches</h2>
          <span class="quiet small" data-testid="batches-count">${ready ? words : ""}</span>
        </div>
        ${batches.error === null ? nothing : html`<p class="bad" role="alert">${batches.error}</p>`}
        ${
          ready || batches.loading
            ? html`<bv-table
              id="batches"
              data-testid="batches-table"
              data-primary
              label="All batches of the range"
              .columns=${withChanges(batchColumns(store), batchChanges(store))}
              .rows=${batches}
              .sort=${batchSort}
              .subject=${JSON.stringify([start, stop, batchSort, store.chosen?.run.name, store.chosen?.phase?.name])}
              .reveal=${store.batchIndex}
              .onSort=${(sort: typeof batchSort) => store.select({ batchSort: sort })}
              .onPick=${(row: BatchRow, index: number) => store.pick(row.step, index)}
              .isPicked=${(row: BatchRow) => row.step === store.step}
            ></bv-table>`
            : nothing
        }
      </section>
      ${batchView(store)}
    </div>`;
}
