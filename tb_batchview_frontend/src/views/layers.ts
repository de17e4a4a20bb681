// The Layers tab: all layers with their latest figures, and the chosen one over the batches.

import { html, nothing, type TemplateResult } from "lit";
import "../charts/heatmap.js";
import type { Histograms } from "../charts/histograms.js";
import "../charts/lines.js";
import "../charts/ridgeline.js";
import { count, exact, figure, many, percent, percentTick } from "../format.js";
import type { Store } from "../state.js";
import type { Block, LayerHeader, LayerRow } from "../types.js";
import { comparedLayer, loneWords } from "./compare_layers.js";
import { chip, waiting } from "./parts.js";
import type { TableColumn } from "./table.js";
import "./table.js";

const COLUMNS: TableColumn<LayerRow>[] = [
  {
    key: "name",
    label: "Layer",
    width: 120,
    cell: ({ name }) => name,
    hint: ({ name, batches }) => `${name}: ${many(batches, "summary", "summaries")}`,
  },
  {
    key: "units",
    label: "Units",
    title: "units or channels",
    width: 56,
    number: true,
    cell: ({ units }) => count(units),
  },
  {
    key: "mean",
    label: "Mean",
    width: 70,
    number: true,
    cell: ({ mean }) => figure(mean),
    hint: ({ mean }) => exact(mean),
  },
  {
    key: "std",
    label: "Std",
    width: 66,
    number: true,
    cell: ({ std }) => figure(std),
    hint: ({ std }) => exact(std),
  },
  {
    key: "zero_fraction",
    label: "Zeros",
    title: "share of values that are exactly 0",
    width: 66,
    number: true,
    cell: (row) => percent(row.zero_fraction),
    hint: (row) => exact(row.zero_fraction),
  },
];

const column = (layer: Block<LayerHeader>, name: string): ArrayLike<number> =>
  layer.arrays[name]?.values ?? [];

const combine = (a: ArrayLike<number>, b: ArrayLike<number>, sign: 1 | -1): number[] =>
  Array.from(a, (value, index) => value + sign * (b[index] ?? Number.NaN));

/** The same object for the same answer, so that the pictures are laid out once and not at every render. */
const pictured = new WeakMap<object, Histograms>();
function histogramsOf(layer: Block<LayerHeader>): Histograms {
  const known = pictured.get(layer);
  if (known !== undefined) return known;
  const { low, high, bins } = layer.header;
  const [below, above] = [column(layer, "below"), column(layer, "above")];
  const made = {
    steps: column(layer, "step"),
    shares: column(layer, "histogram"),
    low,
    high,
    bins,
    below,
    above,
  };
  pictured.set(layer, made);
  return made;
}

function lineCharts(store: Store, layer: Block<LayerHeader>): TemplateResult {
  const [mean, std] = [column(layer, "mean"), column(layer, "std")];
  const steps = column(layer, "step");
  const epochs = (store.overview.value?.header.epochs ?? [])
    .filter(({ step }) => step >= (steps[0] ?? 0))
    .map(({ epoch, step }) => ({ step, label: `epoch ${count(epoch)}` }));
  const { window, batches } = layer.header;
  const each = window > 1 ? `each point ${count(window)} summaries` : many(batches, "summary", "summaries");
  const onStep = (step: number): void => store.select({ batch: step });
  return html`<bv-lines
      data-testid="layer-lines"
      group="layer"
      heading="Activation: mean ± std"
      hint=${`${each} · shaded: one standard deviation to either side`}
      label=${`Line chart: mean and standard deviation of ${layer.header.layer} over the batches.`}
      yLabel="value"
      .steps=${steps}
      .lines=${[
        {
          label: "mean + std",
          values: combine(mean, std, 1),
          colour: "--accent-strong",
          width: 0,
          faint: true,
          band: true,
          silent: true,
        },
        {
          label: "mean − std",
          values: combine(mean, std, -1),
          colour: "--accent-strong",
          width: 0,
          faint: true,
          silent: true,
        },
        { label: "mean", values: mean, colour: "--accent", width: 2 },
        { label: "std", values: std, colour: "--accent", hidden: true },
        { label: "min", values: column(layer, "min"), colour: "--quiet", hidden: true },
        { label: "max", values: column(layer, "max"), colour: "--quiet", hidden: true },
      ]}
      .epochs=${epochs}
      .marker=${store.selection.batch}
      .onStep=${onStep}
      ?dark=${store.dark}
      bare
      height="150"
    ></bv-lines>
    <bv-lines
      data-testid="layer-zeros"
      group="layer"
      heading="Zeros"
      hint="share of values that are exactly 0"
      label=${`Line chart: share of zeros in ${layer.header.layer} over the batches.`}
      yLabel="zeros"
      .steps=${steps}
      .lines=${[{ label: "zeros", values: column(layer, "zero_fraction"), colour: "--accent", width: 1.5 }]}
      .values=${percent}
      .ticks=${percentTick}
      .marker=${store.selection.batch}
      .onStep=${onStep}
      ?dark=${store.dark}
      zero
      height="100"
    ></bv-lines>`;
}

