// The Layers tab with a run B: the curves of both in one chart, their histograms one under the other on one axis.

import { html, nothing, type TemplateResult } from "lit";
import { figure, percent, percentTick, points } from "../format.js";
import type { Store } from "../state.js";
import type { Block, LayerHeader } from "../types.js";
import { axisChips, sharedAxis } from "./compare_batches.js";
import { type ComparedFigure, figuresTable } from "./compare_parts.js";
import { type ComparedChart, comparedLines } from "./compared_lines.js";
import { lastNorm, normsOf } from "./gradients.js";
import { chip, waiting } from "./parts.js";
import { deadLines, unitsPanel } from "./units.js";

type Layer = Block<LayerHeader>;

const column = (layer: Layer, name: string): ArrayLike<number> => layer.arrays[name]?.values ?? [];

function charts(store: Store, a: Layer, b: Layer): TemplateResult {
  const axis = sharedAxis(store.selection.axis, column(a, "step"), column(b, "step"));
  const chart = (
    hook: string,
    heading: string,
    name: string,
    change: Partial<ComparedChart>,
  ): TemplateResult =>
    comparedLines(
      store,
      {
        hook,
        heading: `${heading}, A and B`,
        label: `Line chart: ${heading}, A and B of ${a.header.layer} in both runs.`,
        yLabel: "value",
        group: "compared-layer",
        ...change,
      },
      { step: column(a, "step"), values: column(a, name) },
      { step: column(b, "step"), values: column(b, name) },
    );
  return html`${chart("compared-mean", "Mean", "mean", { bare: true })}
    ${chart("compared-std", "Standard deviation", "std", { bare: true })}
    ${chart("compared-zeros", "Zeros", "zero_fraction", { yLabel: "zeros", values: percent, ticks: percentTick, zero: true })}
    <div class="chips">${axisChips(store, axis)}</div>`;
}

/** What is drawn of activations, and beside it of gradients; `which` tells whose where there are two. */
export interface LayerPart {
  of: Layer;
  word: string;
  what: string;
  hook: string;
  which?: "A" | "B";
}

type Picture = (store: Store, part: LayerPart) => TemplateResult;

/** A kind of values that both runs have of the layer. */
function histograms(
  store: Store,
  parts: readonly [LayerPart, LayerPart],
  heatmap: Picture,
  ridgeline: Picture,
): TemplateResult {
  const { allValues } = store.selection;
  const [{ of: a, word }, { of: b }] = parts;
  const { low, high } = a.header;
  const least = Math.min(a.header.least ?? low, b.header.least ?? low);
  const greatest = Math.max(a.header.greatest ?? high, b.header.greatest ?? high);
  return html`<div class="panel">
      <div class="head"><h2>${word} histograms over the batches</h2>
        <span class="quiet small">one axis of values, ${figure(low)} to ${figure(high)} · colour and height: share of the values, square-root scale</span>
        ${
          allValues || least < low || greatest > high
            ? html`<span class="end">${chip(`all values, ${figure(least)} to ${figure(greatest)}`, allValues, () => store.select({ allValues: !allValues }), "all-values")}</span>`
            : nothing
        }</div>
      ${parts.map((part) => heatmap(store, part))}
    </div>
    <div class="twin">${parts.map((part) => ridgeline(store, part))}</div>`;
}

/** The layer of both runs, in place of that of A alone; `null` where there is nothing of B to put beside it. */
export function comparedLayer(store: Store, heatmap: Picture, ridgeline: Picture): TemplateResult | null {
  const { versus } = store;
  if (store.other === null || !versus.hasLayer) return null;
  const [name, nameB] = [store.layerName ?? "", versus.layerName ?? ""];
  const rows = [store.layers.value?.layers.find((row) => row.name === name), versus.layerRow];
  const sloped = store.gradientNames.includes(name) && versus.hasGradient;
  const kinds = [
    ["layer", "Activation", "activations", "compared", rows[0] !== undefined],
    ["gradient", "Gradient", "gradients", "compared-gradient", sloped],
  ] as const;
  const asked = kinds.filter(([, , , , wanted]) => wanted);
  const twins = asked.flatMap(([kind, word, what, hook]): [LayerPart, LayerPart][] => {
    const [a, b] = [store[kind].value, versus[kind].value];
    if (a === null || b === null) return [];
    const part = { word, what, hook };
    return [
      [
        { ...part, of: a, which: "A" },
        { ...part, of: b, which: "B" },
      ],
    ];
  });
  const errors = asked.map(([kind]) => store[kind].error ?? versus[kind].error);
  const error = errors.find((one) => one !== null) ?? null;
  if (twins.length === 0) {
    const loading = asked.some(([kind]) => store[kind].loading || versus[kind].loading);
    return html`<section class="panel">${waiting(error, loading, "This layer has no summaries in the range.")}</section>`;
  }
  const [ofA, ofB] = [store.gradients.value, versus.gradients.value];
  const figures: ComparedFigure[] = (["mean", "std", "min", "max", "zero_fraction"] as const).map((key) => ({
    label: key === "zero_fraction" ? "zeros" : key,
    a: rows[0]?.[key],
    b: rows[1]?.[key],
    text: key === "zero_fraction" ? percent : figure,
    ...(key === "zero_fraction" ? { changed: points } : {}),
    better: null,
  }));
  const norm = {
    label: "gradient norm",
    a: lastNorm(ofA, name),
    b: lastNorm(ofB, nameB),
    text: figure,
    better: null,
  };
  const shown = [...(rows[0] === undefined ? [] : figures), ...(sloped ? [norm] : [])];
  const alone = store.gradientNames.includes(name) && !sloped ? store.gradient.value : null;
  const values = twins.find(([{ hook }]) => hook === "compared");
  return html`<section class="stack" aria-label=${`Layer ${name}, A and B`} data-testid="layer-b">
    ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
    <div class="head"><h2>${name}</h2><span class="quiet small">${nameB === name ? nothing : html`in B ${nameB}, matched by its place · `}figures of the last summary in the range</span></div>
    ${figuresTable(shown, "layer-figures", `Figures of ${name} in both runs`)}
    ${values ? charts(store, values[0].of, values[1].of) : nothing}
    ${
      sloped && ofA !== null && ofB !== null
        ? comparedLines(
            store,
            {
              hook: "compared-norm",
              heading: "Gradient norm, A and B",
              label: `Line chart with a log scale: norm of the gradient of ${name} in both runs.`,
              yLabel: "norm",
              log: true,
            },
            normsOf(ofA, name),
            normsOf(ofB, nameB),
          )
        : nothing
    }
    ${rows[0]?.units == null ? nothing : deadLines(store)}
    ${twins.map((parts) => histograms(store, parts, heatmap, ridgeline))}
    ${
      alone === null
        ? nothing
        : html`<p class="quiet">Run B has no gradient of this layer in its range: that of A is shown.</p>
          <div class="twin">${[heatmap, ridgeline].map((picture) => picture(store, { of: alone, word: "Gradient", what: "gradients", hook: "gradient" }))}</div>`
    }
    ${rows[0]?.units == null ? nothing : unitsPanel(store)}
  </section>`;
}

/** Why the layer of A stands alone. */
export function loneWords(store: Store): string {
  const { other, versus, layerName } = store;
  if (other === null || versus.hasLayer || versus.layers.value === null) return "";
  return `Run B has no summaries of ${layerName} in its range: that of A is shown.`;
}
