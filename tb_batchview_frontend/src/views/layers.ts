// The Layers tab: all layers with their latest figures, and the chosen one over the batches.

import { html, nothing, type TemplateResult } from "lit";
import "../charts/heatmap.js";
import type { Histograms } from "../charts/histograms.js";
import "../charts/lines.js";
import "../charts/ridgeline.js";
import { count, exact, figure, many, percent, percentTick } from "../format.js";
import type { Store } from "../state.js";
import type { Block, Figure, LayerHeader, LayerRow } from "../types.js";
import { comparedLayer, type LayerPart, loneWords } from "./compare_layers.js";
import { side } from "./compare_parts.js";
import { gradientsPanel, lastNorm } from "./gradients.js";
import { histogramSheet } from "./layer_sheets.js";
import { chip, number, tail, waiting } from "./parts.js";
import { csvButton } from "./save.js";
import type { TableColumn } from "./table.js";
import "./table.js";
import { deadLines, unitsPanel } from "./units.js";

/** A layer, and the norm of its gradient in the last window of the range. */
type Row = LayerRow & { norm: Figure };

const COLUMNS: TableColumn<Row>[] = [
  {
    key: "name",
    label: "Layer",
    width: 114,
    cell: ({ name }) => tail(name),
    hint: ({ name, batches }) =>
      `${name}: ${batches === 0 ? "its gradient alone" : many(batches, "summary", "summaries")}`,
  },
  {
    key: "units",
    label: "Units",
    title: "units or channels",
    width: 42,
    number: true,
    cell: ({ units }) => count(units),
  },
  {
    key: "mean",
    label: "Mean",
    width: 74,
    number: true,
    cell: ({ mean }) => figure(mean),
    hint: ({ mean }) => exact(mean),
  },
  {
    key: "std",
    label: "Std",
    width: 60,
    number: true,
    cell: ({ std }) => figure(std),
    hint: ({ std }) => exact(std),
  },
  {
    key: "zero_fraction",
    label: "Zeros",
    title: "share of values that are exactly 0",
    width: 58,
    number: true,
    cell: (row) => percent(row.zero_fraction),
    hint: (row) => exact(row.zero_fraction),
  },
];

const NORM: TableColumn<Row> = {
  key: "norm",
  label: "Gradient",
  title: "norm of the gradient of the layer's weights",
  width: 72,
  number: true,
  cell: ({ norm }) => figure(norm),
  hint: ({ norm }) => exact(norm),
};

const WITH_NORM = [...COLUMNS, NORM];

const UNKNOWN = {
  batches: 0,
  first_step: null,
  last_step: null,
  units: null,
  mean: null,
  std: null,
  min: null,
  max: null,
  zero_fraction: null,
};

