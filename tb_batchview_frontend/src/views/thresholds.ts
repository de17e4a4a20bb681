// A binary output at any threshold: counts and shares under a slider, with the ROC and the precision-recall curve.

import { html, nothing, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import type { Guide, Plane } from "../charts/plane.js";
import "../charts/plane.js";
import type { Cell } from "../csv.js";
import { type Curve, curveOf, type Decision, decisionAt, pointOf, type Thresholds } from "../curves.js";
import { className, count, exact, exactPercent, percent, percentTick, score, shortName } from "../format.js";
import type { Store } from "../state.js";
import type { Block, ThresholdsHeader } from "../types.js";
import { type ComparedFigure, figuresTable, pairwise, side } from "./compare_parts.js";
import type { Sheet } from "./download.js";
import { number, waiting } from "./parts.js";
import { foldable, picture } from "./picture.js";

interface Curves {
  counts: Thresholds;
  roc: Curve;
  recall: Curve;
}

const share = (label: string): Plane["across"] => ({ label, low: 0, high: 1, text: percentTick });

const curvesOf = pairwise(({ header, arrays }: Block<ThresholdsHeader>): Curves => {
  const counts = {
    thresholds: arrays.threshold?.values ?? [],
    truePositives: arrays.true_positives?.values ?? [],
    falsePositives: arrays.false_positives?.values ?? [],
    positives: header.positives,
    negatives: header.negatives,
  };
  return {
    counts,
    roc: curveOf(counts, ({ fpr, recall }) => [fpr, recall]),
    recall: curveOf(counts, (decision) => [decision.recall, decision.precision]),
  };
});

/** The curves of A, and those of B in the same pictures. */
const planesOf = pairwise(({ counts, roc, recall }: Curves, other: Curves | null) => {
  // Above all scores nothing is called positive.
  const end = (of: Curve, colour: string): Guide => ({
    x: [of.x.at(-1) ?? 0, 0],
    y: [of.y.at(-1) ?? 0, 0],
    colour,
  });
  const base = counts.positives / (counts.positives + counts.negatives);
  const shared = (a: Curve, b: Curve | undefined): Pick<Plane, "kind" | "x" | "y" | "square" | "second"> => ({
    kind: "curve",
    x: [...a.x, ...(b?.x ?? [])],
    y: [...a.y, ...(b?.y ?? [])],
    second: a.x.length,
    square: true,
  });
  const roc_: Plane = {
    across: share("false-positive rate"),
    up: share("true-positive rate (recall)"),
    ...shared(roc, other?.roc),
    guides: [
      { x: [0, 1], y: [0, 1], colour: "--quiet", dashed: true },
      end(roc, "--accent"),
      ...(other === null ? [] : [{ ...end(other.roc, "--run-b-line"), dashed: true }]),
    ],
  };
  const recall_: Plane = {
    across: share("recall"),
    up: share("precision"),
    ...shared(recall, other?.recall),
    guides: [{ x: [0, 1], y: [base, base], colour: "--quiet", dashed: true }],
  };
  return { roc: roc_, recall: recall_ };
});

/** B's answer, where it has samples of both classes and calls the same class positive. */
function otherOf({ versus }: Store): Block<ThresholdsHeader> | null {
  const answer = versus.beside("thresholds")?.value ?? null;
  if (answer === null || versus.matched[1] !== 1) return null;
  return answer.header.positives * answer.header.negatives === 0 ? null : answer;
}

const COLUMNS = ["tp", "fp", "fn", "tn", "precision", "recall", "f1", "fpr"] as const;

/** With those of run B in columns of their own; the thresholds of both are the same. */
export function thresholdSheet(counts: Thresholds, others: Thresholds | null = null): Sheet {
  const figuresAt = (of: Thresholds, index: number): Cell[] => {
    const decision = decisionAt(of, index);
    return COLUMNS.map((name) => decision[name]);
  };
  return {
    head: ["threshold", ...COLUMNS, ...(others === null ? [] : COLUMNS.map((name) => `${name}_b`))],
    rows: Array.from(counts.thresholds, (threshold, index) => [
      threshold,
      ...figuresAt(counts, index),
      ...(others === null ? [] : figuresAt(others, index)),
    ]),
  };
}

const rates = ({ precision, recall, fpr }: Decision): string[] =>
  (
    [
      ["recall", recall],
      ["precision", precision],
      ["false-positive rate", fpr],
    ] as const
  ).map(([name, value]) => `${name} ${value === null ? "–" : exactPercent(value)}`);

export function decisionWords(decision: Decision, other: Decision | null): string {
  const { threshold, tp, fp, fn, tn } = decision;
  const facts =
    other === null
      ? [
          ...rates(decision),
          `${count(tp)} true positives`,
          `${count(fp)} false positives`,
          `${count(fn)} false negatives`,
          `${count(tn)} true negatives`,
        ]
      : [`A ${rates(decision).join(", ")}`, `B ${rates(other).join(", ")}`];
  return [`threshold ${exact(threshold)}`, ...facts].join("\n");
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

/** Figures at the threshold and over all of them, of both runs. */
function comparedFigures(
  a: Decision,
  b: Decision,
  one: ThresholdsHeader,
  two: ThresholdsHeader,
): TemplateResult {
  const of = (label: string, key: "precision" | "recall" | "f1" | "fpr"): ComparedFigure => ({
    label,
    a: a[key],
    b: b[key],
    text: score,
    better: key === "fpr" ? "lower" : "higher",
  });
  const whole = (label: string, key: "roc_auc" | "average_precision"): ComparedFigure => ({
    label,
    a: one[key],
    b: two[key],
    text: score,
    better: "higher",
  });
  return figuresTable(
    [
      of("precision", "precision"),
      of("recall", "recall"),
      of("F1", "f1"),
      of("false-positive rate", "fpr"),
      whole("ROC AUC", "roc_auc"),
      whole("average precision", "average_precision"),
    ],
    "threshold-figures-b",
    `Figures of both runs at the threshold ${score(a.threshold)}`,
  );
}

function sliderView(store: Store, counts: Thresholds, steps: number, other: Decision | null): TemplateResult {
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
    ${
      other === null
        ? html`<div class="beside">${countsTable(store, decision)}
            <dl class="facts" data-testid="threshold-figures">
              ${fact("precision", decision.precision)} ${fact("recall", decision.recall)} ${fact("F1", decision.f1)}
              ${fact("false-positive rate", decision.fpr)}
            </dl></div>`
        : html`<div class="beside">${side("A")} ${countsTable(store, decision)}</div>
          <div class="beside">${side("B")} ${countsTable(store, other)}</div>`
    }`;
}

/** Why there is nothing of B. */
function loneWords({ other, versus }: Store): TemplateResult | typeof nothing {
  if (other === null || !versus.comparable || versus.thresholds.loading || versus.thresholds.error)
    return nothing;
  const positive = other.output?.task === "binary" && versus.matched[1] === 1;
  return html`<p class="quiet" data-testid="lone-threshold">${
    positive
      ? "Run B has no samples of both classes in its range: the curves of A are shown."
      : "Run B is not of the same two classes in the same order: the curves of A are shown."
  }</p>`;
}

export function thresholdsPanel(store: Store): TemplateResult {
  const { value: answer, loading } = store.thresholds;
  const error = store.thresholds.error ?? store.versus.beside("thresholds")?.error ?? null;
  const positive = className(store.classNames, 1);
  const empty = answer === null || answer.header.positives + answer.header.negatives === 0;
  const head = {
    name: "thresholds",
    title: "Threshold",
    note: empty ? "" : `a sample is called ${shortName(positive, 30)} if its score is at least the threshold`,
    sheet: () => {
      const b = otherOf(store);
      return thresholdSheet(curvesOf(answer as Block<ThresholdsHeader>).counts, b && curvesOf(b).counts);
    },
  };
  const body = (): TemplateResult => {
    if (empty) return waiting(error, loading, "No samples with a target in this range.");
    const { header } = answer;
    const { counts, roc, recall } = curvesOf(answer);
    const index = Math.round(store.threshold * header.steps);
    const decision = decisionAt(counts, index);
    const b = otherOf(store);
    const other = b === null ? null : curvesOf(b);
    const planes = planesOf(curvesOf(answer), other);
    const chosen = `At the threshold ${score(decision.threshold)}`;
    const curve = (
      name: string,
      title: string,
      [what, area, dashed]: readonly [string, "roc_auc" | "average_precision", string],
      words: string,
      points: Curve,
      plane: Plane,
      others: Curve | undefined,
    ): TemplateResult => {
      const thresholdAt = (point: number): number =>
        (point < points.x.length ? points.indices[point] : others?.indices[point - points.x.length]) ?? 0;
      const told = (of: ThresholdsHeader): TemplateResult => number(of[area], score(of[area]));
      const beside = others === undefined ? null : pointOf(others, index);
      return picture(
        store,
        {
          name,
          title,
          note: html`${what} ${told(header)}${b === null ? nothing : html` · ${side("B")} ${told(b.header)}, blue and dashed`} · dashed: ${dashed}`,
          png: true,
        },
        html`<bv-plane
          data-testid=${`${name}-curve`}
          heading=${title}
          label=${`${title}: ${what} ${score(header[area])}${b === null ? "" : `, of run B ${score(b.header[area])}`}, dashed: ${dashed}. ${words} Left and right move along the curve; Enter takes the threshold.`}
          .plane=${plane}
          .marked=${pointOf(points, index)}
          .markedB=${beside === null ? null : points.x.length + beside}
          .describe=${(point: number) => decisionWords(decisionAt(counts, thresholdAt(point)), other && decisionAt(other.counts, thresholdAt(point)))}
          .onPick=${(point: number) => store.slide(Number((thresholdAt(point) / header.steps).toFixed(6)))}
          ?dark=${store.dark}
        ></bv-plane>`,
      );
    };
    const missing = header.positives === 0 || header.negatives === 0;
    const words = html`<p class="quiet small">${count(header.positives)} samples of ${shortName(positive, 30)}, ${count(header.negatives)} of ${shortName(className(store.classNames, 0), 30)}.
        A click on a curve takes that threshold. Scores closer than 1/${count(header.steps)} count as equal.</p>`;
    return html`${error === null ? "" : html`<p class="bad" role="alert">${error}</p>`}
      ${b && other ? comparedFigures(decision, decisionAt(other.counts, index), header, b.header) : loneWords(store)}
      <div class="three"><div class="panel">${sliderView(store, counts, header.steps, other && decisionAt(other.counts, index))} ${words}</div>
      ${
        missing
          ? html`<p class="quiet">All samples of this range are of one class: there is no ROC and no precision-recall curve.</p>`
          : html`${curve(
              "roc",
              "ROC",
              ["area under it (AUC)", "roc_auc", "chance"],
              `${chosen} the true-positive rate is ${percent(decision.recall)}, the false-positive rate ${percent(decision.fpr)}.`,
              roc,
              planes.roc,
              other?.roc,
            )}${curve(
              "precision-recall",
              "Precision and recall",
              ["average precision", "average_precision", `share of ${shortName(positive, 20)}`],
              `${chosen} precision is ${percent(decision.precision)}, recall ${percent(decision.recall)}.`,
              recall,
              planes.recall,
              other?.recall,
            )}`
      }</div>`;
  };
  return foldable(store, head, body, !empty);
}
