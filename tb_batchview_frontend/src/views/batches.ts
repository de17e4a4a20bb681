// The Batches tab: timeline, table of all batches, and the chosen batch beside it.

import { html, nothing, type TemplateResult } from "lit";
import type { Line } from "../charts/lines.js";
import "../charts/lines.js";
import {
  className,
  clock,
  count,
  exact,
  figure,
  many,
  percent,
  percentTick,
  score,
  tick,
} from "../format.js";
import type { Store } from "../state.js";
import type { BatchRow, Block, Output, Task, TimelineHeader } from "../types.js";
import { batchView } from "./batch.js";
import { cellBar, chip, waiting } from "./parts.js";
import type { TableColumn } from "./table.js";
import "./table.js";

export const errorLabel = (output: Output | null): string =>
  output?.task === "regression"
    ? "mean absolute error"
    : output?.task === "multilabel"
      ? "share of wrong labels"
      : "error rate";

const ERROR_HEADS: Record<Task, string> = {
  multiclass: "Error rate",
  binary: "Error rate",
  multilabel: "Wrong labels",
  regression: "Abs. error",
};

export const errorText = (output: Output | null, value: number | null): string =>
  output?.task === "regression" ? figure(value) : percent(value);

function linesOf(timeline: Block<TimelineHeader>, prefix: "loss" | "error"): Line[] {
  const column = (name: string): ArrayLike<number> => timeline.arrays[name]?.values ?? [];
  const decimated = timeline.header.bucket > 1;
  const what = prefix === "loss" ? "loss" : "mean";
  const band: Line[] = decimated
    ? [
        {
          label: "most",
          values: column(`${prefix}_max`),
          colour: "--accent-strong",
          faint: true,
          width: 0.5,
          band: true,
        },
        {
          label: "least",
          values: column(`${prefix}_min`),
          colour: "--accent-strong",
          faint: true,
          width: 0.5,
        },
      ]
    : [];
  const smooth: Line[] =
    prefix === "loss"
      ? [{ label: "moving mean", values: column("loss_smooth"), colour: "--accent", width: 2 }]
      : [];
  return [
    ...band,
    {
      label: decimated ? "mean" : what === "mean" ? "" : what,
      values: column(`${prefix}_mean`),
      colour: prefix === "loss" ? "--accent-strong" : "--accent",
      faint: prefix === "loss",
      width: 1,
    },
    ...smooth,
  ];
}

