// The norms of the gradients of all layers on one log scale: vanishing and exploding ones are seen at a glance.

import { html, nothing, type TemplateResult } from "lit";
import { depthRamp } from "../charts/colour.js";
import type { Mark } from "../charts/marks.js";
import { extent, type TimeGrid } from "../charts/time_grid.js";
import "../charts/lines.js";
import "../charts/time_heatmap.js";
import { matchLayer } from "../compare.js";
import { count, exact, figure, many, shortName, tailOf } from "../format.js";
import type { Store } from "../state.js";
import type { Block, Figure, GradientsHeader } from "../types.js";
import { pairwise } from "./compare_parts.js";
import { normSheet } from "./layer_sheets.js";
import { waiting } from "./parts.js";
import { csvButton } from "./save.js";

/** Up to so many layers have a line each; of more the lines could not be told apart. */
const MOST_LINES = 8;

type Norms = Block<GradientsHeader>;

const at = ({ header, arrays }: Norms, name: string, window: number, layer: number): number =>
  arrays[name]?.values[window * header.layers.length + layer] ?? Number.NaN;

/** Windows in which some norm is NaN or infinite, and of which layers. */
export function brokenMarks(norms: Norms): Mark[] {
  const { layers } = norms.header;
  return Array.from(norms.arrays.step?.values ?? []).flatMap((step, window) => {
    const names = layers.filter((_, layer) => at(norms, "nonfinite", window, layer) > 0);
    if (names.length === 0) return [];
    const more = names.length > 3 ? ` and ${count(names.length - 3)} more` : "";
    const words = names.slice(0, 3).map(({ name }) => shortName(name, 30));
    return [{ step, label: `NaN or ∞ in ${words.join(", ")}${more}` }];
  });
}

function describeNorm(norms: Norms, window: number, layer: number): string {
  const { header, arrays } = norms;
  const [mean, low, high, broken] = ["mean", "min", "max", "nonfinite"].map((name) =>
    at(norms, name, window, layer),
  ) as [number, number, number, number];
  return [
    `${shortName(header.layers[layer]?.name ?? "", 60)} · batch ${count(arrays.step?.values[window])}`,
    Number.isNaN(mean) ? "" : `norm ${exact(mean)}`,
    Number.isNaN(mean) || header.window === 1 ? "" : `${exact(low)} to ${exact(high)}`,
    broken > 0 ? `${many(broken, "norm")} NaN or ∞` : "",
    Number.isNaN(mean) && broken === 0 ? "no gradient" : "",
  ]
    .filter((line) => line !== "")
    .join("\n");
}

/** The norm of a layer's gradient in the windows. */
export function normsOf(norms: Norms, name: string | null): { step: ArrayLike<number>; values: number[] } {
  const layer = norms.header.layers.findIndex((known) => known.name === name);
  const step = norms.arrays.step?.values ?? [];
  return {
    step,
    values: Array.from(step, (_, window) => (layer < 0 ? Number.NaN : at(norms, "mean", window, layer))),
  };
}

/** That of the last window with a summary of the layer. */
export const lastNorm = (norms: Norms | null, name: string): Figure =>
  (norms && normsOf(norms, name).values.findLast((value) => !Number.isNaN(value))) ?? null;

/** With `other` the colours reach over its norms, too. */
export const normGrid = pairwise((norms: Norms, other: Norms | null): TimeGrid => {
  const { layers } = norms.header;
  const means = [norms, other].flatMap((one) => Array.from(one?.arrays.mean?.values ?? []));
  const [low, high] = extent(means, true) ?? [1, 1];
  return {
    steps: norms.arrays.step?.values ?? [],
    rows: layers.length,
    rowLabel: (layer) => tailOf(layers[layer]?.name ?? "", 18),
    value: (window, layer) => at(norms, "mean", window, layer),
    bad: (window, layer) => at(norms, "nonfinite", window, layer) > 0,
    describe: (window, layer) => describeNorm(norms, window, layer),
    low,
    high,
    log: true,
    signed: false,
    format: figure,
    yLabel: "layer",
    left: 136,
    legend: "norm, log scale",
  };
});

/** What the picture says, for those who do not see it: the last window, and what is broken. */
export function normWords(norms: Norms): string {
  const { layers } = norms.header;
  const last = (norms.arrays.step?.values.length ?? 0) - 1;
  const norm = layers
    .map(({ name }, layer) => ({ name, value: at(norms, "mean", last, layer) }))
    .filter(({ value }) => Number.isFinite(value))
    .sort((a, b) => a.value - b.value);
  const [least, greatest] = [norm[0], norm[norm.length - 1]];
  const broken = layers.filter(({ nonfinite }) => nonfinite > 0).length;
  const ends =
    least === undefined || greatest === undefined
      ? ""
      : norm.length === 1
        ? `At last ${figure(least.value)} (${shortName(least.name, 30)}).`
        : `At last between ${figure(least.value)} (${shortName(least.name, 30)}) and ${figure(greatest.value)} (${shortName(greatest.name, 30)})${
            least.value > 0 ? `, ${figure(greatest.value / least.value)} times as much` : ""
          }.`;
  return `${ends}${broken === 0 ? "" : ` NaN or infinite at times in ${many(broken, "layer")}.`}`.trim();
}

