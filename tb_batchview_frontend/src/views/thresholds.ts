// A binary output at any threshold: counts and shares under a slider, with the ROC and the precision-recall curve.

import { html, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import type { Guide, Plane } from "../charts/plane.js";
import "../charts/plane.js";
import { type Curve, curveOf, type Decision, decisionAt, pointOf, type Thresholds } from "../curves.js";
import { className, count, exact, exactPercent, percent, percentTick, score, shortName } from "../format.js";
import type { Store } from "../state.js";
import type { Block, Figure, ThresholdsHeader } from "../types.js";
import type { Sheet } from "./download.js";
import { number, waiting } from "./parts.js";
import { foldable, picture } from "./picture.js";

interface Curves {
  counts: Thresholds;
  roc: Curve;
  rocPlane: Plane;
  recall: Curve;
  recallPlane: Plane;
}

const share = (label: string): Plane["across"] => ({ label, low: 0, high: 1, text: percentTick });

const known = new WeakMap<Block<ThresholdsHeader>, Curves>();
function curvesOf(answer: Block<ThresholdsHeader>): Curves {
  const made = known.get(answer) ?? makeCurves(answer);
  known.set(answer, made);
  return made;
}

function makeCurves({ header, arrays }: Block<ThresholdsHeader>): Curves {
  const { positives, negatives } = header;
  const counts = {
    thresholds: arrays.threshold?.values ?? [],
    truePositives: arrays.true_positives?.values ?? [],
    falsePositives: arrays.false_positives?.values ?? [],
    positives,
    negatives,
  };
  const roc = curveOf(counts, ({ fpr, recall }) => [fpr, recall]);
  const recall = curveOf(counts, (decision) => [decision.recall, decision.precision]);
  // Above all scores nothing is called positive.
  const end: Guide = { x: [roc.x.at(-1) ?? 0, 0], y: [roc.y.at(-1) ?? 0, 0], colour: "--accent" };
  const base = positives / (positives + negatives);
  return {
    counts,
    roc,
    rocPlane: {
      across: share("false-positive rate"),
      up: share("true-positive rate (recall)"),
      kind: "curve",
      x: roc.x,
      y: roc.y,
      guides: [{ x: [0, 1], y: [0, 1], colour: "--quiet", dashed: true }, end],
      square: true,
    },
    recall,
    recallPlane: {
      across: share("recall"),
      up: share("precision"),
      kind: "curve",
      x: recall.x,
      y: recall.y,
      guides: [{ x: [0, 1], y: [base, base], colour: "--quiet", dashed: true }],
      square: true,
    },
  };
}

export function thresholdSheet(counts: Thresholds): Sheet {
  const head = ["threshold", "tp", "fp", "fn", "tn", "precision", "recall", "f1", "fpr"] as const;
  return {
    head: [...head],
    rows: Array.from(counts.thresholds, (_, index) => {
      const decision = decisionAt(counts, index);
      return head.map((name) => decision[name]);
    }),
  };
}

function decisionWords({ threshold, tp, fp, fn, tn, precision, recall, fpr }: Decision): string {
  const written = (name: string, value: number | null): string =>
    `${name} ${value === null ? "–" : exactPercent(value)}`;
  return [
    `threshold ${exact(threshold)}`,
    written("recall", recall),
    written("precision", precision),
    written("false-positive rate", fpr),
    `${count(tp)} true positives`,
    `${count(fp)} false positives`,
    `${count(fn)} false negatives`,
    `${count(tn)} true negatives`,
  ].join("\n");
}

function countsTable(store: Store, { tp, fp, fn, tn }: Decision): TemplateResult {
  const name = (label: number): string => shortName(className(store.classNames, label), 40);
  const [negative, positive] = [name(0), name(1)];
  const cell = (value: number, right: boolean, words: string): TemplateResult =>
    html`<td class=${right ? "right" : "wrong"} title=${words}>${count(value)}</td>`;
  return html`<table class="four" data-testid="threshold-counts">
    <caption class="hidden">Samples by target and prediction at the threshold</caption>
    <thead><tr><td></td><th scope="col">predicted ${negative}</th><th scope="col">predicted ${positive}</th></tr></thead>
    <tbody>
      <tr><th scope="row">target ${negative}</th>${cell(tn, true, "true negatives")}${cell(fp, false, "false positives")}</tr>
      <tr><th scope="row">target ${positive}</th>${cell(fn, false, "false negatives")}${cell(tp, true, "true positives")}</tr>
    </tbody>
  </table>`;
}

function sliderView(store: Store, counts: Thresholds, steps: number): TemplateResult {
  const decision = decisionAt(counts, Math.round(store.threshold * steps));
  const written = store.threshold.toFixed(3);
  const slide = (event: Event): void =>
    store.slide(Number((Number((event.target as HTMLInputElement).value) / steps).toFixed(6)));
  const fact = (name: string, value: number | null): TemplateResult =>
    html`<div><dt>${name}</dt><dd title=${exact(value)}>${score(value)}</dd></div>`;
  return html`<div class="slide">
      <label for="threshold">Threshold <b data-testid="threshold-value">${written}</b></label>
      <input id="threshold" type="range" min="0" max=${steps} step="1" data-testid="threshold"
        aria-valuetext=${`${written}: precision ${score(decision.precision)}, recall ${score(decision.recall)}`}
        .value=${live(String(Math.round(store.threshold * steps)))} @input=${slide} />
    </div>
    <div class="beside">${countsTable(store, decision)}
      <dl class="facts" data-testid="threshold-figures">
        ${fact("precision", decision.precision)} ${fact("recall", decision.recall)} ${fact("F1", decision.f1)}
        ${fact("false-positive rate", decision.fpr)}
      </dl></div>`;
}

export function thresholdsPanel(store: Store): TemplateResult {
  const { value: answer, error, loading } = store.thresholds;
  const positive = className(store.classNames, 1);
  const empty = answer === null || answer.header.positives + answer.header.negatives === 0;
  const head = {
    name: "thresholds",
    title: "Threshold",
    note: empty ? "" : `a sample is called ${shortName(positive, 30)} if its score is at least the threshold`,
    sheet: () => thresholdSheet(curvesOf(answer as Block<ThresholdsHeader>).counts),
  };
  const body = (): TemplateResult => {
    if (empty) return waiting(error, loading, "No samples with a target in this range.");
    const { header } = answer;
    const { counts, roc, rocPlane, recall, recallPlane } = curvesOf(answer);
    const index = Math.round(store.threshold * header.steps);
    const decision = decisionAt(counts, index);
    const chosen = `At the threshold ${score(decision.threshold)}`;
    const curve = (
      name: string,
      title: string,
      [what, area, dashed]: readonly [string, Figure, string],
      words: string,
      points: Curve,
      plane: Plane,
    ): TemplateResult =>
      picture(
        store,
        { name, title, note: html`${what} ${number(area, score(area))} · dashed: ${dashed}`, png: true },
        html`<bv-plane
          data-testid=${`${name}-curve`}
          heading=${title}
          label=${`${title}: ${what} ${score(area)}, dashed: ${dashed}. ${words} Left and right move along the curve; Enter takes the threshold.`}
          .plane=${plane}
          .marked=${pointOf(points, index)}
          .describe=${(point: number) => decisionWords(decisionAt(counts, points.indices[point] ?? 0))}
          .onPick=${(point: number) => store.slide(Number(((points.indices[point] ?? 0) / header.steps).toFixed(6)))}
          ?dark=${store.dark}
        ></bv-plane>`,
      );
    const missing = header.positives === 0 || header.negatives === 0;
    const words = html`<p class="quiet small">${count(header.positives)} samples of ${shortName(positive, 30)}, ${count(header.negatives)} of ${shortName(className(store.classNames, 0), 30)}.
        A click on a curve takes that threshold. Scores closer than 1/${count(header.steps)} count as equal.</p>`;
    return html`${error === null ? "" : html`<p class="bad" role="alert">${error}</p>`}
      <div class="three"><div class="panel">${sliderView(store, counts, header.steps)} ${words}</div>
      ${
        missing
          ? html`<p class="quiet">All samples of this range are of one class: there is no ROC and no precision-recall curve.</p>`
          : html`${curve(
              "roc",
              "ROC",
              ["area under it (AUC)", header.roc_auc, "chance"],
              `${chosen} the true-positive rate is ${percent(decision.recall)}, the false-positive rate ${percent(decision.fpr)}.`,
              roc,
              rocPlane,
            )}${curve(
              "precision-recall",
              "Precision and recall",
              ["average precision", header.average_precision, `share of ${shortName(positive, 20)}`],
              `${chosen} precision is ${percent(decision.precision)}, recall ${percent(decision.recall)}.`,
              recall,
              recallPlane,
            )}`
      }</div>`;
  };
  return foldable(store, head, body, !empty);
}
