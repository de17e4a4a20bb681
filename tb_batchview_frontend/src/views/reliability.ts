// The reliability diagram: how often predictions of some confidence are right.

import { html, type TemplateResult } from "lit";
import type { Plane } from "../charts/plane.js";
import "../charts/plane.js";
import { count, exact, exactPercent, many, percent, percentTick, points } from "../format.js";
import type { Store } from "../state.js";
import type { CalibrationAnswer, ReliabilityBin } from "../types.js";
import { figuresTable, pairwise, side } from "./compare_parts.js";
import type { Sheet } from "./download.js";
import { waiting } from "./parts.js";
import { foldable } from "./picture.js";

const TITLE = "Reliability of the confidence";

const FIGURES = ["count", "confidence", "accuracy"] as const;

/** With those of run B in columns of their own; the bins of both are the same. */
export function reliabilitySheet(
  bins: readonly ReliabilityBin[],
  others: readonly ReliabilityBin[] | null = null,
): Sheet {
  return {
    head: ["low", "high", ...FIGURES, ...(others === null ? [] : FIGURES.map((name) => `${name}_b`))],
    rows: bins.map((bin, index) => [
      bin.low,
      bin.high,
      ...FIGURES.map((name) => bin[name]),
      ...(others === null ? [] : FIGURES.map((name) => others[index]?.[name])),
    ]),
  };
}

const planeOf = pairwise((answer: CalibrationAnswer, other: CalibrationAnswer | null): Plane => {
  const { bins } = answer;
  const most = bins.reduce((greatest, bin) => Math.max(greatest, bin.count), 1);
  return {
    across: { label: "confidence", low: 0, high: 1, text: percentTick },
    up: { label: "accuracy", low: 0, high: 1, text: percentTick },
    kind: "bars",
    x: bins.map(({ low }) => low),
    // What ends at 1 includes it.
    ends: bins.map(({ high }) => (high >= 1 ? 1.001 : high)),
    y: bins.map(({ accuracy }) => accuracy ?? Number.NaN),
    shades: bins.map((bin) => Math.sqrt(bin.count / most)),
    guides: [
      { x: [0, 1], y: [0, 1], colour: "--text", dashed: true },
      ...(other?.bins ?? []).flatMap(({ low, high, accuracy }) =>
        accuracy === null
          ? []
          : [{ x: [low, high], y: [accuracy, accuracy], colour: "--run-b-line", edged: true }],
      ),
    ],
    square: true,
  };
});

function binFacts({ count: samples, confidence, accuracy }: ReliabilityBin): string[] {
  const gap = confidence === null || accuracy === null ? null : accuracy - confidence;
  return [
    many(samples, "sample"),
    ...(accuracy === null || confidence === null || gap === null
      ? []
      : [
          `accuracy ${exactPercent(accuracy)}`,
          `mean confidence ${exactPercent(confidence)}`,
          `${exactPercent(Math.abs(gap))} ${gap < 0 ? "too sure" : "not sure enough"}`,
        ]),
  ];
}

export function binWords(bin: ReliabilityBin, other: ReliabilityBin | undefined): string {
  const facts = other ? [`A ${binFacts(bin).join(", ")}`, `B ${binFacts(other).join(", ")}`] : binFacts(bin);
  return [`confidence ${percent(bin.low)} to ${percent(bin.high)}`, ...facts].join("\n");
}

function figures(a: CalibrationAnswer, b: CalibrationAnswer | null): TemplateResult {
  const named = [
    ["expected calibration error (ECE)", "error"],
    ["greatest error of a bin", "greatest_error"],
  ] as const;
  if (b !== null) {
    const shared = { text: percent, changed: points, better: "lower" } as const;
    return figuresTable(
      [
        ...named.map(([label, key]) => ({ label, a: a[key], b: b[key], ...shared })),
        { label: "samples", a: a.samples, b: b.samples, text: count, better: null },
      ],
      "calibration-figures",
      "Reliability of both runs",
    );
  }
  return html`<dl class="facts small" data-testid="calibration-figures">
    ${named.map(([label, key]) => html`<div><dt>${label}</dt><dd title=${exact(a[key])}>${percent(a[key])}</dd></div>`)}
    <div><dt>samples</dt><dd>${count(a.samples)}</dd></div>
  </dl>`;
}

export function reliabilityPanel(store: Store): TemplateResult {
  const { value: answer, loading } = store.calibration;
  const beside = store.versus.beside("calibration");
  const error = store.calibration.error ?? beside?.error ?? null;
  const b = beside?.value ?? null;
  const other = b !== null && b.samples > 0 ? b : null;
  const training = store.chosen?.phase?.name === "train";
  const nothing = answer === null || answer.samples === 0;
  return foldable(
    store,
    {
      name: "calibration",
      title: TITLE,
      note: nothing
        ? ""
        : html`${other === null ? "" : side("A")} bars: accuracy, the stronger their colour, the more samples · ${
            other === null ? "" : html`${side("B")} blue lines: its accuracy · `
          }dashed: confidence as it should be`,
      png: true,
      sheet: () => reliabilitySheet(answer?.bins ?? [], other?.bins),
    },
    () => {
      if (nothing) return waiting(error, loading, "No samples with a target in this range.");
      const most = answer.bins.reduce((best, bin) => (bin.count > best.count ? bin : best));
      return html`${error === null ? "" : html`<p class="bad" role="alert">${error}</p>`}
        ${figures(answer, other)}
        <bv-plane
          data-testid="calibration-diagram"
          heading=${TITLE}
          label=${`Reliability diagram: accuracy in ${answer.bins.length} bins of confidence, of ${many(answer.samples, "sample")}. Expected calibration error ${percent(answer.error)}. Most samples, ${count(most.count)}, have a confidence of ${percent(most.low)} to ${percent(most.high)}; ${percent(most.accuracy)} of them are right.${other === null ? "" : ` Of run B the error is ${percent(other.error)}.`} Left and right move between the bins.`}
          .plane=${planeOf(answer, other)}
          .describe=${(index: number) => {
            const bin = answer.bins[index];
            return bin === undefined ? "" : binWords(bin, other?.bins[index]);
          }}
          ?dark=${store.dark}
        ></bv-plane>
        <p class="quiet small">ECE: mean distance of accuracy and confidence over the bins, weighted by samples
          (<a class="link" href="https://proceedings.mlr.press/v70/guo17a.html" target="_blank" rel="noopener noreferrer">Guo et al. 2017</a>).${
            training
              ? " These are batches of a training: with dropout and augmentation on, and with weights that changed from batch to batch, they differ from the finished model. Validation batches tell about it."
              : ""
          }</p>`;
    },
    !nothing,
  );
}
