// A regression: predicted against target, residuals over time, their histogram, and the worst samples.

import { html, nothing, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import { type Guide, limitsOf, type Plane } from "../charts/plane.js";
import "../charts/plane.js";
import { type AxisKind, axisFor, placeOn, type Span, stepOn } from "../compare.js";
import { count, exact, figure, many, percent } from "../format.js";
import {
  type Histogram,
  histogramOf,
  type Residuals,
  residualsOf,
  type Spread,
  spreadOf,
  type Windows,
  windowsOf,
} from "../residuals.js";
import type { Store } from "../state.js";
import type { Block, ResidualsHeader, Sample } from "../types.js";
import { type ComparedFigure, figuresTable, pairwise, side } from "./compare_parts.js";
import type { Sheet } from "./download.js";
import { waiting } from "./parts.js";
import { foldable, type PictureHead, picture } from "./picture.js";
import { sampleView } from "./sample.js";
import { isOpen, openSample, sampleColumns } from "./sample_columns.js";
import type { TableColumn } from "./table.js";
import "./table.js";

const WINDOWS = 40;
const BINS = 40;

/** What is drawn of one run. */
interface Part {
  drawn: Residuals;
  windows: Windows;
  span: Span;
}

interface Pictures extends Part {
  b: (Part & { scatter: Plane; histogram: Histogram }) | null;
  histogram: Histogram;
  /** How B's range stands on A's axis. */
  axis: AxisKind;
  scatter: Plane;
  time: Plane;
  spread: Plane;
}

type Answer = Block<ResidualsHeader>;

const partOf = pairwise(({ arrays }: Answer): Part => {
  const column = (name: string): ArrayLike<number> => arrays[name]?.values ?? [];
  const drawn = residualsOf(column("step"), column("sample"), column("target"), column("predicted"));
  const { steps } = drawn;
  return {
    drawn,
    windows: windowsOf(drawn, WINDOWS),
    span: { first: steps[0] ?? 0, last: steps[steps.length - 1] ?? 0 },
  };
});

/** The pictures of A with B in them, their axes long enough for both. */
const picturesOf = pairwise((answer: Answer, other: Answer | null, wanted: string): Pictures => {
  const [a, b] = [partOf(answer), other && partOf(other)];
  const { drawn, span } = a;
  const axis = b === null ? "step" : axisFor(wanted as AxisKind, span, b.span);
  const all = Float64Array.of(...drawn.residuals, ...(b?.drawn.residuals ?? []));
  const histogram = histogramOf(drawn.residuals, BINS, all);
  const others = b && histogramOf(b.drawn.residuals, BINS, all);
  const scale = drawn.residuals.length / (b?.drawn.residuals.length || 1);
  const [low, high] = limitsOf(
    drawn.targets,
    drawn.predicted,
    b?.drawn.targets ?? [],
    b?.drawn.predicted ?? [],
  );
  const [least, greatest] = limitsOf(all, [0]);
  const longer = axis === "step" && b !== null;
  const first = longer ? Math.min(span.first, b.span.first) : span.first;
  const last = longer ? Math.max(span.last, b.span.last) : span.last;
  const ends = first === last ? [first - 0.5, last + 0.5] : [first, last];
  const across = {
    label: "batch",
    low: ends[0] ?? 0,
    high: ends[1] ?? 1,
    text: count,
    whole: true,
    steps: true,
  };
  const [from, to] = limitsOf(histogram.edges);
  const most =
    Math.max(1, ...histogram.counts, ...(others?.counts ?? []).map((samples) => samples * scale)) * 1.05;
  /** Median and band of a run on A's axis. */
  const course = (part: Part, colour: string, dashed: boolean): Guide[] => {
    const { windows: its } = part;
    const middles = its.first.map((step, index) =>
      stepOn(axis, placeOn(axis, (step + (its.last[index] ?? step)) / 2, part.span), span),
    );
    // One window is a point in time; drawn as a line from end to end it is seen.
    const single = middles.length === 1;
    const line = (values: number[]): number[] => (single ? [...values, ...values] : values);
    const x = single ? ends : middles;
    return [
      { x, y: line(its.low), down: line(its.high), colour },
      { x, y: line(its.median), colour, dashed },
    ];
  };
  const scatterOf = (of: Residuals, second?: number): Plane => ({
    across: { label: "target", low, high },
    up: { label: "predicted", low, high },
    kind: "dots",
    x: of.targets,
    y: of.predicted,
    guides: [{ x: [low, high], y: [low, high], colour: "--text", dashed: true }],
    square: true,
    ...(second === undefined ? {} : { second }),
  });
  return {
    ...a,
    b: b && others && { ...b, scatter: scatterOf(b.drawn, 0), histogram: others },
    axis,
    histogram,
    scatter: scatterOf(drawn),
    time: {
      across,
      up: { label: "residual (predicted − target)", low: least, high: greatest },
      kind: "dots",
      x: drawn.steps,
      y: drawn.residuals,
      guides: [
        { x: ends, y: [0, 0], colour: "--text", dashed: true },
        ...(b === null ? [] : course(b, "--run-b-line", true)),
        ...course(a, b === null ? "--link" : "--run-a", false),
      ],
    },
    spread: {
      across: { label: "residual (predicted − target)", low: from, high: to },
      up: { label: "samples", low: 0, high: most, text: count, whole: true },
      kind: "bars",
      x: histogram.edges.slice(0, -1),
      ends: histogram.edges.slice(1),
      y: histogram.counts,
      shades: histogram.counts.map((samples) => (samples === 0 ? 0 : 0.6)),
      guides: [
        { x: [0, 0], y: [0, most], colour: "--text", dashed: true },
        // B's counts as if it had as many samples: steps, so that also the bars below are seen.
        ...(others === null
          ? []
          : [
              {
                x: others.edges.flatMap((edge, bin) => (bin === 0 || bin === BINS ? [edge] : [edge, edge])),
                y: others.counts.flatMap((samples) => [samples * scale, samples * scale]),
                colour: "--run-b-line",
                edged: true,
              },
            ]),
      ],
    },
  };
});

export function residualSheet({ steps, samples, targets, predicted, residuals }: Residuals): Sheet {
  return {
    head: ["step", "sample", "target", "predicted", "residual"],
    rows: Array.from(steps, (step, at) => [step, samples[at], targets[at], predicted[at], residuals[at]]),
  };
}

export function histogramSheet({ edges, counts }: Histogram, other: Histogram | null = null): Sheet {
  return {
    head: ["low", "high", "count", ...(other === null ? [] : ["count_b"])],
    rows: counts.map((samples, bin) => [
      edges[bin],
      edges[bin + 1],
      samples,
      ...(other === null ? [] : [other.counts[bin]]),
    ]),
  };
}

function sampleWords({ steps, samples, targets, predicted, residuals }: Residuals, at: number): string {
  return [
    `batch ${count(steps[at])}, sample #${exact(samples[at])}`,
    `target ${exact(targets[at])}`,
    `predicted ${exact(predicted[at])}`,
    `residual ${exact(residuals[at])}`,
  ].join("\n");
}

function windowWords({ windows }: Part, step: number): string {
  const window = windows.last.findIndex((last) => last >= step);
  if (window < 0) return "no samples here";
  const values = `median ${exact(windows.median[window])}\n10 % ${exact(windows.low[window])}\n90 % ${exact(windows.high[window])}`;
  return `batches ${count(windows.first[window])}–${count(windows.last[window])}, ${many(windows.count[window] ?? 0, "sample")}\n${values}`;
}

/** The window a sample is in, and that of B at the same place of the axis. */
function timeWords(pictures: Pictures, at: number): string {
  const { drawn, span, b, axis } = pictures;
  const step = drawn.steps[at] ?? 0;
  const here = windowWords(pictures, step);
  if (b === null) return here;
  const there = windowWords(b, stepOn(axis, placeOn(axis, step, span), b.span));
  return `A ${here.replaceAll("\n", ", ")}\nB ${there.replaceAll("\n", ", ")}`;
}

/** How many of how many: never let a part pass for the whole. */
function drawnWords({ drawn, samples }: ResidualsHeader, { nonfinite }: Residuals): string {
  const part =
    drawn < samples
      ? `${count(drawn)} of ${many(samples, "sample")} drawn`
      : `all ${many(samples, "sample")}`;
  return nonfinite === 0 ? part : `${part}, ${count(nonfinite)} not finite and left out`;
}

function valueChoice(store: Store, values: number): TemplateResult | typeof nothing {
  if (values < 2) return nothing;
  const value = store.selection.value ?? 0;
  return html`<div class="chips"><select aria-label="Which value of each sample" data-testid="value"
      @change=${(event: Event) => store.select({ value: Number((event.target as HTMLSelectElement).value) })}>
      ${Array.from({ length: values }, (_, index) => html`<option value=${index} .selected=${live(index === value)}>value ${index}</option>`)}
    </select><span class="quiet small">each sample has ${count(values)} values, numbered from 0; the pictures are of one, its absolute error is the mean of all</span></div>`;
}

/** Target, prediction and residual of the value that the pictures are of. */
function valueColumns(value: number): TableColumn<Sample>[] {
  const column = (
    key: string,
    label: string,
    of: (target: number, predicted: number) => number,
  ): TableColumn<Sample> => {
    const read = ({ values }: Sample): number | null => {
      const { target = null, predicted = null } = values?.[value] ?? {};
      return target === null || predicted === null ? null : of(target, predicted);
    };
    const cell = (row: Sample): string => figure(read(row));
    return { key, label, width: 76, number: true, cell, hint: (row) => exact(read(row)) };
  };
  return [
    column("target_value", "Target", (target) => target),
    column("predicted_value", "Predicted", (_, predicted) => predicted),
    column("residual", "Residual", (target, predicted) => predicted - target),
  ];
}

/** The columns of samples with those of a value before the error. */
function withValues(columns: TableColumn<Sample>[], value: number): TableColumn<Sample>[] {
  const at = columns.findIndex(({ key }) => key === "error");
  return columns.toSpliced(at, 0, ...valueColumns(value));
}

function worstPanel(store: Store): TemplateResult {
  const { samples } = store;
  const output = store.chosen?.output ?? null;
  const head = {
    name: "worst",
    title: "Worst residuals",
    note:
      samples.head === null
        ? ""
        : `${many(samples.total, "sample")}, largest absolute error first · a row opens the sample`,
  };
  return foldable(store, head, () =>
    samples.head === null
      ? waiting(samples.error, samples.loading, "No samples in this range.")
      : html`${samples.error === null ? nothing : html`<p class="bad" role="alert">${samples.error}</p>`}
        <bv-table
          id="worst"
          data-testid="worst-table"
          data-primary
          label="Samples by absolute error"
          .columns=${withValues(sampleColumns({ output, names: null, batch: true, ids: samples.row(0)?.id != null, sortable: [] }), store.selection.value ?? 0)}
          .rows=${samples}
          .sort=${{ column: "error", descending: true }}
          .subject=${JSON.stringify([store.selection.start, store.selection.stop, store.chosen?.run.name])}
          .onPick=${(row: Sample) => openSample(store, row)}
          .isPicked=${isOpen(store)}
        ></bv-table>`,
  );
}

/** Of the value that the pictures are of, from the samples drawn. */
function spreadTable(a: Spread, b: Spread): TemplateResult {
  const of = (label: string, value: (spread: Spread) => number, lower = true): ComparedFigure => ({
    label,
    a: value(a),
    b: value(b),
    text: figure,
    better: lower ? "lower" : null,
  });
  return figuresTable(
    [
      of("root mean square (RMSE)", ({ rmse }) => rmse),
      of("median residual", ({ median }) => median, false),
      of("distance of median from 0", ({ median }) => Math.abs(median)),
      of("from 10 % to 90 %", ({ low, high }) => high - low),
    ],
    "residual-figures",
    "Residuals of both runs, of the samples drawn",
  );
}

export function regressionView(store: Store): TemplateResult {
  const { head, error, loading } = store.classes;
  if (head === null) return waiting(error, loading, "No samples in this range.");
  const { value: answer, loading: drawing } = store.residuals;
  const beside = store.versus.beside("residuals");
  const answerB = beside?.value ?? null;
  const problem = store.residuals.error ?? beside?.error ?? null;
  const other = answerB !== null && partOf(answerB).drawn.steps.length > 0 ? answerB : null;
  const made = answer === null ? null : picturesOf(answer, other, store.selection.axis);
  const b = made?.b ?? null;
  const none = made === null || made.drawn.steps.length === 0;
  const words = answer === null || made === null ? "" : drawnWords(answer.header, made.drawn);
  const open = (at: number): void => {
    const { drawn } = made as Pictures;
    store.select({ sample: { step: drawn.steps[at] ?? 0, sample: drawn.samples[at] ?? 0 } });
  };
  const { sample } = store.selection;
  const marked =
    sample === null || made === null
      ? -1
      : made.drawn.steps.findIndex(
          (step, at) => step === sample.step && made.drawn.samples[at] === sample.sample,
        );
  const panel = (
    about: PictureHead,
    plane: (pictures: Pictures) => Plane,
    label: (pictures: Pictures) => string,
    describe: (pictures: Pictures, at: number) => string,
    samples = true,
  ): TemplateResult =>
    foldable(
      store,
      { ...about, png: true },
      () =>
        none
          ? waiting(problem, drawing, "No samples with a finite target and prediction in this range.")
          : html`${problem === null ? nothing : html`<p class="bad" role="alert">${problem}</p>`}
            <bv-plane
              data-testid=${`${about.name}-picture`}
              heading=${about.title}
              label=${`${label(made)} ${words}. Left and right move from item to item${samples ? "; Enter opens the sample" : ""}.`}
              .plane=${plane(made)}
              .describe=${(at: number) => describe(made, at)}
              .onPick=${samples ? open : null}
              .onRange=${store.brush}
              .marked=${samples && marked >= 0 ? marked : null}
              ?dark=${store.dark}
            ></bv-plane>`,
      !none,
    );
  const sheet = (): Sheet => residualSheet((made as Pictures).drawn);
  const binWords = ({ histogram, drawn }: Pictures, at: number): string => {
    const told = (counts: readonly number[], of: Residuals): string =>
      `${many(counts[at] ?? 0, "sample")}, ${percent((counts[at] ?? 0) / of.steps.length)}`;
    const here = told(histogram.counts, drawn);
    const words = b === null ? here : `A ${here}\nB ${told(b.histogram.counts, b.drawn)}`;
    return `residual ${exact(histogram.edges[at])}\nto ${exact(histogram.edges[at + 1])}\n${words}`;
  };
  const spread = made === null || none ? null : spreadOf(made.drawn);
  const within = spread
    ? `median ${figure(spread.median)}, 80 % between ${figure(spread.low)} and ${figure(spread.high)}`
    : "";
  const spreadB = b === null ? null : spreadOf(b.drawn);
  return html`<div class="head" data-testid="regression"><h2>Regression</h2><span class="quiet small">it has no classes</span>
      <dl class="facts">
        <div><dt>mean absolute error</dt><dd title=${exact(head.mean_absolute_error)}>${figure(head.mean_absolute_error)}</dd></div>
        <div><dt>samples</dt><dd>${count(head.samples)}</dd></div>
        <div><dt>batches</dt><dd>${count(head.batches)}</dd></div>
      </dl></div>
    ${valueChoice(store, answer?.header.values ?? 1)}
    ${spread && spreadB ? spreadTable(spread, spreadB) : nothing}
    <div class="columns classes">
      <div class="stack">
        ${panel(
          {
            name: "scatter",
            title: "Predicted against target",
            note: `${words} · dashed: predicted as it should be · a click opens the sample`,
            sheet,
          },
          ({ scatter }) => scatter,
          () => "Scatter of predicted against target with the line of identity.",
          ({ drawn }, at) => sampleWords(drawn, at),
        )}
        ${
          b === null || answerB === null || store.isFolded("scatter")
            ? nothing
            : picture(
                store,
                {
                  name: "scatter-b",
                  file: `scatter-of-${store.other?.run.name}`,
                  title: "Run B",
                  note: html`${side("B")} ${drawnWords(answerB.header, b.drawn)}`,
                  png: true,
                  sheet: () => residualSheet(b.drawn),
                },
                html`<bv-plane
                data-testid="scatter-b-picture"
                heading="Predicted against target, run B"
                label="Scatter of predicted against target of run B on the axes of run A. Left and right move from item to item."
                .plane=${b.scatter}
                .describe=${(at: number) => sampleWords(b.drawn, at)}
                ?dark=${store.dark}></bv-plane>`,
              )
        }
        ${panel(
          {
            name: "spread",
            title: "Histogram of residuals",
            note: none
              ? ""
              : html`${words} · ${within}${b === null ? "" : html` · ${side("B")} blue line, as if it had as many samples`}`,
            sheet: () => histogramSheet((made as Pictures).histogram, b?.histogram),
          },
          ({ spread }) => spread,
          () => `Histogram of the residuals: ${within}.`,
          binWords,
          false,
        )}
      </div>
      <div class="stack">
        ${panel(
          {
            name: "time",
            title: "Residuals over time",
            note: html`${words} · line: median, band: 10 % to 90 %, by window${
              b === null
                ? ""
                : html` · ${side("B")} blue, dashed, ${made?.axis === "step" ? "by step" : "by the share of its range"}`
            } · a click opens the sample, a drag chooses the range`,
            sheet,
          },
          ({ time }) => time,
          ({ windows }) =>
            `Residuals over the batches with median and 10 % to 90 % band in ${many(windows.first.length, "window")}: median ${figure(windows.median[0])} at first, ${figure(windows.median.at(-1))} at last.`,
          (pictures, at) => `${sampleWords(pictures.drawn, at)}\n${timeWords(pictures, at)}`,
        )}
        ${worstPanel(store)} ${sampleView(store)}
      </div>
    </div>`;
}
