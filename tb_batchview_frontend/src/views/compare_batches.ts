// The Batches tab with a run B: figures side by side, both curves on one axis, and Δ of the same step.

import { html, nothing, type TemplateResult } from "lit";
import type { Line } from "../charts/lines.js";
import "../charts/lines.js";
import type { Mark } from "../charts/marks.js";
import {
  type Aligned,
  type AxisKind,
  align,
  axisFor,
  difference,
  nearest,
  PARTS,
  placeOn,
  type Span,
  spread,
  stepOn,
} from "../compare.js";
import { count, exact, figure, percent, percentTick, points, score, tick } from "../format.js";
import type { Store } from "../state.js";
import type { BatchRow, Block, Outcomes, TimelineHeader } from "../types.js";
import { type ComparedFigure, change, figuresTable } from "./compare_parts.js";
import { ERROR_HEADS, errorLabel, errorText } from "./error_words.js";
import { chip, OUTCOME_LABELS, type OutcomeKind, waiting } from "./parts.js";
import type { TableColumn } from "./table.js";

type Timeline = Block<TimelineHeader>;

const arrayOf = (timeline: Timeline, name: string): ArrayLike<number> => timeline.arrays[name]?.values ?? [];

/** Steps of both on one axis. */
export interface SharedAxis {
  kind: AxisKind;
  a: Span;
  b: Span;
  aligned: Aligned;
}

const spanOf = (steps: ArrayLike<number>, last: number | null = null): Span => ({
  first: steps[0] ?? 0,
  last: last ?? steps[steps.length - 1] ?? 0,
});

export function sharedAxis(
  wanted: "auto" | AxisKind,
  stepsA: ArrayLike<number>,
  stepsB: ArrayLike<number>,
  lasts: readonly [number | null, number | null] = [null, null],
): SharedAxis {
  const [a, b] = [spanOf(stepsA, lasts[0]), spanOf(stepsB, lasts[1])];
  const kind = axisFor(wanted, a, b);
  const placed = (steps: ArrayLike<number>, span: Span): number[] =>
    Array.from(steps, (step) => placeOn(kind, step, span));
  return { kind, a, b, aligned: align(placed(stepsA, a), placed(stepsB, b)) };
}

export const onAxis = (
  axis: SharedAxis,
  which: "a" | "b",
  values: ArrayLike<number>,
): (number | undefined)[] => spread(values, axis.aligned[which], axis.aligned.xs.length);

/** How a chart on this axis is labelled. */
export const axisText = ({
  kind,
}: SharedAxis): { xText?: (x: number) => string; xTick?: (x: number) => string } =>
  kind === "step"
    ? {}
    : {
        xText: (x) => `${percent(x / PARTS)} of the range`,
        xTick: (x) => (x < PARTS ? percentTick(x / PARTS) : ""),
      };

export const axisHint = ({ kind }: SharedAxis): string =>
  kind === "step" ? "by step" : "by the share of each range that is done, because their steps differ";

/** A chip that chooses the axis, and tells which one it is. */
export function axisChips(store: Store, { kind }: SharedAxis): TemplateResult {
  return html`<span class="chips" role="group" aria-label="Axis">${chip("by step", kind === "step", () => store.select({ axis: "step" }), "axis-step")}
    ${chip("by share of the range", kind === "share", () => store.select({ axis: "share" }), "axis-share")}</span>`;
}

function linesOf(axis: SharedAxis, a: Timeline, b: Timeline, prefix: "loss" | "error"): Line[] {
  const smooth = prefix === "loss";
  const of = (which: "a" | "b", timeline: Timeline): Line[] => {
    const colour = `--run-${which}-line`;
    const letter = which.toUpperCase();
    const dashed = which === "b";
    const line = (name: string, label: string, style: Partial<Line>): Line => ({
      label: `${letter} ${label}`,
      values: onAxis(axis, which, arrayOf(timeline, name)),
      colour,
      ...style,
    });
    const mean = timeline.header.bucket > 1 ? "mean" : prefix;
    return smooth
      ? [
          line("loss_mean", mean, { faint: true, width: 1 }),
          line("loss_smooth", "moving mean", { width: 2, dashed }),
        ]
      : [line("error_mean", mean, { width: 1.5, dashed })];
  };
  return [...of("b", b), ...of("a", a)];
}