/** Whose norms: those of A choose the batch; B's are beside them, and choose a layer at most. */
interface Side {
  hook: string;
  words: string;
  picks: boolean;
}
const ALONE: Side = { hook: "", words: "", picks: true };
const A: Side = { ...ALONE, words: ", A" };
const B: Side = { hook: "-b", words: ", B", picks: false };

/** What a layer of either run is called in A, whose layers are chosen. */
const nameInA = ({ layerNames, versus }: Store, { picks }: Side, name: string): string =>
  picks ? name : (matchLayer(name, versus.layerNames, layerNames) ?? name);

function normLines(store: Store, norms: Norms, side: Side): TemplateResult {
  const { layers, window } = norms.header;
  const steps = norms.arrays.step?.values ?? [];
  const colours = depthRamp(store.dark);
  const hue = (layer: number): string => colours(layer / Math.max(1, layers.length - 1));
  const chosen = side.picks ? store.layerName : store.versus.layerName;
  const lines = layers.map(({ name }, layer) => ({
    label: shortName(name, 30),
    values: Array.from(steps, (_, place) => at(norms, "mean", place, layer)),
    colour: hue(layer),
    width: name === chosen ? 2.5 : 1.25,
  }));
  return html`<bv-lines
      data-testid=${`gradient-norms${side.hook}`}
      group=${`layer${side.hook}`}
      heading=${`Gradient norms${side.words}`}
      hint=${`${window > 1 ? `means of ${count(window)} batches each` : "of each batch"} · log scale · ${normWords(norms)}`}
      label=${`Line chart${side.words} with a log scale: norm of the gradient of ${many(layers.length, "layer")} over the batches. ${normWords(norms)}`}
      yLabel="norm"
      log
      .steps=${steps}
      .lines=${lines}
      .spikes=${brokenMarks(norms)}
      .marker=${side.picks ? store.selection.batch : null}
      .controls=${csvButton(store, `gradient-norms${side.hook}`, () => normSheet(norms))}
      .onRange=${side.picks ? store.brush : null}
      .onStep=${side.picks ? (step: number) => store.select({ batch: step }) : null}
      ?dark=${store.dark}
      height="180"
    ></bv-lines>
    <div class="legend" role="group" aria-label="Layers, from the first to the last">${layers.map(
      ({ name }, layer) =>
        html`<button type="button" aria-pressed=${name === chosen} title=${name} @click=${() => store.select({ layer: nameInA(store, side, name) })}><i .style=${`--hue:${hue(layer)}`}></i><span>${shortName(name, 40)}</span></button>`,
    )}</div>`;
}

function normHeatmap(store: Store, norms: Norms, side: Side, other: Norms | null): TemplateResult {
  const { layers, total } = norms.header;
  return html`<div class="head"><h2>Gradient norms${side.words}</h2>
      <span class="quiet small">${layers.length < total ? `the first ${count(layers.length)} of ${count(total)} layers · ` : ""}a row a layer, the first one on top · ${normWords(norms)}</span>
      <span class="end small">${csvButton(store, `gradient-norms${side.hook}`, () => normSheet(norms))}</span></div>
    <bv-time-heatmap
      data-testid=${`gradient-norm-heatmap${side.hook}`}
      heading=${`Gradient norms${side.words}`}
      label=${`Heatmap${side.words} with a log scale: norm of the gradient of ${many(layers.length, "layer")} over the batches. ${normWords(norms)} Arrow keys move, Enter chooses layer and batch.`}
      .grid=${normGrid(norms, other)}
      .row=${layers.findIndex(({ name }) => name === (side.picks ? store.layerName : store.versus.layerName))}
      .marker=${side.picks ? store.selection.batch : null}
      .onRange=${side.picks ? store.brush : null}
      .onCell=${(step: number, row: number) => store.select({ ...(side.picks ? { batch: step } : {}), layer: nameInA(store, side, layers[row]?.name ?? "") })}
      ?dark=${store.dark}
    ></bv-time-heatmap>`;
}

export function gradientsPanel(store: Store): TemplateResult {
  const { value: norms, error, loading } = store.gradients;
  if (norms === null) return html`<section class="panel wide">${waiting(error, loading, "")}</section>`;
  const { layers } = norms.header;
  if (layers.length === 0) {
    const elsewhere = norms.header.total > 0;
    return html`<section class="panel wide" data-testid="gradients" aria-label="Gradient norms"><div class="head"><h2>Gradient norms</h2></div>
      <p class="quiet">${
        elsewhere
          ? "No gradient was summarised in this range."
          : store.chosen?.phase?.name === "train"
            ? html`None is recorded. <code>BatchViewCallback(log_dir, gradients=True)</code> records the norm and a histogram of each layer's gradient.`
            : "Gradients are of training batches: choose the phase train."
      }</p></section>`;
  }
  const b = store.other === null ? null : store.versus.gradients.value;
  const other = b !== null && b.header.layers.length > 0 ? b : null;
  const most = Math.max(layers.length, other?.header.layers.length ?? 0);
  const normsPicture = (side: Side, one: Norms, beside: Norms | null): TemplateResult =>
    most > MOST_LINES ? normHeatmap(store, one, side, beside) : normLines(store, one, side);
  return html`<section class="panel wide" data-testid="gradients" aria-label="Gradient norms">
    ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
    ${other === null ? normsPicture(ALONE, norms, null) : html`<div class="twin"><div>${normsPicture(A, norms, other)}</div><div>${normsPicture(B, other, norms)}</div></div>`}
  </section>`;
}
