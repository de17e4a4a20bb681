// Which samples are wanted beyond their classes: ranges, ids, and how they were learned. With its presets. Pure.

import type { Query } from "./api.js";

/** From one number to another, both included; `null` is open. `0.2~0.8` in the address. */
export type Span = readonly [number | null, number | null];
/** A box of the data map: mean target score, then variability. */
export type Box = readonly [number, number, number, number];

export const EACH = ["all", "last"] as const;
export const LEARNING = ["all", "forgotten", "never_learned"] as const;
/** Figures of an id, by which its samples can be sorted. */
export const FIGURES = [
  "seen",
  "mean_target_score",
  "variability",
  "correctness",
  "forgetting",
  "margin",
] as const;

export interface SampleFilter {
  confidence: Span | null;
  loss: Span | null;
  /** The id, whole. */
  id: string;
  /** A part of the id. */
  idPart: string;
  /** Every time a sample was seen, or of each id the last time. */
  each: (typeof EACH)[number];
  learning: (typeof LEARNING)[number];
  box: Box | null;
}

export const NO_FILTER: Readonly<SampleFilter> = {
  confidence: null,
  loss: null,
  id: "",
  idPart: "",
  each: "all",
  learning: "all",
  box: null,
};

const KEYS = Object.keys(NO_FILTER) as (keyof SampleFilter)[];

export const hasFilter = (filter: SampleFilter): boolean =>
  KEYS.some((key) => filter[key] !== NO_FILTER[key]);

/** The parameters of `samples` that stand for a filter. */
export function filterQuery({ confidence, loss, id, idPart, each, learning, box }: SampleFilter): Query {
  return {
    confidence_min: confidence?.[0],
    confidence_max: confidence?.[1],
    loss_min: loss?.[0],
    loss_max: loss?.[1],
    id,
    id_part: idPart,
    each: each === "all" ? null : each,
    learning: learning === "all" ? null : learning,
    mean_target_score_min: box?.[0],
    mean_target_score_max: box?.[1],
    variability_min: box?.[2],
    variability_max: box?.[3],
  };
}

/** A decimal number as people type it; `null` when it is empty or none. */
export function readNumber(text: string): number | null {
  const plain = text.trim().replace("−", "-").replace(",", ".");
  return /^-?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})(e[-+]?\d{1,3})?$/i.test(plain) &&
    Number.isFinite(Number(plain))
    ? Number(plain)
    : null;
}

const readAll = (text: string): (number | null)[] => text.split("~").map(readNumber);

export function readSpan(text: string): Span | undefined {
  const [low, high, ...more] = readAll(text);
  if (low === undefined || high === undefined || more.length > 0 || (low === null && high === null))
    return undefined;
  return low !== null && high !== null && low > high ? undefined : [low, high];
}

export function readBox(text: string): Box | undefined {
  const ends = readAll(text).filter((end) => end !== null);
  const [low, high, least, most] = ends;
  if (ends.length !== 4 || low === undefined || high === undefined) return undefined;
  if (least === undefined || most === undefined || low > high || least > most) return undefined;
  return [low, high, least, most];
}

/** The span with one end changed; an end that would turn it round takes the other one away. */
export function withEnd(span: Span | null, end: 0 | 1, value: number | null): Span | null {
  const other = span?.[1 - end] ?? null;
  const crossed = value !== null && other !== null && (end === 0 ? value > other : value < other);
  const kept = crossed ? null : other;
  if (value === null && kept === null) return null;
  return end === 0 ? [value, kept] : [kept, value];
}

export const spanWords = ([low, high]: Span, write: (value: number) => string): string =>
  low === null
    ? `at most ${write(high ?? 0)}`
    : high === null
      ? `at least ${write(low)}`
      : `${write(low)} to ${write(high)}`;

export interface Preset {
  key: string;
  label: string;
  /** Only where samples have ids. */
  ids: boolean;
  /** Only where each sample has one class. */
  classes: boolean;
  choice: SampleFilter & {
    outcome: "all" | "confidently_wrong";
    sampleSort: { column: string; descending: boolean };
  };
  note: string;
}

const by = (column: string, descending: boolean): { column: string; descending: boolean } => ({
  column,
  descending,
});

export const PRESETS: readonly Preset[] = [
  {
    key: "hardest",
    label: "hardest",
    ids: false,
    classes: false,
    choice: { ...NO_FILTER, outcome: "all", sampleSort: by("loss", true) },
    note: "Largest loss first. In training, the first batches are hard of themselves, and later a wrong label is learned by heart and no longer stands out: compare within a short range, or in validation.",
  },
  {
    key: "confidently-wrong",
    label: "confidently wrong",
    ids: false,
    classes: true,
    choice: { ...NO_FILTER, outcome: "confidently_wrong", sampleSort: by("confidence", true) },
    note: "Wrong with a confidence of at least 0.8, the surest first. As a sign of wrong labels this is valid in validation; a training makes its wrong labels right by heart, and misses them later.",
  },
  {
    key: "forgotten",
    label: "forgotten",
    ids: true,
    classes: true,
    choice: {
      ...NO_FILTER,
      outcome: "all",
      each: "last",
      learning: "forgotten",
      sampleSort: by("forgetting", true),
    },
    note: "Wrong after having been right, the most often forgotten first: Toneva et al. 2019, “An Empirical Study of Example Forgetting”. Valid on training predictions, which it is made of.",
  },
  {
    key: "never-learned",
    label: "never learned",
    ids: true,
    classes: true,
    choice: {
      ...NO_FILTER,
      outcome: "all",
      each: "last",
      learning: "never_learned",
      sampleSort: by("mean_target_score", false),
    },
    note: "Never right in the range, the lowest mean score of the target first: Toneva et al. 2019; “hard to learn” in Swayamdipta et al. 2020, “Dataset Cartography”. Valid on training predictions; says little of ids seen once.",
  },
  {
    key: "margin",
    label: "area under the margin",
    ids: true,
    classes: true,
    choice: { ...NO_FILTER, outcome: "all", each: "last", sampleSort: by("margin", false) },
    note: "Mean of the target’s score minus the largest other one, the lowest first: Pleiss et al. 2020, “Identifying Mislabeled Data using the Area Under the Margin Ranking”. Valid on training predictions. Taken of probabilities; where the sample was right among more than two classes, it is the least it can be.",
  },
];

/** Whether a selection is what a preset makes. */
export const isChosen = (
  { choice }: Preset,
  selection: SampleFilter & Pick<Preset["choice"], "sampleSort"> & { outcome: string },
): boolean =>
  (Object.keys(choice) as (keyof Preset["choice"])[]).every(
    (key) => JSON.stringify(choice[key]) === JSON.stringify(selection[key]),
  );
