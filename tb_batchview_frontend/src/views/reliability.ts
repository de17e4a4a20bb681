// The reliability diagram: how often predictions of some confidence are right.

import { html, type TemplateResult } from "lit";
import type { Plane } from "../charts/plane.js";
import "../charts/plane.js";
import { count, exact, exactPercent, many, percent, percentTick } from "../format.js";
import type { Store } from "../state.js";
import type { CalibrationAnswer, ReliabilityBin } from "../types.js";
import type { Sheet } from "./download.js";
import { waiting } from "./parts.js";
import { foldable } from "./picture.js";

const TITLE = "Reliability of the confidence";

export function reliabilitySheet(bins: readonly ReliabilityBin[]): Sheet {
  return {
    head: ["low", "high", "count", "confidence", "accuracy"],
    rows: bins.map(({ low, high, count: samples, confidence, accuracy }) => [
      low,
      high,
      samples,
      confidence,
      accuracy,
    ]),
  };
}

const planes = new WeakMap<CalibrationAnswer, Plane>();
function planeOf(answer: CalibrationAnswer): Plane {
  const known = planes.get(answer);
  if (known !== undefined) return known;
  const { bins } = answer;
  const most = bins.reduce((greatest, bin) => Math.max(greatest, bin.count), 1);
  const made: Plane = {
    across: { label: "confidence", low: 0, high: 1, text: percentTick },
    up: { label: "accuracy", low: 0, high: 1, text: percentTick },
    kind: "bars",
    x: bins.map(({ low }) => low),
    // What ends at 1 includes it.
    ends: bins.map(({ high }) => (high >= 1 ? 1.001 : high)),
    y: bins.map(({ accuracy }) => accuracy ?? Number.NaN),
    shades: bins.map((bin) => Math.sqrt(bin.count / most)),
    guides: [{ x: [0, 1], y: [0, 1], colour: "--text", dashed: true }],
    square: true,
  };
  planes.set(answer, made);
  return made;
}

function binWords({ low, high, count: samples, confidence, accuracy }: ReliabilityBin): string {
  const gap = confidence === null || accuracy === null ? null : accuracy - confidence;
  return [
    `confidence ${percent(low)} to ${percent(high)}`,
    many(samples, "sample"),
    ...(accuracy === null || confidence === null || gap === null
      ? []
      : [
          `accuracy ${exactPercent(accuracy)}`,
          `mean confidence ${exactPercent(confidence)}`,
          `${exactPercent(Math.abs(gap))} ${gap < 0 ? "too sure" : "not sure enough"}`,
        ]),
  ].join("\n");
}

export function reliabilityPanel(store: Store): TemplateResult {
  const { value: answer, error, loading } = store.calibration;
  const training = store.chosen?.phase?.name === "train";
  const nothing = answer === null || answer.samples === 0;
  return foldable(
    store,
    {
      name: "calibration",
      title: TITLE,
      note: nothing
        ? ""
        : "bars: accuracy, the stronger their colour, the more samples · dashed: confidence as it should be",
      png: true,
      sheet: () => reliabilitySheet(answer?.bins ?? []),
    },
    () => {
      if (nothing) return waiting(error, loading, "No samples with a target in this range.");
      const most = answer.bins.reduce((best, bin) => (bin.count > best.count ? bin : best));
      return html`${error === null ? "" : html`<p class="bad" role="alert">${error}</p>`}
        <dl class="facts small" data-testid="calibration-figures">
          <div><dt>expected calibration error (ECE)</dt><dd title=${exact(answer.error)}>${percent(answer.error)}</dd></div>
          <div><dt>greatest error of a bin</dt><dd title=${exact(answer.greatest_error)}>${percent(answer.greatest_error)}</dd></div>
          <div><dt>samples</dt><dd>${count(answer.samples)}</dd></div>
        </dl>
        <bv-plane
          data-testid="calibration-diagram"
          heading=${TITLE}
          label=${`Reliability diagram: accuracy in ${answer.bins.length} bins of confidence, of ${many(answer.samples, "sample")}. Expected calibration error ${percent(answer.error)}. Most samples, ${count(most.count)}, have a confidence of ${percent(most.low)} to ${percent(most.high)}; ${percent(most.accuracy)} of them are right. Left and right move between the bins.`}
          .plane=${planeOf(answer)}
          .describe=${(index: number) => {
            const bin = answer.bins[index];
            return bin === undefined ? "" : binWords(bin);
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
