// The Layers tab with a run B: the curves of both in one chart, their histograms one under the other on one axis.

import { html, nothing, type TemplateResult } from "lit";
import "../charts/heatmap.js";
import type { Histograms } from "../charts/histograms.js";
import "../charts/lines.js";
import type { Line } from "../charts/lines.js";
import "../charts/ridgeline.js";
import { nearest, placeOn, stepOn } from "../compare.js";
import { count, figure, many, percent, percentTick, points, tick } from "../format.js";
import type { Store } from "../state.js";
import type { Block, LayerHeader } from "../types.js";
import { axisChips, axisHint, axisText, onAxis, type SharedAxis, sharedAxis } from "./compare_batches.js";
import { figuresTable, side } from "./compare_parts.js";
import { chip, waiting } from "./parts.js";

type Layer = Block<LayerHeader>;

const column = (layer: Layer, name: string): ArrayLike<number> => layer.arrays[name]?.values ?? [];

function pairOf(axis: SharedAxis, a: Layer, b: Layer, names: readonly string[]): Line[] {
  return names.flatMap((name) =>
    (["b", "a"] as const).map(
      (which): Line => ({
        label: `${which.toUpperCase()} ${name.replace("zero_fraction", "zeros")}`,
        values: onAxis(axis, which, column(which === "a" ? a : b, name)),
        colour: `--run-${which}-line`,
        width: 2,
        dashed: which === "b",
      }),
    ),
  );
}

function charts(store: Store, a: Layer, b: Layer): TemplateResult {
  const axis = sharedAxis(store.selection.axis, column(a, "step"), column(b, "step"));
  const { xText, xTick } = axisText(axis);
  const onStep = (x: number): void => {
    const step = nearest(column(a, "step"), stepOn(axis.kind, x, axis.a));
    if (step !== null) store.select({ batch: step });
  };
  const { batch } = store.selection;
  const chart = (
    hook: string,
    heading: string,
    names: readonly string[],
    bare: boolean,
    written: (value: number | null) => string,
    ticks?: (value: number | null) => string,
  ): TemplateResult => html`<bv-lines
    data-testid=${hook}
    group="compared-layer"
    heading=${heading}
    hint=${`B dashed · ${axisHint(axis)}`}
    label=${`Line chart: ${heading} of ${a.header.layer} in both runs.`}
    yLabel=${names.length > 0 && names[0] === "zero_fraction" ? "zeros" : "value"}
    .steps=${axis.aligned.xs}
    .lines=${pairOf(axis, a, b, names)}
    .marker=${batch === null ? null : placeOn(axis.kind, batch, axis.a)}
    .onStep=${onStep}
    .xText=${xText ?? ((x: number) => `batch ${count(x)}`)}
    .xTick=${xTick ?? count}
    .values=${written}
    .ticks=${ticks ?? tick}
    ?dark=${store.dark}
    ?bare=${bare}
    ?zero=${names[0] === "zero_fraction"}
    height=${bare ? 130 : 110}
  ></bv-lines>`;
  return html`${chart("compared-mean", "Mean, A and B", ["mean"], true, figure)}
    ${chart("compared-std", "Standard deviation, A and B", ["std"], true, figure)}
    ${chart("compared-zeros", "Zeros, A and B", ["zero_fraction"], false, percent, percentTick)}
    <div class="chips">${axisChips(store, axis)}</div>`;
}

function picture(store: Store, layer: Layer, shown: Histograms, which: "A" | "B"): TemplateResult {
  const { header } = layer;
  const onStep = which === "A" ? (step: number): void => store.select({ batch: step }) : null;
  return html`<div class="head">${side(which)}<span class="quiet small">${many(header.batches, "batch", "batches")} summarised</span></div>
    <bv-heatmap
      data-testid=${`compared-heatmap-${which.toLowerCase()}`}
      label=${`Heatmap, run ${which}: distribution of the values of ${header.layer} from ${figure(header.low)} to ${figure(header.high)} over ${many(shown.steps.length, "window")} of batches.`}
      .histograms=${shown}
      .marker=${which === "A" ? store.selection.batch : null}
      .onStep=${onStep}
      ?blue=${which === "B"}
      ?dark=${store.dark}
    ></bv-heatmap>`;
}

/** The layer of both runs, in place of that of A alone; `null` where there is nothing of B to put beside it. */
export function comparedLayer(
  store: Store,
  histogramsOf: (layer: Layer) => Histograms,
): TemplateResult | null {
  const { versus } = store;
  if (store.other === null || !versus.hasLayer) return null;
  const [a, b] = [store.layer.value, versus.layer.value];
  const error = store.layer.error ?? versus.layer.error;
  if (a === null || b === null)
    return html`<section class="panel">${waiting(error, store.layer.loading || versus.layer.loading, "This layer has no summaries in the range.")}</section>`;
  const { allValues } = store.selection;
  const { low, high } = a.header;
  const least = Math.min(a.header.least ?? low, b.header.least ?? low);
  const greatest = Math.max(a.header.greatest ?? high, b.header.greatest ?? high);
  const [lastA, lastB] = [store.layers, versus.layers].map(({ value }) =>
    value?.layers.find(({ name }) => name === store.layerName),
  );
  const figures = (["mean", "std", "min", "max", "zero_fraction"] as const).map((name) => ({
    label: name === "zero_fraction" ? "zeros" : name,
    a: lastA?.[name],
    b: lastB?.[name],
    text: name === "zero_fraction" ? percent : figure,
    ...(name === "zero_fraction" ? { changed: points } : {}),
    better: null,
  }));
  return html`<section class="stack" aria-label=${`Layer ${a.header.layer}, A and B`} data-testid="layer-b">
    ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
    <div class="head"><h2>${a.header.layer}</h2><span class="quiet small">figures of the last summary in the range</span></div>
    ${figuresTable(figures, "layer-figures", `Figures of ${a.header.layer} in both runs`)}
    ${charts(store, a, b)}
    <div class="panel">
      <div class="head"><h2>Histograms over the batches</h2>
        <span class="quiet small">one axis of values, ${figure(low)} to ${figure(high)} · colour: share of the values, square-root scale</span>
        ${
          allValues || least < low || greatest > high
            ? html`<span class="end">${chip(`all values, ${figure(least)} to ${figure(greatest)}`, allValues, () => store.select({ allValues: !allValues }), "all-values")}</span>`
            : nothing
        }</div>
      ${picture(store, a, histogramsOf(a), "A")} ${picture(store, b, histogramsOf(b), "B")}
    </div>
  </section>`;
}

/** Why the layer of A stands alone. */
export function loneWords(store: Store): string {
  const { other, versus, layerName } = store;
  if (other === null || versus.hasLayer || versus.layers.value === null) return "";
  return `Run B has no summaries of ${layerName} in its range: that of A is shown.`;
}