/** All layers of which anything is known: also those of whose weights alone the gradient is. */
function rowsOf(store: Store): Row[] {
  return store.layerNames.map((name) => {
    const known = store.layers.value?.layers.find((row) => row.name === name);
    return { ...(known ?? { name, ...UNKNOWN }), norm: lastNorm(store.gradients.value, name) };
  });
}

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
      hint=${`${each} · shaded: one standard deviation to either side · drag for a range`}
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
      .onRange=${store.brush}
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
      .onRange=${store.brush}
      ?dark=${store.dark}
      zero
      height="100"
    ></bv-lines>`;
}

/** All values of the range together. */
function averages({ header }: Block<LayerHeader>, what: string): TemplateResult {
  const { mean, std, min, max, zero_fraction, nonfinite } = header.average;
  const both = (text: string, ...values: Figure[]): TemplateResult =>
    html`<dd title=${values.map(exact).join(" · ")}>${text}</dd>`;
  return html`<div class="panel"><h3 class="quiet small">${what} of the range: ${many(header.batches, "summary", "summaries")} together</h3>
    <dl class="facts">
      <div><dt>mean ± std</dt>${both(`${figure(mean)} ± ${figure(std)}`, mean, std)}</div>
      <div><dt>min, max</dt>${both(`${figure(min)}, ${figure(max)}`, min, max)}</div>
      <div><dt>zeros</dt>${both(percent(zero_fraction), zero_fraction)}</div>
      ${nonfinite ? html`<div><dt>NaN or ∞</dt><dd class="bad">${number(nonfinite, count(nonfinite))}</dd></div>` : nothing}
    </dl></div>`;
}

function heatmap(store: Store, { of, word, what, hook, which }: LayerPart): TemplateResult {
  const shown = histogramsOf(of);
  const [mark, beside] = [which ? `-${which.toLowerCase()}` : "", which ? `, run ${which}` : ""];
  const mine = which !== "B";
  return html`<div class="panel">
    <div class="head">${which ? side(which) : nothing}<h2>${word} histogram</h2>
      <span class="end small">${csvButton(store, `${hook}-histogram${mark}`, () => histogramSheet(of))}</span></div>
    <bv-heatmap
      data-testid=${`${hook}-heatmap${mark}`}
      heading=${`${word} histogram${beside}`}
      label=${`Heatmap${beside}: distribution of ${what} of ${of.header.layer} from ${figure(shown.low)} to ${figure(shown.high)} over ${many(shown.steps.length, "window")} of batches. Arrow keys move${mine ? ", Enter chooses the batch" : ""}.`}
      .histograms=${shown}
      .marker=${mine ? store.selection.batch : null}
      .onStep=${mine ? (step: number) => store.select({ batch: step }) : null}
      .onRange=${mine ? store.brush : null}
      ?blue=${!mine}
      ?dark=${store.dark}
    ></bv-heatmap>
  </div>`;
}

function ridgeline(store: Store, { of, word, what, hook, which }: LayerPart): TemplateResult {
  const shown = histogramsOf(of);
  const [mark, beside] = [which ? `-${which.toLowerCase()}` : "", which ? `, run ${which}` : ""];
  return html`<div class="panel">
    <div class="head">${which ? side(which) : nothing}<h2>${word} ridgeline</h2></div>
    <bv-ridgeline
      data-testid=${`${hook}-ridgeline${mark}`}
      heading=${`${word} ridgeline${beside}`}
      label=${`Ridgeline${beside}: the distribution of ${what} of ${of.header.layer}, one curve a window of batches, from batch ${count(shown.steps[0])} to ${count(shown.steps[shown.steps.length - 1])}. Arrow keys move.`}
      .histograms=${shown}
      ?blue=${which === "B"}
      ?dark=${store.dark}
    ></bv-ridgeline>
  </div>`;
}

function histogramPanels(store: Store, parts: LayerPart[]): TemplateResult {
  const { allValues } = store.selection;
  const cut = parts.filter(({ of: { header } }) => {
    const { low, high, least, greatest } = header;
    return least !== null && greatest !== null && (least < low || greatest > high);
  });
  const ends = cut.map(
    ({ of, what }) => `${what} ${figure(of.header.least)} to ${figure(of.header.greatest)}`,
  );
  const all = chip(
    `all values${ends.length === 0 ? "" : `: ${ends.join(", ")}`}`,
    allValues,
    () => store.select({ allValues: !allValues }),
    "all-values",
  );
  return html`<div class="panel">
      <div class="head"><span class="quiet small">colour and height: share of the values, square-root scale · a click on a heatmap chooses the batch, a drag the range · in the ridgeline the newest batch is in front</span>${
        cut.length > 0 || allValues ? html`<span class="end">${all}</span>` : nothing
      }</div>
      <div class="twin">${parts.map((part) => heatmap(store, part))}</div></div>
    <div class="twin">${parts.map((part) => ridgeline(store, part))}</div>`;
}

function layerPanel(store: Store): TemplateResult {
  const name = store.layerName;
  const row = store.layers.value?.layers.find((known) => known.name === name);
  const sloped = store.gradientNames.includes(name ?? "");
  const [layer, gradient] = [row && store.layer.value, sloped ? store.gradient.value : null];
  const failed = [row && store.layer.error, sloped && store.gradient.error].find((error) => error) || null;
  if (!layer && !gradient) {
    const loading = (row !== undefined && store.layer.loading) || (sloped && store.gradient.loading);
    return html`<section class="panel">${waiting(failed, loading, "This layer has no summaries in the range.")}</section>`;
  }
  const parts: LayerPart[] = [];
  if (layer) parts.push({ of: layer, word: "Activation", what: "activations", hook: "layer" });
  if (gradient) parts.push({ of: gradient, word: "Gradient", what: "gradients", hook: "gradient" });
  const units = layer?.header.units ?? null;
  return html`<section class="stack" aria-label=${`Layer ${name}`} data-testid="layer">
    ${failed === null ? nothing : html`<p class="bad" role="alert">${failed}</p>`}
    <div class="head">
      <h2 data-testid="layer-title">${name}</h2>
      <span class="quiet small">${units === null ? "" : `${many(units, "unit")} · `}${many((layer ?? gradient)?.header.batches ?? 0, "batch", "batches")} summarised</span>
    </div>
    <div class="twin" data-testid="averages">${parts.map(({ of, what }) => averages(of, what))}</div>
    ${layer ? lineCharts(store, layer) : nothing}
    ${units === null ? nothing : deadLines(store)}
    ${histogramPanels(store, parts)}
    ${units === null ? nothing : unitsPanel(store)}
  </section>`;
}

export function layersView(store: Store): TemplateResult {
  const { value: answer, error, loading } = store.layers;
  if (answer === null || (answer.layers.length === 0 && store.gradients.value === null))
    return waiting(error ?? store.gradients.error, loading || store.gradients.loading, "");
  const layers = rowsOf(store);
  if (layers.length === 0) {
    return html`<div class="state">
      <p>No layer was summarised in this range.</p>
      <p><code>BatchViewCallback(log_dir, layers="auto", histogram_freq=10)</code> summarises layers every 10th batch,</p>
      <p><code>BatchViewCallback(log_dir, gradients=True)</code> also the gradients of their weights.</p>
    </div>`;
  }
  const rows = { total: layers.length, row: (index: number) => layers[index], want: () => undefined };
  return html`<div class="columns layers">
    ${gradientsPanel(store)}
    <section class="panel" aria-label="Layers">
      <div class="head"><h2>Layers</h2>
        <span class="quiet small">${count(layers.length)} · figures of the last summary in the range</span></div>
      ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
      <bv-table
        id="layers"
        data-testid="layers-table"
        data-primary
        label="Layers"
        .columns=${store.gradientNames.length > 0 ? WITH_NORM : COLUMNS}
        .rows=${rows}
        .onPick=${(row: Row) => store.select({ layer: row.name })}
        .isPicked=${(row: Row) => row.name === store.layerName}
      ></bv-table>
    </section>
    ${comparedLayer(store, heatmap, ridgeline) ?? html`<div class="stack">${loneWords(store) === "" ? nothing : html`<p class="quiet" data-testid="lone-layer">${loneWords(store)}</p>`}${layerPanel(store)}</div>`}
  </div>`;
}
