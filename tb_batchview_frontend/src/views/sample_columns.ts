// Columns of every table of samples, and what a click on one of its rows does.

import { html, type TemplateResult } from "lit";
import { className, count, exact, figure, idName, percent, score } from "../format.js";
import type { Store } from "../state.js";
import type { Dynamics, Output, Sample, Score } from "../types.js";
import { bar, outcomeOf, tail } from "./parts.js";
import type { TableColumn } from "./table.js";

export const idText = ({ id, sample }: Sample): string => (id === null ? `#${sample}` : idName(id));

/** Of a path the name of the file, whose end tells it from the others; the whole stands in the title. */
export const idCell = (sample: Sample): string | TemplateResult => {
  const whole = idText(sample);
  const path = /^[\w.:+-]*(\/[\w.+%=-]+)+$/.test(whole);
  const shown = path && whole.length > 18 ? whole.slice(whole.lastIndexOf("/") + 1) : whole;
  return /^[\w.:+%=/-]+$/.test(shown) ? tail(shown) : shown;
};

const longestName = (names: readonly string[] | null): number =>
  (names ?? []).reduce((most, name) => Math.max(most, name.length), 0);

function classColumns(names: readonly string[] | null): TableColumn<Sample>[] {
  const width = Math.min(112, Math.max(62, longestName(names) * 7 + 14));
  const tone = (sample: Sample): string => (sample.target === sample.predicted ? "good" : "bad");
  return [
    {
      key: "target",
      label: "Target",
      width,
      sortable: true,
      cell: ({ target }) => className(names, target),
      hint: ({ target }) => className(names, target),
    },
    {
      key: "predicted",
      label: "Predicted",
      width: Math.max(74, width),
      sortable: true,
      cell: (sample) => html`<span class=${tone(sample)}>${className(names, sample.predicted)}</span>`,
      hint: ({ predicted, top }) => (top ? topText(names, top) : className(names, predicted)),
    },
    {
      key: "confidence",
      label: "Confidence",
      width: 108,
      sortable: true,
      cell: (sample) => bar(sample.confidence, score(sample.confidence), outcomeOf(sample)),
      hint: ({ confidence }) => exact(confidence),
    },
    {
      key: "target_score",
      label: "Target score",
      width: 86,
      number: true,
      sortable: true,
      cell: (sample) => score(sample.target_score),
      hint: ({ target_score }) => exact(target_score),
    },
  ];
}

const topText = (names: readonly string[] | null, top: readonly Score[]): string =>
  top.map((entry) => `${className(names, entry.class)} ${score(entry.score)}`).join(" · ");

function figureColumns(): TableColumn<Sample>[] {
  const column = (
    key: keyof Dynamics,
    label: string,
    title: string,
    width: number,
    words: (value: number | null | undefined) => string,
  ): TableColumn<Sample> => ({
    key,
    label,
    title,
    width,
    number: true,
    cell: ({ dynamics }) => words(dynamics?.[key]),
    hint: ({ dynamics }) => exact(dynamics?.[key]),
  });
  return [
    column("seen", "Seen", "times in the range", 44, count),
    column("correctness", "Right", "share of these times that it was right", 56, percent),
    column(
      "forgetting",
      "Forgotten",
      "times it was wrong after having been right (Toneva et al. 2019)",
      74,
      count,
    ),
    column("mean_target_score", "Mean", "mean score of the target (Swayamdipta et al. 2020)", 48, score),
    column(
      "variability",
      "±",
      "variability: standard deviation of the target’s score (Swayamdipta et al. 2020)",
      46,
      score,
    ),
    column(
      "margin",
      "Margin",
      "mean of the target’s score minus the largest other one (Pleiss et al. 2020)",
      62,
      score,
    ),
  ];
}

const VALUES_TOLD = 3;