function timelineView(store: Store): TemplateResult {
  const zoomed = store.ranged && store.selection.zoom;
  const timeline = (zoomed ? store.range : store.overview).value;
  if (timeline === null) return waiting(store.overview.error, true, "");
  const { header, arrays } = timeline;
  const output = store.chosen?.output ?? null;
  const { start, stop } = store.selection;
  const range =
    store.ranged && !zoomed
      ? ([start ?? header.first_step ?? 0, stop ?? (header.last_step ?? 0) + 1] as const)
      : null;
  const epochs = header.epochs.map(({ epoch, step }) => ({ step, label: `epoch ${count(epoch)}` }));
  const spikes = header.spikes.map(({ step, loss, ratio }) => ({
    step,
    label: ratio === null ? `▼ loss ${figure(loss)}` : `▼ ${ratio.toFixed(1)} × the batches before`,
  }));
  const nonfinite = Array.from(arrays.nonfinite?.values ?? []).reduce((sum, value) => sum + value, 0);
  const broken = header.spikes.filter(({ ratio }) => ratio === null).slice(0, 5);
  const steps = arrays.step?.values ?? [];
  const shared = {
    onRange: (from: number, to: number): void => store.select({ start: from, stop: to }),
    onStep: (step: number): void => store.pick(step),
  };
  const bucket =
    header.bucket > 1 ? `each point ${count(header.bucket)} batches, with their least and greatest · ` : "";
  const words = `${many(header.batches, "batch", "batches")}, mean loss ${figure(header.loss)}, ${many(header.spikes.length, "spike")}`;
  const rates = errorLabel(output);
  return html`<section class="panel" data-testid="timeline" aria-label="Timeline">
    <bv-lines
      data-testid="timeline-loss"
      group="timeline"
      heading="Loss of every batch"
      hint=${`${bucket}strong line: moving mean · ▼ spikes · drag for a range, click for a batch`}
      label=${`Line chart: loss of every batch of ${store.chosen?.phase?.name}. ${words}.`}
      yLabel="loss"
      .steps=${steps}
      .lines=${linesOf(timeline, "loss")}
      .epochs=${epochs}
      .spikes=${spikes}
      .range=${range}
      .marker=${store.step}
      .onRange=${shared.onRange}
      .onStep=${shared.onStep}
      ?dark=${store.dark}
      ?log=${store.selection.logLoss}
      ?bare=${header.error_rate !== null}
      height="150"
    ></bv-lines>
    ${
      header.error_rate === null
        ? nothing
        : html`<bv-lines
          data-testid="timeline-error"
          group="timeline"
          heading=${rates.charAt(0).toUpperCase() + rates.slice(1)}
          label=${`Line chart: ${rates} of every batch. Mean ${errorText(output, header.error_rate)}.`}
          yLabel=${ERROR_HEADS[output?.task ?? "multiclass"].toLowerCase()}
          .steps=${steps}
          .lines=${linesOf(timeline, "error")}
          .range=${range}
          .marker=${store.step}
          .onRange=${shared.onRange}
          .onStep=${shared.onStep}
          .values=${(value: number | null) => errorText(output, value)}
          .ticks=${output?.task === "regression" ? tick : percentTick}
          ?dark=${store.dark}
          zero
          height="96"
        ></bv-lines>`
    }
    <div class="chips over">
      ${
        nonfinite === 0
          ? nothing
          : html`<span class="bad small" data-testid="nonfinite">loss NaN or infinite in ${many(nonfinite, "batch", "batches")}${broken.map(
              ({ step }, index) =>
                html`${index === 0 ? ": " : ", "}<button type="button" class="link" @click=${() => store.pick(step)}>${count(step)}</button>`,
            )}</span>`
      }
      ${store.ranged ? chip("only the range", zoomed, () => store.select({ zoom: !zoomed }), "zoom") : nothing}
      ${chip("log loss", store.selection.logLoss, () => store.select({ logLoss: !store.selection.logLoss }), "log-loss")}
    </div>
  </section>`;
}

export function batchColumns(store: Store): TableColumn<BatchRow>[] {
  const { head } = store.batches;
  const output = store.chosen?.output ?? null;
  const names = store.classNames;
  const maxima = head?.maxima ?? {};
  const worst = ({ worst: pair }: BatchRow): string =>
    pair === null
      ? "–"
      : `${className(names, pair.target)} → ${className(names, pair.predicted)} (${count(pair.count)})`;
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
          {
            key: "worst",
            label: "Worst confusion",
            title: "the most frequent confusion: target → predicted (samples)",
            width: 110,
            cell: worst,
            hint: worst,
          },
        ]
      : []),
  ];
}

export function batchesView(store: Store): TemplateResult {
  const { batches } = store;
  const { batchSort, start, stop } = store.selection;
  const ready = batches.head !== null;
  return html`${timelineView(store)}
    <div class="columns">
      <section class="panel" aria-label="All batches">
        <div class="head">
          <h2>All batches</h2>
          <span class="quiet small" data-testid="batches-count">${ready ? `${count(batches.total)} ${store.ranged ? "in the range" : "in the run"} · sorted by ${batchSort.column.replace("metrics.", "").replace("step", "batch").replace("_", " ")}` : ""}</span>
        </div>
        ${batches.error === null ? nothing : html`<p class="bad" role="alert">${batches.error}</p>`}
        ${
          ready || batches.loading
            ? html`<bv-table
              id="batches"
              data-testid="batches-table"
              data-primary
              label="All batches of the range"
              .columns=${batchColumns(store)}
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