function layerPanel(store: Store): TemplateResult {
  const { value: layer, error, loading } = store.layer;
  if (layer === null)
    return html`<section class="panel">${waiting(error, loading, "This layer has no summaries in the range.")}</section>`;
  const shown = histogramsOf(layer);
  const { allValues } = store.selection;
  const { header } = layer;
  const { low, high, least, greatest } = header;
  const cropped = least !== null && greatest !== null && (least < low || greatest > high);
  const allChip = chip(
    `all values, ${figure(least)} to ${figure(greatest)}`,
    allValues,
    () => store.select({ allValues: !allValues }),
    "all-values",
  );
  return html`<section class="stack" aria-label=${`Layer ${header.layer}`} data-testid="layer">
    ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
    <div class="head">
      <h2 data-testid="layer-title">${header.layer}</h2>
      <span class="quiet small">${header.units === null ? "" : `${many(header.units, "unit")} · `}${many(header.batches, "batch", "batches")} summarised</span>
    </div>
    ${lineCharts(store, layer)}
    <div class="panel">
      <div class="head"><h2>Histogram over the batches</h2>
        <span class="quiet small">colour: share of the values, square-root scale · a click chooses the batch</span>${
          cropped || allValues ? html`<span class="end">${allChip}</span>` : nothing
        }</div>
      <bv-heatmap
        data-testid="layer-heatmap"
        label=${`Heatmap: distribution of the values of ${header.layer} from ${figure(shown.low)} to ${figure(shown.high)} over ${many(shown.steps.length, "window")} of batches.`}
        .histograms=${shown}
        .marker=${store.selection.batch}
        .onStep=${(step: number) => store.select({ batch: step })}
        ?dark=${store.dark}
      ></bv-heatmap>
    </div>
    <div class="panel">
      <div class="head"><h2>Ridgeline</h2>
        <span class="quiet small">the newest batch in front · height: share of the values, square-root scale</span></div>
      <bv-ridgeline
        data-testid="layer-ridgeline"
        label=${`Ridgeline: the same distribution, one curve a window of batches, from batch ${count(shown.steps[0])} to ${count(shown.steps[shown.steps.length - 1])}.`}
        .histograms=${shown}
        ?dark=${store.dark}
      ></bv-ridgeline>
    </div>
  </section>`;
}

export function layersView(store: Store): TemplateResult {
  const { value: answer, error, loading } = store.layers;
  if (answer === null) return waiting(error, loading, "");
  const { layers } = answer;
  if (layers.length === 0) {
    return html`<div class="state">
      <p>No layer was summarised in this range.</p>
      <p><code>BatchViewCallback(log_dir, layers="auto", histogram_freq=10)</code> summarises layers every 10th batch.</p>
    </div>`;
  }
  const rows = { total: layers.length, row: (index: number) => layers[index], want: () => undefined };
  return html`<div class="columns layers">
    <section class="panel" aria-label="Layers">
      <div class="head"><h2>Layers</h2>
        <span class="quiet small">${count(layers.length)} · figures of the last summary in the range</span></div>
      ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
      <bv-table
        id="layers"
        data-testid="layers-table"
        data-primary
        label="Layers"
        .columns=${COLUMNS}
        .rows=${rows}
        .onPick=${(row: LayerRow) => store.select({ layer: row.name })}
        .isPicked=${(row: LayerRow) => row.name === store.layerName}
      ></bv-table>
    </section>
    ${comparedLayer(store, histogramsOf) ?? html`<div class="stack">${loneWords(store) === "" ? nothing : html`<p class="quiet" data-testid="lone-layer">${loneWords(store)}</p>`}${layerPanel(store)}</div>`}
  </div>`;
}