const OUTCOME_BETTER: Record<OutcomeKind, "higher" | "lower" | null> = {
  correct_confident: "higher",
  correct_unsure: null,
  wrong_unsure: "lower",
  wrong_confident: "lower",
};

function shareOf(outcomes: Outcomes | null, kind: OutcomeKind): number | null {
  if (outcomes === null) return null;
  const all = Object.values(outcomes).reduce((sum: number, value: number) => sum + value, 0);
  return all === 0 ? null : outcomes[kind] / all;
}

function figuresOf(store: Store, a: TimelineHeader, b: TimelineHeader): ComparedFigure[] {
  const output = store.chosen?.output ?? null;
  const regression = output?.task === "regression";
  const whole = (label: string, key: "batches" | "samples"): ComparedFigure => ({
    label,
    a: a[key],
    b: b[key],
    text: count,
    better: null,
  });
  const figures: ComparedFigure[] = [
    whole("batches", "batches"),
    whole("samples", "samples"),
    { label: "mean loss", a: a.loss, b: b.loss, text: figure, better: "lower" },
  ];
  const spikes: ComparedFigure = {
    label: "spikes",
    a: a.spikes.length,
    b: b.spikes.length,
    text: count,
    better: "lower",
  };
  if (!store.versus.comparable) return [...figures, spikes];
  figures.push({
    label: errorLabel(output),
    a: a.error_rate,
    b: b.error_rate,
    text: (value) => errorText(output, value ?? null),
    better: "lower",
    ...(regression ? {} : { changed: points }),
  });
  figures.push(spikes);
  if (a.outcomes === null || b.outcomes === null) return figures;
  const kinds = Object.keys(OUTCOME_LABELS) as OutcomeKind[];
  return [
    ...figures,
    ...kinds.map(
      (kind): ComparedFigure => ({
        label: OUTCOME_LABELS[kind],
        a: shareOf(a.outcomes, kind),
        b: shareOf(b.outcomes, kind),
        text: percent,
        better: OUTCOME_BETTER[kind],
        changed: points,
      }),
    ),
  ];
}