/** The values of a regression, of several the first. */
const valueColumn = (which: "target" | "predicted", label: string): TableColumn<Sample> => {
  const texts = ({ values }: Sample, words: (value: number | null) => string): string[] =>
    (values ?? []).map((value) => words(value[which]));
  return {
    key: `value_${which}`,
    label,
    width: 90,
    number: true,
    cell: (sample) => {
      const all = texts(sample, figure);
      return `${all.slice(0, VALUES_TOLD).join(", ")}${all.length > VALUES_TOLD ? " …" : ""}` || "–";
    },
    hint: (sample) => texts(sample, exact).join(", "),
  };
};
const VALUES = [valueColumn("target", "Target"), valueColumn("predicted", "Predicted")];

export interface SampleColumns {
  output: Output | null;
  names: readonly string[] | null;
  /** With the batch each sample was in, for tables over several batches. */
  batch?: boolean;
  /** The samples have ids of their own, which need more room than places in the batch. */
  ids?: boolean;
  /** With how each id was learned, instead of what is of its last time alone. */
  figures?: boolean;
  /** What the model was given, where it is known. */
  input?: TableColumn<Sample>[];
  /** With the values of a regression. */
  values?: boolean;
  /** With the three largest scores, which only the samples of one batch carry. */
  top?: boolean;
  sortable: readonly string[];
}

export function sampleColumns({
  output,
  names,
  batch,
  ids,
  figures,
  values,
  top,
  input = [],
  sortable,
}: SampleColumns): TableColumn<Sample>[] {
  const hasClasses = output?.task === "multiclass" || output?.task === "binary";
  const columns: TableColumn<Sample>[] = [
    ...(batch
      ? [
          {
            key: "step",
            label: "Batch",
            width: 66,
            number: true,
            sortable: true,
            cell: (sample: Sample) => count(sample.step),
          },
        ]
      : []),
    // Behind a column of numbers a cell begins later (see `.number` in the style): a picture is not cut off for it.
    ...input.map((column) => ({ ...column, width: column.width + (batch ? 10 : 0) })),
    {
      key: "id",
      label: "Sample",
      title: "Id of the sample, or # and its place in the batch",
      width: !ids ? 66 : input.length > 0 ? 96 : 118,
      cell: idCell,
      hint: idText,
    },
    ...(hasClasses ? classColumns(names) : values && output?.task === "regression" ? VALUES : []),
    ...(hasClasses
      ? []
      : [
          {
            key: "error",
            label: output?.task === "multilabel" ? "Wrong labels" : "Absolute error",
            width: 110,
            number: true,
            sortable: true,
            cell: (sample: Sample) =>
              output?.task === "multilabel" ? percent(sample.error) : figure(sample.error),
            hint: (sample: Sample) => exact(sample.error),
          },
        ]),
    {
      key: "loss",
      label: "Loss",
      width: 62,
      number: true,
      sortable: true,
      cell: (sample: Sample) => figure(sample.loss),
      hint: (sample: Sample) => exact(sample.loss),
    },
    ...(top && hasClasses && longestName(names) <= 4
      ? [
          {
            key: "top",
            label: "Top scores",
            width: 120,
            cell: (sample: Sample) => topText(names, sample.top ?? []),
            hint: (sample: Sample) => topText(names, sample.top ?? []),
          },
        ]
      : []),
  ];
  if (figures) {
    const shown = columns.filter(({ key }) => ["input", "id", "target", "predicted"].includes(key));
    columns.splice(0, columns.length, ...shown, ...figureColumns());
  }
  return columns.map((column) => ({ ...column, sortable: sortable.includes(column.key) }));
}

/** Open a sample, or close it when it is the open one. */
export function openSample(store: Store, { step, sample }: Sample): void {
  const open = store.selection.sample;
  store.select({ sample: open?.step === step && open.sample === sample ? null : { step, sample } });
}

export const isOpen =
  (store: Store) =>
  ({ step, sample }: Sample): boolean =>
    store.selection.sample?.step === step && store.selection.sample.sample === sample;