/** The timeline of both runs, in place of that of A alone. */
export function comparedTimeline(store: Store): TemplateResult {
  const { versus, selection, chosen } = store;
  const a = (store.ranged ? store.range : store.overview).value;
  const b = versus.timeline;
  if (a === null) return waiting((store.ranged ? store.range : store.overview).error, true, "");
  if (b === null)
    return waiting(versus.error, (store.other?.phase?.batches ?? 0) > 0, "Run B has no batches.");
  const axis = sharedAxis(selection.axis, arrayOf(a, "step"), arrayOf(b, "step"), [
    a.header.last_step,
    b.header.last_step,
  ]);
  const output = chosen?.output ?? null;
  const place = (step: number): number => placeOn(axis.kind, step, axis.a);
  const onStep = (x: number): void => {
    const step = nearest(arrayOf(a, "step"), stepOn(axis.kind, x, axis.a));
    if (step !== null) store.pick(step);
  };
  const onRange = (from: number, to: number): void => {
    const [start, stop] = [from, to - 1].map((x) => stepOn(axis.kind, x, axis.a)) as [number, number];
    store.select({ start: Math.max(0, Math.ceil(start)), stop: Math.floor(stop) + 1 });
  };
  const rates = errorLabel(output);
  const errors = versus.comparable && a.header.error_rate !== null && b.header.error_rate !== null;
  const { xText, xTick } = axisText(axis);
  const chart = { xText: xText ?? ((x: number) => `batch ${count(x)}`), xTick: xTick ?? count };
  const spikes = (["b", "a"] as const).flatMap((which) =>
    (which === "a" ? a : b).header.spikes.map(
      (spike): Mark => ({
        step: placeOn(axis.kind, spike.step, axis[which]),
        label: `▼ ${which.toUpperCase()}: spike, loss ${figure(spike.loss)}`,
        second: which === "b",
      }),
    ),
  );
  const coarse = Math.max(a.header.bucket, b.header.bucket);
  const hint = `${coarse > 1 ? `each point up to ${count(coarse)} batches · ` : ""}B dashed · ▼ spikes, those of B blue · ${axisHint(axis)} · drag for a range of A, click for a batch of A`;
  return html`<section class="panel" data-testid="timeline-b" aria-label="Timelines of both runs">
    ${figuresTable(figuresOf(store, a.header, b.header), "figures-b", "Figures of both runs")}
    <bv-lines
      data-testid="compared-loss"
      group="compared"
      heading="Loss of every batch, A and B"
      hint=${hint}
      label=${`Line chart: loss of run A (mean ${figure(a.header.loss)}) and of run B (mean ${figure(b.header.loss)}), ${axisHint(axis)}.`}
      yLabel="loss"
      .steps=${axis.aligned.xs}
      .lines=${linesOf(axis, a, b, "loss")}
      .epochs=${a.header.epochs.map(({ epoch, step }) => ({ step: place(step), label: `epoch ${count(epoch)}` }))}
      .spikes=${spikes}
      .marker=${store.step === null ? null : place(store.step)}
      .onRange=${onRange}
      .onStep=${onStep}
      .xText=${chart.xText}
      .xTick=${chart.xTick}
      ?dark=${store.dark}
      ?log=${selection.logLoss}
      ?bare=${errors}
      height="160"
    ></bv-lines>
    ${
      errors
        ? html`<bv-lines
          data-testid="compared-error"
          group="compared"
          heading=${`${rates.charAt(0).toUpperCase()}${rates.slice(1)}, A and B`}
          label=${`Line chart: ${rates} of run A (${errorText(output, a.header.error_rate)}) and of run B (${errorText(output, b.header.error_rate)}).`}
          yLabel=${ERROR_HEADS[output?.task ?? "multiclass"].toLowerCase()}
          .steps=${axis.aligned.xs}
          .lines=${linesOf(axis, a, b, "error")}
          .marker=${store.step === null ? null : place(store.step)}
          .onRange=${onRange}
          .onStep=${onStep}
          .xText=${chart.xText}
          .xTick=${chart.xTick}
          .values=${(value: number | null) => errorText(output, value)}
          .ticks=${output?.task === "regression" ? tick : percentTick}
          ?dark=${store.dark}
          zero
          height="110"
        ></bv-lines>`
        : nothing
    }
    <div class="chips">${axisChips(store, axis)}
      ${chip("log loss", selection.logLoss, () => store.select({ logLoss: !selection.logLoss }), "log-loss")}
      ${store.ranged ? chip("all batches of A", false, () => store.select({ start: null, stop: null }), "range-all-a") : nothing}</div>
  </section>`;
}

/** Δ of the same step in B, where there is one. */
export function batchChanges(store: Store): TableColumn<BatchRow>[] {
  if (!("against_run" in store.versus.ofBatches)) return [];
  const output = store.chosen?.output ?? null;
  const column = (
    key: "loss" | "error_rate" | "confidence",
    label: string,
    text: (value: number) => string,
    better: "lower" | null,
    written: (value: number | null) => string,
  ): TableColumn<BatchRow> => ({
    key: `${key}_change`,
    label,
    title: `A less B, of the batch of the same step`,
    width: 84,
    number: true,
    sortable: true,
    cell: (row) => change(difference(row[key], row.against?.[key]), text, better),
    hint: (row) =>
      row.against == null
        ? `B has no batch ${count(row.step)}`
        : `A ${written(row[key])}, B ${written(row.against[key])}; Δ ${exact(difference(row[key], row.against[key]))}`,
  });
  const errors = (value: number | null): string => errorText(output, value);
  const share = output?.task === "regression" ? figure : points;
  return [
    column("loss", "Δ", figure, "lower", figure),
    ...(store.versus.comparable ? [column("error_rate", "Δ", share, "lower", errors)] : []),
    ...(store.versus.comparable && output?.task !== "regression"
      ? [column("confidence", "Δ", score, null, score)]
      : []),
  ];
}
